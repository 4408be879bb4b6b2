"""What a round of a drop will cost on this machine: time, memory and disk, from a short training and a few items of each suite.

    skillstack estimate DROP --skill NAME

The short training is the round's own in everything but its length: same model, directions, batch size, processes, longest rows included.
Only where the round trains in a cluster it runs here, in one process, and the answer says so: a question creates no job there. Each
estimate is a line of state_dir/estimates.jsonl; rounds that were run since say how far off it was.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import Field, ValidationError

from data_contracts.manifests import CheckpointManifest, DropManifest, Record, file_ref, read_manifest, write_manifest
from data_contracts.rows.jsonl import read_raw
from evals.config import SuiteConfig
from evals.numbers import duration, plain
from flows.config.launch import LaunchConfig
from flows.config.model import SkillstackConfig
from flows.lineage import VersionRef, read_history
from flows.trainer.process import run_trainer
from flows.workspace.workspace import Workspace, champion_chain, has_lineage, model_use, open_workspace, suites_of_skill
from osft_engine.run import TrainRun

STEPS, ITEMS = 8, 8
"""Steps of the short training, of which the first warms up; items of each suite."""
HERE = ("local", "torchrun")
"""Kinds of `launch` whose processes are this machine's."""
FILE = "estimates.jsonl"


class RoundEstimate(Record):
    """Seconds, bytes and steps of a round. `steps` are the most that it can make where `may_stop` is true."""

    skill: str
    source_sha256: str = Field(description="of the drop's file")
    rows: int
    steps: int
    may_stop: bool
    seconds_per_step: float | None = Field(description="None where the drop is too small: the second step is the first that is measured")
    prepare_seconds: float = Field(description="start, loading, directions, and writing the candidate")
    evaluate_seconds: float
    memory_bytes: int = Field(description="peak of the training process")
    disk_bytes: int = Field(description="that stay after the round")
    device: str = Field("", description="torch device that trained; empty in estimates of older releases")
    elsewhere: str = Field("", description="launch.kind of the round where it trains in a cluster, which was not measured; empty: here")

    @property
    def train_seconds(self) -> float | None:
        return None if self.seconds_per_step is None else self.steps * self.seconds_per_step


class PastEstimate(Record):
    """How far off an estimate was: estimated over measured, minus 1; time at the number of steps that the training made."""

    round: int
    skill: str
    time: float
    memory: float
    disk: float


class Estimated(Record):
    estimate: RoundEstimate
    machine_bytes: int = Field(description="memory of the GPU that trains, or of this machine")
    free_bytes: int = Field(description="free on the disk of state_dir")
    past: tuple[PastEstimate, ...]

    def lines(self) -> Iterator[str]:
        """For people."""
        found = self.estimate
        if found.elsewhere:
            why = "where time and memory differ"
            yield f"launch: measured in one process of this machine; the round trains by launch.kind {found.elsewhere}, {why}"
        most, stops = ("at most ", "; it stops where the loss has settled") if found.may_stop else ("", "")
        lasts = "not known" if found.train_seconds is None else f"{most}{duration(found.train_seconds)}"
        pace = "" if found.seconds_per_step is None else f" at {plain(found.seconds_per_step, 2)} s"
        ends = f"and {duration(found.prepare_seconds)} to prepare and to write"
        yield f"training: {lasts} ({found.steps:,} steps{pace}{stops}), {ends}"
        yield f"evaluation: about {duration(found.evaluate_seconds)}"
        too_much = ": too little" if found.memory_bytes > self.machine_bytes else ""
        has = f"{found.device if found.device.startswith('cuda') else 'this machine'} has {self.machine_bytes / 1e9:.0f} GB{too_much}"
        yield f"memory: {found.memory_bytes / 1e9:.1f} GB at the peak of training; {has}"
        full = ": too little" if 2 * found.disk_bytes > self.free_bytes else ""
        yield f"disk: {plain(found.disk_bytes / 1e9, 2)} GB stay, twice that while it trains; {self.free_bytes / 1e9:.0f} GB are free{full}"
        yield from past_lines(self.past)


def past_lines(past: Sequence[PastEstimate]) -> Iterator[str]:
    """How far off past estimates were."""
    if not past:
        yield "past estimates: no round has ended yet whose drop was estimated before"
    for each in past:
        errors = f"time {100 * each.time:+.0f} %, memory {100 * each.memory:+.0f} %, disk {100 * each.disk:+.0f} %"
        yield f"past estimate of round {each.round}, {each.skill}: {errors}"


