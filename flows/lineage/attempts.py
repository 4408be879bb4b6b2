"""How often a round was judged: every verdict spends some of the chance of a wrong claim, in the order of the judgements."""

from __future__ import annotations

from typing import Any

from flows.lineage.registry.entries import promotion_lock
from flows.lineage.storage.connection import PREFIX, Lineage, plainly
from flows.lineage.storage.records import RoundRun
from flows.lineage.storage.tracking import find_runs, tag


@plainly
def judgements(lineage: Lineage, round_number: int, skill: str) -> int:
    """How many attempts at this skill in this round were judged so far; deleted ones count."""
    return sum(_is_judged(run) for run in _attempts(lineage, round_number, skill))


@plainly
def claim_judgement(lineage: Lineage, run: RoundRun) -> int:
    """The number of this run's judgement: 1 for the first at its skill in its round.

    Attempts overlap: one that was opened first may be judged last, after it was interrupted or has waited for the GPU. So they are counted
    when the gate is first asked, and the number stays with the run: its second look and its repetition are the same judgement.
    """
    with promotion_lock(lineage):
        siblings = _attempts(lineage, run.round, run.skill or "")
        own = next(each for each in siblings if each.info.run_id == run.run_id)
        if (claimed := tag(own, "judgement")) is not None:
            return int(claimed)
        before = [each for each in siblings if each is not own and _is_judged(each)]
        if tag(own, "decision") is not None:  # by a release that counted what was opened before
            before = [each for each in before if int(tag(each, "attempt") or 1) < run.attempt]
        lineage.client.set_tag(run.run_id, PREFIX + "judgement", str(len(before) + 1))
        return len(before) + 1


def _attempts(lineage: Lineage, round_number: int, skill: str) -> list[Any]:
    """Another skill with the same round number is no attempt: it follows a rollback, or a skill that was given up."""
    return [run for run in find_runs(lineage, "round", round=str(round_number)) if tag(run, "skill") == skill]


def _is_judged(run: Any) -> bool:
    """Whether the gate was asked about a run: it has its verdict, or is about to have it."""
    return tag(run, "decision") is not None or tag(run, "judgement") is not None
