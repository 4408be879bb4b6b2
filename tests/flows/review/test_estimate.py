"""What a round will cost: which rows are tried, what people read, and which lines of the file count. The whole runs in tests/e2e."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from data_contracts.manifests import CheckpointManifest, DropManifest, SuiteResult, TrainingSummary, file_ref, write_manifest
from evals.config import SuiteConfig
from flows.config.launch import LaunchConfig
from flows.config.model import SkillstackConfig, TrainerConfig
from flows.review.estimate import (
    FILE,
    Estimated,
    PastEstimate,
    RoundEstimate,
    evaluate_few,
    past_errors,
    read_estimates,
    sample_rows,
    train_shortly,
    training_memory,
)
from osft_engine.run import TrainRun

ESTIMATE = RoundEstimate(
    skill="tickets", source_sha256="0", rows=400, steps=3000, may_stop=True, seconds_per_step=0.5, prepare_seconds=20.0,
    evaluate_seconds=240.0, memory_bytes=3_000_000_000, disk_bytes=500_000_000,
)  # fmt: skip


def test_the_longest_rows_are_tried_and_the_others_come_from_all_over_the_drop() -> None:
    lines = ["x" * (5 + place % 7) for place in range(1000)]
    lines[17], lines[800] = "x" * 900, "x" * 800
    chosen = sample_rows(lines, 64)
    assert len(chosen) == 64
    assert {900, 800} <= set(map(len, chosen))
    places = [place for place, line in enumerate(lines) if any(line is each for each in chosen)]
    assert places[0] < 50
    assert places[-1] > 950
    assert sample_rows(lines[:20], 64) == lines[:20]


def test_people_read_what_it_costs_what_there_is_and_how_far_off_the_last_one_was() -> None:
    past = (PastEstimate(round=2, skill="units", time=0.12, memory=-0.03, disk=0.0),)
    lines = list(Estimated(estimate=ESTIMATE, machine_bytes=16_000_000_000, free_bytes=40_000_000_000, past=past).lines())
    assert lines == [
        "training: at most 25 min (3,000 steps at 0.5 s; it stops where the loss has settled), and 20 s to prepare and to write",
        "evaluation: about 4 min",
        "memory: 3.0 GB at the peak of training; this machine has 16 GB",
        "disk: 0.5 GB stay, twice that while it trains; 40 GB are free",
        "past estimate of round 2, units: time +12 %, memory -3 %, disk +0 %",
    ]
    small = list(Estimated(estimate=ESTIMATE, machine_bytes=2_000_000_000, free_bytes=900_000_000, past=()).lines())
    assert small[2].endswith("this machine has 2 GB: too little")
    assert small[3].endswith("1 GB are free: too little")
    assert small[4] == "past estimates: no round has ended yet whose drop was estimated before"


def test_a_line_of_another_release_is_left_out(tmp_path: Path) -> None:
    assert read_estimates(tmp_path) == ()
    (tmp_path / FILE).write_text('{"rows": 1}\n' + ESTIMATE.model_dump_json() + "\nhalf a li")
    assert read_estimates(tmp_path) == (ESTIMATE,)


@pytest.mark.parametrize(("known", "models"), [(False, 2), (True, 3)])
def test_the_first_round_evaluates_two_models_and_a_later_one_three(
    known: bool, models: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The champion of the first round is the base. Later, champion and base have no scores of the new skill alone."""
    seconds = {"old": 10.0, "new": 20.0}
    results = [
        SuiteResult(
            name=name,
            category="general",
            metric="acc",
            higher_is_better=True,
            n=10,
            available=40,
            score=0.5,
            suite_sha256="0",
            seconds=each,
        )
        for name, each in seconds.items()
    ]
    monkeypatch.setattr("evals.harness.run.evaluate_checkpoint", lambda *_, **__: SimpleNamespace(suites=results))
    suites = [SuiteConfig(name=name, source=f"{name}.jsonl", items=20) for name in seconds]
    monkeypatch.setattr("time.perf_counter", lambda: 0.0)  # loading takes no time here
    found = evaluate_few(SkillstackConfig(), tmp_path, suites, {"new"}, known, tmp_path)
    old = 10.0 * (20 / 10) * (1 if known else 2)
    assert found == pytest.approx(old + 20.0 * (20 / 10) * models)


