"""The training of one round: open the inputs, prepare, train, write the outcome, the manifest last."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from data_contracts.digests import model_digest, model_files
from data_contracts.errors import CheckpointError, ConfigError
from data_contracts.manifests import MANIFEST_NAME, CheckpointManifest, DropManifest, read_manifest
from data_contracts.model.folder import require_model_folder
from data_contracts.model.window import read_window, shortest
from data_contracts.rendering import TextRenderer
from data_contracts.rows.jsonl import read_objects
from osft_engine.checkpoint.read import load_model, load_tokenizer, pick_device, pick_dtype, write_model
from osft_engine.compute.distributed import World, current_world, shard_model
from osft_engine.compute.peak_memory import memory_explained
from osft_engine.config import TrainConfig
from osft_engine.data.batches import require_fitting
from osft_engine.data.examples import Example, load_examples, open_renderer
from osft_engine.data.mixture import Mixture, mixture
from osft_engine.files import full_disk_explained, require_free_space
from osft_engine.loop.events import EventLog, OnEvent
from osft_engine.loop.finish import ROLES, summarise, write_candidate_manifest, write_outcome
from osft_engine.loop.keeping import open_keeper
from osft_engine.loop.optim import step_sizes
from osft_engine.loop.prepare import Scene, attach_method, refuse_sharded
from osft_engine.loop.probe import choose_layout
from osft_engine.loop.resume import ResumeFolder, only_trainer
from osft_engine.loop.state_copy import StateCopy
from osft_engine.loop.stopping import StopSignal
from osft_engine.loop.trainer import Trainer
from osft_engine.memory.buffer import BufferRow, buffer_examples, extend_buffer, load_buffer, save_buffer
from osft_engine.memory.calibration import read_general
from osft_engine.method.attach import Attachment
from osft_engine.run import TrainRun


@dataclass(frozen=True)
class Inputs:
    """What a run starts from, verified. memory: the champion's subspace memory; buffer: the examples of earlier rounds."""

    base_sha256: str
    clean: Path
    clean_sha256: str
    memory: Path | None
    buffer: tuple[BufferRow, ...]
    digest: str


def train_candidate(run: TrainRun, *, on_event: OnEvent | None = None, stop: StopSignal | None = None) -> CheckpointManifest:
    """Train one candidate and write it to `run.out_dir`; go on where the same run was killed or stopped.

    Events go to out_dir/metrics.jsonl and to `on_event`; `stop` may end it with its state saved. Raises a SkillstackError where
    the run cannot be done; then no manifest is there.
    """
    with full_disk_explained(run.out_dir), memory_explained(str(run.out_dir)):
        inputs = open_inputs(run)  # before the folder is made: a refused run leaves nothing behind
        with only_trainer(run.out_dir):
            finished = _finished(run, inputs)
            return finished if finished is not None else _train(run, inputs, on_event, stop)


def open_inputs(run: TrainRun) -> Inputs:
    """Verify base, drop and parent. Raises a SkillstackError for the first that cannot be used."""
    if run.base.resolve() == (run.out_dir / "model").resolve():
        raise ConfigError(str(run.base), "is where the candidate would be written", "give another out_dir")
    require_model_folder(run.base)
    base_sha256 = model_digest(model_files(run.base))
    drop = read_manifest(run.drop, DropManifest)
    if "clean" not in drop.files:
        raise CheckpointError(str(run.drop), "its manifest names no clean file", "validate the drop again")
    clean = drop.files["clean"]
    memory: Path | None = None
    buffer: tuple[BufferRow, ...] = ()
    if run.parent is not None:
        parent = read_manifest(run.parent, CheckpointManifest)
        if parent.model_sha256 != base_sha256:
            raise CheckpointError(str(run.base), f"is not the model of the parent {run.parent}", f"give {run.parent}/model as base")
        memory = run.parent / parent.files["ledger"].path if "ledger" in parent.files else None
        buffer = load_buffer(run.parent / parent.files["buffer"].path) if "buffer" in parent.files else ()
    return Inputs(base_sha256, run.drop / clean.path, clean.sha256, memory, buffer, run.digest(base_sha256, clean.sha256))


