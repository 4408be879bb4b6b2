"""Counts of findings with a few examples of each: what the report says, at a size that does not grow with the drop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from data_contracts.findings import Finding, Severity
from data_contracts.manifests import FindingCount

EXAMPLES = 20


@dataclass
class _Count:
    rows: int = 0
    last_line: int = -1
    examples: list[Finding] = field(default_factory=list)


class Tally:
    """Every finding passes through here once; a check that fires twice on one row counts that row once."""

    def __init__(self, severity: Mapping[str, Severity]) -> None:
        self._severity = severity
        self._counts: dict[str, _Count] = {}

    def add(self, finding: Finding) -> Severity:
        """Count a finding and say what it means for its row."""
        severity = self._severity.get(finding.check, "warning")
        if severity == "off":
            return severity
        count = self._counts.setdefault(finding.check, _Count())
        if count.last_line != finding.line or finding.line == 0:
            count.rows += 1
            count.last_line = finding.line
        if len(count.examples) < EXAMPLES:
            count.examples.append(finding)
        return severity

    def first_error(self) -> Finding | None:
        """The error on the lowest line."""
        errors = [c.examples[0] for name, c in self._counts.items() if self._severity.get(name) == "error"]
        return min(errors, key=lambda finding: finding.line, default=None)

    def counts(self) -> tuple[FindingCount, ...]:
        """By check name, for the manifest."""
        return tuple(
            FindingCount(check=name, severity=severity, rows=count.rows)
            for name, count in sorted(self._counts.items())
            if (severity := self._severity.get(name, "warning")) != "off"
        )

    def as_json(self) -> list[dict[str, Any]]:
        """By check name, with examples, for the report."""
        return [
            count.model_dump() | {"examples": [{"line": f.line, "reason": f.reason} for f in self._counts[count.check].examples]}
            for count in self.counts()
        ]
