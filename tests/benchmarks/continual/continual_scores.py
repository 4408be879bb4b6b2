"""What a model answers in the continual benchmark: items right or wrong by the project's scorer, and nats of text far from the tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from continual_methods import fast_passes

from evals.scoring.scorer import ContinuationScorer, Scored


def to_hex(flags: Sequence[bool]) -> str:
    """Items right or wrong, in order, as hexadecimal digits; the last digit is filled up with zeros."""
    padded = [*flags, *[False] * (-len(flags) % 4)]
    return "".join(f"{sum(bit << (3 - at) for at, bit in enumerate(padded[start : start + 4])):x}" for start in range(0, len(padded), 4))


# On no task: what the tables call won, tied and lost. XSTest is the two of refusal; instructions have one right answer, scored exactly.
GENERAL = ("piqa", "mmlu", "refusal", "over-refusal", "instructions")


class Judge:
    """Scores a model on items by the project's own scorer. `cut`: only so many items of each suite, for a rehearsal."""

    def __init__(self, inputs: dict[str, Any], cut: int | None) -> None:
        self.tasks = {
            name: {kind: task[kind][:cut] for kind in ("items", "tuning") if kind in task} for name, task in inputs["tasks"].items()
        }
        self.general = {name: inputs[name][:cut] for name in GENERAL if name in inputs}
        self.texts = {name: texts[:cut] for name, texts in inputs["texts"].items()}

    def score(self, model: Any, tasks: Sequence[str], *, kind: str = "items", general: bool = True) -> dict[str, Any]:
        """{task: right or wrong by item}, and where `general` GENERAL likewise and the nats of each text far from all tasks."""
        model.eval()
        scorer = ContinuationScorer(model, max_length=8192, max_tokens=4096, max_rows=128)  # in full float32: it compares two ways to read
        with fast_passes():
            found: dict[str, Any] = {"scores": {name: to_hex(_right(scorer, self.tasks[name][kind])) for name in tasks}}
            if general:
                found |= {name: to_hex(_right(scorer, items)) for name, items in self.general.items()}
                scorer.max_tokens = 1024  # every token of a text needs its logits
                found["nats"] = {
                    name: [round(-each.logprob, 2) for each in scorer.score([(text["context"], text["choices"][0]) for text in texts])]
                    for name, texts in self.texts.items()
                }
        return found


def _right(scorer: ContinuationScorer, items: Sequence[dict[str, Any]]) -> list[bool]:
    """Whether the likeliest choice is the right one; the first of equals, as the harness has it. An only choice is right if decoded so."""
    scored = iter(scorer.score([(item["context"], choice) for item in items for choice in item["choices"]]))
    answers = [[next(scored) for _ in item["choices"]] for item in items]
    return [_answer(each) == item["gold"] for each, item in zip(answers, items, strict=True)]


def _answer(choices: Sequence[Scored]) -> int:
    """The chosen one; -1 where the only choice is not what greedy decoding gives."""
    if len(choices) == 1:
        return 0 if all(choices[0].greedy) else -1
    logprobs = [each.logprob for each in choices]
    return logprobs.index(max(logprobs))
