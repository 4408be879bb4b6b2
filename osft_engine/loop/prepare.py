"""Everything between a loaded model and its first step: which layers, which directions, and the subspace memory that decides them.

Where `protect: activations` finds rounds that the memory has not measured (there was no memory, another protection trained them, a layer
was no target then), they are measured on the parent's fixed-size buffer. So a lineage may change its method.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data_contracts.errors import ConfigError
from data_contracts.rendering import TextRenderer
from osft_engine.compute.distributed import World
from osft_engine.config import TrainConfig
from osft_engine.data.batches import MicroBatch
from osft_engine.data.examples import Example
from osft_engine.loop.probe import reachable_targets, wanted_layout
from osft_engine.loop.resume import ResumeFolder
from osft_engine.memory.buffer import BufferRow, buffer_examples, load_buffer
from osft_engine.memory.calibration import calibration_examples
from osft_engine.memory.moments import moments_in_parts, sample_for_moments
from osft_engine.memory.subspace_memory import SubspaceMemory, load_memory
from osft_engine.method.attach import Attachment, OsftAttachment, allowed_updates, weight_of
from osft_engine.method.baselines import FullAttachment, LoraAttachment
from osft_engine.method.bases import CacheKeys, Decompositions, cached_bases, cached_memory, read_parent
from osft_engine.method.experts import ExpertLinear, close_experts
from osft_engine.method.quantized import QuantizedAttachment
from osft_engine.method.ranks import layer_ratios, measure_importance
from osft_engine.run import TrainRun
from osft_engine.subspace.protection import AllowedUpdate, protect_activations, protect_weights, protect_weights_block

_GENERAL = "base"  # round 0: what the model knew before the first skill


@dataclass(frozen=True)
class Scene:
    """What a method is attached in. earlier: examples of earlier rounds' skills; parent_memory: the champion's subspace memory."""

    run: TrainRun
    model: Any
    renderer: TextRenderer
    base_sha256: str
    parent_memory: Path | None
    earlier: Sequence[Example]
    tokens_per_step: float
    world: World = field(default_factory=World)

    @property
    def config(self) -> TrainConfig:
        return self.run.config


def attach_method(scene: Scene, resume: ResumeFolder) -> tuple[Attachment, SubspaceMemory | None]:
    """Put the method on the model. Returns the attachment and the subspace memory before this round (None where there is none).

    Raises ConfigError where the processes do not share the run folder. What several processes cannot train, `refuse_sharded` has refused.
    """
    config = scene.config
    memory = resume.load_memory()
    if memory is None and scene.parent_memory is not None:
        memory = load_memory(scene.parent_memory)
    if config.method == "full":
        return FullAttachment(scene.model), memory
    targets = reachable_targets(scene.model, config.target_patterns)
    if config.method == "lora":
        return LoraAttachment(scene.model, list(targets), config), memory
    _refuse_experts(scene, targets)
    if scene.world.leads:
        memory = _decide(scene, targets, memory, resume)
    scene.world.barrier()  # the others train in the very directions that the first process wrote down
    allowed = resume.load_bases()
    if allowed is None:
        what = "holds no directions here: the first process wrote them, so this one looks at another disk"
        raise ConfigError(str(resume.folder), what, "put out_dir on a disk that all nodes share, under one path")
    targets = {name: module for name, module in targets.items() if name in allowed}
    if config.quantize != "none":
        return QuantizedAttachment(scene.model, targets, allowed, scene.run.base, config), memory
    execution = config.execution if scene.world.size == 1 else "side"  # a weight that is rebuilt could not stay sharded
    attachment = OsftAttachment(
        scene.model, targets, allowed, config.train_other, execution=execution, tokens_per_step=scene.tokens_per_step
    )
    return attachment, memory if scene.world.leads else resume.load_memory() or memory


def refuse_sharded(config: TrainConfig, dtype: torch.dtype, world: World) -> None:
    """Raise ConfigError for what one process can train and several cannot. dtype: of the model's weights.

    Called before a run claims its folder or reads a cache: with cached directions, nothing later would notice.
    """
    if world.size == 1:
        return
    if config.method == "lora":
        raise ConfigError("train.method lora", "is a baseline for one process", "run it without torchrun")
    if config.method != "osft":
        return
    if config.protect == "weights_block":
        raise ConfigError(
            "train.protect weights_block",
            f"trains a dense update, which runs in one process and not in {world.size}",
            "run it without torchrun, or choose protect: weights or activations",
        )
    if config.keep_general:
        raise ConfigError("train.keep_general", "runs in one process", "run it without torchrun, or set keep_general: 0")
    if config.quantize != "none":
        raise ConfigError("train.quantize", "runs in one process", "run it without torchrun, or set quantize: none")
    if config.train_other and dtype != torch.float32:
        raise ConfigError(
            "train.train_other",
            f"trains parameters in {str(dtype).removeprefix('torch.')} beside cores in float32, which FSDP cannot shard together",
            "set dtype: float32, leave train_other empty, or run it without torchrun",
        )


def _refuse_experts(scene: Scene, targets: Mapping[str, nn.Module]) -> None:
    """Raise ConfigError for experts among the targets where they cannot be trained. Where they are none, several processes shard them as
    the model has them."""
    experts = next((name for name, module in targets.items() if isinstance(module, ExpertLinear)), None)
    if experts is not None and scene.world.size > 1:
        what = f"include experts such as {experts}, which are trained in one process and not in {scene.world.size}"
        raise ConfigError("train.target_patterns", what, "run it without torchrun, or name other layers, for instance 'self_attn'")
    if experts is not None and scene.config.quantize != "none":
        what = f"holds linear layers in 4 bits and leaves experts such as {experts} as they are, so they are not trained beside it"
        raise ConfigError("train.quantize", what, "set quantize: none, or name other layers in target_patterns, for instance 'self_attn'")
    if scene.world.size > 1:
        close_experts(scene.model)


def _decide(scene: Scene, targets: Mapping[str, nn.Module], memory: SubspaceMemory | None, resume: ResumeFolder) -> SubspaceMemory | None:
    """Write subspace memory and directions to the resume folder, unless a killed run did."""
    if scene.config.protect == "activations":
        past = past_rows(scene)
        started = open_memory(memory, past)
        if started.lacking(targets):
            key = _keys(scene).calibration()
            memory = cached_memory(scene.run.cache_dir, key, lambda: calibrate(scene, targets, started, past))
            resume.save_memory(memory)
    if resume.load_bases() is None:
        cache = None if scene.run.keep_whole else scene.run.cache_dir
        resume.save_bases(cached_bases(cache, _keys(scene).directions(), lambda: directions(scene, targets, memory)))
    return memory


def past_rows(scene: Scene) -> dict[str, list[BufferRow]]:
    """The parent's buffer by skill, the parent's own skill last; that one is named even where the buffer has no row of it."""
    parent = read_parent(scene.run)
    if scene.run.parent is None or parent is None:
        return {}
    rows = load_buffer(scene.run.parent / parent.files["buffer"].path) if "buffer" in parent.files else ()
    skills = sorted({each.skill for each in rows} - {parent.skill}) + ([parent.skill] if parent.skill is not None else [])
    return {skill: [each for each in rows if each.skill == skill] for skill in skills}


def open_memory(memory: SubspaceMemory | None, past: Iterable[str]) -> SubspaceMemory:
    """The memory, or a new one, with round 0 and every earlier skill among its rounds, measured or not."""
    found = memory or SubspaceMemory()
    if not found.rounds:
        found = found.opened([_GENERAL])
    return found.opened([skill for skill in past if skill not in found.rounds[1:]])


def calibrate(
    scene: Scene, targets: Mapping[str, nn.Module], memory: SubspaceMemory, past: Mapping[str, Sequence[BufferRow]]
) -> SubspaceMemory:
    """An opened memory with every target measured on everything learned so far, as far as there is text of it.

    Round 0 is general text, or the model's own. Rounds that were trained under another protection, or before a layer became a target, are
    measured on the parent's buffer: a sample of their examples, read by the model as it is now. A round of which the buffer holds nothing
    stays missing, with a warning on stderr.
    """
    config = scene.config
    # Also the known layers, so that a new one that reads the same tensor is found to do so and shares their sum.
    layers = known_layers(scene.model, memory) | dict(targets)
    for number in memory.lacking(targets):
        name = memory.rounds[number]
        examples = general_examples(scene) if number == 0 else buffer_examples(past.get(name, ()), scene.renderer, config)
        if examples:
            memory = measured_on(examples, memory, number, scene.model, layers, config)
        else:
            print(f"warning: the subspace memory lacks round {number} ({name}), and the buffer holds none of its rows", file=sys.stderr)
    return memory


def known_layers(model: Any, memory: SubspaceMemory) -> dict[str, nn.Module]:
    """The model's modules for all layers of a subspace memory: what a round measures besides its own targets.

    A skill is read by every layer, also by those that its round did not train, and a later round may train them. A moment costs about as
    much as its layer's own product.
    """
    return {name: module for name, module in model.named_modules() if name in memory.leaders}


def measured_on(
    examples: Sequence[Example], memory: SubspaceMemory, number: int, model: Any, layers: Mapping[str, nn.Module], config: TrainConfig
) -> SubspaceMemory:
    """The memory with what the layers read in a sample of a round's examples."""
    for part in moments_in_parts(model, layers, sample_examples(model, examples, config)):
        memory = memory.measured_in(number, part, config.memory_rank)
        del part  # before the next is measured
    return memory


