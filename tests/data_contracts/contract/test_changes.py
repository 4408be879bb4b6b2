"""What changed between two contracts is named, and a breaking change needs a new major version."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from data_contracts.config import ContractConfig
from data_contracts.contract.changes import contract_changes
from data_contracts.contract.read import default_contract_text
from data_contracts.errors import DropError
from data_contracts.validate import validate_drop

DEFAULT = default_contract_text()


@pytest.mark.parametrize(
    ("old", "new", "breaking"),
    [
        ("maxItems: 200", "maxItems: 100", True),
        ("maxItems: 200", "maxItems: 300", False),
        ("minItems: 2", "minItems: 4", True),
        ("assistant|tool)", "assistant)", True),
        ("{name: unmask,", "{name: unmask, required: true,", True),
        ("logicalType: boolean", "logicalType: string", True),
        ("severity: warning, implementation: {check: refusal}", "severity: drop, implementation: {check: refusal}", True),
        ("severity: drop, implementation: {check: secret}", "severity: warning, implementation: {check: secret}", False),
        ("similarity: 0.5", "similarity: 0.4", True),
        ("similarity: 0.5", "similarity: 0.8", False),
        ("mustBeGreaterOrEqualTo: 10", "mustBeGreaterOrEqualTo: 500", True),
        ("main_share: 0.9", "main_share: 0.5", False),
    ],
)
def test_a_change_is_named_and_known_to_be_breaking_or_not(old: str, new: str, breaking: bool) -> None:
    assert old in DEFAULT
    changes = contract_changes(DEFAULT, DEFAULT.replace(old, new, 1))
    assert [change.breaking for change in changes] == [breaking]


def test_a_shape_that_is_gone_and_one_that_is_new() -> None:
    shorter = DEFAULT[: DEFAULT.index("  - name: document")]
    assert [(change.where, change.breaking) for change in contract_changes(DEFAULT, shorter)] == [("document", True)]
    assert [(change.where, change.breaking) for change in contract_changes(shorter, DEFAULT)] == [("document", False)]
    assert contract_changes(DEFAULT, DEFAULT + "\n# a comment\n") == []


def test_a_breaking_change_needs_a_new_major_version(
    good_lines: list[bytes],
    chat: Callable[[str, str], str],
    prose: Callable[[int, int], str],
    write_drop: Callable[..., Path],
    tmp_path: Path,
) -> None:
    validate_drop(write_drop(good_lines), tmp_path / "first", skill="first", config=ContractConfig())
    drop = write_drop([chat(prose(seed, 40), "yes, that is so") for seed in range(3000, 3060)], "second.jsonl")
    contract = tmp_path / "contract.yaml"
    contract.write_text(DEFAULT.replace("maxItems: 200", "maxItems: 20"))
    with pytest.raises(DropError, match=r"breaking change \(chat\.messages\.maxItems: 200 is 20 now\); raise its major version"):
        validate_drop(drop, tmp_path / "second", skill="second", config=ContractConfig(path=contract), earlier=[tmp_path / "first"])
    contract.write_text(DEFAULT.replace("maxItems: 200", "maxItems: 20").replace("version: 1.0.0", "version: 2.0.0"))
    manifest = validate_drop(drop, tmp_path / "third", skill="second", config=ContractConfig(path=contract), earlier=[tmp_path / "first"])
    assert manifest.contract_version == "2.0.0"
    assert ("contract_change", 1) in {(finding.check, finding.rows) for finding in manifest.findings}
    assert (tmp_path / "third" / "contract.yaml").read_text() == contract.read_text()
