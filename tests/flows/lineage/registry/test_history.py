"""What history says of a version."""

from __future__ import annotations

from flows.lineage import Lineage, read_history, roll_back


def test_history_names_a_rollback_at_the_version_that_it_took_away(grown: Lineage) -> None:
    def said() -> dict[int | None, tuple[str, str | None, str | None]]:
        return {record.version: (record.event, record.who, record.why) for record in read_history(grown)}

    before = said()
    assert {event for event, _, _ in before.values()} == {"promoted"}
    roll_back(grown, 2, reason="complaints", actor="ann")
    assert said() == before | {3: ("rolled back to version 2", "ann", "complaints")}
    roll_back(grown, 3, reason="it was the data", actor="bob")
    assert said() == before | {
        2: ("rolled back to version 3", "bob", "it was the data"),
        3: ("champion again by rollback", "bob", "it was the data"),
    }
