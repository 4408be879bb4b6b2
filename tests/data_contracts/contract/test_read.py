"""The contract: the packaged one is a valid ODCS document, a wrong one is refused with its line, a breaking change is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest
import yaml

from data_contracts.config import ContractConfig
from data_contracts.contract.changes import contract_changes
from data_contracts.contract.read import compile_contract, default_contract_text, load_contract
from data_contracts.contract.rules import RULES
from data_contracts.errors import ConfigError, DropError
from data_contracts.validate import validate_drop

DEFAULT = default_contract_text()


def line_of(text: str, part: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), start=1) if part in line)


def test_the_packaged_contract_follows_the_standard_s_own_json_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not a dependency of ours; it comes with Prefect")
    schema = json.loads(resources.files("open_data_contract_standard").joinpath("schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(yaml.safe_load(DEFAULT), schema)


def test_the_packaged_contract_says_what_the_code_does_by_default() -> None:
    contract = load_contract()
    assert contract.severity == {name: rule.severity for name, rule in RULES.items()}
    assert contract.options == {name: {key: option.default for key, option in rule.options.items()} for name, rule in RULES.items()}
    assert set(contract.rows) == {"chat", "completion", "document"}


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
