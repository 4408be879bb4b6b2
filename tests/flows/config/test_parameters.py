"""Names of skills and months, as they are given."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest

from data_contracts.errors import ConfigError
from flows.config.parameters import check_month, check_skill, month_meant, named, this_month


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "a\\b", "a..b", "a\0b", "x" * 65, "skill.sealed", "v2.1", "-rf", "ä", "a\n"]
)
def test_skill_names_lead_nowhere(name: str) -> None:
    with pytest.raises(ConfigError, match="is not a valid name of a skill"):
        check_skill(name)


def test_plain_names_and_months_pass() -> None:
    assert check_skill("agnews-v2_1x") == "agnews-v2_1x"
    assert check_month("2026-11") == "2026-11"
    assert check_month("previous") == "previous"
    for month in ("2026-13", "november", "2026-1"):
        with pytest.raises(ConfigError, match="write it as"):
            check_month(month)


@pytest.mark.parametrize(
    ("now", "previous"),
    [
        (datetime(2026, 12, 1, 6, tzinfo=UTC), "2026-11"),
        (datetime(2026, 12, 31, 23, tzinfo=UTC), "2026-11"),
        (datetime(2027, 1, 1, 0, tzinfo=UTC), "2026-12"),
        (datetime(2028, 3, 31, 12, tzinfo=UTC), "2028-02"),
        (datetime(2026, 12, 1, 0, 30, tzinfo=timezone(timedelta(hours=1))), "2026-10"),  # in UTC it is still November
    ],
)
def test_the_previous_month_is_the_one_that_has_ended_in_utc(now: datetime, previous: str) -> None:
    assert month_meant("previous", now) == previous
    assert month_meant("", now) == f"{now.astimezone(UTC):%Y-%m}"
    assert month_meant("2025-01", now) == "2025-01"


@pytest.mark.parametrize("month", ["previous", "2025-01", "", None])
def test_a_flow_run_is_named_by_the_month_that_is_meant(month: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    parameters: dict[str, Any] = {"config": "skillstack.yaml", "month": month}
    monkeypatch.setattr("prefect.runtime.flow_run", SimpleNamespace(parameters=parameters))
    before = this_month()
    name = named("audit")()
    if before == this_month():  # no month ended between
        assert name == f"audit · {month_meant(month or '')}"