SECONDS_PER_TOKEN, BESIDE = 0.002, 145
"""Of the machine below; tokens of every replayed row and every text, as many as the mean row of the drop below has. A row of the drop has
as many tokens as its line has characters."""

Training = Callable[..., tuple[dict[str, Any], list[tuple[TrainRun, LaunchConfig]]]]


def row_of(length: int) -> str:
    return '{"text": "' + "x" * (length - len('{"text": ""}')) + '"}'


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Training:
    """A short training of a machine that takes the same time for every token, and what the trainer was asked."""
    asked: list[tuple[TrainRun, LaunchConfig]] = []

    def trainer(run: TrainRun, on_event: Callable[[dict[str, Any]], None], launch: LaunchConfig, _: TrainerConfig) -> None:
        asked.append((run, launch))
        config, own = run.config, [len(line) for line in (run.drop / "clean.jsonl").read_text().splitlines()]
        replayed = config.replay_share if run.parent is not None else 0.0
        passed = len(own) / (1 - replayed - config.calibration_share)
        beside = round(replayed * passed) + round(config.calibration_share * passed)
        examples = np.random.default_rng(0).permutation([*own, *[BESIDE] * beside])
        ends = [*range(config.effective_batch_size, len(examples), config.effective_batch_size), len(examples)]
        on_event({"event": "start", "examples": len(examples)})
        for step, tokens in enumerate((int(examples[:end].sum()) for end in ends), 1):
            if step % config.log_every_steps == 0 or step == len(ends):
                on_event({"event": "step", "step": step, "tokens": tokens, "seconds": 5.0 + SECONDS_PER_TOKEN * tokens})
        run.out_dir.mkdir(parents=True)
        summary = TrainingSummary(
            steps=len(ends), examples=len(examples), loss_tokens=1, dropped_too_long=0, first_loss=1.0, final_loss=1.0, seconds=1.0,
            tokens_per_second=1.0, peak_memory_bytes=7, trainable_parameters=1, device="cuda:1",
        )  # fmt: skip
        write_manifest(run.out_dir, CheckpointManifest(files={}, method="osft", model_sha256="0", summary=summary))

    monkeypatch.setattr("flows.review.estimate.run_trainer", trainer)

    def estimate(lengths: list[int], *, earlier: bool, **sections: Any) -> tuple[dict[str, Any], list[tuple[TrainRun, LaunchConfig]]]:
        drop, scratch = tmp_path / "drop", tmp_path / "scratch"
        drop.mkdir()
        scratch.mkdir()
        (drop / "clean.jsonl").write_text("".join(row_of(length) + "\n" for length in lengths))
        manifest = DropManifest(
            skill="units", source="d.jsonl", source_sha256="0", contract="c", contract_version="1", rows_read=len(lengths),
            rows_clean=len(lengths), rows_heldout=0, rows_sealed=0, rows_quarantined=0,
            files={"clean": file_ref(drop, drop / "clean.jsonl")},
        )  # fmt: skip
        chain: Any = [SimpleNamespace(skill="tickets", checkpoint=tmp_path / "champion")] if earlier else []
        config = SkillstackConfig.model_validate({"state_dir": tmp_path, **sections})
        return train_shortly(config, tmp_path / "model", chain, drop, manifest, scratch), asked

    return estimate


@pytest.mark.parametrize(("earlier", "replayed", "general"), [(False, 0.25, 0.0), (True, 0.25, 0.0), (True, 0.25, 0.15), (False, 0.0, 0.4)])
def test_a_step_has_replayed_rows_and_general_text_in_it_and_they_are_counted_once(
    earlier: bool, replayed: float, general: float, train: Training
) -> None:
    """Against the tokens of whole passes over the whole drop, counted by hand; a few rows are ten times as long as the others."""
    lengths = np.random.default_rng(1).permutation([*[100] * 570, *[1000] * 30])
    found, _ = train(lengths.tolist(), earlier=earlier, train={"replay_share": replayed, "calibration_share": general})
    share = (replayed if earlier else 0.0) + general
    beside = 600 * share / (1 - share)
    wanted = SECONDS_PER_TOKEN * (lengths.sum() + beside * BESIDE) / math.ceil((600 + beside) / 8)
    assert found["seconds_per_step"] == pytest.approx(wanted, rel=0.02)


