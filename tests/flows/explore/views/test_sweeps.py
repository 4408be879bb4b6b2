"""The sweeps of a lineage as the training view shows them, from files as `skillstack sweep` writes them."""

from __future__ import annotations

import os
from pathlib import Path

from flows.explore.views.sweeps import read_sweeps, sweep_rows
from flows.sweep.frontier import Setting, SweepPoint, SweepTable, choose, table_file


def point(rate: float, learned: float, forgetting: float, **losses: float) -> SweepPoint:
    setting = Setting(ratio=0.25, learning_rate=rate, passes=4)
    named = {f"{name}.tuning": loss for name, loss in losses.items()}
    return SweepPoint(
        setting=setting,
        steps=40,
        scale=1.0,
        learned=learned,
        gain=learned - 0.1,
        n=60,
        forgetting=forgetting,
        losses=named,
        model_sha256="",
    )


def write(state: Path, skill: str, month: str, *points: SweepPoint, then: float) -> None:
    path = table_file(state, skill, month)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(SweepTable(skill=skill, points=points, choice=choose(points), notes=()).model_dump_json())
    os.utime(path, (then, then))


def test_every_point_has_its_rate_passes_gain_losses_and_the_mark_of_the_chosen_one(tmp_path: Path) -> None:
    fast, slow = point(1e-3, 0.95, 2.4, sql=0.048, general=0.004), point(1e-4 / 3, 0.9, 0.2, sql=-0.01, general=0.002)
    write(tmp_path, "route", "2026-11", fast, slow, then=1000.0)
    [sweep] = read_sweeps(tmp_path)
    assert sweep.table is not None
    assert sweep.sentence().startswith("route, 2026-11: 2 points; chosen: ratio 0.25 rate 0.0000333 passes 4, scale 1, because it ")
    first, second = sweep_rows(sweep.table)
    assert (first["rate"], first["passes"], first["learned"], first["lost"]) == ("0.001", "4", "95.0 % (+85.0)", "sql 4.8, general 0.4")
    assert (second["rate"], second["lost"], second["margin used"], second["choice"]) == ("0.0000333", "general 0.2", "20 %", "chosen")


def test_the_newest_stands_first_and_nothing_chosen_is_said_with_its_reason(tmp_path: Path) -> None:
    write(tmp_path, "two-words", "2026-10", point(1e-3, 0.9, 0.1), then=1000.0)
    write(tmp_path, "mood", "2026-11", point(1e-3, 0.1, 0.0), then=2000.0)
    (tmp_path / "reports" / "sweep-notes.json").write_text("{}")  # no sweep's name
    newest, older = read_sweeps(tmp_path)
    assert newest.sentence().startswith("mood, 2026-11: 1 points, none chosen. No point learned the skill")
    assert older.label == "two-words, 2026-10"
    assert sweep_rows(older.table)[0]["lost"] == "nothing" if older.table else False


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_shown(tmp_path: Path) -> None:
    write(tmp_path, "mood", "2026-11", point(1e-3, 0.9, 0.1), then=1000.0)
    (tmp_path / "reports" / "sweep-route-2026-09.json").write_text('{"skill": "route", "points": [{"ratio": 0.1}]}')
    labels = {sweep.label: sweep for sweep in read_sweeps(tmp_path)}
    assert labels["route, 2026-09"].table is None
    assert "sweep-route-2026-09.json cannot be read" in labels["route, 2026-09"].sentence()
    assert labels["mood, 2026-11"].table is not None


def test_without_a_sweep_there_is_nothing_to_show(tmp_path: Path) -> None:
    assert read_sweeps(tmp_path) == []
