"""Real text validates, and what is refused in it stays within what was looked at by eye (docs/results/contracts.md)."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_contracts.config import ContractConfig
from data_contracts.validate import validate_drop


@pytest.mark.parametrize(
    ("task", "most"),
    [("cl15/agnews", 0.01), ("cl15/copa", 0.01), ("cl15/mnli", 0.01), ("gsm8k", 0.01), ("cl15/boolq", 0.04)],
)
def test_a_real_drop_passes_and_little_of_it_is_left_out(task: str, most: float, real_data: Path, tmp_path: Path) -> None:
    manifest = validate_drop(real_data / task / "drop.jsonl", tmp_path / "out", skill="real", config=ContractConfig())
    assert manifest.rows_quarantined <= most * manifest.rows_read
    assert manifest.rows_heldout >= 30
    assert not any(finding.severity == "error" for finding in manifest.findings)
    assert not any(finding.check == "secret" for finding in manifest.findings)
