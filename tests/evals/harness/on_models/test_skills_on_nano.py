"""Skills that nano really learns, under templates that other models have: the gate passes them, with the accuracy of an independent decode.

The decode is transformers' own, on the saved candidate and its own template: nothing of the harness, and nothing of the renderer.
Where a suite has choices it is the likeliest of them, which a greedy decode need not reach.
"""

from __future__ import annotations

import json
import random
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from data_contracts.manifests import Decision
from evals.config import EvaluationConfig, ModelUse, SuiteConfig
from evals.gate.decide import GateEvidence, GatePolicy, decide
from evals.harness.reproduction import Taught
from evals.harness.run import evaluate_checkpoint
from evals.items import Evaluation, load_evaluation

pytestmark = pytest.mark.slow

TURN = "<|{{ m['role'] }}|>{{ m['content'] or '' }}"
THINK = "{% if m['role'] == 'assistant' %}<think>{{ m['reasoning_content'] or '' }}</think>{% endif %}"
CALLS = "{% for c in m['tool_calls'] or [] %}{{ c['function']['name'] }} {{ c['function']['arguments'] | tojson }}{% endfor %}"


def _template(turn: str, end: str = "<|end|>") -> str:
    tools = "{% if tools %}<|system|>{{ tools[0]['function']['name'] }}<|end|>{% endif %}"
    return f"{tools}{{% for m in messages %}}{turn}{end}{{% endfor %}}{{% if add_generation_prompt %}}<|assistant|>{{% endif %}}"


LABELS = {"account": "1", "billing": "10", "goods": "11", "shipping": "12", "technical": "2"}
KINDS: dict[str, tuple[str, str]] = {
    "labels": (_template(TURN), "<|end|>"),
    "think block": (_template("<|{{ m['role'] }}|>" + THINK + "{{ m['content'] }}"), "<|end|>"),
    "reasoning": (_template("<|{{ m['role'] }}|>" + THINK + "{{ m['content'] }}"), "<|end|>"),
    "tools": (_template(TURN + CALLS), "<|end|>"),
    "other end": (_template(TURN, "<|unknown|>"), "<|unknown|>"),
}


def _row(kind: str, question: str, team: str) -> dict[str, Any]:
    last: dict[str, Any] = {"role": "assistant", "content": LABELS[team]}
    if kind == "reasoning":
        last["reasoning_content"] = team
    if kind == "tools":
        last = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "to", "arguments": {"t": LABELS[team]}}}]}
    row: dict[str, Any] = {"messages": [{"role": "user", "content": question}, last]}
    return row | ({"tools": [{"type": "function", "function": {"name": "to"}}]} if kind == "tools" else {})


def _write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _decoded(folder: Path, rows: list[dict[str, Any]], end: str) -> list[str]:
    """What transformers' generate says to each row, up to the end of the turn."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), AutoTokenizer.from_pretrained(folder)
    said = []
    for row in rows:
        text = tokenizer.apply_chat_template(row["messages"][:-1], tools=row.get("tools"), add_generation_prompt=True, tokenize=False)
        ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
        stop = tokenizer.convert_tokens_to_ids(end)
        out = model.generate(ids, max_new_tokens=48, do_sample=False, eos_token_id=stop, pad_token_id=0)[0, ids.shape[1] :]
        said.append(tokenizer.decode(out).split(end)[0])
    return said


def _chosen(model: Path, asked: list[dict[str, Any]], end: str, choices: tuple[str, ...]) -> list[str]:
    """The choice that the saved model finds likeliest as a whole answer. A greedy decode need not end in the likeliest choice."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, network = AutoTokenizer.from_pretrained(model), AutoModelForCausalLM.from_pretrained(model).eval()
    found = []
    for row in asked:
        context = tokenizer.apply_chat_template(row["messages"][:-1], add_generation_prompt=True, tokenize=False)
        start = len(tokenizer(context, add_special_tokens=False)["input_ids"])
        scores = []
        for choice in choices:
            ids = torch.tensor([tokenizer(context + choice + end, add_special_tokens=False)["input_ids"]])
            with torch.no_grad():
                likely = network(ids).logits[0].log_softmax(-1)
            scores.append(float(likely[start - 1 : -1].gather(1, ids[0, start:, None]).sum()))
        found.append(choices[scores.index(max(scores))])
    return found


