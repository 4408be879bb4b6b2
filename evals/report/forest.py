"""The forest plot of a verdict: every suite's change with its interval, limit and change since its anchor, worst first, on one scale.

Drawn with lengths in percent, so that a phone and a wide screen show the same plot without scaling its text. A mark beyond the scale is an
arrow at the edge: its number stands beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from data_contracts.manifests import CheckOutcome, Verdict
from evals.gate.words import CATEGORY_WORDS, signed
from evals.report.scores import score_text

Badge = tuple[str, str, str]

OUTCOMES: Mapping[str, Badge] = {
    "pass": ("pass", "✓", "passed"),
    "block": ("block", "✕", "blocks"),
    "inconclusive": ("hold", "?", "not shown"),
    "error": ("error", "!", "error"),
    "n/a": ("none", "–", "not judged"),
}
SEVERITY = ("error", "block", "inconclusive", "pass", "n/a")
TITLES = {"new": "New skill", "skill": "Earlier skills", "general": "General abilities", "safety": "Safety", "drift": "General text"}
"""Headings of the groups; drift is measured in bits per byte of general text, so its changes are in percent, and a rise is worse."""
NO_CHANGE = {"unmeasured": "not measured", "non_inferiority": "nothing to compare"}
AGAINST_CHAMPION = ("gain", "margin", "non_inferiority", "drift", "regression", "unmeasured", "validity", "floor", "measurement")
AGAINST_ANCHOR = ("anchor", "anchor_drift")
WARNINGS = ("drift_warning", "early_warning")
BITS = ("drift", "anchor_drift", "drift_warning")
"""Checks of bits per byte. Their effects are better where they are positive, as those of all checks, and so is their place in the plot; as
text they are the change of the bits, which every other place on the page and every sentence names."""
SMALLEST_REACH, LARGEST_GAIN = 0.04, 0.25
"""The scale reaches at least so far to both sides, and to better at most so far (score units): beyond it an arrow is drawn."""


@dataclass(frozen=True)
class ForestRow:
    """`whole`: the mean over a category. `scores`: champion's and candidate's score as text, where there is one suite."""

    subject: str
    whole: bool
    badge: Badge
    flagged: bool
    scores: tuple[str, str] | None
    change: str
    since: str
    figure: Markup | None


@dataclass(frozen=True)
class ForestGroup:
    key: str
    title: str
    rows: tuple[ForestRow, ...]


@dataclass(frozen=True)
class Forest:
    groups: tuple[ForestGroup, ...]
    axis: Markup
    levels: str
    clipped: bool
    anchored: bool


@dataclass(frozen=True)
class _Subject:
    """All checks of one suite, or of one category's mean."""

    name: str
    group: str
    checks: tuple[CheckOutcome, ...]

    @property
    def outcome(self) -> str:
        """The worst answer of its checks."""
        found = [check.outcome for check in self.checks if check.check not in WARNINGS]
        return min(found, key=SEVERITY.index, default="n/a")

    @property
    def whole(self) -> bool:
        return self.name in CATEGORY_WORDS.values()

    def first(self, kinds: Sequence[str]) -> CheckOutcome | None:
        """The check that shows it, in the order of `kinds`; one with an effect comes before one without."""
        mine = [check for kind in kinds for check in self.checks if check.check == kind]
        return next((check for check in mine if check.effect is not None), mine[0] if mine else None)

    @property
    def order(self) -> tuple[object, ...]:
        check = self.first(AGAINST_CHAMPION) or self.first(AGAINST_ANCHOR)
        effect = check.effect if check is not None and check.effect is not None else 0.0
        return (not self.whole, SEVERITY.index(self.outcome), effect, self.name)


def subjects_of(verdict: Verdict, categories: Mapping[str, str]) -> dict[str, list[_Subject]]:
    """Group -> its subjects, worst first; groups with the worst answer first. `categories` gives each suite's category."""
    words = {text: category for category, text in CATEGORY_WORDS.items()}
    named: dict[str, list[CheckOutcome]] = {}
    for check in verdict.checks:
        named.setdefault(check.subject, []).append(check)
    groups: dict[str, list[_Subject]] = {}
    for name, checks in named.items():
        group = "new" if name == verdict.new_skill else words.get(name) or categories.get(name, "")
        groups.setdefault(group, []).append(_Subject(name, group, tuple(checks)))
    order = [*TITLES, ""]

    def worst(group: str) -> int:
        return min(SEVERITY.index(subject.outcome) for subject in groups[group])

    ranked = sorted(groups, key=lambda group: (min(worst(group), SEVERITY.index("pass")), order.index(group)))
    return {group: sorted(groups[group], key=lambda subject: subject.order) for group in ranked}


