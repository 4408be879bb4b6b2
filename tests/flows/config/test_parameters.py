"""Names of skills and months, as they are given."""

from __future__ import annotations

import pytest

from data_contracts.errors import ConfigError
from flows.config.parameters import check_month, check_skill


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "a\\b", "a..b", "a\0b", "x" * 65, "skill.sealed", "v2.1", "-rf", "ä", "a\n"]
)
def test_skill_names_lead_nowhere(name: str) -> None:
    with pytest.raises(ConfigError, match="is not a valid name of a skill"):
        check_skill(name)


def test_plain_names_and_months_pass() -> None:
    assert check_skill("agnews-v2_1x") == "agnews-v2_1x"
    assert check_month("2026-11") == "2026-11"
    for month in ("2026-13", "november", "2026-1"):
        with pytest.raises(ConfigError, match="write it as"):
            check_month(month)
