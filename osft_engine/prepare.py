"""Everything between a loaded model and its first step: which layers, which directions, and the ledger that decides them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from data_contracts.digests import file_digest
from data_contracts.errors import ConfigError
from data_contracts.manifests import MANIFEST_NAME
from osft_engine.attach import Attachment, FullAttachment, LoraAttachment, OsftAttachment, allowed_updates, find_targets
from osft_engine.bases import Decompositions, cached_bases, cached_ledger
from osft_engine.batches import MicroBatch
from osft_engine.calibration import calibration_examples
from osft_engine.config import TrainConfig
from osft_engine.distributed import World
from osft_engine.examples import Example
from osft_engine.ledger import Ledger, load_ledger
from osft_engine.moments import LayerMoments, measure_moments, sample_for_moments
from osft_engine.protection import AllowedUpdate, protect_activations, protect_weights, protect_weights_block
from osft_engine.quantized import QuantizedAttachment
from osft_engine.ranks import layer_ratios, measure_importance
from osft_engine.resume import ResumeFolder
from osft_engine.run import TrainRun
from osft_engine.trainer import packs


@dataclass(frozen=True)
class Scene:
    """What a method is attached in. earlier: examples of earlier rounds' skills; parent_ledger: the champion's ledger file."""

    run: TrainRun
    model: Any
    tokenizer: Any
    base_sha256: str
    parent_ledger: Path | None
    earlier: Sequence[Example]
    tokens_per_step: float
    world: World = field(default_factory=World)

    @property
    def config(self) -> TrainConfig:
        return self.run.config


def attach_method(scene: Scene, resume: ResumeFolder) -> tuple[Attachment, Ledger | None]:
    """Put the method on the model. Returns the attachment and the ledger as it was before this round (None where there is none)."""
    config = scene.config
    ledger = resume.load_ledger()
    if ledger is None and scene.parent_ledger is not None:
        ledger = load_ledger(scene.parent_ledger)
    if config.method == "full":
        return FullAttachment(scene.model), ledger
    targets = find_targets(scene.model, config.target_patterns)
    if config.method == "lora":
        if scene.world.size > 1:
            raise ConfigError("method lora", "is a baseline for one process", "run it without torchrun")
        return LoraAttachment(scene.model, list(targets), config), ledger
    if scene.world.leads:
        ledger = _decide(scene, targets, ledger, resume)
    scene.world.barrier()  # the others train in the very directions that the first process wrote down
    allowed = resume.load_bases()
    assert allowed is not None, "the first process wrote the directions before the barrier"
    if config.quantize != "none":
        if scene.world.size > 1:
            raise ConfigError("train.quantize", "runs in one process", "run it without torchrun, or set quantize: none")
        return QuantizedAttachment(scene.model, targets, allowed, scene.run.base, config), ledger
    execution = config.execution if scene.world.size == 1 else "side"  # a weight that is rebuilt could not stay sharded
    attachment = OsftAttachment(
        scene.model, targets, allowed, config.train_other, execution=execution, tokens_per_step=scene.tokens_per_step
    )
    return attachment, ledger if scene.world.leads else resume.load_ledger() or ledger


def _decide(scene: Scene, targets: Mapping[str, nn.Module], ledger: Ledger | None, resume: ResumeFolder) -> Ledger | None:
    """Write ledger and directions to the resume folder, unless a cut-off run did."""
    if scene.config.protect == "activations" and (ledger is None or not ledger.sketches):
        ledger = cached_ledger(scene.run.cache_dir, _calibration_key(scene), lambda: calibrate(scene, targets))
        resume.save_ledger(ledger)
    if resume.load_bases() is None:
        cache = None if scene.run.keep_whole else scene.run.cache_dir
        resume.save_bases(cached_bases(cache, _directions_key(scene), lambda: directions(scene, targets, ledger)))
    return ledger


def calibrate(scene: Scene, targets: Mapping[str, nn.Module]) -> Ledger:
    """A ledger that holds round 0 only: general text, or the model's own."""
    measured = measure_examples(scene.model, targets, _general_examples(scene), scene.config)
    return Ledger().add("base", measured, scene.config.ledger_rank)


def measure_examples(model: Any, targets: Mapping[str, nn.Module], examples: Sequence[Example], config: TrainConfig) -> LayerMoments:
    """Input moments of the targets on a sample of the examples."""
    return measure_moments(model, targets, _sample(model, examples, config))