def _finished(run: TrainRun, inputs: Inputs) -> CheckpointManifest | None:
    """The manifest that this very run already wrote. Raises CheckpointError where another one lies there."""
    if not (run.out_dir / MANIFEST_NAME).is_file():
        return None
    manifest = read_manifest(run.out_dir, CheckpointManifest)
    if manifest.config.get("run_sha256") != inputs.digest:
        raise CheckpointError(str(run.out_dir), "already holds another checkpoint", "give an out_dir that is new or empty")
    return manifest


def _train(run: TrainRun, inputs: Inputs, on_event: OnEvent | None, stop: StopSignal | None) -> CheckpointManifest:
    run = _within_window(run)
    config, world = run.config, current_world()
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    require_free_space(run.out_dir, _disk_needed(run))
    refuse_sharded(config, pick_dtype(config, pick_device(config)), world)
    copy = StateCopy(config.state_url, inputs.digest) if config.state_url and world.leads else None
    resume = ResumeFolder(run.out_dir, inputs.digest, config.model_dump(mode="json"), claim=world.leads, copy=copy)
    world.barrier()
    events = EventLog(run.out_dir / ROLES["metrics"], on_event, enabled=world.leads)
    torch.manual_seed(config.seed)
    renderer = open_renderer(load_tokenizer(run.base, config), config)
    found = load_examples(inputs.clean, renderer, max_tokens=config.max_seq_len, unmask=config.unmask)
    config = config.watched(len(found.examples), len({example.origin for example in found.examples}))
    kept, held_out = split_rows(found.examples, config.validation_share, config.seed)
    mixed = _mix(kept, run, config, inputs, renderer)
    # What would fail at a later step is checked before the model is loaded.
    for each in (mixed.examples, held_out):
        require_fitting(each, config.max_tokens_per_batch)
    passes = config.passes(mixed.per_pass)  # the manifest says what ran, not what was left open:
    config = config.model_copy(update={"num_epochs": passes, "learning_rate": config.peak_learning_rate})
    step_sizes(config, passes * math.ceil(mixed.per_pass / config.effective_batch_size))
    left_out = {"dropped_too_long": found.dropped_too_long, "dropped_without_loss": found.dropped_without_loss}
    events.emit({"event": "start", "examples": mixed.per_pass} | left_out)

    model = load_model(run.base, config)
    layout = choose_layout(model, config)
    events.emit({"event": "layout", "layout": layout.kind, "why": layout.why})
    config = config.model_copy(update={"batch_layout": layout.kind})
    run = run.model_copy(update={"config": config})  # the digest of the run as it was given is in `inputs`
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    earlier = buffer_examples(inputs.buffer, renderer, config) if config.rank_policy == "importance" else ()
    tokens_per_step = mixed.mean_tokens * config.effective_batch_size
    scene = Scene(run, model, renderer, inputs.base_sha256, inputs.memory, earlier, tokens_per_step, world)
    attachment, memory = attach_method(scene, resume)
    shard_model(attachment.model, world)
    after, keeper = _epoch_writer(run, attachment, world), open_keeper(scene, attachment)
    trainer = Trainer(
        attachment, mixed, config, resume=resume, emit=events.emit, held_out=held_out, on_epoch=after, world=world, stop=stop, keeper=keeper
    )
    progress, device = trainer.run(), trainer.device
    del trainer, keeper  # frees the optimiser's state: measuring the finished model needs the memory
    examples = replace(found, examples=kept)
    outcome = write_outcome(run, attachment, memory, examples, world)
    if not world.leads:
        world.barrier()
        return read_manifest(run.out_dir, CheckpointManifest)
    rows = (row for _, row in read_objects(inputs.clean))
    save_buffer(
        extend_buffer(inputs.buffer, rows, skill=run.skill, size=config.buffer_size, seed=config.seed), run.out_dir / ROLES["buffer"]
    )
    summary = summarise(progress, found, outcome, layout, device).model_copy(update={"examples": mixed.per_pass})
    events.emit({"event": "end", **summary.model_dump(mode="json")})
    manifest = write_candidate_manifest(
        run, summary, outcome, base_sha256=inputs.base_sha256, drop_sha256=inputs.clean_sha256, run_sha256=inputs.digest
    )
    resume.remove()
    world.barrier()
    return manifest


