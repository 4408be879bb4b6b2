"""What a sweep will cost, said before it begins: trainings, optimiser steps, time at the pace of the champion's own training, disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from data_contracts.manifests import CheckpointManifest, read_manifest
from evals.numbers import duration, plain
from flows.sweep.frontier import Setting
from osft_engine.config import TrainConfig


def cost_lines(settings: Sequence[Setting], scales: Sequence[float], rows: int, train: TrainConfig, champion: Path) -> Iterator[str]:
    """`settings`: the trainings, on `rows` rows each; empty: only the update that the round itself trains is evaluated."""
    updates = max(1, len(settings))
    evaluations = f"{updates * len(scales)} evaluations"
    if not settings:
        yield f"this sweep: {evaluations} of shares of the round's own update, and its training if that is not done yet"
        return
    made = read_manifest(champion, CheckpointManifest, verify=False)
    trainings = [train.model_copy(update={"num_epochs": setting.passes}) for setting in settings]
    counted = [each.most_steps(rows, earlier=made.skill is not None) for each in trainings]
    steps = sum(count for count, _ in counted)
    most = "at most " if any(watched for _, watched in counted) else ""
    size = sum(ref.bytes for ref in made.files.values())
    time = ""
    if made.summary is not None:
        seconds = steps * made.summary.seconds / made.summary.steps
        time = f", {most}{duration(seconds)} of training at the pace of the champion's own"
    yield (
        f"this sweep: {len(settings)} trainings of {most}{steps:,} steps in all{time}; {evaluations}; about "
        f"{plain(updates * len(scales) * size / 1e9, 2)} GB of disk"
    )
