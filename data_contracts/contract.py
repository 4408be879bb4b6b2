"""Read a contract (Open Data Contract Standard 3.1 YAML) and compile it once into row models and rules for the drop.

A contract that is itself wrong is refused with its file and line, before a single row is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import BaseModel

from data_contracts.digests import text_digest
from data_contracts.errors import ConfigError
from data_contracts.findings import DEFAULT_SEVERITY, Severity
from data_contracts.records import Shape
from data_contracts.row_models import SchemaError, compile_object

WAY_OUT = "see the packaged data_contracts/contracts/default.yaml for every field in use"
_VERSION = re.compile(r"^\d+\.\d+\.\d+$")


@dataclass(frozen=True)
class Contract:
    """A compiled contract. `text` is the file as it was read: it travels with the drop."""

    id: str
    version: str
    text: str
    rows: Mapping[Shape, type[BaseModel]]
    severity: Mapping[str, Severity]
    limits: Mapping[str, float] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        return text_digest(self.text)


class _Tree:
    """A YAML document that remembers the line of every value."""

    def __init__(self, text: str, source: str) -> None:
        self.source = source
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
            self.value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f"{source}:{mark.line + 1}" if mark else source
            raise ConfigError(where, f"is not YAML: {getattr(error, 'problem', None) or error}", WAY_OUT) from error
        self.lines: dict[tuple[str | int, ...], int] = {}
        if node is not None:
            self._note(node, ())

    def _note(self, node: yaml.Node, path: tuple[str | int, ...]) -> None:
        self.lines[path] = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                self._note(value, (*path, str(key.value)))
                self.lines[(*path, str(key.value))] = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                self._note(value, (*path, index))

    def refuse(self, path: tuple[str | int, ...], what: str) -> ConfigError:
        """The error for the value at `path`, or for the nearest thing above it that has a line."""
        known = path
        while known and known not in self.lines:
            known = known[:-1]
        name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
        return ConfigError(f"{self.source}:{self.lines.get(known, 1)}", f"{name or 'the contract'} {what}", WAY_OUT)


def default_contract_text() -> str:
    """The packaged contract, as `skillstack init` copies it."""
    return resources.files("data_contracts").joinpath("contracts", "default.yaml").read_text(encoding="utf-8")


def load_contract(path: Path | None = None) -> Contract:
    """Read and compile a contract; the packaged one where `path` is None. Raises ConfigError with file and line."""
    if path is None:
        return compile_contract(default_contract_text(), "data_contracts/contracts/default.yaml")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), f"the contract cannot be read: {error}", "give the path of an ODCS YAML file") from error
    return compile_contract(text, str(path))


def compile_contract(text: str, source: str) -> Contract:
    """Compile the text of a contract. Raises ConfigError that names `source` and the line."""
    tree = _Tree(text, source)
    if not isinstance(tree.value, dict):
        raise tree.refuse((), "must be a mapping with apiVersion, kind, id, version and schema")
    top = cast("dict[str, Any]", tree.value)
    for name in ("apiVersion", "kind", "id", "version", "status", "schema"):
        if name not in top:
            raise tree.refuse((), f"lacks the field {name!r}")
    if top["kind"] != "DataContract":
        raise tree.refuse(("kind",), f"is {top['kind']!r}: expected 'DataContract'")
    if not str(top["apiVersion"]).startswith("v3."):
        raise tree.refuse(("apiVersion",), f"is {top['apiVersion']!r}: expected 'v3.1.0'")
    if not isinstance(top["version"], str) or not _VERSION.match(top["version"]):
        raise tree.refuse(("version",), f"is {top['version']!r}: expected three numbers in quotes or plain, such as 1.2.0")
    severity, limits = _quality(tree, top)
    return Contract(str(top["id"]), top["version"], text, _row_models(tree, top), severity, limits)


def _row_models(tree: _Tree, top: dict[str, Any]) -> dict[Shape, type[BaseModel]]:
    schema = top["schema"]
    if not isinstance(schema, list) or not schema:
        raise tree.refuse(("schema",), "must be a list of at least one object")
    models: dict[Shape, type[BaseModel]] = {}
    for index, part in enumerate(schema):
        name = part.get("name") if isinstance(part, dict) else None
        if name not in ("chat", "completion", "document"):
            raise tree.refuse(("schema", index, "name"), f"is {name!r}: expected chat, completion or document")
        try:
            models[name] = compile_object(name, part.get("properties"))
        except SchemaError as fault:
            raise tree.refuse(("schema", index, "properties", *fault.path), fault.what) from None
    return models


def _quality(tree: _Tree, top: dict[str, Any]) -> tuple[dict[str, Severity], dict[str, float]]:
    """Severities and limits from the `quality` lists of the contract."""
    severity = dict(DEFAULT_SEVERITY)
    limits: dict[str, float] = {"min_rows": 10}
    for index, part in enumerate(top["schema"] or ()):
        for number, rule in enumerate((part.get("quality") if isinstance(part, dict) else None) or ()):
            path = ("schema", index, "quality", number)
            if not isinstance(rule, dict):
                raise tree.refuse(path, "must be a mapping")
            if rule.get("metric") == "rowCount":
                for key, name in (("mustBeGreaterOrEqualTo", "min_rows"), ("mustBeLessOrEqualTo", "max_rows")):
                    if key in rule:
                        limits[name] = rule[key]
    return severity, limits