def draw_forest(
    verdict: Verdict, categories: Mapping[str, str], scores: Mapping[str, tuple[float, float]], floors: Mapping[str, float]
) -> Forest | None:
    """The plot of a verdict, or None where nothing was compared.

    `scores` gives each suite's score on champion and candidate; `floors` the loss that blocks a single suite by itself (score units).
    """
    groups = subjects_of(verdict, categories)
    shown = [subject for found in groups.values() for subject in found if subject.first(AGAINST_CHAMPION) is not None]
    if not any(check.effect is not None for check in verdict.checks if check.check not in WARNINGS):
        return None
    scale = Scale.over([subject for subject in shown if subject.group != "new"], floors)
    drawn = []
    for group, found in groups.items():
        rows = tuple(_row(subject, scale, categories, scores, floors) for subject in found if subject in shown)
        drawn += [ForestGroup(group, TITLES.get(group, "Other"), rows)] if rows else []
    marks = [mark for subject in shown for mark in (subject.first(AGAINST_CHAMPION), subject.first(AGAINST_ANCHOR)) if mark is not None]
    levels = sorted({f"{100 * mark.confidence:.3g} %" for mark in marks if mark.confidence is not None})
    ends = [end for mark in marks for end in (mark.effect, mark.low, mark.high) if end is not None]
    return Forest(
        groups=tuple(drawn),
        axis=scale.axis(),
        levels=" or ".join(levels),
        clipped=not all(scale.holds(end) for end in ends),
        anchored=any(mark.check in AGAINST_ANCHOR for mark in marks),
    )


def _row(
    subject: _Subject,
    scale: Scale,
    categories: Mapping[str, str],
    scores: Mapping[str, tuple[float, float]],
    floors: Mapping[str, float],
) -> ForestRow:
    now, since = subject.first(AGAINST_CHAMPION), subject.first(AGAINST_ANCHOR)
    assert now is not None
    badge = OUTCOMES[subject.outcome]
    tone, figure = badge[0], None
    if now.effect is not None:
        words = f"{subject.name}: {badge[2]}, change {effect_words(now)}" + (f"; {since_words(since)}" if since is not None else "")
        figure = scale.row(now, since, limit_of(now, floors), tone, words)
    pair = scores.get(subject.name)
    category = categories.get(subject.name, "")
    return ForestRow(
        subject=TITLES[subject.group] + " on average" if subject.whole and subject.group in TITLES else subject.name,
        whole=subject.whole,
        badge=badge,
        flagged=any(check.check in WARNINGS for check in subject.checks),
        scores=(score_text(pair[0], category), score_text(pair[1], category)) if pair is not None else None,
        change=effect_words(now) or NO_CHANGE.get(now.check, ""),
        since=since_words(since, now) if since is not None and since.effect is not None else "",
        figure=figure,
    )


def limit_of(check: CheckOutcome, floors: Mapping[str, float]) -> float | None:
    """Where the dashed line of a row stands, as a change: the loss to rule out, the floor of a single suite, or the gain to exceed."""
    if check.check == "gain":
        return check.margin or None
    if check.check in ("regression", "floor"):
        floor = floors.get(check.subject)
        return -floor if floor else None
    return -check.margin if check.margin else None


def effect_words(check: CheckOutcome) -> str:
    """'−9.5 (90 %: −12.1 to −6.9)' in points, or '+1.8 % (90 %: +1.0 to +2.7)' for drift, where a rise of the bits per byte is worse.

    The level stands beside every interval, because checks that promote become stricter the more often a round is tried.
    """
    if check.effect is None:
        return ""
    if check.check == "early_warning":
        return f"{small(check.effect)} nats per item"
    level = f"{100 * check.confidence:.3g} %: " if check.confidence is not None else ""
    low, high = (check.low, check.high) if check.check not in BITS else (_turned(check.high), _turned(check.low))
    if check.check == "drift_warning":  # often far below the tenth of a percent that other rows have
        return f"{small(-100 * check.effect)} % ({level}{small(100 * (low or 0.0))} to {small(100 * (high or 0.0))})"
    reach = f" ({level}{signed(low)} to {signed(high)})" if low is not None and high is not None else ""
    return f"{change_of(check)}{reach}"


def change_of(check: CheckOutcome) -> str:
    """'−9.5' in points; of bits per byte their change, '+1.8 %'. Empty where nothing was compared."""
    if check.effect is None:
        return ""
    return f"{signed(-check.effect)} %" if check.check in BITS else signed(check.effect)


def _turned(value: float | None) -> float | None:
    return None if value is None else -value


def since_words(check: CheckOutcome, beside: CheckOutcome | None = None) -> str:
    """The change since the anchor; the level of its interval stands there unless it is that of the interval beside it."""
    same = beside is not None and beside.confidence == check.confidence
    return f"over all rounds {effect_words(check.model_copy(update={'confidence': None}) if same else check)}"


def small(value: float) -> str:
    """A number of any size for people: two significant digits, never an exponent; what is below a ten-thousandth is said to be."""
    if 0 < abs(value) < 0.0001:
        return "almost 0"
    digits = max(0, 1 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:+.{digits}f}".replace("-", "−")


