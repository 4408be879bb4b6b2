"""A verdict's sentences, grouped: one line per group with its state, and under it every sentence, the decisive ones first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from data_contracts.manifests import CheckOutcome, Verdict
from evals.gate.drift import FLAGGED
from evals.gate.words import CATEGORY_WORDS, signed, size
from evals.report.forest import AGAINST_ANCHOR, OUTCOMES, SEVERITY, TITLES, WARNINGS, Badge, change_of, subjects_of

OPENINGS = ("Pass: ", "Blocked: ", "Inconclusive: ", "Error: ")
NAMED = 3
"""Lost suites that a group's line names; the plot and the sentences have all of them."""


@dataclass(frozen=True)
class ReasonGroup:
    title: str
    badge: Badge
    summary: str
    sentences: tuple[str, ...]


def group_reasons(verdict: Verdict, categories: Mapping[str, str]) -> list[ReasonGroup]:
    """One group per kind of suite, the worst first."""
    groups = []
    for group, subjects in subjects_of(verdict, categories).items():
        checks = [check for subject in subjects for check in subject.checks]
        worst = min((subject.outcome for subject in subjects), key=SEVERITY.index)
        title = TITLES.get(group, "What was compared")
        groups.append(ReasonGroup(title, OUTCOMES[worst], _summary(checks, worst), _sentences(checks)))
    return groups


def split_reasons(verdict: Verdict) -> tuple[str, list[str], list[str]]:
    """(headline, what no group says, what is flagged). The headline is without the word of the decision, which stands above it."""
    said = {check.sentence for check in verdict.checks}
    flagged = [reason.removeprefix(FLAGGED) for reason in verdict.reasons if reason.startswith(FLAGGED)]
    notes = [reason for reason in verdict.reasons[1:] if reason not in said and not reason.startswith(FLAGGED)]
    opening = verdict.reasons[0] if verdict.reasons else ""
    headline = opening.partition(": ")[2] if opening.startswith(OPENINGS) else opening
    named = any(headline.startswith(check.subject) for check in verdict.checks)  # a suite's name stays as it is
    return headline if named else headline[:1].upper() + headline[1:], notes, flagged


def _sentences(checks: Sequence[CheckOutcome]) -> tuple[str, ...]:
    """Every sentence once, the decisive ones first. A proven loss says already that it fell through the floor."""
    proven = {check.subject for check in checks if check.check == "regression" and check.outcome == "block"}
    shown = [check for check in checks if not (check.check == "floor" and check.subject in proven)]
    ordered = sorted(shown, key=lambda check: (SEVERITY.index(check.outcome), check.check in WARNINGS))
    return tuple(dict.fromkeys(check.sentence for check in ordered))


def _summary(checks: Sequence[CheckOutcome], worst: str) -> str:
    """'5 of 7 suites lost: shift −99.7, date −88.0 and 3 more; on average −90.1 points'."""
    if worst == "error":
        return next(check.sentence.removesuffix(".") for check in checks if check.outcome == "error")
    doubts = [check.sentence.removesuffix(".") for check in checks if check.check == "measurement"]
    if doubts:
        return "; ".join(doubts)
    gain = next((check for check in checks if check.check == "gain"), None)
    if gain is not None:
        state = {"pass": "learned", "block": "not learned", "inconclusive": "not shown to be learned"}.get(gain.outcome, "not judged")
        return f"{gain.subject} {state}" + (f", {signed(gain.effect)} points" if gain.effect is not None else "")
    judged = [check for check in checks if check.check not in (*WARNINGS, *AGAINST_ANCHOR)]
    suites = {check.subject for check in judged if check.check in ("regression", "drift", "floor", "margin")}
    first = {check.subject: check for check in reversed([*judged, *checks]) if check.outcome == worst}
    bad = sorted(first.values(), key=lambda check: (check.effect or 0.0, check.subject))
    singles = [check for check in bad if check.subject in suites]
    mean = next((check for check in judged if check.check == "non_inferiority" and check.effect is not None), None)
    kept = {check.subject for check in judged if check.check == "regression" and check.outcome == "pass"}
    parts = [_counted(singles, len(suites), len(kept), worst)] if singles or suites else []
    if worst == "pass" and judged and all(check.check == "drift" for check in judged):
        parts = [_kept_texts(checks, len(suites))]
    if mean is not None:
        parts.append(f"on average {_mean_words(mean)}")
    return "; ".join(part for part in (*parts, *_since_words(checks)) if part) or _unmeasured(judged)


def _mean_words(check: CheckOutcome) -> str:
    held = f", and a loss of {size(check.margin)} is not ruled out" if check.outcome == "inconclusive" and check.margin else ""
    return f"{signed(check.effect or 0.0)} points{held}"


def _since_words(checks: Sequence[CheckOutcome]) -> Iterator[str]:
    """What the mean over all rounds decided, and that no suite could decide anything: both stand behind a badge that the rest denies."""
    wholes = [check for check in checks if check.subject in CATEGORY_WORDS.values() and check.outcome in ("block", "inconclusive")]
    yield from (f"over all rounds {_mean_words(each)}" for each in wholes if each.check == "anchor" and each.effect is not None)
    if any(each.check == "non_inferiority" and each.effect is None for each in wholes):
        yield "no suite can show that nothing was lost"


def _counted(bad: Sequence[CheckOutcome], total: int, kept: int, worst: str) -> str:
    of = f"{len(bad)} of {total} suite{'' if total == 1 else 's'}"
    if worst == "block" and bad:
        return f"{of} lost: {_names(bad)}"
    if worst == "inconclusive" and bad:
        return f"{of} not shown to be kept: {_names(bad)}"
    if worst == "n/a":
        return "too few items to say"
    return f"no loss proven on {kept} suite{'' if kept == 1 else 's'}" if kept else ""


def _kept_texts(checks: Sequence[CheckOutcome], total: int) -> str:
    """What general text passed: not that no loss is proven, because a rise below the limit may well be."""
    moved = [check for check in checks if check.check == "drift_warning"]
    beyond = f"; beyond noise: {_names(moved)}" if moved else ""
    return f"a rise beyond the limit is ruled out on {total} suite{'' if total == 1 else 's'}{beyond}"


def _names(checks: Sequence[CheckOutcome]) -> str:
    def change(check: CheckOutcome) -> str:
        since = " over all rounds" if check.check in AGAINST_ANCHOR and check.effect is not None else ""
        return f"{check.subject} {change_of(check)}".rstrip() + since

    more = f" and {len(checks) - NAMED} more" if len(checks) > NAMED else ""
    return ", ".join(change(check) for check in checks[:NAMED]) + more


def _unmeasured(checks: Sequence[CheckOutcome]) -> str:
    accepted = all(check.outcome == "n/a" for check in checks)
    if any(check.check == "unmeasured" for check in checks):
        return "not measured" + (", and accepted" if accepted else "")
    return "nothing to lose yet" if accepted else "not judged"
