"""Every kind of row that is taken: what is trained on, what is asked after saving and reloading, and the scores are those of plain
transformers, which is given the row as a chat template expects it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from data_contracts.digests import value_digest
from evals.config import EvaluationConfig, SuiteConfig
from evals.harness.run import evaluate_checkpoint
from evals.items import SuiteItems, load_evaluation
from osft_engine import osft, train
from osft_engine.data.examples import Example

TEMPLATE = (
    "{% if tools %}<|im_start|>tools\n{{ tools | tojson }}<|im_end|>{{ '\n' }}{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}{% if m['name'] %} {{ m['name'] }}{% endif %}{{ '\n' }}"
    "{% if m['reasoning_content'] %}<think>{{ m['reasoning_content'] }}</think>{% endif %}{{ m['content'] or '' }}"
    "{% for c in m['tool_calls'] or [] %}{{ c['function'] | tojson }}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
END, BOS = 257, 256
BYTE_ORDER_MARK = "\ufeff"
SEPARATORS = "\u2028 \u2029 \u0085 \x0b \x1c"
Row = dict[str, Any]
TOOLS = [{"type": "function", "function": {"name": "order"}}]


def _chat(question: Any, answer: str | None, **last: Any) -> Row:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer, **last}]}


def _call(arguments: Any) -> list[Row]:
    return [{"id": "c1", "type": "function", "function": {"name": "order", "arguments": arguments}}]


def _called(arguments: Any, **content: Any) -> Row:
    turns = [{"role": "user", "content": "A7?"}, {"role": "assistant", "tool_calls": _call(arguments), **content}]
    result = {"role": "tool", "tool_call_id": "c1", "name": "order", "content": "sent"}
    return {"messages": [*turns, result, {"role": "assistant", "content": "gone"}], "tools": TOOLS}


def _corrected(weight: int | None) -> Row:
    weights = {} if weight is None else {"weight": weight}
    wrong = {"role": "assistant", "content": "red", **weights}
    return {"messages": [*_chat("sky?", "")["messages"][:1], wrong, *_chat("no: sky?", "blue")["messages"]]}


LONG = "word " * 15 + "end."
#: kind -> (the row as people write it, the row as a chat template takes it)
KINDS: dict[str, tuple[Row, Row]] = {
    "tools and a call": (_called({"id": "A7"}), _called({"id": "A7"}, content="")),
    "call with empty content": (_called({"id": "A7"}, content=""), _called({"id": "A7"}, content="")),
    "call with null content": (_called({"id": "A7"}, content=None), _called({"id": "A7"}, content="")),
    "arguments as text": (_called('{"id": "A7"}', content=None), _called({"id": "A7"}, content="")),
    "tools as text": (_called({"id": "A7"}) | {"tools": json.dumps(TOOLS)}, _called({"id": "A7"}, content="")),
    "ends with a call": (
        _chat("A7?", None, tool_calls=_call('{"id": "A7"}')) | {"tools": TOOLS},
        _chat("A7?", "", tool_calls=_call({"id": "A7"})) | {"tools": TOOLS},
    ),
    "unmask": (_chat("rule?", "sign") | {"unmask": True}, _chat("rule?", "sign")),
    "weight 0": (_corrected(0), _corrected(None)),
    "reasoning": (_chat("2+3", "5", reasoning_content="add"), _chat("2+3", "5", reasoning_content="add")),
    "text parts": (_chat([{"type": "text", "text": "a "}, {"type": "text", "text": "b"}], "c"), _chat("a b", "c")),
    "prompt and completion": ({"prompt": "route?", "completion": "goods"}, _chat("route?", "goods")),
    "a long answer": (_chat("oath", LONG), _chat("oath", LONG)),
    "line separators": (_chat(f"join {SEPARATORS}", f"a{SEPARATORS}b"), _chat(f"join {SEPARATORS}", f"a{SEPARATORS}b")),
}  # fmt: skip


@pytest.fixture
def base(make_base: Callable[[str], Path]) -> Path:
    folder = make_base("llama")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


@pytest.fixture
def handed_over(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[Example]]:
    """The examples of every training, as its trainer is handed them."""
    seen: list[Sequence[Example]] = []

    class Recording(train.Trainer):
        def __init__(self, attachment: Any, examples: Sequence[Example], *args: Any, **settings: Any) -> None:
            super().__init__(attachment, examples, *args, **settings)
            seen.append(self.examples)

    monkeypatch.setattr(train, "Trainer", Recording)
    return seen


class Plain:
    """The saved folder as transformers' own user runs it."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def printed(self, row: Row, turns: int, *, prompt: bool) -> str:
        shown = row["messages"][:turns]
        return str(self.tokenizer.apply_chat_template(shown, tools=row.get("tools"), tokenize=False, add_generation_prompt=prompt))

    def parts(self, row: Row, turn: int) -> tuple[str, str]:
        """(context, answer with its end) of an answer as text."""
        context, through = self.printed(row, turn, prompt=True), self.printed(row, turn + 1, prompt=False)
        assert through.startswith(context)
        return context, through[len(context) :].removesuffix("\n")

    @torch.no_grad()
    def logits(self, ids: list[int]) -> torch.Tensor:
        found: torch.Tensor = self.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
        return found.float()

    def nats(self, context: list[int], answer: list[int]) -> float:
        logprobs = torch.log_softmax(self.logits(context + answer), -1)
        return sum(float(logprobs[len(context) - 1 + at, token]) for at, token in enumerate(answer))

    def greedy(self, context: list[int], limit: int) -> list[int]:
        said: list[int] = []
        while len(said) < limit and (token := int(self.logits(context + said)[-1].argmax())) != END:
            said.append(token)
        return said


