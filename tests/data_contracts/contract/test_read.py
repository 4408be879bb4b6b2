"""The contract: the packaged one is a valid ODCS document, a wrong one is refused with its line, a breaking change is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest
import yaml

from data_contracts.config import ContractConfig
from data_contracts.contract.read import compile_contract, default_contract_text, load_contract
from data_contracts.errors import ConfigError, DropError
from data_contracts.validate import validate_drop

DEFAULT = default_contract_text()


def line_of(text: str, part: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), start=1) if part in line)


def test_the_packaged_contract_follows_the_standard_s_own_json_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not a dependency of ours; it comes with Prefect")
    schema = json.loads(resources.files("open_data_contract_standard").joinpath("schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(yaml.safe_load(DEFAULT), schema)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("kind: DataContract", "kind: DataProduct", "kind is 'DataProduct'"),
        ("version: 1.0.0", "version: one", "version is 'one'"),
        ("apiVersion: v3.1.0", "apiVersion: v2.2.2", "apiVersion is 'v2.2.2'"),
        ("status: active", "statuses: active", "lacks the field 'status'"),
        ("tags: [sft, jsonl]", "tags: sft", "does not follow ODCS"),
        ("  - name: document", "  - name: picture", "is 'picture'"),
        ("logicalType: boolean", "logicalType: bool", "is 'bool'"),
        ("{minItems: 2, maxItems: 200}", "{minItems: 200, maxItems: 2}", "allow nothing"),
        ("{minItems: 2, maxItems: 200}", "{minLength: 2}", "does not apply to array"),
        ("^(system|user|assistant|tool)$", "^(system", "not a regular expression"),
        ("^(system|user|assistant|tool)$", "^(?=system)", "cannot be compiled"),
        ("check: near_duplicate,", "check: near_copies,", "is 'near_copies'"),
        ("similarity: 0.5", "similarity: 5", "expected a number from 0.3 to 1"),
        ("similarity: 0.5", "likeness: 0.5", "is not a number of near_duplicate"),
        ("severity: error, implementation: {check: empty_turn}", "severity: fatal, implementation: {check: empty_turn}", "is 'fatal'"),
        ("mustBeGreaterOrEqualTo: 10", "mustBeGreaterThan: 10", "sets no limit"),
        ("metric: rowCount", "metric: nullValues", "is neither"),
        ("engine: skillstack\n        severity: error", "engine: soda\n        severity: error", "is neither"),
    ],
)
def test_a_wrong_contract_is_refused_with_its_line(old: str, new: str, reason: str, tmp_path: Path) -> None:
    assert old in DEFAULT
    path = tmp_path / "contract.yaml"
    path.write_text(DEFAULT.replace(old, new, 1))
    with pytest.raises(ConfigError, match=reason) as caught:
        load_contract(path)
    line = int(caught.value.where.rsplit(":", 1)[1])
    if not reason.startswith("lacks"):
        expected = line_of(path.read_text(), new.split("\n")[0])
        assert abs(line - expected) <= 4, (line, expected)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "a: [", "a: 1\n\tb: 2", "&a [*a]", "kind: DataContract", "\x00"])
def test_what_is_no_contract_at_all_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"contract\.yaml"):
        compile_contract(text, "contract.yaml")


def test_a_config_that_names_no_check_is_refused(good_lines: list[bytes], write_drop: Callable[..., Path], tmp_path: Path) -> None:
    for severity, reason in (({"spelling": "drop"}, "is not a check"), ({"json": "off"}, "cannot stay")):
        with pytest.raises(ConfigError, match=reason):
            validate_drop(write_drop(good_lines), tmp_path / "out", skill="notes", config=ContractConfig(severity=severity))  # type: ignore[arg-type]


def test_a_contract_of_one_shape_refuses_the_others(good_lines: list[bytes], write_drop: Callable[..., Path], tmp_path: Path) -> None:
    contract = tmp_path / "documents.yaml"
    head, tail = DEFAULT[: DEFAULT.index("  - name: chat")], DEFAULT[DEFAULT.index("  - name: document") :]
    contract.write_text(head + tail)
    with pytest.raises(DropError, match="is a chat row, which the contract skillstack-drop does not allow"):
        validate_drop(write_drop(good_lines), tmp_path / "out", skill="notes", config=ContractConfig(path=contract))
