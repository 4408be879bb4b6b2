"""A ledger that skillstack wrote breaks no rule; each way to write one by hand breaks the rule that is named for it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from flows.lineage.checks.ledger_rules import broken_rules
from flows.lineage.storage.facts import all_facts_digest, facts_digest
from flows.lineage.storage.records import FIRST_PRIOR, LedgerEntry, RegisteredVersion

START = datetime(2026, 11, 1, 6, 0, tzinfo=UTC)
MODELS = {1: "a" * 64, 2: "b" * 64, 3: "c" * 64}
VERDICTS = {1: None, 2: "2" * 64, 3: "3" * 64}
DECISIONS = {1: None, 2: "PASS", 3: "INCONCLUSIVE"}


def version(number: int, ended: bool = True) -> RegisteredVersion:
    facts = {"round": number - 1, "model_sha256": MODELS[number], "manifest_sha256": MODELS[number], "decision": DECISIONS[number]}
    facts["verdict_sha256"] = VERDICTS[number]
    tags = {f"skillstack.{name}": str(value) for name, value in facts.items() if value is not None}
    run = SimpleNamespace(info=SimpleNamespace(status="FINISHED" if ended else "RUNNING"))
    return RegisteredVersion(SimpleNamespace(version=number, tags=tags), run)


def entry(sequence: int, action: Any, number: int, previous: int | None, champion: int | None, **more: Any) -> LedgerEntry:
    values: dict[str, Any] = {
        "sequence": sequence, "action": action, "version": number, "previous": previous, "champion": champion, "actor": "ann",
        "reason": "why", "time": START + timedelta(hours=sequence), "decision": DECISIONS[number], "verdict_sha256": VERDICTS[number],
        "model_sha256": MODELS[number], "manifest_sha256": MODELS[number], "prior": FIRST_PRIOR,
    }  # fmt: skip
    return LedgerEntry(**(values | more))


def ledger() -> list[LedgerEntry]:
    """Base, a round that passed, a held one that a person approved, and a return to the one before."""
    known = {number: facts_digest(version(number).tags) for number in MODELS}
    return [
        entry(0, "register", 1, None, None, facts_sha256=known[1]),
        entry(1, "promote", 1, None, 1),
        entry(2, "register", 2, 1, 1, facts_sha256=known[2]),
        entry(3, "promote", 2, 1, 2),
        entry(4, "register", 3, 2, 2, facts_sha256=known[3]),
        entry(5, "approve", 3, 2, 2, expires=START + timedelta(days=1)),
        entry(6, "promote-approved", 3, 2, 3),
        entry(7, "rollback", 2, 3, 2),
    ]


def versions() -> dict[int, RegisteredVersion]:
    return {number: version(number) for number in MODELS}


def problems(entries: list[LedgerEntry], known: dict[int, RegisteredVersion] | None = None) -> list[str]:
    return [f"{each.where} {each.problem}" for each in broken_rules(entries, versions() if known is None else known)]


def test_a_ledger_that_skillstack_wrote_breaks_no_rule() -> None:
    assert problems(ledger()) == []
    assert problems([]) == []


@pytest.mark.parametrize(
    ("number", "change", "said"),
    [
        (3, {"time": START}, "ledger entry 3 is dated 2026-11-01 06:00:00, which is before the preceding entry"),
        (3, {"previous": None}, "names version None as the champion before, but according to the entries before it is version 1"),
        (2, {"champion": 2}, "ledger entry 2 is a register and must not change the champion"),
        (3, {"champion": 3}, "makes version 3 champion, but is stored with version 2"),
        (6, {"action": "promote"}, "without a person, although its verdict was INCONCLUSIVE"),
        (3, {"verdict_sha256": None}, "makes version 2 champion without naming its verdict"),
        (3, {"decision": None}, "makes version 2 champion without a verdict"),
        (6, {"actor": "bob"}, "against the verdict INCONCLUSIVE without an approval on record"),
        (5, {"action": "reject"}, "against the verdict INCONCLUSIVE without an approval on record"),
        (5, {"expires": START + timedelta(hours=5)}, "without an approval on record"),
        (3, {"model_sha256": "d" * 64}, "is about another model than that of version 2 in the registry"),
        (3, {"manifest_sha256": "d" * 64}, "is about another manifest than that of version 2 in the registry"),
        (3, {"verdict_sha256": "d" * 64}, "names another verdict than version 2 of the registry"),
        (6, {"decision": "PASS"}, "has the verdict PASS, but version 3 of the registry has INCONCLUSIVE"),
    ],
)
def test_an_entry_written_by_hand_breaks_the_rule_that_is_named(number: int, change: dict[str, Any], said: str) -> None:
    entries = ledger()
    entries[number] = entries[number].model_copy(update=change)
    assert any(said in problem for problem in problems(entries)), problems(entries)


def test_an_approval_holds_through_two_minutes_between_two_clocks() -> None:
    entries = ledger()
    for late, broken in ((timedelta(minutes=2), False), (timedelta(minutes=2, seconds=1), True)):
        entries[5] = entries[5].model_copy(update={"expires": entries[6].time - late})
        assert bool(problems(entries)) is broken, late


def test_a_rollback_leads_to_a_former_champion_only() -> None:
    entries = [*ledger()[:5], entry(5, "rollback", 3, 2, 3)]
    assert "rolls back to version 3, which was never champion" in problems(entries)[0]


def test_versions_without_entries_and_entries_without_versions_are_found() -> None:
    [deleted] = problems(ledger(), {number: each for number, each in versions().items() if number != 2})
    assert "version 2 is in the ledger but not in the registry" in deleted
    without = [each for each in ledger()[:4] if each.version != 2]
    known = {1: version(1), 2: version(2)}
    assert ["written by hand" in problem for problem in problems(without, known)] == [True]
    known[2] = version(2, ended=False)  # its round may still be registering it
    assert problems(without, known) == []


def test_a_tag_that_changed_after_registration_is_found() -> None:
    known = versions()
    known[2].raw.tags["skillstack.round"] = "7"
    [found] = problems(ledger(), known)
    assert "version 2 its tags differ from those in ledger entry 2" in found


def test_an_entry_of_a_key_covers_all_versions_before_it() -> None:
    covered = all_facts_digest([version(number).raw for number in MODELS])
    entries = [*ledger(), entry(8, "key", 3, 2, 2, facts_sha256=covered)]
    assert problems(entries) == []
    entries[-1] = entries[-1].model_copy(update={"facts_sha256": "0" * 64})
    assert ["covers the tags of all versions before it" in problem for problem in problems(entries)] == [True]


def test_a_pass_that_was_rejected_before_its_promotion_is_named() -> None:
    entries = ledger()[:3]
    entries += [entry(3, "reject", 2, 1, 1, actor="bob"), entry(4, "promote", 2, 1, 2)]
    told = problems(entries)
    assert any("promotes version 2, which bob had rejected" in each for each in told)
    entries.insert(4, entry(4, "approve", 2, 1, 1, expires=START + timedelta(days=9)))
    entries[5] = entry(5, "promote", 2, 1, 2)
    assert not any("had rejected" in each for each in problems(entries))