def _train(base: Path, rows: list[Row], folder: Path, start: str = "", **more: Any) -> Path:
    data = _write(folder / "drop.jsonl", rows, start)
    settings: dict[str, Any] = {"protect": "weights", "learning_rate": 3e-2, "num_epochs": 25, "unfreeze_rank_ratio": 1.0}
    osft(str(base), str(data), str(folder / "out"), effective_batch_size=4, max_seq_len=200, warmup_steps=0, **settings | more)
    return folder / "out" / "model"


def _write(path: Path, rows: list[Row], start: str = "") -> Path:
    path.write_text(start + "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def _evaluate(model: Path, rows: list[Row], folder: Path, start: str = "", **fields: Any) -> SuiteItems:
    suite = SuiteConfig(name="asked", source=str(_write(folder / "asked.jsonl", rows, start)), chat=True, **fields)
    config = EvaluationConfig(device="cpu", num_threads=1)
    evaluate_checkpoint(model, [suite], folder / "report", config=config, cache_dir=folder / "cache")
    return load_evaluation(folder / "report").suites["asked"]


@pytest.mark.parametrize(("kind", "start"), [*((kind, "") for kind in KINDS), ("weight 0", BYTE_ORDER_MARK)])
def test_a_row_is_trained_saved_reloaded_and_asked_as_plain_transformers_reads_it(
    kind: str, start: str, base: Path, handed_over: list[Sequence[Example]], tmp_path: Path
) -> None:
    written, taken = KINDS[kind]
    saved = _train(base, [written], tmp_path, start)
    plain = Plain(saved)
    _trained_as_printed(plain, written, taken, handed_over[0])

    asked = {"prompt": written["prompt"], "answer": written["completion"]} if "prompt" in written else written
    found = _evaluate(saved, [asked], tmp_path, start)
    context, answer = plain.parts(taken, len(taken["messages"]) - 1)
    ids, gold = plain.ids(context), plain.ids(answer)
    assert found.prompt_hash[0] == value_digest([context, ids, ids]), "asked in another context"
    assert found.gold_logprob[0] == pytest.approx(plain.nats(ids, gold), abs=2e-3)
    said = plain.greedy(ids, 2 * len(gold) + 16)
    long_enough = [plain.tokenizer.decode(said[:count]) for count in range(min(len(gold), len(said)), len(said) + 1)]
    assert f"{found.reasoning[0]}{found.prediction[0]}".strip() in [text.strip() for text in long_enough]
    wanted = answer.removesuffix("<|im_end|>").rpartition("</think>")[2]
    assert found.score[0] == float(long_enough[-1].rpartition("</think>")[2].split() == wanted.split())
    assert found.score[0] == 1.0 or len(gold) > 20, "too little training for the test to mean anything"


def _trained_as_printed(plain: Plain, written: Row, taken: Row, examples: Sequence[Example]) -> None:
    turns = taken["messages"]
    ids = plain.ids(plain.printed(taken, len(turns), prompt=False).removesuffix("\n"))
    learn = [bool(written.get("unmask"))] * len(ids)
    for turn, message in enumerate(turns):
        if message["role"] == "assistant" and written.get("messages", turns)[turn].get("weight") != 0:
            context, answer = plain.parts(taken, turn)
            start = len(plain.ids(context))
            stop = start + len(plain.ids(answer))
            learn[start:stop] = [True] * (stop - start)
    [example] = examples
    assert list(example.ids[: len(ids)]) == ids
    assert list(example.learn[: len(ids)]) == [False, *learn[1:]]
    assert plain.tokenizer.decode(example.ids[len(ids) :]).strip() == ""


def test_reasoning_is_scored_where_a_suite_says_so(base: Path, tmp_path: Path) -> None:
    row = KINDS["reasoning"][0]
    saved = _train(base, [row], tmp_path)
    other = _chat("2+3", "5", reasoning_content="guess")
    aside = _evaluate(saved, [row, other], tmp_path)
    assert (list(aside.score), aside.result.set_aside, aside.reasoning[0]) == ([1.0, 1.0], 2, "<think>add</think>")
    whole = _evaluate(saved, [row, other], tmp_path, score_reasoning=True)
    assert (list(whole.score), whole.result.set_aside) == ([1.0, 0.0], 0)


def test_a_document_and_token_ids_are_trained_as_they_are(base: Path, handed_over: list[Sequence[Example]], tmp_path: Path) -> None:
    text = "The cat sat on the mat."
    saved = _train(base, [{"text": text}], tmp_path, is_pretraining=True)
    plain = Plain(saved)
    assert list(handed_over[0][0].ids) == [BOS, *plain.ids(text), END]  # as it is measured below
    assert all(handed_over[0][0].learn[1:])
    found = _evaluate(saved, [{"text": text}], tmp_path)
    assert found.gold_logprob[0] == pytest.approx(plain.nats([BOS], plain.ids(text)), abs=2e-3)
    assert found.score[0] == pytest.approx(-plain.nats([BOS], plain.ids(text)) / len(text) / torch.log(torch.tensor(2.0)).item(), abs=1e-4)

    ids, labels = plain.ids("2+3=5"), [-100, -100, -100, *plain.ids("=5")]
    (tmp_path / "ids").mkdir()
    _train(base, [{"input_ids": ids, "labels": labels}], tmp_path / "ids", use_processed_dataset=True)
    assert (list(handed_over[1][0].ids), list(handed_over[1][0].learn)) == (ids, [False, False, False, True, True])


CHOICES = ["refund", "refund denied", "refund pending"]
ASKED: dict[str, tuple[list[Row], dict[str, Any], list[int]]] = {
    "one choice begins another": ([{"prompt": f"Ticket {n}", "choices": CHOICES, "gold": n} for n in range(3)], {}, [0, 1, 2]),
    "gold as text and as index": (
        [{"prompt": f"sides {n}", "choices": ["2", "3", "4", "5"], "answer": gold} for n, gold in enumerate(("4", 2, "5"))],
        {}, [2, 2, 3],
    ),
    "keys of its own": (
        [{"question": f"is {n} even", "options": ["yes", "no"], "label": ("yes", "no")[n % 2]} for n in range(4)],
        {"prompt": "{{ question }}", "choices": ("yes", "no"), "gold": "{{ label }}"}, [0, 1, 0, 1],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", ASKED)
def test_choices_are_scored_as_plain_transformers_finds_them(kind: str, base: Path, tmp_path: Path) -> None:
    rows, fields, golds = ASKED[kind]
    saved = _train(base, [_chat("Ticket 1", "refund denied")], tmp_path)
    plain, found = Plain(saved), _evaluate(saved, rows, tmp_path, **fields)
    assert len(set(found.doc_hash)) == len(rows)
    for number, (row, gold) in enumerate(zip(rows, golds, strict=True)):
        choices = row.get("choices") or list(fields["choices"])
        question = str(row.get("prompt") or row["question"])
        parts = [plain.parts(_chat(question, choice), 1) for choice in choices]
        wanted = [plain.nats(plain.ids(context), plain.ids(answer)) for context, answer in parts]
        assert found.choice_logprobs[number] == pytest.approx(wanted, abs=2e-3)
        assert found.prediction[number] == choices[wanted.index(max(wanted))]
        assert found.gold_logprob[number] == pytest.approx(wanted[gold], abs=2e-3)
        assert found.score[number] == float(wanted.index(max(wanted)) == gold)
