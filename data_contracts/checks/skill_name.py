"""The skill's name: usable wherever it is written, and not taken by an earlier round or by a suite."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from data_contracts.matching.earlier_drops import EarlierDrop
from data_contracts.rows.findings import Finding, RowCheck, WholeDrop
from data_contracts.rows.records import Row
from data_contracts.skill_names import EXPECTED, is_skill_name, taken_by_suite


class SkillName(RowCheck):
    """One round, one skill, one name."""

    def __init__(self, skill: str, earlier: tuple[EarlierDrop, ...], suites: Collection[str]) -> None:
        self._skill, self._earlier, self._suites = skill, earlier, suites

    def observe_row(self, row: Row) -> Iterator[Finding]:
        return iter(())

    def conclude(self, drop: WholeDrop) -> Iterator[tuple[int, Finding]]:
        for reason in self._reasons():
            yield -1, Finding("skill_name", 0, reason)

    def _reasons(self) -> Iterator[str]:
        if not is_skill_name(self._skill):
            yield f"the skill's name {self._skill[:80]!r} must be {EXPECTED}"
        for past in self._earlier:
            if past.skill.casefold() == self._skill.casefold():
                yield f"the skill {self._skill!r} was taught before, by the drop in {past.folder.name}; choose another name"
                return
        if (suite := taken_by_suite(self._skill, self._suites)) is not None:
            yield f"the skill's name {self._skill!r} is that of the suite {suite!r}; choose another name"
