"""Counts of findings with a few examples of each: what the report shows, at a size that does not grow with the drop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from data_contracts.manifests import FindingCount
from data_contracts.privacy.masking import one_line
from data_contracts.rows.findings import Finding, Severity

EXAMPLES = 20


@dataclass
class _Count:
    rows: int = 0
    last_line: int = -1
    examples: list[Finding] = field(default_factory=list)


class Tally:
    """Every finding passes through here once; a check that fires twice on one row counts that row once. Reasons are masked."""

    def __init__(self, severity: Mapping[str, Severity]) -> None:
        self._severity = severity
        self._counts: dict[str, _Count] = {}

    def severity(self, check: str) -> Severity:
        """What a finding of this check means."""
        return self._severity[check]

    def add(self, finding: Finding) -> Severity:
        """Count a finding; returns what it means for its row."""
        severity = self._severity[finding.check]
        if severity == "off":
            return severity
        count = self._counts.setdefault(finding.check, _Count())
        if count.last_line != finding.line or finding.line == 0:
            count.rows += 1
            count.last_line = finding.line
        if len(count.examples) < EXAMPLES:
            count.examples.append(Finding(finding.check, finding.line, one_line(finding.reason)))
        return severity

    def first_error(self) -> Finding | None:
        """The error on the lowest line; an error of the drop itself comes first."""
        errors = [count.examples[0] for name, count in self._counts.items() if self._severity[name] == "error"]
        return min(errors, key=lambda finding: finding.line, default=None)

    def counts(self) -> tuple[FindingCount, ...]:
        """By check name, for the manifest."""
        found = []
        for name, count in sorted(self._counts.items()):
            severity = self._severity[name]
            if severity != "off":
                found.append(FindingCount(check=name, severity=severity, rows=count.rows))
        return tuple(found)

    def as_json(self) -> list[dict[str, Any]]:
        """By check name, with examples, for the report."""
        return [
            count.model_dump() | {"examples": [{"line": f.line, "reason": f.reason} for f in self._counts[count.check].examples]}
            for count in self.counts()
        ]