def test_a_config_that_logs_every_tenth_step_is_measured_all_the_same(train: Training) -> None:
    found, [(run, _)] = train([100] * 400, earlier=False, train={"log_every_steps": 10})
    assert run.config.log_every_steps == 1
    assert found["seconds_per_step"] == pytest.approx(SECONDS_PER_TOKEN * 8 * 100)  # 400 rows of 100 tokens are 50 steps of 8


def test_one_step_shows_no_pace_and_the_estimate_says_so(train: Training) -> None:
    found, _ = train([100] * 7, earlier=False)
    assert found["seconds_per_step"] is None
    one = ESTIMATE.model_copy(update=found)
    assert one.train_seconds is None
    first = next(Estimated(estimate=one, machine_bytes=1, free_bytes=1, past=()).lines())
    assert first.startswith("training: not known (")
    assert RoundEstimate.model_validate_json(one.model_dump_json()) == one


def test_an_estimate_without_a_pace_is_compared_with_no_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = SimpleNamespace(drop=tmp_path, checkpoint=tmp_path, skill="tickets", round=1)
    summary = SimpleNamespace(seconds=10.0, steps=5, peak_memory_bytes=1)
    read = SimpleNamespace(source_sha256="0", summary=summary, files={})
    monkeypatch.setattr("flows.review.estimate.read_history", lambda _: [record])
    monkeypatch.setattr("flows.review.estimate.read_manifest", lambda *_, **__: read)
    workspace: Any = SimpleNamespace(lineage=None)
    assert past_errors(workspace, [ESTIMATE.model_copy(update={"seconds_per_step": None})]) == ()
    [known] = past_errors(workspace, [ESTIMATE])
    assert known.time == pytest.approx(5 * 0.5 / 10 - 1)


def test_processes_of_this_machine_are_started_as_the_round_starts_them(train: Training) -> None:
    launch = {"kind": "torchrun", "processes": 2}
    found, [(_, asked)] = train([100] * 400, earlier=False, launch=launch)
    assert asked == LaunchConfig.model_validate(launch)
    assert found["elsewhere"] == ""


def test_a_cluster_is_not_asked_for_an_estimate_and_the_answer_says_so(train: Training) -> None:
    found, [(_, asked)] = train([100] * 400, earlier=False, launch={"kind": "kubernetes", "processes": 4})
    assert asked == LaunchConfig()
    assert found["elsewhere"] == "kubernetes"
    lines = list(Estimated(estimate=ESTIMATE.model_copy(update=found), machine_bytes=1, free_bytes=1, past=()).lines())
    assert lines[0] == (
        "launch: measured in one process of this machine; the round trains by launch.kind kubernetes, where time and memory differ"
    )


def test_memory_of_a_gpu_is_compared_with_the_gpus_own(train: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda device: SimpleNamespace(total_memory=24_000_000_000 + device.index))
    found, _ = train([100] * 400, earlier=False)
    assert found["device"] == "cuda:1"
    assert training_memory("cuda:1") == 24_000_000_001
    one = ESTIMATE.model_copy(update={**found, "memory_bytes": 30_000_000_000})
    line = next(line for line in Estimated(estimate=one, machine_bytes=24_000_000_001, free_bytes=1, past=()).lines() if "memory" in line)
    assert line == "memory: 30.0 GB at the peak of training; cuda:1 has 24 GB: too little"


def test_memory_of_a_training_on_the_cpu_is_compared_with_the_machines_own() -> None:
    [total] = [line.split()[1] for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal:")]
    assert training_memory("cpu") == pytest.approx(1024 * int(total), rel=0.01)
