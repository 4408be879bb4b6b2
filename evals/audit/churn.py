"""Which single items were learned and then lost, which came back, and which never did: the part of forgetting that a mean hides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

from pydantic import Field

from data_contracts.manifests import Record
from evals.audit.matrix import SuiteTable

Fate = Literal["never_recovered", "lost_now", "regained", "learned"]
RIGHT = 0.5


class SuiteChurn(Record):
    """Counts of all items of one suite, from the row where it counts (the round that learned it, or the base) to the last."""

    suite: str
    items: int
    lost_now: int = Field(description="right in the row before the last, wrong in the last")
    never_recovered: int = Field(description="right once, wrong since an earlier round than the last")
    regained: int = Field(description="right, then wrong, and right again in the last row")
    learned: int = Field(description="wrong in the first of these rows, right in the last, without having been lost between")
    kept: int = Field(description="right in every one of these rows")


class ChurnItem(Record):
    """One item whose fate changed, with its text."""

    suite: str
    fate: Fate
    doc_hash: str
    prompt: str
    gold: str
    rows: tuple[int, ...]
    right: tuple[bool, ...]
    predictions: tuple[str, ...]


def trace_items(
    tables: Sequence[SuiteTable], rows: Sequence[int], learned: Mapping[str, int], items_per_suite: int
) -> tuple[tuple[SuiteChurn, ...], tuple[ChurnItem, ...]]:
    """Counts for every suite with right and wrong answers, and the items that were lost or regained (losses first)."""
    counts: list[SuiteChurn] = []
    kept_items: list[ChurnItem] = []
    for table in tables:
        start = learned.get(table.name, rows[0])
        measured = [row for row in rows if row >= start and table.score(row) is not None]
        never_learned = table.category == "skill" and table.name not in learned
        if table.category == "drift" or not table.higher_is_better or never_learned or len(measured) < 2:
            continue
        fates = {index: fate_of([bool(table.scores[row, index] >= RIGHT) for row in measured]) for index in range(table.n)}
        kept = sum(all(table.scores[row, index] >= RIGHT for row in measured) for index in range(table.n))
        counts.append(_count(table, list(fates.values()), kept))
        if table.sealed:  # what people read, people (and their next drop) learn from: counts only
            continue
        changed = [(index, fate) for index, fate in fates.items() if fate in ("lost_now", "never_recovered", "regained")]
        changed.sort(key=lambda pair: (("lost_now", "never_recovered", "regained").index(pair[1]), pair[0]))
        kept_items += [_item(table, index, fate, measured) for index, fate in changed[:items_per_suite]]
    return tuple(counts), tuple(kept_items)


def fate_of(right: Sequence[bool]) -> Fate | None:
    """What became of an item, from whether it was right after each row; None where it never changed or was never right."""
    if not any(right):
        return None
    if not right[-1]:
        return "lost_now" if right[-2] else "never_recovered"
    was_lost = any(before and not after for before, after in pairwise(right))
    if was_lost:
        return "regained"
    return None if right[0] else "learned"


def _count(table: SuiteTable, fates: Sequence[Fate | None], kept: int) -> SuiteChurn:
    return SuiteChurn(
        suite=table.name,
        items=table.n,
        lost_now=fates.count("lost_now"),
        never_recovered=fates.count("never_recovered"),
        regained=fates.count("regained"),
        learned=fates.count("learned"),
        kept=kept,
    )


def _item(table: SuiteTable, index: int, fate: Fate, measured: Sequence[int]) -> ChurnItem:
    said = [table.predictions[row] for row in measured]
    return ChurnItem(
        suite=table.name,
        fate=fate,
        doc_hash=table.newest.doc_hash[index],
        prompt=table.newest.prompt[index],
        gold=table.newest.gold[index],
        rows=tuple(measured),
        right=tuple(bool(table.scores[row, index] >= RIGHT) for row in measured),
        predictions=tuple(answers[index] if answers is not None else "" for answers in said),
    )