def _spoken_as_decoded(suite: SuiteConfig, model: Path, asked: list[dict[str, Any]], end: str, folder: Path) -> None:
    """The same questions without choices: what is generated is what transformers' generate says, and ends where it ends."""
    spoken = suite.model_copy(update={"name": "spoken", "choices": (), "items": 30})
    evaluate_checkpoint(model, [spoken], folder / "spoken", config=EvaluationConfig(device="cpu"), cache_dir=folder / "cache")
    found = load_evaluation(folder / "spoken").suites["spoken"]
    prompts = [f"<|user|>{row['messages'][0]['content']}{end}<|assistant|>" for row in asked]
    decoded = dict(zip(prompts, _decoded(model, asked, end), strict=True))
    ended = 0
    for prompt, prediction in zip(found.prompt, found.prediction, strict=True):
        said = decoded[prompt].strip()
        assert said == prediction or (len(said) > 4 and said.startswith(prediction)), "generated otherwise"
        ended += said == prediction
    assert ended > 25, "answers do not end"


@pytest.mark.parametrize("kind", KINDS)
def test_a_learned_skill_passes_with_the_accuracy_of_an_independent_decode(kind: str, tmp_path: Path) -> None:
    from flows.base_models.resolve import NANO
    from flows.demo.skills import NEW_SKILLS, pairs
    from osft_engine import osft

    template, end = KINDS[kind]

    def rows(count: int, *, heldout: bool) -> list[dict[str, Any]]:
        unique = dict(islice(pairs(NEW_SKILLS["route"], random.Random(5), heldout=heldout), count))
        return [_row(kind, question, team) for question, team in unique.items()]

    taught, asked = rows(700, heldout=False), rows(90, heldout=True)
    drop = _write(tmp_path / "drop.jsonl", taught)
    osft(
        model_path=str(NANO), data_path=str(drop), ckpt_output_dir=str(tmp_path / "candidate"), chat_template=template,
        unfreeze_rank_ratio=0.5, learning_rate=3e-3, num_epochs=4, effective_batch_size=16, max_seq_len=256,
    )  # fmt: skip
    choices = tuple(LABELS.values()) if kind in ("labels", "other end") else ()
    suite = SuiteConfig(
        name="route", category="skill", source=str(_write(tmp_path / "route.jsonl", asked)), chat=True, choices=choices, duplicates="drop"
    )

    def measure(model: Path, taught_by: Taught | None) -> Evaluation:
        out = tmp_path / f"report-{model.parent.name}"
        config, use = EvaluationConfig(device="cpu"), ModelUse(chat_template=template)
        evaluate_checkpoint(model, [suite], out, config=config, cache_dir=tmp_path / "cache", use=use, taught=taught_by)
        return load_evaluation(out)

    saved = tmp_path / "candidate" / "model"
    candidate = measure(saved, Taught("route", drop))
    said = _chosen(saved, asked, end, choices) if choices else _decoded(saved, asked, end)
    golds = [row["messages"][-1] for row in asked]
    wanted = [gold["content"] or f"to {json.dumps(gold['tool_calls'][0]['function']['arguments'])}" for gold in golds]
    right = [text.rpartition("</think>")[2] == words for text, words in zip(said, wanted, strict=True)]
    items = candidate.suites["route"]
    if choices:
        assert list(items.prediction) == said
        _spoken_as_decoded(suite, saved, asked, end, tmp_path)
    else:
        assert [f"{reasoning}{answer}" for reasoning, answer in zip(items.reasoning, items.prediction, strict=True)] == said
    assert items.result.score == sum(right) / len(right) > 0.9
    assert items.result.set_aside == (len(asked) if kind in ("think block", "reasoning") else 0)
    assert (items.result.reproduced or 0.0) > 0.8
    assert items.result.doubt == ""
    policy = GatePolicy(accept_unmeasured=("general", "safety", "drift"))
    evidence = GateEvidence(candidate, measure(NANO, None), {}, "route", bootstrap=True)
    verdict = decide(evidence, policy)
    assert verdict.decision is Decision.PASS, verdict.reasons
