"""The tree of versions with their data, digests, verdicts and decisions, as text, JSON or Graphviz dot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from data_contracts.manifests import Record
from flows.lineage.registry.history import actor_of, read_lineage
from flows.lineage.storage.connection import Lineage
from flows.lineage.storage.records import LedgerEntry, RoundRecord


class LineageTree(Record):
    """All attempts and all ledger entries; `version` and `parent_version` of the rounds are the edges."""

    rounds: tuple[RoundRecord, ...]
    ledger: tuple[LedgerEntry, ...]

    def children(self, version: int | None) -> tuple[RoundRecord, ...]:
        """The registered rounds that were trained from a version; for None, the roots."""
        return tuple(record for record in self.rounds if record.version is not None and record.parent_version == version)

    def decisions(self, version: int) -> tuple[LedgerEntry, ...]:
        """The entries about a version, with the rollbacks that took it away."""
        return tuple(entry for entry in self.ledger if _concerns(entry, version))

    def lines(self) -> Iterator[str]:
        """The tree as indented text, then the attempts without a version."""
        for root in self.children(None):
            yield from self._branch(root, "", "")
        for record in self.rounds:
            if record.version is None:
                yield f"- {title(record)}: {record.status}" + (f", {record.error}" if record.error else "")

    def _branch(self, record: RoundRecord, first: str, rest: str) -> Iterator[str]:
        assert record.version is not None
        yield first + title(record)
        for detail in details(record):
            yield f"{rest}    {detail}"
        for entry in self.decisions(record.version):
            yield f"{rest}    {entry.time:%Y-%m-%d} {_event(entry, record.version)} by {actor_of(entry)}: {entry.reason}"
        children = self.children(record.version)
        for child in children:
            last = child is children[-1]
            yield from self._branch(child, rest + ("└── " if last else "├── "), rest + ("    " if last else "│   "))

    def dot(self) -> str:
        """Graphviz: `skillstack lineage --dot | dot -Tsvg > lineage.svg`."""
        lines = ["digraph lineage {", "  rankdir=LR;", '  node [shape=box, fontname="sans-serif"];']
        for record in self.rounds:
            if record.version is None:
                continue
            label = "\\n".join(_escaped(text) for text in (title(record), *details(record)))
            lines.append(f'  v{record.version} [label="{label}"{_style(record)}];')
            if record.parent_version is not None:
                lines.append(f"  v{record.parent_version} -> v{record.version};")
        return "\n".join([*lines, "}", ""])


def read_tree(lineage: Lineage) -> LineageTree:
    """All versions, each under its parent: `.lines()` for people, `.dot()` for Graphviz, `.model_dump()` for programs."""
    rounds, entries = read_lineage(lineage)
    return LineageTree(rounds=rounds, ledger=entries)


def title(record: RoundRecord) -> str:
    version = "" if record.version is None else f"version {record.version} · "
    attempt = f", attempt {record.attempt}" if record.attempt > 1 else ""
    mark = " · CHAMPION" if record.champion else ""
    return f"{version}round {record.round}{attempt} · {record.skill or 'base'} · {record.decision or 'no verdict'}{mark}"


def details(record: RoundRecord) -> Sequence[str]:
    """Method, short digests of data and model, and the gate's first reason."""
    digests = " ".join(f"{role} {digest[:12]}" for role, digest in record.digests.items() if role in ("drop", "model"))
    lost = f"lost: {', '.join(record.lost)}" if record.lost else ""
    collected = f"weights collected {record.collected:%Y-%m-%d}" if record.collected else ""
    return [text for text in (f"{record.method or '-'} {digests}", lost, *record.reasons[:1], collected) if text]


def _concerns(entry: LedgerEntry, version: int) -> bool:
    return (entry.version == version and entry.action != "register") or (entry.action == "rollback" and entry.previous == version)


def _event(entry: LedgerEntry, version: int) -> str:
    """What an entry did, seen from one version: a rollback is about the version that it took away and about the one it returned to."""
    if entry.action != "rollback":
        return entry.action
    return f"rollback to version {entry.champion}" if version != entry.champion else f"rollback from version {entry.previous}"


def _style(record: RoundRecord) -> str:
    if record.champion:
        return ', style=filled, fillcolor="palegreen"'
    return "" if record.was_champion else ', style="dashed"'


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
