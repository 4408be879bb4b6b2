"""The skill's name: usable wherever it is written, and not taken by an earlier round or by a suite. A refresh needs the earlier round."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from data_contracts.matching.earlier_drops import EarlierDrop
from data_contracts.rows.findings import Finding, RowCheck, WholeDrop
from data_contracts.rows.records import Row
from data_contracts.skill_names import EXPECTED, is_skill_name, taken_by_suite


class SkillName(RowCheck):
    """One round, one skill, one name."""

    def __init__(self, skill: str, earlier: tuple[EarlierDrop, ...], suites: Collection[str], *, refresh: bool = False) -> None:
        self._skill, self._earlier, self._suites, self._refresh = skill, earlier, suites, refresh

    def observe_row(self, row: Row) -> Iterator[Finding]:
        return iter(())

    def conclude(self, drop: WholeDrop) -> Iterator[tuple[int, Finding]]:
        for reason in self._reasons():
            yield -1, Finding("skill_name", 0, reason)

    def _reasons(self) -> Iterator[str]:
        if not is_skill_name(self._skill):
            yield f"the skill's name {self._skill[:80]!r} must be {EXPECTED}"
        known = {past.skill.casefold(): past for past in self._earlier}
        past = known.get(self._skill.casefold())
        if self._refresh and (past is None or past.skill != self._skill):
            taught = ", ".join(sorted({each.skill for each in self._earlier})) or "none"
            yield f"the skill {self._skill!r} was never taught, so it cannot be refreshed (taught so far: {taught})"
            return
        if past is not None and not self._refresh:
            before = f"the skill {self._skill!r} was taught before, by the drop in {past.folder.name}"
            yield f"{before}; choose another name, or teach it again with --refresh"
            return
        if (suite := taken_by_suite(self._skill, self._suites)) is not None:
            yield f"the skill's name {self._skill!r} is that of the suite {suite!r}; choose another name"