def _within_window(run: TrainRun) -> TrainRun:
    """Examples are counted by the model's own window where that is the shorter limit."""
    longest = shortest(run.config.max_seq_len, read_window(run.base))
    return run.model_copy(update={"config": run.config.model_copy(update={"max_seq_len": longest})})


def _disk_needed(run: TrainRun) -> int:
    """Bytes of model, update, subspace memory and saved state, roughly: four times the weights."""
    return 4 * sum(path.stat().st_size for path in run.base.glob("*.safetensors"))


def _epoch_writer(run: TrainRun, attachment: Attachment, world: World) -> Callable[[int], None] | None:
    if not run.config.checkpoint_at_epoch:
        return None

    def write(epoch: int) -> None:
        state = attachment.dense_state()
        if world.leads:
            folder = run.out_dir / "epochs" / f"epoch-{epoch}"
            write_model(attachment.model, run.base, folder, run.config, state)

    return write


def _mix(kept: Sequence[Example], run: TrainRun, config: TrainConfig, inputs: Inputs, renderer: TextRenderer) -> Mixture:
    """The drop's rows, and those practised beside them: of earlier rounds and of general text.

    Raises ConfigError where general text is asked for and there is none.
    """
    earlier = buffer_examples(inputs.buffer, renderer, config) if config.replay_share else ()
    general: Sequence[Example] = ()
    if config.calibration_share:
        if run.calibration is None:
            why = f"is {config.calibration_share:g} and there is no general text"
            raise ConfigError("calibration_share", why, "set `calibration` to general text, or calibration_share to 0")
        general = read_general(run.calibration, renderer, config)
    return mixture(kept, ((earlier, config.replay_share), (general, config.calibration_share)))


def split_rows(examples: Sequence[Example], share: float, seed: int) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """(trained on, held out): a random `share` of the rows. The pieces of one long document stay together, and the rows of one
    conversation, of which a longer one teaches the answers of a shorter one; only where no conversation is short enough are rows split.

    Raises ConfigError where a share above 0 leaves no row on one of the sides.
    """
    rows: dict[str, Hashable] = {}
    for example in examples:
        rows.setdefault(example.origin, _opening(example))
    count = round(share * len(rows))
    if share > 0.0 and not 0 < count < len(rows):
        raise ConfigError("validation_share", f"{share} of {len(rows)} rows is {count}", "choose a share that leaves rows on both sides")
    conversations: dict[Hashable, list[str]] = defaultdict(list)
    for row, opening in rows.items():
        conversations[opening].append(row)
    held = _drawn(list(conversations.values()), count, seed) or _drawn([[row] for row in rows], count, seed)
    parts = ([each for each in examples if each.origin not in held], [each for each in examples if each.origin in held])
    return tuple(parts[0]), tuple(parts[1])


def _opening(example: Example) -> Hashable:
    """What the rows of one conversation share: all that is read before the first answer. A text without answers is by itself."""
    return example.ids[: example.answers[0].start] if example.answers else example.origin


def _drawn(groups: Sequence[Sequence[str]], count: int, seed: int) -> set[str]:
    """The rows of randomly drawn groups, at most `count` of them."""
    drawn: set[str] = set()
    for index in torch.randperm(len(groups), generator=torch.Generator().manual_seed(seed)).tolist():
        if len(drawn) + len(groups[index]) <= count:
            drawn.update(groups[index])
    return drawn
