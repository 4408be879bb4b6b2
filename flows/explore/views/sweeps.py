"""Beside view 4: the sweeps of a lineage, from the files that `skillstack sweep` writes: what each setting learned and what it lost."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from evals.numbers import plain
from evals.report.scores import percent
from flows.sweep.frontier import SUFFIX, SweepPoint, SweepTable

_NAME = re.compile(r"sweep-(?P<skill>.+)-(?P<month>\d{4}-\d{2})\.json")


@dataclass(frozen=True)
class Sweep:
    """The newest sweep of a skill in a month; `table` is None where its file cannot be read, and `problem` says why."""

    label: str
    table: SweepTable | None
    problem: str = ""

    def sentence(self) -> str:
        if self.table is None:
            return self.problem
        choice = self.table.choice
        if choice.point is None:
            return f"{self.label}: {len(self.table.points)} points, none chosen. {choice.reason}"
        chosen = f"{choice.point.setting}, scale {plain(choice.point.scale)}"
        return f"{self.label}: {len(self.table.points)} points; chosen: {chosen}, because it {choice.reason}."


def read_sweeps(state_dir: Path) -> list[Sweep]:
    """The sweeps under `state_dir/reports`, the newest file first; empty where there are none."""
    folder = state_dir / "reports"
    files = [(found, path) for path in folder.glob("sweep-*.json") if (found := _NAME.fullmatch(path.name))]
    return [_read(f"{found['skill']}, {found['month']}", path) for found, path in sorted(files, key=lambda each: -each[1].stat().st_mtime)]


def _read(label: str, path: Path) -> Sweep:
    try:
        return Sweep(label, SweepTable.model_validate_json(path.read_bytes()))
    except (OSError, ValidationError) as error:
        why = str(error).splitlines()[0]
        return Sweep(label, None, f"{label}: {path.name} cannot be read: {why}. Run `skillstack sweep` again.")


def sweep_rows(table: SweepTable) -> list[dict[str, str]]:
    """One row per point, in the order in which they were tried."""
    return [
        {
            "rate": plain(point.setting.learning_rate),
            "passes": str(point.setting.passes or "as the config says"),
            "ratio": plain(point.setting.ratio),
            "scale": plain(point.scale),
            "learned": f"{percent(point.learned)} % ({100 * point.gain:+.1f})",
            "lost": lost_words(point),
            "margin used": f"{100 * point.forgetting:.0f} %",
            "choice": "chosen" if point == table.choice.point else "on the frontier" if point in table.choice.frontier else "",
        }
        for point in table.points
    ]


def lost_words(point: SweepPoint) -> str:
    """What became worse, worst first: in points of a score, and in percent more bits per byte for text."""
    worse = sorted(((loss, name.removesuffix(SUFFIX)) for name, loss in point.losses.items() if loss > 0.0), reverse=True)
    return ", ".join(f"{name} {100 * loss:.1f}" for loss, name in worse) or "nothing"
