"""The one rule for a skill's name: it becomes a folder, a suite, a tag in the registry and a word in reports."""

from __future__ import annotations

import re
from collections.abc import Iterable

SKILL_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$"
EXPECTED = "1 to 63 letters, digits, - or _, beginning with a letter or digit"


def is_skill_name(name: str) -> bool:
    return re.fullmatch(SKILL_NAME, name) is not None and not name.endswith("\n")


def taken_by_suite(name: str, suites: Iterable[str]) -> str | None:
    """The suite whose name a skill may not have: every skill's held-out rows become a suite of the skill's name, and of `<name>.sealed`."""
    return next((suite for suite in suites if suite.casefold().removesuffix(".sealed") == name.casefold()), None)
