"""Read a contract (Open Data Contract Standard 3.1 YAML) and compile it once into row models and rules for the drop.

A contract that is itself wrong is refused with its file and line, before a single row is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from data_contracts.contract.rules import RULES, default_options
from data_contracts.contract.yaml_lines import YamlTree
from data_contracts.digests import text_digest
from data_contracts.errors import ConfigError
from data_contracts.rows.findings import SEVERITIES, Severity
from data_contracts.rows.records import Shape
from data_contracts.rows.row_models import SchemaError, compile_object

SHAPES: tuple[Shape, ...] = ("chat", "completion", "document")
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_UNREADABLE = ("encoding", "json", "schema")
_ROW_COUNT = {"mustBeGreaterOrEqualTo": "least", "mustBeLessOrEqualTo": "most"}


@dataclass(frozen=True)
class Contract:
    """A compiled contract. `text` is the file as it was read: it travels with the drop."""

    id: str
    version: str
    text: str
    rows: Mapping[Shape, type[BaseModel]]
    severity: Mapping[str, Severity]
    options: Mapping[str, Mapping[str, float]]

    @property
    def sha256(self) -> str:
        return text_digest(self.text)


def default_contract_text() -> str:
    """The packaged contract, as `skillstack init` copies it."""
    return resources.files("data_contracts.contract").joinpath("contracts", "default.yaml").read_text(encoding="utf-8")


def load_contract(path: Path | None = None) -> Contract:
    """Read and compile a contract; the packaged one where `path` is None. Raises ConfigError with file and line."""
    if path is None:
        return compile_contract(default_contract_text(), "data_contracts/contract/contracts/default.yaml")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(str(path), f"the contract cannot be read: {error.strerror}", "give the path of an ODCS YAML file") from error
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), "the contract is not UTF-8", "save it as UTF-8") from error
    return compile_contract(text, str(path))


@lru_cache(maxsize=8)
def compile_contract(text: str, source: str) -> Contract:
    """Compile the text of a contract, once. Raises ConfigError that names `source` and the line."""
    tree = YamlTree(text, source)
    top = tree.value
    if not isinstance(top, dict):
        raise tree.refuse((), "must be a mapping with apiVersion, kind, id, version and schema")
    _check_head(tree, top)
    _check_standard(tree, top)
    models: dict[Shape, type[BaseModel]] = {}
    severity: dict[str, Severity] = {name: rule.severity for name, rule in RULES.items()}
    options = default_options()
    for index, part in enumerate(top["schema"]):
        shape = part.get("name")
        if shape not in SHAPES or shape in models:
            raise tree.refuse(("schema", index, "name"), f"is {shape!r}: expected each of {', '.join(SHAPES)} at most once")
        try:
            models[shape] = compile_object(shape, part.get("properties"))
        except SchemaError as fault:
            raise tree.refuse(("schema", index, "properties", *fault.path), fault.what) from None
        for number, rule in enumerate(part.get("quality") or ()):
            _apply_rule(tree, ("schema", index, "quality", number), rule, severity, options)
    return Contract(str(top["id"]), top["version"], text, models, severity, options)


def _check_head(tree: YamlTree, top: dict[str, Any]) -> None:
    for name in ("apiVersion", "kind", "id", "version", "status", "schema"):
        if name not in top:
            raise tree.refuse((), f"lacks the field {name!r}")
    if top["kind"] != "DataContract":
        raise tree.refuse(("kind",), f"is {top['kind']!r}: expected 'DataContract'")
    if not str(top["apiVersion"]).startswith("v3."):
        raise tree.refuse(("apiVersion",), f"is {top['apiVersion']!r}: expected 'v3.1.0'")
    if not isinstance(top["version"], str) or not _VERSION.fullmatch(top["version"]):
        raise tree.refuse(("version",), f"is {top['version']!r}: expected three numbers such as 1.2.0")
    if not isinstance(top["schema"], list) or not top["schema"] or not all(isinstance(part, dict) for part in top["schema"]):
        raise tree.refuse(("schema",), "must be a list of at least one object")


def _check_standard(tree: YamlTree, top: dict[str, Any]) -> None:
    """The standard's own model sees what is not a data contract at all: unknown sections and values of the wrong type."""
    from open_data_contract_standard.model import OpenDataContractStandard

    try:
        OpenDataContractStandard.model_validate(top)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise tree.refuse(tuple(fault["loc"]), f"does not follow ODCS 3.1: {fault['msg']}") from None


def _apply_rule(
    tree: YamlTree, path: tuple[str | int, ...], rule: dict[str, Any], severity: dict[str, Severity], options: dict[str, dict[str, float]]
) -> None:
    """One entry of `quality`: a row count of the standard's library, or a check of this package with its severity and numbers."""
    if rule.get("metric") == "rowCount":
        check, numbers = "row_count", {name: rule[key] for key, name in _ROW_COUNT.items() if key in rule}
        if not numbers:
            raise tree.refuse(path, f"sets no limit: expected {' or '.join(_ROW_COUNT)}")
    elif rule.get("type") == "custom" and rule.get("engine") == "skillstack" and isinstance(rule.get("implementation"), dict):
        numbers = dict(rule["implementation"])
        check = numbers.pop("check", None)
        path = (*path, "implementation")
    else:
        raise tree.refuse(
            path, "is neither the metric rowCount nor a custom rule of the engine skillstack with a mapping as implementation"
        )
    if check not in RULES:
        raise tree.refuse((*path, "check"), f"is {check!r}: expected {', '.join(RULES)}")
    if "severity" in rule:
        severity[check] = _checked_severity(tree, (*path[:4], "severity"), check, rule["severity"])
    for name, value in numbers.items():
        option = RULES[check].options.get(name)
        if option is None:
            raise tree.refuse((*path, name), f"is not a number of {check}: expected {', '.join(RULES[check].options) or 'none'}")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not option.low <= value <= option.high:
            raise tree.refuse((*path, name), f"is {value!r}: expected a number from {option.low:g} to {option.high:g} ({option.about})")
        options[check][name] = float(value)


def _checked_severity(tree: YamlTree, path: tuple[str | int, ...], check: str, value: Any) -> Severity:
    if value is False:  # YAML 1.1 reads a bare `off` so
        value = "off"
    if value not in SEVERITIES:
        raise tree.refuse(path, f"is {value!r}: expected {', '.join(SEVERITIES)}")
    if check in _UNREADABLE and value not in ("error", "drop"):
        raise tree.refuse(path, f"is {value!r}: a row that cannot be read cannot stay; expected error or drop")
    checked: Severity = value
    return checked


def severities(contract: Contract, overrides: Mapping[str, Severity]) -> dict[str, Severity]:
    """What each check's findings mean; the config overrides the contract. Raises ConfigError for a check that does not exist."""
    for check, value in overrides.items():
        if check not in RULES:
            raise ConfigError(f"contract.severity.{check}", "is not a check", f"choose from {', '.join(RULES)}")
        if check in _UNREADABLE and value not in ("error", "drop"):
            raise ConfigError(f"contract.severity.{check}", f"is {value!r}: a row that cannot be read cannot stay", "use error or drop")
    return {**contract.severity, **overrides}
