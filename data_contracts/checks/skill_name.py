"""The skill's name: usable in file names, registry names and suite names, and not taken by an earlier round."""

from __future__ import annotations

import re
from collections.abc import Iterator

from data_contracts.earlier import EarlierDrop
from data_contracts.findings import Finding, RowCheck, WholeDrop
from data_contracts.records import Row

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


class SkillName(RowCheck):
    """One round, one skill, one name."""

    def __init__(self, skill: str, earlier: tuple[EarlierDrop, ...]) -> None:
        self._skill, self._earlier = skill, earlier

    def observe_row(self, row: Row) -> Iterator[Finding]:
        return iter(())

    def conclude(self, drop: WholeDrop) -> Iterator[tuple[int, Finding]]:
        if not _NAME.fullmatch(self._skill):
            reason = f"the skill's name {self._skill[:80]!r} must be 1 to 63 letters, digits, - or _, beginning with a letter or digit"
            yield -1, Finding("skill_name", 0, reason)
        for past in self._earlier:
            if past.skill.casefold() == self._skill.casefold():
                yield (
                    -1,
                    Finding(
                        "skill_name",
                        0,
                        f"the skill {self._skill!r} was taught before, by the drop in {past.folder.name}; choose another name",
                    ),
                )