def estimate_round(config: SkillstackConfig, base: Path, drop: Path) -> Estimated:
    """`drop` is the folder of a validated drop, `base` the folder of the model where there is no lineage yet. Registers nothing."""
    workspace = open_workspace(config) if has_lineage(config) else None
    chain = champion_chain(workspace) if workspace else []
    manifest = read_manifest(drop, DropManifest)
    model = chain[-1].checkpoint / "model" if chain else base
    config.state_dir.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=config.state_dir, prefix=".estimate-") as scratch:
        trained = train_shortly(config, model, chain, drop, manifest, Path(scratch))
        suites = [*config.evaluation.suites, *_skill_suites(config, workspace, chain, drop, manifest)]
        evaluate = evaluate_few(config, model, suites, {manifest.skill}, bool(chain), Path(scratch) / "evaluated")
    found = RoundEstimate(skill=manifest.skill, source_sha256=manifest.source_sha256, evaluate_seconds=evaluate, **trained)
    past = past_errors(workspace, read_estimates(config.state_dir)) if workspace else ()
    with (config.state_dir / FILE).open("a", encoding="utf-8") as stream:
        stream.write(found.model_dump_json() + "\n")
    free = shutil.disk_usage(config.state_dir).free
    return Estimated(estimate=found, machine_bytes=training_memory(found.device), free_bytes=free, past=past)


