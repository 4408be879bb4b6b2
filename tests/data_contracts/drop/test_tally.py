"""What a finding means is set by its severity, and the report counts it once per row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from data_contracts.config import ContractConfig
from data_contracts.errors import DropError
from data_contracts.manifests import DropManifest
from data_contracts.validate import validate_drop

Chat = Callable[[str, str], str]


def counts(manifest: DropManifest) -> dict[str, int]:
    return {finding.check: finding.rows for finding in manifest.findings}


def test_severity_can_be_turned_either_way(good_lines: list[bytes], chat: Chat, write_drop: Callable[..., Path], tmp_path: Path) -> None:
    drop = write_drop([*good_lines, chat("Mail?", "ann.lee@" + "company.org")])
    for severity, quarantined in (("drop", 1), ("warning", 0), ("off", 0)):
        config = ContractConfig(severity={"personal_data": severity})  # type: ignore[dict-item]
        manifest = validate_drop(drop, tmp_path / severity, skill="notes", config=config)
        assert manifest.rows_quarantined == quarantined
        assert ("personal_data" in counts(manifest)) == (severity != "off")
    with pytest.raises(DropError, match=r"drop\.jsonl:61: messages\[1\]\.content holds an email address"):
        validate_drop(drop, tmp_path / "error", skill="notes", config=ContractConfig(severity={"personal_data": "error"}))
