"""Point 1 of the gate: may these evaluations be compared at all? Every fault is a sentence; one fault and there is no decision."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from evals.items import Evaluation, SuiteItems

CANDIDATE, CHAMPION = "the candidate", "the champion"


def gate_suites(evaluation: Evaluation) -> dict[str, SuiteItems]:
    """The suites that the gate may see, by name in order. Sealed splits are for the audit only."""
    return {name: evaluation.suites[name] for name in sorted(evaluation.suites) if not evaluation.suites[name].result.sealed}


def find_faults(
    candidate: Evaluation, champion: Evaluation, anchors: Mapping[str, Evaluation], new_skill: str | None, required: Sequence[str]
) -> list[tuple[str, str]]:
    """Every (suite, sentence) that forbids a decision; empty where the evidence is complete."""
    mine, theirs = gate_suites(candidate), gate_suites(champion)
    faults = list(_missing_suites(mine, theirs, anchors, new_skill, required))
    faults += _setting_faults(candidate, champion, anchors)
    for name, items in mine.items():
        faults += [(name, f"{CANDIDATE} on {name}: {fault}") for fault in item_faults(items)]
        if name in theirs:
            faults += [(name, sentence) for sentence in comparison_faults(items, theirs[name], CHAMPION)]
        if name in anchors and name in anchors[name].suites and anchors[name].model_sha256 != champion.model_sha256:
            faults += [(name, sentence) for sentence in comparison_faults(items, anchors[name].suites[name], "its anchor")]
    return faults


def _missing_suites(
    mine: Mapping[str, SuiteItems],
    theirs: Mapping[str, SuiteItems],
    anchors: Mapping[str, Evaluation],
    new_skill: str | None,
    required: Sequence[str],
) -> Iterator[tuple[str, str]]:
    if not mine:
        yield "all suites", f"{CANDIDATE} was evaluated on no suite that the gate may use"
    if new_skill is not None and new_skill not in mine:
        yield new_skill, f"{CANDIDATE} was not evaluated on {new_skill}, the skill that this round adds"
    for name in required:
        if name not in mine:
            yield name, f"{CANDIDATE} was not evaluated on {name}, which the policy requires"
    for name in theirs:
        if name not in mine:
            yield name, f"{CANDIDATE} was not evaluated on {name}, on which {CHAMPION} was"
    for name, items in mine.items():
        if name not in theirs:
            yield name, f"{CHAMPION} was not evaluated on {name}, so there is nothing to compare {CANDIDATE} with"
        if name != new_skill and items.category != "drift" and (name not in anchors or name not in anchors[name].suites):
            yield name, f"{name} has no anchor evaluation, so its cumulative loss cannot be counted"


def registered_faults(candidate: Evaluation, registered: Mapping[str, Evaluation], retired: Collection[str]) -> Iterator[tuple[str, str]]:
    """What earlier champions were held to and this candidate is not. A suite that is cut, sealed or left out would hide what it lost."""
    way_out = "put it back, or retire it on record (gate.retired_suites: {name: reason})"
    for name in sorted(set(registered) - set(retired)):
        before, now = registered[name].suites[name], candidate.suites.get(name)
        where = f"{name}, which an earlier champion was registered with,"
        if now is None:
            yield name, f"{where} is no longer measured; {way_out}"
        elif now.result.sealed:
            yield name, f"{where} is sealed now, so that the gate may not read it; {way_out}"
        elif now.category != before.category:
            yield name, f"{where} is of category {now.category} now, and was {before.category}; {way_out}"
        elif gone := _identities(before, registered[name]) - _identities(now, registered[name]):
            yield name, f"{where} lacks {len(gone)} of its {len(before.doc_hash)} items now; {way_out}"


def _identities(items: SuiteItems, registered: Evaluation) -> set[object]:
    """What an item is known by: its digest. Reports from before scores named their scorer had another digest for the same item, so there
    the question and its answer, as they were read, say which item it is."""
    if "scorer" in registered.report.settings:
        return set(items.doc_hash)
    return set(zip(items.prompt, items.gold, strict=True))


def _setting_faults(candidate: Evaluation, champion: Evaluation, anchors: Mapping[str, Evaluation]) -> Iterator[tuple[str, str]]:
    others = {CHAMPION: champion} | {f"the anchor of {name}": anchors[name] for name in sorted(anchors)}
    for who, other in others.items():
        if other.report.settings_sha256 != candidate.report.settings_sha256:
            changed = _changed_settings(candidate.report.settings, other.report.settings)
            yield "all suites", f"{who} was evaluated with other settings ({changed}); evaluate it again with today's settings"


def _changed_settings(mine: Mapping[str, object], theirs: Mapping[str, object]) -> str:
    names = sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))
    return "; ".join(f"{name}: {theirs.get(name)!r}, now {mine.get(name)!r}" for name in names) or "their digests differ"


def item_faults(items: SuiteItems) -> Iterator[str]:
    """What is wrong with one suite's items by themselves."""
    n = len(items.doc_hash)
    if n == 0:
        yield "it has no items"
        return
    if n != items.result.n:
        yield f"its report says {items.result.n} items, the store has {n}"
    if len(set(items.doc_hash)) != n:
        yield f"{n - len(set(items.doc_hash))} items appear twice"
    finite = np.isfinite(items.score)
    if not finite.all():
        yield f"{int((~finite).sum())} of {n} scores are not finite numbers"
    elif items.category != "drift" and not ((items.score >= 0.0) & (items.score <= 1.0)).all():
        yield "scores lie outside 0 to 1"
    if items.category == "drift" and not (np.isfinite(items.weight) & (items.weight > 0.0)).all():
        yield "some items have no bytes to weigh them by"
    if np.isinf(items.gold_logprob).any():
        yield "some log-probabilities are infinite"


def comparison_faults(mine: SuiteItems, theirs: SuiteItems, who: str) -> Iterator[str]:
    """What forbids pairing the candidate's items with the reference's."""
    yield from (f"{who} on {mine.name}: {fault}" for fault in item_faults(theirs))
    if mine.result.suite_sha256 != theirs.result.suite_sha256:
        digests = f"suite digest {theirs.result.suite_sha256[:12]}, now {mine.result.suite_sha256[:12]}"
        yield f"{mine.name} has changed since {who} was evaluated ({digests})"
    before = dict(zip(theirs.doc_hash, theirs.prompt_hash, strict=True))
    now = dict(zip(mine.doc_hash, mine.prompt_hash, strict=True))
    if before.keys() != now.keys():
        unseen, gone = len(now.keys() - before.keys()), len(before.keys() - now.keys())
        yield f"{mine.name}: {unseen} items that {who} never saw, and {gone} that {CANDIDATE} never saw"
    elif before != now:
        yield f"{mine.name}: {sum(before[doc] != now[doc] for doc in now)} items had another prompt when {who} was evaluated"
    if (mine.result.category, mine.result.higher_is_better, mine.result.metric) != (
        theirs.result.category,
        theirs.result.higher_is_better,
        theirs.result.metric,
    ):
        yield f"{mine.name} has another category, metric or direction than when {who} was evaluated"
    had, has = int(np.isfinite(theirs.gold_logprob).sum()), int(np.isfinite(mine.gold_logprob).sum())
    if has < had:
        yield f"{mine.name}: {had - has} log-probabilities of {CANDIDATE} are not numbers where those of {who} are"