@dataclass(frozen=True)
class Scale:
    """From -worse to +better across the plot, with a tick every `step` (score units)."""

    worse: float
    better: float
    step: float

    @classmethod
    def over(cls, subjects: Sequence[_Subject], floors: Mapping[str, float]) -> Scale:
        """Wide enough for every loss, interval and limit; what was gained, which decides nothing here, within what stays readable."""
        checks = [check for subject in subjects for check in subject.checks if check.check in (*AGAINST_CHAMPION, *AGAINST_ANCHOR)]
        ends = [end for check in checks for end in (check.effect, check.low, check.high) if end is not None]
        ends += [limit for check in checks if (limit := limit_of(check, floors)) is not None]
        worse = min(1.08, max([SMALLEST_REACH, *(-1.08 * end for end in ends)]))
        better = min(LARGEST_GAIN, max([SMALLEST_REACH, *(1.08 * end for end in ends)]))
        step = next(step for step in (0.01, 0.02, 0.05, 0.1, 0.25) if (worse + better) / step <= 9.0 or step == 0.25)
        return cls(worse, better, step)

    def place(self, value: float) -> str:
        """Percent of the plot's width; 4 % on either side are for arrows."""
        return f"{4 + 92 * (max(-self.worse, min(self.better, value)) + self.worse) / (self.worse + self.better):.2f}%"

    def holds(self, value: float) -> bool:
        return -self.worse <= value <= self.better

    def ticks(self) -> list[float]:
        below, above = (math.floor(reach / self.step + 1e-9) for reach in (self.worse, self.better))
        return [number * self.step for number in range(-below, above + 1)]

    def axis(self) -> Markup:
        parts = []
        for tick in self.ticks():
            words = f"{100 * tick:+.0f}".replace("-", "−") if round(tick, 6) else "0"
            parts.append(f'<text x="{self.place(tick)}" y="11" text-anchor="middle">{words}</text>')
        return Markup(f'<svg class="axis" width="100%" height="14" aria-hidden="true">{"".join(parts)}</svg>')

    def row(self, now: CheckOutcome, since: CheckOutcome | None, limit: float | None, tone: str, words: str) -> Markup:
        """Grid, zero, limit, the change against the champion (dot) and, below it, against the anchor (diamond)."""
        two = since is not None and since.effect is not None
        height, line = (34, 11) if two else (24, 12)
        parts = [_vertical(self.place(tick), height, "zero" if not round(tick, 6) else "grid") for tick in self.ticks()]
        if limit is not None and self.holds(limit):
            parts.append(_vertical(self.place(limit), height if not two else 22, "limit"))
        parts += self._interval(now, line, 4)
        assert now.effect is not None
        parts.append(self._mark(now.effect, line, '<circle r="4.5"/>'))
        if since is not None and since.effect is not None:
            if since.margin and self.holds(-since.margin):
                parts.append(
                    f'<line class="limit" x1="{self.place(-since.margin)}" x2="{self.place(-since.margin)}" y1="22" y2="{height}"/>'
                )
            parts += self._interval(since, 27, 3)
            parts.append(self._mark(since.effect, 27, '<path class="anchor" d="M0 -4.5L4.5 0L0 4.5L-4.5 0Z"/>'))
        inner = "".join(parts)
        return Markup(f'<svg class="plot {tone}" width="100%" height="{height}" role="img" aria-label="{escape(words)}">{inner}</svg>')

    def _interval(self, check: CheckOutcome, y: int, half: int) -> list[str]:
        if check.low is None or check.high is None:
            return []
        low, high = self.place(check.low), self.place(check.high)
        parts = [f'<line class="whisker" x1="{low}" x2="{high}" y1="{y}" y2="{y}"/>']
        inside = [self.place(end) for end in (check.low, check.high) if self.holds(end)]
        return (
            parts
            + [f'<line class="whisker" x1="{end}" x2="{end}" y1="{y - half}" y2="{y + half}"/>' for end in inside]
            + [self._arrow(end, y) for end in (check.low, check.high) if not self.holds(end)]
        )

    def _mark(self, effect: float, y: int, shape: str) -> str:
        """The estimate; beyond the scale the arrow of its interval stands for it."""
        if not self.holds(effect):
            return self._arrow(effect, y)
        return f'<svg x="{self.place(effect)}" y="{y}" overflow="visible">{shape}</svg>'

    def _arrow(self, value: float, y: int) -> str:
        way = 1 if value > 0 else -1
        return f'<svg x="{self.place(value)}" y="{y}" overflow="visible"><path class="beyond" d="M{way} -6L{9 * way} 0L{way} 6Z"/></svg>'


def _vertical(x: str, height: int, kind: str) -> str:
    return f'<line class="{kind}" x1="{x}" x2="{x}" y1="0" y2="{height}"/>'