def directions(scene: Scene, targets: Mapping[str, nn.Module], ledger: Ledger | None) -> dict[str, AllowedUpdate]:
    """The allowed update of every target under the config's protection and rank policy."""
    config = scene.config
    importance = None
    if config.rank_policy == "importance":
        importance = measure_importance(scene.model, targets, _sample(scene.model, scene.earlier or _general_examples(scene), config))
    ratios = layer_ratios(targets, config, ledger, importance)
    whole = Decompositions(scene.run.cache_dir if scene.run.keep_whole else None, _decompositions_key(scene))
    if config.protect == "weights":
        written = ledger.written if ledger is not None and config.protect_written else {}

        def build(name: str, W: Tensor) -> AllowedUpdate:
            return protect_weights(W, ratios[name], compact=config.compact, written=written.get(name), solve=whole.of(name))

        return allowed_updates(targets, build)
    if config.protect == "weights_block":
        if scene.world.size > 1:
            raise ConfigError("protect weights_block", "trains a dense update, which runs in one process", "protect weights or activations")
        return allowed_updates(targets, lambda name, W: protect_weights_block(W, ratios[name], solve=whole.of(name)))
    assert ledger is not None, "protect: activations needs a ledger"
    return _by_activations(targets, ratios, ledger, whole)


def _by_activations(
    targets: Mapping[str, nn.Module], ratios: Mapping[str, float], ledger: Ledger, whole: Decompositions
) -> dict[str, AllowedUpdate]:
    found: dict[tuple[str, float], AllowedUpdate] = {}  # layers that read the same tensor share one basis in memory and on disk

    def build(name: str, W: Tensor) -> AllowedUpdate:
        key = (ledger.leaders.get(name, name), ratios[name])
        shape = (W.shape[0], W.shape[1])
        if key not in found:
            found[key] = protect_activations(shape, ledger.moment(name).to(W.device), ratios[name], solve=whole.of(key[0]))
        first = found[key]
        return AllowedUpdate(shape, None, first.right, None, first.protected, first.trainable)

    return allowed_updates(targets, build)


def _general_examples(scene: Scene) -> list[Example]:
    config = scene.config
    longest = min(config.max_seq_len, config.max_tokens_per_batch)
    return calibration_examples(
        scene.run.calibration, scene.model, scene.tokenizer, tokens=config.moment_tokens, max_tokens=longest, seed=config.seed
    )


def _sample(model: Any, examples: Sequence[Example], config: TrainConfig) -> list[MicroBatch]:
    limit = max(config.max_tokens_per_batch, max(len(example.ids) for example in examples))
    return sample_for_moments(examples, tokens=config.moment_tokens, seed=config.seed, max_tokens=limit, packed=packs(config, model.device))


def _calibration_key(scene: Scene) -> dict[str, Any]:
    """Everything that decides what the base model's layers are measured to read."""
    names = {
        "seed",
        "moment_tokens",
        "ledger_rank",
        "target_patterns",
        "chat_template",
        "max_seq_len",
        "max_tokens_per_batch",
        "dtype",
        "quantize",
    }
    text = file_digest(scene.run.calibration) if scene.run.calibration else None
    return {"base": scene.base_sha256, "text": text, "config": scene.config.model_dump(mode="json", include=names)}


def _decompositions_key(scene: Scene) -> dict[str, Any]:
    """Everything that decides what is decomposed: the weights, or the moments that were measured on them."""
    if scene.config.protect != "activations":
        return {"base": scene.base_sha256, "read": scene.config.model_dump(mode="json", include={"dtype", "quantize"})}
    return {"base": scene.base_sha256, "parent": _parent_digest(scene), "calibration": _calibration_key(scene)}


def _directions_key(scene: Scene) -> dict[str, Any]:
    """Everything that decides the allowed directions: the weights, how they are cut, and what was measured to cut them."""
    names = {"protect", "unfreeze_rank_ratio", "rank_policy", "rank_overrides", "compact", "protect_written", "target_patterns"}
    names |= {"energy_share", "importance_minimum"}
    key: dict[str, Any] = {"base": scene.base_sha256, "config": scene.config.model_dump(mode="json", include=names)}
    if scene.config.protect == "activations" or scene.config.rank_policy != "uniform" or scene.config.protect_written:
        key |= {"parent": _parent_digest(scene), "calibration": _calibration_key(scene)}
    return key


def _parent_digest(scene: Scene) -> str | None:
    return file_digest(scene.run.parent / MANIFEST_NAME) if scene.run.parent else None
