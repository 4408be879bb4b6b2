"""What a page says about a round besides its verdict: values that the flow knows, as text and numbers. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

from data_contracts.manifests import CheckpointManifest

SHOWN_SETTINGS = {
    "method": "method",
    "protect": "what is protected",
    "unfreeze_rank_ratio": "share that may move",
    "num_epochs": "passes, at most",
    "effective_batch_size": "batch size",
    "learning_rate": "learning rate",
    "lr_scheduler": "schedule",
    "warmup_steps": "warm-up steps",
}
"""Settings of a training by the words of the page; any other one appears where it differs from the last round."""
HIDDEN_SETTINGS = frozenset({"run_sha256", "num_threads", "device", "log_every_steps", "save_every_seconds", "save_every_steps"})
"""They change from machine to machine and decide nothing."""


@dataclass(frozen=True)
class Event:
    """A decision about a version: when, what, who and why. `person`: not the gate's."""

    when: datetime
    what: str
    version: int
    who: str
    why: str
    person: bool = False


@dataclass(frozen=True)
class RoundCost:
    """One attempt at one round: how it ended, and what it took. Times are in seconds; None where it was not recorded."""

    number: int
    attempt: int
    skill: str | None
    version: int | None
    decision: str
    event: str
    who: str
    when: datetime | None
    seconds: float | None
    training: float | None
    tokens: int | None
    device: str

    @property
    def label(self) -> str:
        """The round as the page names it; a second attempt is not another round."""
        return f"round {self.number}" + (f", attempt {self.attempt}" if self.attempt > 1 else "") + f" {self.skill or 'base'}"


@dataclass(frozen=True)
class Difference:
    """One thing that changed since the last round."""

    what: str
    before: str
    now: str


@dataclass(frozen=True)
class RoundFacts:
    """What the page of a round opens with. `rows` are (name, value); `loss` are (step, nats per token)."""

    version: int | None = None
    rows: tuple[tuple[str, str], ...] = ()
    loss: tuple[tuple[int, float], ...] = ()
    settled: bool | None = None
    since: str = ""
    differences: tuple[Difference, ...] = ()
    events: tuple[Event, ...] = ()
    rounds: tuple[RoundCost, ...] = ()

    @property
    def decided(self) -> Event | None:
        """What a person decided last about this version; None where nobody has."""
        return next((event for event in reversed(self.events) if event.person), None)


def schedule_words(made: CheckpointManifest) -> str:
    """'5 passes, 135 steps of 32 examples, learning rate 0.0003 (cosine), osft, 25 % of the directions may move'."""
    config, summary = made.config, made.summary
    if not config:
        return ""
    steps = f", {summary.steps:,} steps" if summary is not None else ""
    made_passes = passes_made(made)
    passes = f"{made_passes:g}" if made_passes is not None else number(None)
    parts = [f"{passes} passes{steps} of {number(config.get('effective_batch_size'))} examples"]
    parts.append(f"learning rate {number(config.get('learning_rate'))} ({config.get('lr_scheduler', 'constant')})")
    share = config.get("unfreeze_rank_ratio")
    osft = made.method == "osft" and isinstance(share, int | float)
    parts.append(f"{made.method}" + (f", {100 * share:.3g} % of the directions may move" if osft and share is not None else ""))
    scale = config.get("update_scale")
    return ", ".join(parts) + (f", offered at scale {number(scale)}" if scale not in (None, 1.0) else "")


def passes_made(made: CheckpointManifest) -> float | None:
    """Passes over the examples that a training made, to one decimal; it may have ended before the number that was set. None: not known."""
    most, batch, summary = made.config.get("num_epochs"), made.config.get("effective_batch_size"), made.summary
    if not isinstance(most, int | float):
        return None
    if summary is None or not isinstance(batch, int) or not summary.examples:
        return float(most)
    return min(float(most), round(summary.steps / math.ceil(summary.examples / batch), 1))


def setting_differences(before: CheckpointManifest | None, now: CheckpointManifest) -> tuple[Difference, ...]:
    """The settings and package versions of two trainings that differ, in the order of their names."""
    if before is None or not before.config:
        return ()
    named = {**dict.fromkeys(SHOWN_SETTINGS), **dict.fromkeys(sorted({*before.config, *now.config} - HIDDEN_SETTINGS))}
    pairs = [(SHOWN_SETTINGS.get(name, name), before.config.get(name), now.config.get(name)) for name in named]
    pairs += [
        (f"version of {name}", before.versions.get(name), now.versions.get(name)) for name in sorted({*before.versions, *now.versions})
    ]
    return tuple(Difference(what, number(old), number(new)) for what, old, new in pairs if old != new)


def number(value: object) -> str:
    """A setting as people write it: 0.0003 instead of 3e-04; a dash for none."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        text = f"{value:.10f}".rstrip("0").rstrip(".") if 1e-9 < abs(value) < 1e6 else f"{value:g}"
        return f"{float(f'{value:.3g}'):.12f}".rstrip("0").rstrip(".") if len(text) > 9 and abs(value) < 1e6 else text
    return str(value)


def count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def moment(when: datetime | None) -> str:
    return "–" if when is None else f"{when:%Y-%m-%d %H:%M}"
