"""Train the candidate in a process of its own, or scale a finished update."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from data_contracts.manifests import CheckpointManifest, DropManifest
from flows.machine.progress import bar
from flows.round.context import Trial, stage_task
from flows.trainer.process import run_trainer
from flows.workspace import decompositions
from flows.workspace.pages import shown_progress
from flows.workspace.stages import Stage, digest_or_none, discard_partial, run_stage
from osft_engine.run import TrainRun


@stage_task("train", "train {round.skill}", tags=["gpu"])
def train(round: Trial, clean: Stage[DropManifest]) -> Stage[CheckpointManifest]:
    """champion + clean rows -> candidate. An interrupted training resumes; its curve is in MLflow while it runs."""
    started, config, champion = time.perf_counter(), round.config, round.champion
    inputs = {
        "champion": champion.manifest_sha256,
        "drop": clean.manifest.files["clean"].sha256,
        "skill": round.skill,
        "calibration": digest_or_none(config.calibration),
        "config": config.train.model_dump(mode="json"),
    }

    def build(folder: Path) -> None:
        order = TrainRun(
            base=champion.checkpoint / "model",
            parent=champion.checkpoint,
            drop=clean.folder,
            calibration=config.calibration,
            skill=round.skill,
            out_dir=folder,
            cache_dir=decompositions.folder_of(round.workspace),
            keep_whole=not round.recorded,  # a sweep uses the same decomposition several times
            config=config.train,
        )
        with ExitStack() as shown:
            advance = shown.enter_context(bar(f"train {round.skill}"))
            show = shown.enter_context(shown_progress(f"train {round.skill}"))
            live = shown.enter_context(round.live("train"))

            def on_event(event: dict[str, Any]) -> None:
                if (seen := progress_of(event)) is None:
                    return
                done, total, loss = seen
                advance(done, total, f"loss {loss:.3f}  {event['tokens_per_second']:.0f} tokens/s")
                show(done, total)
                if live is not None and event["event"] == "step":
                    live.add(event["step"], event)

            run_trainer(order, on_event, config.launch, config.trainer)

    stage = run_stage(round.workspace.stages, "train", inputs, CheckpointManifest, build, code=("osft_engine.__main__",))
    round.record("train", stage, since=started)
    return stage


def progress_of(event: Mapping[str, Any]) -> tuple[int, int, float] | None:
    """(steps made, steps in all, loss) after an event of the trainer; at its end, maybe before the last step, all of them were made."""
    if event.get("event") == "step":
        return event["step"], event["steps"], event["loss"]
    if event.get("event") == "end":
        return event["steps"], event["steps"], event["final_loss"]
    return None


@stage_task("rescale", "rescale {round.skill} by {round.scale}")
def rescale(round: Trial, candidate: Stage[CheckpointManifest]) -> Stage[CheckpointManifest]:
    """The trained update times `round.scale`: the update is linear, so this trains nothing."""
    from osft_engine.rescale import scale_candidate  # imports torch

    def build(folder: Path) -> None:
        discard_partial(folder)
        scale_candidate(candidate.folder, round.champion.checkpoint / "model", folder, round.scale)

    inputs = {"candidate": candidate.digest, "scale": round.scale}
    stage = run_stage(round.workspace.stages, "rescale", inputs, CheckpointManifest, build, code=("osft_engine.rescale",))
    round.record("train", stage)
    return stage
