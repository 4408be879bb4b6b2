"""Everything between a loaded model and its first step: which layers, which directions, and the ledger that decides them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from data_contracts.digests import file_digest
from data_contracts.manifests import MANIFEST_NAME
from osft_engine.attach import Attachment, FullAttachment, LoraAttachment, OsftAttachment, allowed_updates, find_targets
from osft_engine.bases import cached_bases, cached_ledger
from osft_engine.calibration import calibration_examples
from osft_engine.config import TrainConfig
from osft_engine.examples import Example
from osft_engine.ledger import Ledger, load_ledger
from osft_engine.moments import LayerMoments, measure_moments, sample_for_moments
from osft_engine.protection import AllowedUpdate, protect_activations, protect_weights, protect_weights_block
from osft_engine.resume import ResumeFolder
from osft_engine.run import TrainRun
from osft_engine.trainer import packs


def measure_examples(model: Any, targets: Mapping[str, nn.Module], examples: Sequence[Example], config: TrainConfig) -> LayerMoments:
    """Input moments of the targets on a sample of the examples."""
    limit = max(config.max_tokens_per_batch, max(len(example.ids) for example in examples))
    packed = packs(config, model.device)
    batches = sample_for_moments(examples, tokens=config.moment_tokens, seed=config.seed, max_tokens=limit, packed=packed)
    return measure_moments(model, targets, batches)


def calibrate(run: TrainRun, model: Any, tokenizer: Any, targets: Mapping[str, nn.Module]) -> Ledger:
    """A ledger that holds round 0 only: general text, or the model's own."""
    config = run.config
    examples = calibration_examples(
        run.calibration,
        model,
        tokenizer,
        tokens=config.moment_tokens,
        max_tokens=min(config.max_seq_len, config.max_tokens_per_batch),
        seed=config.seed,
    )
    return Ledger().add("base", measure_examples(model, targets, examples, config), config.ledger_rank)


def directions(targets: Mapping[str, nn.Module], config: TrainConfig, ledger: Ledger | None) -> dict[str, AllowedUpdate]:
    """The allowed update of every target under the config's protection."""
    ratio = config.unfreeze_rank_ratio
    if config.protect == "weights":
        return allowed_updates(targets, lambda _, W: protect_weights(W, ratio, compact=config.compact))
    if config.protect == "weights_block":
        return allowed_updates(targets, lambda _, W: protect_weights_block(W, ratio))
    assert ledger is not None, "protect: activations needs a ledger"
    return _by_activations(targets, ratio, ledger)


def _by_activations(targets: Mapping[str, nn.Module], ratio: float, ledger: Ledger) -> dict[str, AllowedUpdate]:
    found: dict[str, AllowedUpdate] = {}  # by leader: layers that read the same tensor share one basis in memory and on disk

    def build(name: str, W: Tensor) -> AllowedUpdate:
        leader = ledger.leaders.get(name, name)
        shape = (W.shape[0], W.shape[1])
        if leader not in found:
            found[leader] = protect_activations(shape, ledger.moment(name), ratio)
        first = found[leader]
        return AllowedUpdate(shape, None, first.right, None, first.protected, first.trainable)

    return allowed_updates(targets, build)


def _calibration_key(run: TrainRun, base_sha256: str) -> dict[str, Any]:
    """Everything that decides what the base model's layers are measured to read."""
    names = {"seed", "moment_tokens", "ledger_rank", "target_patterns", "chat_template", "max_seq_len", "max_tokens_per_batch", "dtype"}
    text = file_digest(run.calibration) if run.calibration else None
    return {"base": base_sha256, "text": text, "config": run.config.model_dump(mode="json", include=names)}


def _directions_key(run: TrainRun, base_sha256: str) -> dict[str, Any]:
    """Everything that decides the allowed directions: the weights, how they are cut, and for activations the ledger before this round."""
    names = {"protect", "unfreeze_rank_ratio", "rank_policy", "compact", "target_patterns"}
    key: dict[str, Any] = {"base": base_sha256, "config": run.config.model_dump(mode="json", include=names)}
    if run.config.protect == "activations":
        key["parent"] = file_digest(run.parent / MANIFEST_NAME) if run.parent else None
        key["calibration"] = _calibration_key(run, base_sha256)
    return key


def attach_method(
    run: TrainRun, model: Any, tokenizer: Any, *, base_sha256: str, parent_ledger: Path | None, resume: ResumeFolder
) -> tuple[Attachment, Ledger | None]:
    """Put the method on the model. Returns the attachment and the ledger as it was before this round (None where there is none)."""
    config = run.config
    ledger = resume.load_ledger()
    if ledger is None and parent_ledger is not None:
        ledger = load_ledger(parent_ledger)
    if config.method == "full":
        return FullAttachment(model), ledger
    targets = find_targets(model, config.target_patterns)
    if config.method == "lora":
        return LoraAttachment(model, list(targets), config), ledger
    if config.protect == "activations" and ledger is None:
        ledger = cached_ledger(run.cache_dir, _calibration_key(run, base_sha256), lambda: calibrate(run, model, tokenizer, targets))
        resume.save_ledger(ledger)
    allowed = resume.load_bases()
    if allowed is None:
        allowed = cached_bases(run.cache_dir, _directions_key(run, base_sha256), lambda: directions(targets, config, ledger))
        resume.save_bases(allowed)
    return OsftAttachment(model, targets, allowed, config.train_other), ledger