def training_memory(device: str) -> int:
    """Bytes of what the peak of a training on `device` is counted in: the GPU's own memory, else this machine's."""
    if device.startswith("cuda"):
        import torch  # slow to import

        return int(torch.cuda.get_device_properties(torch.device(device)).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def train_shortly(
    config: SkillstackConfig, model: Path, chain: Sequence[VersionRef], drop: Path, manifest: DropManifest, scratch: Path
) -> dict[str, Any]:
    """The fields of the estimate that a training of a few steps shows."""
    lines = [raw.decode() for raw in read_raw(drop / manifest.files["clean"].path)]
    earlier, batch = any(version.skill for version in chain), config.train.effective_batch_size
    own = 1.0 - config.train.calibration_share - (config.train.replay_share if earlier and config.train.buffer_size else 0.0)
    chosen = sample_rows(lines, round(STEPS * batch * own))
    folder, out = scratch / "drop", scratch / "out"
    folder.mkdir()
    clean = folder / "clean.jsonl"
    clean.write_text("".join(line + "\n" for line in chosen), encoding="utf-8")
    write_manifest(folder, manifest.model_copy(update={"files": {"clean": file_ref(folder, clean)}, "rows_clean": len(chosen)}))
    once = {"num_epochs": 1, "validation_share": 0.0, "keep_best": False, "log_every_steps": 1}
    once |= {"early_stop_patience": 0, "early_stop_gain": 0.0, "early_stop_after": 0}
    order = TrainRun(
        base=model, parent=chain[-1].checkpoint if chain else None, drop=folder, calibration=config.calibration, skill=manifest.skill,
        out_dir=out, config=config.train.model_copy(update=once),
    )  # fmt: skip
    events: list[Mapping[str, Any]] = []
    started = time.perf_counter()
    here = config.launch.kind in HERE
    run_trainer(order, events.append, config.launch if here else LaunchConfig(), config.trainer)
    wall = time.perf_counter() - started
    steps = [event for event in events if event["event"] == "step"]
    first, last = steps[0], steps[-1]
    pace: float | None = None
    if last["tokens"] > first["tokens"]:
        per_token = (last["seconds"] - first["seconds"]) / (last["tokens"] - first["tokens"])  # the first step warms up
        pace = per_token * tokens_per_step(last["tokens"], chosen, lines, own, batch)
    total, may_stop = config.train.most_steps(len(lines), earlier=earlier)
    made = read_manifest(out, CheckpointManifest, verify=False)
    return {
        "rows": len(lines),
        "steps": total,
        "may_stop": may_stop,
        "seconds_per_step": pace,
        "prepare_seconds": wall - last["seconds"],
        "memory_bytes": made.summary.peak_memory_bytes if made.summary else 0,
        "disk_bytes": sum(path.stat().st_size for path in out.rglob("*") if path.is_file()),
        "device": made.summary.device if made.summary else "",
        "elsewhere": "" if here else config.launch.kind,
    }


def tokens_per_step(tokens: int, chosen: Sequence[str], lines: Sequence[str], own: float, batch: int) -> float:
    """Tokens of a step of the whole training, from those of one pass over the `chosen` of its rows.

    `own`: the drop's share of the examples. Only its rows were chosen for their length; rows of earlier rounds and general text beside them
    are drawn by chance, and are taken to be as long as the drop's.
    """
    mean, tried = (sum(map(len, rows)) / len(rows) for rows in (lines, chosen))
    per_row = tokens / len(chosen) * mean / (own * tried + (1.0 - own) * mean)  # of the drop, with what comes beside it
    return per_row * len(lines) / math.ceil(round(len(lines) / own) / batch)


def sample_rows(lines: Sequence[str], count: int) -> list[str]:
    """The longest rows, which decide the memory, an eighth of `count`; the others evenly over all rows."""
    if len(lines) <= count:
        return list(lines)
    longest = sorted(range(len(lines)), key=lambda place: -len(lines[place]))[: max(1, count // 8)]
    rest = [place for place in range(len(lines)) if place not in set(longest)]
    wanted = count - len(longest)
    return [lines[place] for place in sorted({*longest, *(rest[index * len(rest) // wanted] for index in range(wanted))})]


def _skill_suites(
    config: SkillstackConfig, workspace: Workspace | None, chain: Sequence[VersionRef], drop: Path, manifest: DropManifest
) -> list[SuiteConfig]:
    from evals.suites.resolve import skill_suites

    new = skill_suites(manifest.skill, drop, config.evaluation, learned=False)
    if workspace is None:
        return new
    return [*(suite for each in chain if each.skill and each.drop for suite in suites_of_skill(workspace, each.skill, each.drop)), *new]


def evaluate_few(config: SkillstackConfig, model: Path, suites: Sequence[SuiteConfig], new: set[str], known: bool, scratch: Path) -> float:
    """Seconds of a round's evaluations: the candidate on everything; the champion and the base on what they have no scores of yet."""
    from evals.harness.run import evaluate_checkpoint  # imports torch and lm-eval

    few = [suite.model_copy(update={"items": min(ITEMS, suite.items or ITEMS), "draw": "even"}) for suite in suites]
    started = time.perf_counter()
    report = evaluate_checkpoint(model, few, scratch, config=config.evaluation, cache_dir=scratch / "items", use=model_use(config.train))
    loading = time.perf_counter() - started - sum(suite.seconds for suite in report.suites)
    limits = {suite.name: suite.items for suite in suites}
    total, models = 0.0, 3 if known else 2  # candidate, champion, base; in the first round the champion is the base
    for suite in report.suites:
        items = min(suite.available or suite.n, limits.get(suite.name) or math.inf)
        again = 1 if known and suite.name.split(".")[0] not in new else models
        total += again * items * suite.seconds / max(suite.n, 1)
    return total + models * max(loading, 0.0)


def read_estimates(state_dir: Path) -> tuple[RoundEstimate, ...]:
    """All estimates so far, oldest first; lines that this release cannot read are left out."""
    path, found = state_dir / FILE, []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            found.append(RoundEstimate.model_validate_json(line))
        except ValidationError:
            continue
    return tuple(found)


def past_errors(workspace: Workspace, estimates: Sequence[RoundEstimate]) -> tuple[PastEstimate, ...]:
    """Each round with the newest estimate of its drop."""
    newest = {each.source_sha256: each for each in estimates}
    found = []
    for record in read_history(workspace.lineage):
        if record.drop is None or record.checkpoint is None or record.skill is None:
            continue
        estimate = newest.get(read_manifest(record.drop, DropManifest, verify=False).source_sha256)
        made = read_manifest(record.checkpoint, CheckpointManifest, verify=False)
        if estimate is None or estimate.seconds_per_step is None or made.summary is None or not made.summary.seconds:
            continue
        disk = sum(ref.bytes for ref in made.files.values())
        found.append(
            PastEstimate(
                round=record.round,
                skill=record.skill,
                time=made.summary.steps * estimate.seconds_per_step / made.summary.seconds - 1.0,
                memory=estimate.memory_bytes / max(made.summary.peak_memory_bytes, 1) - 1.0,
                disk=estimate.disk_bytes / max(disk, 1) - 1.0,
            )
        )
    return tuple(found)
