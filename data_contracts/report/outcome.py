"""What a validation ends with: a reason to fail or none, the report for machines, and the manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_contracts.config import ContractConfig
from data_contracts.contract.read import Contract
from data_contracts.drop.reading import DropState
from data_contracts.drop.splitting import Carving
from data_contracts.drop.tally import Tally
from data_contracts.errors import DropError
from data_contracts.manifests import DropManifest, FileRef
from data_contracts.rows.findings import Check


@dataclass(frozen=True)
class Ending:
    """Everything that the outcome is made of."""

    drop: Path
    skill: str
    source_sha256: str
    contract: Contract
    config: ContractConfig
    state: DropState
    tally: Tally
    written: Mapping[str, int]
    teaching: int = 1

    def failure(self) -> DropError | None:
        """Why the drop does not pass, or None. Comparisons are written so that anything odd fails."""
        state, first = self.state, self.tally.first_error()
        if first is not None and first.line == 0:
            return DropError(str(self.drop), first.reason, f"correct that, or set contract.severity.{first.check}")
        if first is not None and not state.bad <= self.config.max_bad_fraction * state.read:
            others = f"; {state.bad - 1} more rows in error" if state.bad > 1 else ""
            return DropError(
                f"{self.drop}:{first.line}",
                first.reason + others,
                "see quarantine.jsonl; correct the rows or raise contract.max_bad_fraction",
            )
        if not state.dropped <= self.config.max_dropped_fraction * state.read:
            what = f"{state.dropped} of {state.read} rows had to be left out ({self._main_reason()})"
            return DropError(str(self.drop), what, "see report.html; correct the drop or raise contract.max_dropped_fraction")
        return self._row_count_failure()

    def _main_reason(self) -> str:
        left_out = [count for count in self.tally.counts() if count.severity == "drop"]
        return ", ".join(f"{count.check} {count.rows}" for count in sorted(left_out, key=lambda count: -count.rows)[:3])

    def _row_count_failure(self) -> DropError | None:
        if self.tally.severity("row_count") != "error":
            return None
        limits = self.contract.options["row_count"]
        least = self.config.min_rows if self.config.min_rows is not None else int(limits["least"])
        most = self.config.max_rows if self.config.max_rows is not None else int(limits["most"])
        clean = self.written["clean"]
        if not clean >= least:
            return DropError(
                str(self.drop),
                f"leaves {clean} rows for training: the contract requires at least {least}",
                "send more rows, or lower contract.min_rows",
            )
        if not self.state.read <= most:
            return DropError(
                str(self.drop), f"has {self.state.read} rows: the contract allows {most}", "split the drop, or raise contract.max_rows"
            )
        return None

    def report(self, checks: Sequence[Check], carving: Carving, failure: DropError | None) -> dict[str, Any]:
        """The report for machines, canonical JSON values only."""
        details: dict[str, Any] = {}
        for check in checks:
            details |= check.summary()
        cuts = carving.cuts
        return {
            "outcome": "failed" if failure else "passed",
            "reason": failure.what if failure else "",
            "way_out": failure.way_out if failure else "",
            "where": failure.where.replace(str(self.drop), self.drop.name) if failure else "",
            "source": self.drop.name,
            "source_sha256": self.source_sha256,
            "skill": self.skill,
            "contract": {"id": self.contract.id, "version": self.contract.version, "sha256": self.contract.sha256},
            "rows": {"read": self.state.read, "bad": self.state.bad, "dropped": self.state.dropped, **self.written},
            "carving": {"heldout_below": cuts.heldout, "sealed_below": cuts.sealed} if cuts else None,
            "findings": self.tally.as_json(),
            "details": details,
        }

    def manifest(self, files: dict[str, FileRef]) -> DropManifest:
        return DropManifest(
            files=files,
            skill=self.skill,
            teaching=self.teaching,
            source=self.drop.name,
            source_sha256=self.source_sha256,
            contract=self.contract.id,
            contract_version=self.contract.version,
            rows_read=self.state.read,
            rows_clean=self.written["clean"],
            rows_heldout=self.written["heldout"],
            rows_sealed=self.written["sealed"],
            rows_quarantined=self.state.bad + self.state.dropped,
            findings=self.tally.counts(),
        )