def directions(scene: Scene, targets: Mapping[str, nn.Module], memory: SubspaceMemory | None) -> dict[str, AllowedUpdate]:
    """The allowed update of every target under the config's protection and rank policy."""
    config = scene.config
    importance = None
    if config.rank_policy == "importance":
        importance = measure_importance(
            scene.model, targets, sample_examples(scene.model, scene.earlier or general_examples(scene), config)
        )
    ratios = layer_ratios(targets, config, memory, importance)
    whole = Decompositions(scene.run.cache_dir if scene.run.keep_whole else None, _keys(scene).decompositions())
    if config.protect == "weights":
        written = memory.written if memory is not None and config.protect_written else {}
        if config.protect_written and not written and past_rows(scene):
            lacks = "no earlier round recorded what it wrote (each was trained without protect_written), so none is protected by it"
            print(f"warning: protect_written: {lacks}", file=sys.stderr)

        def build(name: str, W: Tensor) -> AllowedUpdate:
            return protect_weights(W, ratios[name], compact=config.compact, written=written.get(name), solve=whole.of(name))

        return allowed_updates(targets, build)
    if config.protect == "weights_block":
        return allowed_updates(targets, lambda name, W: protect_weights_block(W, ratios[name], solve=whole.of(name)))
    assert memory is not None, "protect: activations needs a subspace memory"
    return _by_activations(_reached(targets, memory), ratios, memory, whole)


