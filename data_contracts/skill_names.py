"""The one rule for a skill's name: it becomes a folder, a suite, a tag in the registry and a word in reports."""

from __future__ import annotations

import re
from collections.abc import Iterable

MORE_SUFFIX = ".more"
SKILL_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$"
_OWN = re.compile(r"(\.more|(\.\d+)?(\.sealed)?)$")
EXPECTED = "1 to 63 letters, digits, - or _, beginning with a letter or digit"


def is_skill_name(name: str) -> bool:
    return re.fullmatch(SKILL_NAME, name) is not None and not name.endswith("\n")


def taken_by_suite(name: str, suites: Iterable[str]) -> str | None:
    """The suite whose name a skill may not have: every skill's held-out rows become a suite of the skill's name, and of `<name>.sealed`,
    `<name>.2` (a refresh) and `<name>.more` (added items)."""
    return next((suite for suite in suites if _OWN.sub("", suite.casefold()) == name.casefold()), None)


def skill_of_suite(suite: str) -> str:
    """The skill whose suite this is: `tickets` of `tickets.2`, `tickets.more` and `tickets.sealed`."""
    return _OWN.sub("", suite)


def suite_name(skill: str, teaching: int) -> str:
    """The suite of the held-out rows that came with a drop: the skill's name, or `<name>.2` where the drop refreshed it. A skill's name has
    no dot, so these are nobody else's."""
    return skill if teaching == 1 else f"{skill}.{teaching}"
