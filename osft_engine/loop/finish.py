"""From a trained attachment to a candidate on disk: subspace memory, dense model, update, buffer, and the manifest as the last write."""

from __future__ import annotations

import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from data_contracts.errors import TrainingError
from data_contracts.manifests import CheckpointManifest, LayerCapacity, TrainingSummary, write_manifest
from osft_engine.checkpoint.read import model_file_refs, other_file_refs, running_versions, write_model
from osft_engine.checkpoint.update import RoundUpdate, save_update, update_factors
from osft_engine.compute.distributed import World, whole
from osft_engine.config import TrainConfig
from osft_engine.data.examples import ExampleSet
from osft_engine.loop.prepare import known_layers, measured_on
from osft_engine.loop.probe import ChosenLayout, reachable_targets
from osft_engine.loop.resume import Progress
from osft_engine.memory.subspace_memory import SubspaceMemory, save_memory
from osft_engine.method.attach import Attachment, OsftAttachment
from osft_engine.run import TrainRun
from osft_engine.subspace.algebra import directions_holding

ROLES = {"update": "update.safetensors", "ledger": "ledger.safetensors", "buffer": "buffer.jsonl", "metrics": "metrics.jsonl"}
_USED_UP = 0.99  # a direction counts as used while the leading ones together hold less than this share of the input energy


@dataclass(frozen=True)
class Outcome:
    """What training left: capacities by layer (osft only) and how many parameters moved."""

    layers: dict[str, LayerCapacity]
    trained_parameters: int


def write_outcome(run: TrainRun, attachment: Attachment, memory: SubspaceMemory | None, examples: ExampleSet, world: World) -> Outcome:
    """Measure the finished model's inputs, then write model, update and subspace memory into out_dir. The manifest is not written here."""
    trained = sum(value.numel() for value in attachment.trainable().values())
    memory = extend_memory(run, attachment, memory, examples)
    leaks: dict[str, float] = {}
    if isinstance(attachment, OsftAttachment):
        leaks = attachment.leaks()
        factors = update_factors(attachment.layers)
        others = {name: whole(value.detach()) for name, value in attachment.others.items()}  # every process takes part in gathering
        if run.config.protect_written:
            changes = {name: (update.left, update.right) for name, update in factors.items()}
            memory = (memory or SubspaceMemory()).add_written(changes, run.config.written_share, run.config.memory_rank)
        if world.leads:
            changes_made = RoundUpdate(factors, others, attachment.transposed(), attachment.experts())
            save_update(changes_made, run.out_dir / ROLES["update"])
    if memory is not None and world.leads:
        save_memory(memory, run.out_dir / ROLES["ledger"])
    save_dense(attachment, run, run.out_dir / "model", world)
    return Outcome(_capacities(attachment, leaks, memory), trained)


def save_dense(attachment: Attachment, run: TrainRun, folder: Path, world: World) -> None:
    """Write the dense model. Sharded, every process takes part in gathering it and the first one writes."""
    if world.size == 1:
        write_model(attachment.merge(), run.base, folder, run.config)
        return
    state = attachment.dense_state()
    if world.leads:
        write_model(attachment.model, run.base, folder, run.config, state)
    world.barrier()


def extend_memory(run: TrainRun, attachment: Attachment, memory: SubspaceMemory | None, examples: ExampleSet) -> SubspaceMemory | None:
    """Add what the finished model's layers read on the new skill. A lineage without measured inputs stays without."""
    if memory is None or not memory.sketches:
        return memory
    targets: Mapping[str, nn.Module]
    if isinstance(attachment, OsftAttachment):
        model, targets = attachment.model, attachment.layers
    else:
        model = attachment.merge()
        targets = reachable_targets(model, run.config.target_patterns)
    layers = known_layers(model, memory) | dict(targets)  # also those that this round left alone: a later one may train them
    return measured_on(examples.examples, memory.opened((run.skill,)), len(memory.rounds), model, layers, run.config)


def _capacities(attachment: Attachment, leaks: dict[str, float], memory: SubspaceMemory | None) -> dict[str, LayerCapacity]:
    """Free directions after this round: of the inputs where the subspace memory measured them, else the trainable ones."""
    if not isinstance(attachment, OsftAttachment):
        return {}
    free: dict[str, int] = {}
    found: dict[str, LayerCapacity] = {}
    for name, layer in attachment.layers.items():
        allowed = layer.allowed
        leader = memory.leaders.get(name) if memory is not None else None
        if memory is not None and leader is not None and leader not in free:
            free[leader] = allowed.shape[1] - directions_holding(memory.energies(name), _USED_UP)
        left = free[leader] if leader is not None else allowed.trainable
        found[name] = LayerCapacity(
            shape=allowed.shape, protected=allowed.protected, trainable=allowed.trainable, free=left, leak=leaks[name]
        )
    return found


def summarise(progress: Progress, examples: ExampleSet, outcome: Outcome, layout: ChosenLayout, device: torch.device) -> TrainingSummary:
    """The run in numbers. final_loss: mean of the last tenth of the steps."""
    if not progress.losses:
        raise TrainingError("training", "took no step", "give more examples")
    last = progress.losses[-max(1, len(progress.losses) // 10) :]
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return TrainingSummary(
        steps=progress.step,
        examples=len(examples.examples),
        loss_tokens=progress.loss_tokens,
        dropped_too_long=examples.dropped_too_long,
        dropped_without_loss=examples.dropped_without_loss,
        first_loss=progress.losses[0],
        final_loss=sum(last) / len(last),
        seconds=progress.seconds,
        tokens_per_second=progress.tokens / max(progress.seconds, 1e-9),
        peak_memory_bytes=peak,
        trainable_parameters=outcome.trained_parameters,
        max_leak=max(layer.leak for layer in outcome.layers.values()) if outcome.layers else None,
        batch_layout=layout.kind,
        batch_layout_reason=layout.why,
        device=str(device),
        settled=progress.stopped or has_settled(progress.losses),
    )


def has_settled(losses: Sequence[float]) -> bool | None:
    """Whether the mean loss of the last quarter of the steps is within 5 % of the quarter before, or below 0.05 nats per token.

    None below 8 steps, of which nothing can be said. A rate that falls to zero flattens any curve in its last steps; a quarter of the
    steps is long enough to see whether the loss still fell before that.
    """
    quarter = len(losses) // 4
    if quarter < 2:
        return None
    before, last = (sum(part) / quarter for part in (losses[-2 * quarter : -quarter], losses[-quarter:]))
    return last < 0.05 or last > 0.95 * before


def write_candidate_manifest(
    run: TrainRun, summary: TrainingSummary, outcome: Outcome, *, base_sha256: str, drop_sha256: str, run_sha256: str
) -> CheckpointManifest:
    """Digest everything in out_dir and write the manifest, the last write of a run."""
    config: TrainConfig = run.config
    refs, digest = model_file_refs(run.out_dir)
    manifest = CheckpointManifest(
        files=refs | other_file_refs(run.out_dir, ROLES),
        skill=run.skill,
        method=config.method,
        protect=config.protect if config.method == "osft" else None,
        model_sha256=digest,
        parent_sha256=base_sha256,
        drop_sha256=drop_sha256,
        config=config.model_dump(mode="json") | {"run_sha256": run_sha256},
        versions=running_versions(),
        layers=outcome.layers,
        summary=summary,
    )
    write_manifest(run.out_dir, manifest)
    return manifest
