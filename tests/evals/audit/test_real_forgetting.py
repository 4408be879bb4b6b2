"""Real checkpoints through the harness and the gate: forgetting is caught and named, sameness is never blocked, noise shows as drift.

The model is nano. A plain fine-tune is a few dozen AdamW steps on one new task, made here, so that nothing but the gate is under test.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_contracts.manifests import Decision, Verdict
from evals.config import EvaluationConfig, SuiteConfig
from evals.gate.decide import GateEvidence, GatePolicy, decide
from evals.harness.run import evaluate_checkpoint
from evals.items import Evaluation, load_evaluation

torch = pytest.importorskip("torch")


def asked(**fields: object) -> GatePolicy:
    """The default policy for evidence that leaves categories out on purpose."""
    return GatePolicy.model_validate({"accept_unmeasured": ("general", "safety", "drift"), **fields})


KEPT = ("copy", "upper", "sort")
ITEMS = 100


@pytest.fixture(scope="module")
def suites(tmp_path_factory: pytest.TempPathFactory) -> list[SuiteConfig]:
    """Three of nano's base skills and its prose."""
    from flows.demo.materials import write_base_suites

    base = write_base_suites(tmp_path_factory.mktemp("suites"))
    chosen = [
        SuiteConfig(name=name, source=str(base.suites[name]), category="general", chat=True, max_new_tokens=12, items=ITEMS)
        for name in KEPT
    ]
    return [*chosen, SuiteConfig(name="prose", source=str(base.drift), category="drift")]


@pytest.fixture(scope="module")
def measure(tmp_path_factory: pytest.TempPathFactory, suites: list[SuiteConfig]) -> Callable[[Path], Evaluation]:
    cache = tmp_path_factory.mktemp("cache")

    def evaluate(model: Path) -> Evaluation:
        out = tmp_path_factory.mktemp("evaluation") / "report"
        evaluate_checkpoint(model, suites, out, config=EvaluationConfig(max_batch_size=64), cache_dir=cache)
        return load_evaluation(out)

    return evaluate


@pytest.fixture(scope="module")
def base(measure: Callable[[Path], Evaluation]) -> Evaluation:
    from flows.base_models.resolve import NANO

    return measure(NANO)


def _load() -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from flows.base_models.resolve import NANO

    return AutoModelForCausalLM.from_pretrained(NANO, dtype=torch.float32), AutoTokenizer.from_pretrained(NANO)


def _save(model: Any, tokenizer: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _judge(candidate: Evaluation, base: Evaluation) -> Verdict:
    anchors = {name: base for name, items in base.suites.items() if items.category != "drift"}
    return decide(GateEvidence(candidate, base, anchors, None, bootstrap=True), asked())


def test_the_base_against_itself_passes(base: Evaluation) -> None:
    assert all(base.report.suite(name).score > 0.9 for name in KEPT)
    verdict = _judge(base, base)
    assert verdict.decision is Decision.PASS
    assert not any(reason.startswith("Flagged") for reason in verdict.reasons)


def test_the_base_against_a_saved_copy_is_never_blocked(tmp_path: Path, base: Evaluation, measure: Callable[[Path], Evaluation]) -> None:
    copy = measure(_save(*_load(), tmp_path / "copy"))
    verdict = _judge(copy, base)
    assert verdict.decision is Decision.PASS
    assert all((copy.suites[name].score == base.suites[name].score).all() for name in KEPT)


def _noisy(share: float, folder: Path) -> Path:
    """Nano with noise of `share` of each matrix's spread added to it."""
    model, tokenizer = _load()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight += share * weight.std() * torch.randn(weight.shape, generator=generator)
    return _save(model, tokenizer, folder)


def test_three_percent_of_noise_on_the_weights_is_flagged(tmp_path: Path, base: Evaluation, measure: Callable[[Path], Evaluation]) -> None:
    """Far too little to change nano's answers or to reach the limit; the drift suite proves it, and the verdict's reasons say so."""
    verdict = _judge(measure(_noisy(0.03, tmp_path / "noisy")), base)
    assert verdict.decision is Decision.PASS
    [warning] = [check for check in verdict.checks if check.check == "drift_warning"]
    assert (warning.subject, warning.outcome) == ("prose", "n/a")
    assert warning.high is not None
    assert warning.high < 0
    assert verdict.reasons[-1].startswith("Flagged: general text became harder to predict, beyond noise and below the limit (prose by ")


@pytest.mark.slow
def test_three_percent_of_noise_on_smollm2_is_flagged_by_the_packaged_drift_suite(tmp_path: Path) -> None:
    """The same on a real model: the rise is too small for the limit of 1 % and far too regular for chance."""
    import shutil

    from safetensors.torch import load_file, save_file

    from evals.suites.resolve import resolve_suites

    smollm2 = Path(__file__).parents[3] / ".skillstack" / "models" / "smollm2"
    if not (smollm2 / "model.safetensors").is_file():
        pytest.skip("no SmolLM2: `make smollm2` prepares it")
    noisy = shutil.copytree(smollm2, tmp_path / "noisy")
    weights, generator = load_file(noisy / "model.safetensors"), torch.Generator().manual_seed(0)
    for name in sorted(weights):
        if weights[name].ndim == 2 and "embed" not in name:
            weights[name] += 0.03 * weights[name].std() * torch.randn(weights[name].shape, generator=generator)
    save_file(weights, noisy / "model.safetensors", metadata={"format": "pt"})
    drift = resolve_suites([SuiteConfig(source="drift")], tmp_path)
    measured = []
    for number, model in enumerate((noisy, smollm2)):
        evaluate_checkpoint(model, drift, tmp_path / str(number), config=EvaluationConfig(device="cpu"), cache_dir=tmp_path / "cache")
        measured.append(load_evaluation(tmp_path / str(number)))
    verdict = _judge(*measured)
    assert verdict.decision is not Decision.BLOCK
    assert [check.subject for check in verdict.checks if check.check == "drift_warning"] == ["drift"]
    assert any(reason.startswith("Flagged: general text became harder to predict") for reason in verdict.reasons)


def test_thirty_percent_of_noise_on_the_weights_is_blocked(tmp_path: Path, base: Evaluation, measure: Callable[[Path], Evaluation]) -> None:
    verdict = _judge(measure(_noisy(0.3, tmp_path / "noisy")), base)
    assert verdict.decision is Decision.BLOCK
    assert "prose" in verdict.lost


def test_a_plain_fine_tune_is_blocked_with_the_lost_suites_named(
    tmp_path: Path, base: Evaluation, measure: Callable[[Path], Evaluation]
) -> None:
    from flows.demo.materials import write_drop

    rows = [json.loads(line) for line in write_drop("double", tmp_path / "drop.jsonl", rows=256).read_text().splitlines()]
    model, tokenizer = _load()
    texts = [tokenizer.apply_chat_template(row["messages"], tokenize=False) for row in rows]
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    for start in range(0, 800, 16):
        batch = tokenizer([texts[index % len(texts)] for index in range(start, start + 16)], return_tensors="pt", padding=True)
        labels = batch.input_ids.masked_fill(batch.attention_mask == 0, -100)
        model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    tuned = measure(_save(model, tokenizer, tmp_path / "tuned"))
    verdict = _judge(tuned, base)
    assert verdict.decision is Decision.BLOCK
    dropped = {name for name in KEPT if base.report.suite(name).score - tuned.report.suite(name).score >= 0.05}
    assert dropped
    assert dropped <= set(verdict.lost)
    assert all(any(reason.startswith(f"{name} ") for reason in verdict.reasons) for name in dropped)
