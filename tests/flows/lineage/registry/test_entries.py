"""A new entry of the ledger: who, why, and a time that never goes back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from data_contracts.digests import text_digest
from data_contracts.errors import LineageError
from flows.lineage import LedgerEntry, VersionRef
from flows.lineage.registry import entries as module
from flows.lineage.registry.entries import CLOCK_TOLERANCE, name_of, new_entry, signed
from flows.lineage.storage.records import FIRST_PRIOR, Action

NOW = datetime(2026, 11, 3, 6, 0, tzinfo=UTC)
TARGET = VersionRef(
    version=2, round=1, skill="x", method="osft", decision="PASS", model_sha256=text_digest("m"), manifest_sha256=text_digest("c"),
    parent_version=1, checkpoint=Path("checkpoint"), run_id="r", model_id="i",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return NOW

    monkeypatch.setattr(module, "datetime", Clock)


def entry(action: Action, after: tuple[LedgerEntry, ...] = (), *, reason: str = "why", actor: str = "ann") -> LedgerEntry:
    return new_entry(after, action, TARGET, 1, 2, reason, actor, None, None)


def written_at(moment: datetime) -> tuple[LedgerEntry, ...]:
    return (entry("register").model_copy(update={"time": moment}),)


def test_an_entry_follows_the_one_before() -> None:
    first = entry("register")
    second = entry("promote", (first,))
    assert (first.sequence, first.prior, second.sequence, second.prior) == (0, FIRST_PRIOR, 1, first.digest)
    assert (second.version, second.previous, second.champion, second.decision, second.time) == (2, 1, 2, "PASS", NOW)


@pytest.mark.parametrize("missing", ["reason", "actor"])
@pytest.mark.parametrize("value", ["", "  \n"])
def test_a_decision_needs_a_person_and_a_reason(missing: str, value: str) -> None:
    with pytest.raises(LineageError, match=f"needs a {missing}.*--{missing}"):
        entry("approve", **{missing: value})


def test_long_texts_are_cut_to_what_a_tag_holds() -> None:
    long = entry("approve", reason=" " + "r" * 4000, actor="a" * 4000)
    assert (len(long.actor), len(long.reason)) == (200, 1000)
    assert (long.actor, long.reason) == signed("a" * 4000, " " + "r" * 4000)


@pytest.mark.parametrize("action", ["promote", "approve", "register", "rollback"])
def test_a_clock_that_is_a_little_behind_takes_the_time_of_the_last_entry(action: Action) -> None:
    ahead = NOW + CLOCK_TOLERANCE
    assert entry(action, written_at(ahead)).time == ahead
    assert entry(action, written_at(NOW - timedelta(days=1))).time == NOW


def test_a_clock_that_is_far_behind_stops_a_promotion_and_no_person() -> None:
    ahead = NOW + timedelta(hours=1)
    with pytest.raises(LineageError, match=r"clock.*06:00:00 UTC, before .*07:00:00 UTC"):
        entry("promote", written_at(ahead))
    assert entry("approve", written_at(ahead)).time == NOW, "what a person decides is recorded, and verify reports the time"
    assert entry("register", written_at(ahead)).time == ahead


def test_no_version_has_a_name_too() -> None:
    assert (name_of(None), name_of(3)) == ("no version", "version 3")
