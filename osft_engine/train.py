"""One round's training as a story: open what goes in, train, make it dense, measure it for the ledger, write it down, manifest last."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from data_contracts.digests import model_digest, model_files
from data_contracts.errors import CheckpointError, TrainingError
from data_contracts.manifests import (
    MANIFEST_NAME,
    CheckpointManifest,
    DropManifest,
    LayerCapacity,
    TrainingSummary,
    read_manifest,
    write_manifest,
)
from osft_engine.attach import Attachment, OsftAttachment, find_targets
from osft_engine.buffer import BufferRow, extend_buffer, load_buffer, save_buffer
from osft_engine.checkpoint import load_model, load_tokenizer, model_file_refs, other_file_refs, running_versions, write_model
from osft_engine.examples import ExampleSet, encode_row, load_examples, read_rows, require_chat_template
from osft_engine.export import save_update
from osft_engine.files import full_disk_explained, require_free_space
from osft_engine.ledger import Ledger, save_ledger
from osft_engine.prepare import attach_method, measure_examples
from osft_engine.resume import Progress, ResumeFolder
from osft_engine.run import TrainRun
from osft_engine.subspace import directions_holding
from osft_engine.trainer import Trainer

OnEvent = Callable[[dict[str, Any]], None]
_ROLES = {"update": "update.safetensors", "ledger": "ledger.safetensors", "buffer": "buffer.jsonl", "metrics": "metrics.jsonl"}
_USED_UP = 0.99  # a direction counts as used while the leading ones together hold less than this share of the input energy


@dataclass(frozen=True)
class _Inputs:
    """What a run starts from, verified."""

    base_sha256: str
    drop: DropManifest
    clean: Path
    parent: CheckpointManifest | None
    digest: str


def train_candidate(run: TrainRun, *, on_event: OnEvent | None = None) -> CheckpointManifest:
    """Train one candidate and write it to `run.out_dir`; go on where the same run was cut off.

    Events go to out_dir/metrics.jsonl and to `on_event`. Raises a SkillstackError where the run cannot be done; then no manifest is there.
    """
    with full_disk_explained(run.out_dir):
        inputs = _open_inputs(run)
        finished = _finished(run, inputs)
        return finished if finished is not None else _train(run, inputs, on_event)


def _open_inputs(run: TrainRun) -> _Inputs:
    base_sha256 = model_digest(model_files(run.base))
    drop = read_manifest(run.drop, DropManifest)
    if "clean" not in drop.files:
        raise CheckpointError(str(run.drop), "its manifest names no clean file", "validate the drop again")
    parent = read_manifest(run.parent, CheckpointManifest) if run.parent else None
    if parent is not None and parent.model_sha256 != base_sha256:
        raise CheckpointError(str(run.base), f"is not the model of the parent {run.parent}", f"give {run.parent}/model as base")
    clean = drop.files["clean"]
    return _Inputs(base_sha256, drop, run.drop / clean.path, parent, run.digest(base_sha256, clean.sha256))


def _finished(run: TrainRun, inputs: _Inputs) -> CheckpointManifest | None:
    """The manifest that this very run already wrote. Raises CheckpointError where another one lies there."""
    if not (run.out_dir / MANIFEST_NAME).is_file():
        return None
    manifest = read_manifest(run.out_dir, CheckpointManifest)
    if manifest.config.get("run_sha256") != inputs.digest:
        raise CheckpointError(str(run.out_dir), "already holds another checkpoint", "give an out_dir that is new or empty")
    return manifest


def _train(run: TrainRun, inputs: _Inputs, on_event: OnEvent | None) -> CheckpointManifest:
    config = run.config
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    run.out_dir.mkdir(parents=True, exist_ok=True)
    require_free_space(run.out_dir, _disk_needed(run))
    resume = ResumeFolder(run.out_dir, inputs.digest, config.model_dump(mode="json"))
    events = _Events(run.out_dir / "metrics.jsonl", on_event)
    torch.manual_seed(config.seed)
    tokenizer = load_tokenizer(run.base, config)
    buffer = (
        load_buffer(run.parent / inputs.parent.files["buffer"].path)
        if run.parent and inputs.parent and "buffer" in inputs.parent.files
        else ()
    )
    examples = _read_examples(run, inputs, tokenizer, buffer)
    events.emit({"event": "start", "examples": len(examples.examples), "dropped_too_long": examples.dropped_too_long})
    model = load_model(run.base, config)
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    ledger_file = (
        run.parent / inputs.parent.files["ledger"].path if run.parent and inputs.parent and "ledger" in inputs.parent.files else None
    )
    attachment, ledger = attach_method(run, model, tokenizer, base_sha256=inputs.base_sha256, parent_ledger=ledger_file, resume=resume)
    progress = Trainer(attachment, examples.examples, config, resume=resume, emit=events.emit).run()
    trained = sum(value.numel() for value in attachment.trainable().values())
    leaks = _merge_and_write(run, attachment)
    ledger = _extend_ledger(run, attachment, ledger, examples)
    rows = (row for _, row in read_rows(inputs.clean))
    save_buffer(extend_buffer(buffer, rows, skill=run.skill, size=config.buffer_size, seed=config.seed), run.out_dir / _ROLES["buffer"])
    layers = _capacities(attachment, leaks, ledger)
    summary = _summarise(progress, examples, trained, leaks)
    events.emit({"event": "end", **summary.model_dump(mode="json")})
    manifest = _write_manifest(run, inputs, layers, summary)
    resume.remove()
    return manifest


class _Events:
    """metrics.jsonl: one event a line, flushed as it happens; what a killed run wrote after its last save is dropped when it resumes."""

    def __init__(self, path: Path, on_event: OnEvent | None) -> None:
        self._path, self._on_event = path, on_event

    def emit(self, event: dict[str, Any]) -> None:
        if event["event"] == "resumed":
            self._forget_after(event["step"])
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(event) + "\n")
        if self._on_event is not None:
            self._on_event(event)

    def _forget_after(self, step: int) -> None:
        lines = self._path.read_text(encoding="utf-8").splitlines() if self._path.is_file() else []
        kept = [line for line in lines if line.endswith("}") and json.loads(line).get("step", 0) <= step]
        self._path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def _disk_needed(run: TrainRun) -> int:
    """Model, update, ledger and the state of a cut-off run, roughly: four times the weights."""
    return 4 * sum(path.stat().st_size for path in run.base.glob("*.safetensors"))


def _read_examples(run: TrainRun, inputs: _Inputs, tokenizer: Any, buffer: tuple[BufferRow, ...]) -> ExampleSet:
    config = run.config
    if any("messages" in row for _, row in read_rows(inputs.clean)):
        require_chat_template(tokenizer, config.chat_template, str(run.base))
    found = load_examples(inputs.clean, tokenizer, max_tokens=config.max_seq_len, unmask=config.unmask)
    wanted = round(len(found.examples) * config.replay_share / (1.0 - config.replay_share))
    replayed = [
        example
        for index, row in enumerate(buffer[:wanted])
        for example in encode_row(tokenizer, row.row, f"buffer:{index + 1}", unmask=config.unmask, max_tokens=config.max_seq_len)
        if example.loss_tokens and len(example.ids) <= config.max_seq_len
    ]
    return ExampleSet((*found.examples, *replayed), found.dropped_too_long, found.dropped_without_loss)


def _merge_and_write(run: TrainRun, attachment: Attachment) -> dict[str, float]:
    """Make the model dense and write it, its update and nothing else yet. Returns the leak of each layer's saved weight."""
    leaks = attachment.leaks() if isinstance(attachment, OsftAttachment) else {}
    if isinstance(attachment, OsftAttachment):
        save_update(attachment.layers, run.out_dir / _ROLES["update"])
    write_model(attachment.merge(), run.base, run.out_dir / "model")
    return leaks


