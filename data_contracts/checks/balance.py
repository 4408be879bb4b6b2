"""Label balance: where the answers are a handful of short texts, reports which are rare, dominant, or spelled in two ways."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from data_contracts.rows.findings import Batch, Finding, WholeDrop
from data_contracts.rows.taught import answer_of, answer_text

_LABEL_WORDS, _MOST_LABELS = 6, 200
#: A drop is a labelling task where its distinct answers are at most this share of its rows.
_LABEL_SHARE = 0.1


class LabelBalance:
    """Counts answers until they are clearly not labels; then keeps nothing."""

    def __init__(self, dominant: float, rare: float) -> None:
        self._dominant, self._rare = dominant, rare
        self._labels: Counter[str] | None = Counter()
        self._rows = 0

    def observe(self, batch: Batch) -> Iterator[tuple[int, Finding]]:
        for row in batch.rows:
            if self._labels is None or row.shape == "document":
                break
            answer = answer_text(row.messages[answer_of(row.messages)]).strip() if row.messages else ""
            self._rows += 1
            if len(answer.split()) <= _LABEL_WORDS and len(answer) <= 80:
                self._labels[answer] += 1
            if len(self._labels) > _MOST_LABELS:
                self._labels = None
        return iter(())

    def _is_labelling(self) -> bool:
        if not self._labels or self._rows < 20:
            return False
        return sum(self._labels.values()) >= 0.9 * self._rows and len(self._labels) <= max(2, _LABEL_SHARE * self._rows)

    def conclude(self, drop: WholeDrop) -> Iterator[tuple[int, Finding]]:
        if not self._is_labelling() or self._labels is None:
            return
        total = sum(self._labels.values())
        label, rows = self._labels.most_common(1)[0]
        if not rows <= self._dominant * total:
            yield -1, Finding("label_balance", 0, f"{rows / total:.1%} of the answers are {label!r}")
        rare = sorted(name for name, count in self._labels.items() if not count >= self._rare * total)
        if rare:
            named = ", ".join(f"{name!r} ({self._labels[name]})" for name in rare[:8])
            yield -1, Finding("label_balance", 0, f"{len(rare)} of {len(self._labels)} answers are rare: {named}")
        spelled: dict[str, list[str]] = {}
        for name in sorted(self._labels):
            spelled.setdefault(name.casefold().strip(" ."), []).append(name)
        for names in spelled.values():
            if len(names) > 1:
                yield -1, Finding("label_balance", 0, f"one answer is spelled in {len(names)} ways: {', '.join(map(repr, names[:5]))}")

    def summary(self) -> Mapping[str, Any]:
        if not self._is_labelling() or self._labels is None:
            return {}
        return {"labels": dict(sorted(self._labels.items(), key=lambda pair: (-pair[1], pair[0]))[:40])}
