"""What a round will cost: which rows are tried, what people read, and which lines of the file count. The whole runs in tests/e2e."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from data_contracts.manifests import SuiteResult
from evals.config import SuiteConfig
from flows.config.model import SkillstackConfig
from flows.review.estimate import FILE, Estimated, PastEstimate, RoundEstimate, evaluate_few, read_estimates, sample_rows

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
