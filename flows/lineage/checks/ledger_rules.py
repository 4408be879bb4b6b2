"""Rules that every ledger keeps: each promotion follows from a verdict or from a person's approval of a registered version. Pure.

A valid hash chain can still have been written by hand; skillstack itself never breaks these rules.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

from data_contracts.manifests import Decision, Record
from flows.lineage.storage.facts import all_facts_digest, facts_digest
from flows.lineage.storage.records import MOVES_CHAMPION, LedgerEntry, RegisteredVersion, last_word

_PERSONS_WORD = {"promote-approved": Decision.INCONCLUSIVE.value, "override": Decision.BLOCK.value}
_CLOCKS = timedelta(minutes=2)


class Finding(Record):
    """One problem in the lineage."""

    where: str
    problem: str
    round: int | None = None
    version: int | None = None


def broken_rules(entries: Sequence[LedgerEntry], versions: Mapping[int, RegisteredVersion]) -> Iterator[Finding]:
    """Findings in the order of the entries, then of the versions."""
    yield from _check_order(entries)
    champion: int | None = None
    once: set[int] = set()
    for number, entry in enumerate(entries):
        for problem in _problems(entry, entries[:number], versions, champion, once):
            yield Finding(where=f"ledger entry {entry.sequence}", problem=problem, version=entry.version)
        if entry.action in MOVES_CHAMPION and entry.champion is not None:
            champion = entry.champion
            once.add(champion)
    yield from _check_versions(entries, versions)


def _check_order(entries: Sequence[LedgerEntry]) -> Iterator[Finding]:
    for before, after in itertools.pairwise(entries):
        if after.time < before.time:
            problem = f"is dated {after.time:%Y-%m-%d %H:%M:%S}, which is before the preceding entry: a clock was wrong"
            yield Finding(where=f"ledger entry {after.sequence}", problem=problem, version=after.version)


def _problems(
    entry: LedgerEntry, before: Sequence[LedgerEntry], versions: Mapping[int, RegisteredVersion], champion: int | None, once: set[int]
) -> Iterator[str]:
    if entry.previous != champion:
        yield f"names version {entry.previous} as the champion before, but according to the entries before it is version {champion}"
    if entry.action in MOVES_CHAMPION:
        yield from _move_problems(entry, before, champion, once)
    elif entry.champion != entry.previous:
        yield f"is a {entry.action} and must not change the champion"
    there = versions.get(entry.version)
    if there is None:
        return
    for name, said in (("model_sha256", entry.model_sha256), ("manifest_sha256", entry.manifest_sha256)):
        if there.fact(name) != said:
            yield f"is about another {name.removesuffix('_sha256')} than that of version {entry.version} in the registry"
    if entry.decision != there.fact("decision"):
        yield f"has the verdict {entry.decision}, but version {entry.version} of the registry has {there.fact('decision')}"
    if entry.verdict_sha256 is not None and entry.verdict_sha256 != there.fact("verdict_sha256"):
        yield f"names another verdict than version {entry.version} of the registry"


def _move_problems(entry: LedgerEntry, before: Sequence[LedgerEntry], champion: int | None, once: set[int]) -> Iterator[str]:
    if entry.champion != (entry.version):
        yield f"makes version {entry.champion} champion, but is stored with version {entry.version}"
    if entry.action == "rollback":
        if entry.champion not in once:
            yield f"rolls back to version {entry.champion}, which was never champion"
        return
    if entry.decision is None:
        if champion is not None:
            yield f"makes version {entry.version} champion without a verdict"
        return
    if entry.verdict_sha256 is None:
        yield f"makes version {entry.version} champion without naming its verdict"
    if entry.decision == Decision.PASS.value:
        if (word := last_word(before, entry.version)) is not None and word.action == "reject":
            yield f"promotes version {entry.version}, which {word.actor} had rejected"
        return
    if entry.action not in _PERSONS_WORD:
        yield f"promotes version {entry.version} without a person, although its verdict was {entry.decision}"
    elif not _approved(entry, before, champion):
        yield f"promotes version {entry.version} against the verdict {entry.decision} without an approval on record"


def _approved(entry: LedgerEntry, before: Sequence[LedgerEntry], champion: int | None) -> bool:
    word = last_word(before, entry.version)
    if word is None or word.action != "approve":
        return False
    in_time = word.expires is not None and entry.time <= word.expires + _CLOCKS
    return in_time and word.actor == entry.actor and word.champion == champion


def _check_versions(entries: Sequence[LedgerEntry], versions: Mapping[int, RegisteredVersion]) -> Iterator[Finding]:
    for number in sorted({entry.version for entry in entries} - set(versions)):
        yield Finding(
            where=f"version {number}",
            problem="is in the ledger but not in the registry: it was deleted (restore the database from backup)",
            version=number,
        )
    recorded = {entry.version: entry for entry in reversed(entries) if entry.facts_sha256 is not None and entry.action != "key"}
    for number, entry in sorted(recorded.items()):
        if number in versions and facts_digest(versions[number].tags) != entry.facts_sha256:
            problem = f"its tags differ from those in ledger entry {entry.sequence}: at least one was changed"
            yield Finding(where=f"version {number}", problem=problem, version=number, round=versions[number].round)
    yield from _check_reevaluations(entries, versions)
    registered = [entry.version for entry in entries if entry.action == "register"]
    for number, version in sorted(versions.items()):
        if registered and number > min(registered) and number not in registered and version.ended:
            problem = "has no ledger entry of its registration: it was written by hand"
            yield Finding(where=f"version {number}", problem=problem, version=number, round=version.round)
    for entry in entries:
        if entry.action == "key":
            known = [version.raw for number, version in sorted(versions.items()) if number <= entry.version]
            if all_facts_digest(known) != entry.facts_sha256:
                problem = "covers the tags of all versions before it, and at least one was changed or deleted"
                yield Finding(where=f"ledger entry {entry.sequence}", problem=problem, version=entry.version)


def _check_reevaluations(entries: Sequence[LedgerEntry], versions: Mapping[int, RegisteredVersion]) -> Iterator[Finding]:
    """The report that a version shows as its re-evaluation is one that the ledger has recorded; older entries name no report."""
    for number, version in sorted(versions.items()):
        recorded = {entry.evidence_sha256 for entry in entries if entry.version == number and entry.action == "reevaluate"}
        shown = version.fact("reevaluation_sha256")
        if shown is not None and shown not in recorded and None not in recorded:
            problem = "its re-evaluation is none that the ledger records: it was replaced, or cut off (repeat `skillstack reevaluate`)"
            yield Finding(where=f"version {number}", problem=problem, version=number, round=version.round)
