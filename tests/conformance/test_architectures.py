"""Any causal model that transformers builds is trained, saved, reloaded and evaluated as plain transformers would, or refused in one line.

Everything that the product says is compared with a few lines of plain transformers here: one row at a time, no padding, no cache, no hook.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from data_contracts.digests import text_digest
from data_contracts.errors import ConfigError, TrainingError
from data_contracts.manifests import CheckpointManifest
from data_contracts.rendering import TextRenderer
from evals.config import EvaluationConfig, SuiteConfig
from evals.harness.run import evaluate_checkpoint
from evals.items import load_evaluation
from osft_engine.config import TrainConfig
from osft_engine.data.inputs import write_drop
from osft_engine.run import TrainRun
from osft_engine.train import train_candidate

MakeBase = Callable[[str], Path]
END = 257
CHOICES = ["red", "reddish", "blue"]
ROWS = [
    {"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": CHOICES[n % 3] + "!" * (n % 2)}]} for n in range(8)
]


def _run(base: Path, out: Path, **config: Any) -> TrainRun:
    general = out.with_name("general.jsonl")
    # As varied as the widest layer's inputs (128): were some directions never read, rounding would choose which of them may be trained.
    general.write_text("".join(json.dumps({"text": f"The {n} cats: {text_digest(str(n))}"}) + "\n" for n in range(12)))
    settings: dict[str, Any] = {"learning_rate": 1e-2, "warmup_steps": 0, "max_seq_len": 96, "max_tokens_per_batch": 256, "device": "cpu"}
    settings |= {"effective_batch_size": 4}
    drop = out.with_name("drop")
    write_drop(ROWS, drop, source="rows", skill="colours")
    return TrainRun(base=base, drop=drop, calibration=general, skill="colours", out_dir=out, config=TrainConfig(**settings | config))


def _plain(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@torch.no_grad()
def _logits(model: Any, ids: list[int], **more: Any) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=torch.tensor([ids]), use_cache=False, **more).logits[0]
    return logits.float()


def _mixes_when_packed(model: Any) -> bool:
    """Whether the second of two texts in one row reads otherwise than alone, where position ids say that it begins anew."""
    first, second = list(range(5, 14)), list(range(40, 47))
    positions = torch.tensor([[*range(len(first)), *range(len(second))]])
    try:
        together = _logits(model, first + second, position_ids=positions)[len(first) :]
    except (TypeError, ValueError):
        return True
    return not torch.allclose(together, _logits(model, second), atol=1e-4, rtol=1e-4)


def test_trained_saved_and_reloaded_packed_as_padded_or_refused(architecture: str, make_base: MakeBase, tmp_path: Path) -> None:
    base = make_base(architecture)
    mixes = _mixes_when_packed(_plain(base))
    padded = train_candidate(_run(base, tmp_path / "padded"))
    assert padded.summary is not None
    assert (padded.summary.batch_layout, padded.summary.device) == ("padded", "cpu")
    _only_targets_changed(base, tmp_path / "padded", padded)
    packed = _run(base, tmp_path / "packed", batch_layout="packed")
    if mixes:
        with pytest.raises(ConfigError, match=r"train\.batch_layout: is packed, and \w+ (lets|scores|cannot).*\(leave it at auto"):
            train_candidate(packed)
        assert not (tmp_path / "packed" / "manifest.json").exists()
        return
    summary = train_candidate(packed).summary
    assert summary is not None
    assert summary.batch_layout == "packed"
    assert summary.first_loss == pytest.approx(padded.summary.first_loss, abs=1e-4)
    assert summary.final_loss == pytest.approx(padded.summary.final_loss, abs=1e-3)


def _only_targets_changed(base: Path, out: Path, manifest: CheckpointManifest) -> None:
    before, after = _plain(base).state_dict(), _plain(out / "model").state_dict()
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {_parameter(name) for name in manifest.layers}
    assert all(layer.leak < 1e-5 for layer in manifest.layers.values())


def _parameter(layer: str) -> str:
    """The parameter that holds a layer's weight: that of an expert lies with those of the other experts, `experts.down_proj`."""
    within, number, matrix = layer.rsplit(".", 2)
    return f"{within}.{matrix}" if within.endswith("experts") and number.isdigit() else f"{layer}.weight"


def test_evaluated_as_plain_transformers_reads_it(
    architecture: str, make_base: MakeBase, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model_dir = make_base(architecture)
    model = _plain(model_dir)
    questions = [row["messages"] for row in ROWS]
    contexts = [_context(tokenizer, turns[:1]) for turns in questions]
    rendered = [TextRenderer(tokenizer).render_row(row, "row", max_tokens=96)[0] for row in ROWS]
    assert [list(each.ids[: each.answers[0].start]) for each in rendered] == contexts, "training reads another context"

    choices = [{"prompt": turns[0]["content"], "choices": CHOICES, "gold": n % 3} for n, turns in enumerate(questions)]
    suites = [
        SuiteConfig(name="choices", chat=True, source=_write(tmp_path / "choices.jsonl", choices)),
        SuiteConfig(name="answers", chat=True, max_new_tokens=8, source=_write(tmp_path / "answers.jsonl", ROWS)),
    ]
    config = EvaluationConfig(device="cpu", max_batch_size=4)
    evaluate_checkpoint(model_dir, suites, tmp_path / "report", config=config, cache_dir=tmp_path / "cache")
    found = load_evaluation(tmp_path / "report").suites

    for number, context in enumerate(contexts):
        wanted = [_logprob(model, context, [*tokenizer(choice)["input_ids"], END]) for choice in CHOICES]
        assert found["choices"].choice_logprobs[number] == pytest.approx(wanted, abs=2e-3)
        assert found["choices"].score[number] == float(max(range(3), key=wanted.__getitem__) == number % 3)
        tokens, prediction = _greedy(model, context, 16), found["answers"].prediction[number].strip()
        # At least 8 tokens, and more where the gold answer is longer: what was decoded begins what plain decoding says.
        begun = [tokenizer.decode(tokens[:count], clean_up_tokenization_spaces=False).strip() for count in (*range(8, 17), len(tokens))]
        assert prediction in begun
        assert found["answers"].score[number] == float(begun[-1] == questions[number][1]["content"])


def _context(tokenizer: PreTrainedTokenizerFast, turns: list[dict[str, str]]) -> list[int]:
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def _logprob(model: Any, context: list[int], answer: list[int]) -> float:
    logprobs = torch.log_softmax(_logits(model, context + answer), -1)
    return sum(float(logprobs[len(context) - 1 + index, token]) for index, token in enumerate(answer))


def _greedy(model: Any, context: list[int], limit: int) -> list[int]:
    said: list[int] = []
    while len(said) < limit and END not in said:
        said.append(int(_logits(model, context + said)[-1].argmax()))
    return [token for token in said if token != END]


def test_a_model_that_cannot_write_its_own_calibration_names_the_way_out(make_base: MakeBase, tmp_path: Path) -> None:
    run = _run(make_base("xlstm"), tmp_path / "out")
    with pytest.raises(TrainingError) as refused:
        train_candidate(run.model_copy(update={"calibration": None}))
    assert str(refused.value).startswith("calibration: is not given, and xLSTMForCausalLM cannot write text in its place: ")
    assert str(refused.value).endswith("(give a JSONL file of general text as calibration)")
    assert train_candidate(run).summary is not None