def _extend_ledger(run: TrainRun, attachment: Attachment, ledger: Ledger | None, examples: ExampleSet) -> Ledger | None:
    """Add what the finished model's layers read on the new skill. A lineage without a ledger stays without."""
    if ledger is None:
        return None
    model = attachment.model if isinstance(attachment, OsftAttachment) else attachment.merge()
    measured = measure_examples(model, find_targets(model, run.config.target_patterns), examples.examples, run.config)
    grown = ledger.add(run.skill, measured, run.config.ledger_rank)
    save_ledger(grown, run.out_dir / _ROLES["ledger"])
    return grown


def _capacities(attachment: Attachment, leaks: dict[str, float], ledger: Ledger | None) -> dict[str, LayerCapacity]:
    if not isinstance(attachment, OsftAttachment):
        return {}
    free: dict[str, int] = {}
    found: dict[str, LayerCapacity] = {}
    for name, layer in attachment.layers.items():
        allowed = layer.allowed
        leader = ledger.leaders.get(name) if ledger is not None else None
        if ledger is not None and leader is not None and leader not in free:
            free[leader] = allowed.shape[1] - directions_holding(ledger.moment(name), _USED_UP)
        left = free[leader] if leader is not None else allowed.trainable
        found[name] = LayerCapacity(
            shape=allowed.shape, protected=allowed.protected, trainable=allowed.trainable, free=left, leak=leaks[name]
        )
    return found


def _summarise(progress: Progress, examples: ExampleSet, trained: int, leaks: dict[str, float]) -> TrainingSummary:
    last = progress.losses[-max(1, len(progress.losses) // 10) :]
    if not progress.losses:
        raise TrainingError("training", "took no step", "give more examples")
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return TrainingSummary(
        steps=progress.step,
        examples=len(examples.examples),
        loss_tokens=progress.loss_tokens,
        dropped_too_long=examples.dropped_too_long,
        first_loss=progress.losses[0],
        final_loss=sum(last) / len(last),
        seconds=progress.seconds,
        tokens_per_second=progress.tokens / max(progress.seconds, 1e-9),
        peak_memory_bytes=peak,
        trainable_parameters=trained,
        max_leak=max(leaks.values()) if leaks else None,
    )


def _write_manifest(run: TrainRun, inputs: _Inputs, layers: dict[str, LayerCapacity], summary: TrainingSummary) -> CheckpointManifest:
    refs, digest = model_file_refs(run.out_dir)
    osft = run.config.method == "osft"
    manifest = CheckpointManifest(
        files=refs | other_file_refs(run.out_dir, _ROLES),
        skill=run.skill,
        method=run.config.method,
        protect=run.config.protect if osft else None,
        model_sha256=digest,
        parent_sha256=inputs.base_sha256,
        drop_sha256=inputs.drop.files["clean"].sha256,
        config=run.config.model_dump(mode="json") | {"run_sha256": inputs.digest},
        versions=running_versions(),
        layers=layers,
        summary=summary,
    )
    write_manifest(run.out_dir, manifest)
    return manifest