def _reached(targets: Mapping[str, nn.Module], memory: SubspaceMemory) -> dict[str, nn.Module]:
    """The targets without the experts that no token of what was learned so far reached: what they know was not seen, so they stay as
    they are. Says on stderr how many, and how many were read by fewer tokens than they have inputs."""
    tokens = {name: memory.reached[leader] for name in targets if (leader := memory.leaders[name]) in memory.reached}
    unseen = [name for name, count in tokens.items() if count == 0]
    few = [name for name, count in tokens.items() if 0 < count < weight_of(targets[name]).shape[1]]
    for names, what in ((unseen, "read no token, so they stay as they are"), (few, "read fewer tokens than they have inputs")):
        if names:
            says = f"{len(names)} of {len(tokens)} matrices of experts (such as {names[0]}) {what}; raise moment_tokens to see more"
            print(f"warning: {says}", file=sys.stderr)
    return {name: module for name, module in targets.items() if name not in unseen}


def _by_activations(
    targets: Mapping[str, nn.Module], ratios: Mapping[str, float], memory: SubspaceMemory, whole: Decompositions
) -> dict[str, AllowedUpdate]:
    found: dict[tuple[str, float], AllowedUpdate] = {}  # layers that read the same tensor share one basis in memory and on disk

    def build(name: str, W: Tensor) -> AllowedUpdate:
        key = (memory.leaders.get(name, name), ratios[name])
        shape = (W.shape[0], W.shape[1])
        if key not in found:
            found[key] = protect_activations(shape, memory.moment(name, W.device), ratios[name], solve=whole.of(key[0]))
        first = found[key]
        return AllowedUpdate(shape, None, first.right, None, first.protected, first.trainable)

    return allowed_updates(targets, build)


def general_examples(scene: Scene) -> list[Example]:
    """General text of `moment_tokens` tokens or more: the file's, or what the model writes."""
    config = scene.config
    longest = min(config.max_seq_len, config.max_tokens_per_batch)
    return calibration_examples(
        scene.run.calibration, scene.model, scene.renderer, tokens=config.moment_tokens, max_tokens=longest, seed=config.seed
    )


def sample_examples(model: Any, examples: Sequence[Example], config: TrainConfig) -> list[MicroBatch]:
    """About `moment_tokens` tokens of the examples, in passes."""
    limit = max(config.max_tokens_per_batch, max(len(example.ids) for example in examples))
    return sample_for_moments(
        examples, tokens=config.moment_tokens, seed=config.seed, max_tokens=limit, layout=wanted_layout(config, model.device)
    )


def _keys(scene: Scene) -> CacheKeys:
    return CacheKeys(scene.run, scene.base_sha256, str(scene.model.dtype))
