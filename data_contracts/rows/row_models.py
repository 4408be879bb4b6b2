"""ODCS properties -> pydantic models: compiled once, then a row costs microseconds.

Strict: a number is not a string. Fields that the contract does not know are let through here; they are reported and left
out of the clean file by `records.normal_row`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic_core import SchemaError as SchemaCompileError

_SCALARS: dict[str, type] = {"string": str, "integer": int, "number": float, "boolean": bool}
_STRING_OPTIONS = {"minLength": "min_length", "maxLength": "max_length", "pattern": "pattern"}
_NUMBER_OPTIONS = {"minimum": "ge", "maximum": "le", "exclusiveMinimum": "gt", "exclusiveMaximum": "lt", "multipleOf": "multiple_of"}
_ARRAY_OPTIONS = {"minItems": "min_length", "maxItems": "max_length"}
_OPTIONS = {"string": _STRING_OPTIONS, "integer": _NUMBER_OPTIONS, "number": _NUMBER_OPTIONS, "array": _ARRAY_OPTIONS}
_CHECKED = {"name", "logicalType", "required", "logicalTypeOptions", "items", "properties"}
#: Fields of the standard that inform people; any other one would promise a check that is not made.
_INFORMING = {
    "id", "description", "physicalType", "physicalName", "businessName", "examples", "tags", "deprecated", "classification",
    "authoritativeDefinitions", "customProperties", "criticalDataElement", "semanticType", "synonyms",
}  # fmt: skip


class SchemaError(Exception):
    """What is wrong with a property, and where below `properties`."""

    def __init__(self, path: tuple[str | int, ...], what: str) -> None:
        super().__init__(what)
        self.path, self.what = path, what


def compile_object(name: str, properties: Any, path: tuple[str | int, ...] = ()) -> type[BaseModel]:
    """A model for an object with these ODCS properties. Raises SchemaError."""
    if not isinstance(properties, list) or not properties:
        raise SchemaError(path, "must be a list of at least one property")
    fields: dict[str, Any] = {}
    for index, part in enumerate(properties):
        at = (*path, index)
        if not isinstance(part, dict) or not isinstance(part.get("name"), str):
            raise SchemaError(at, "must be a mapping with a name")
        if part["name"] in fields:
            raise SchemaError((*at, "name"), f"is {part['name']!r}, which occurs twice")
        kind = _compile_type(part["name"], part, at)
        required = part.get("required", False)
        if not isinstance(required, bool):
            raise SchemaError((*at, "required"), f"is {required!r}: expected true or false")
        # not by its own name: a field such as `copy` or `json` would shadow a method of the model
        fields[part["name"]] = (kind, Field(alias=part["name"])) if required else (kind | None, Field(None, alias=part["name"]))
    renamed = {f"field_{number}": value for number, value in enumerate(fields.values())}
    try:
        return create_model(name, __config__=ConfigDict(strict=True, extra="allow"), **renamed)
    except SchemaCompileError as error:  # a pattern that Python's re takes and pydantic's engine does not
        raise SchemaError(path, f"cannot be compiled: {str(error).splitlines()[-1]}") from None


def _compile_type(name: str, part: dict[str, Any], path: tuple[str | int, ...]) -> Any:
    for key in part:
        if key not in _CHECKED | _INFORMING:
            raise SchemaError((*path, key), "is not a field that is checked here")
    logical = part.get("logicalType")
    if logical == "object":
        return compile_object(name, part["properties"], (*path, "properties")) if part.get("properties") else dict[str, Any]
    if logical == "array":
        items = part.get("items")
        inner = _compile_type(name, items, (*path, "items")) if isinstance(items, dict) else Any
        return _limited(list.__class_getitem__(inner), "array", part, path)
    if logical not in _SCALARS:
        raise SchemaError((*path, "logicalType"), f"is {logical!r}: expected {', '.join(sorted([*_SCALARS, 'array', 'object']))}")
    return _limited(_SCALARS[logical], logical, part, path)


def _limited(kind: Any, logical: str, part: dict[str, Any], path: tuple[str | int, ...]) -> Any:
    options = part.get("logicalTypeOptions") or {}
    if not isinstance(options, dict):
        raise SchemaError((*path, "logicalTypeOptions"), "must be a mapping")
    limits: dict[str, Any] = {}
    for key, value in options.items():
        at = (*path, "logicalTypeOptions", key)
        if key not in _OPTIONS.get(logical, {}):
            raise SchemaError(at, f"does not apply to {logical}: expected {', '.join(_OPTIONS.get(logical, {})) or 'no options'}")
        _check_option(key, value, at)
        limits[_OPTIONS[logical][key]] = value
    low, high = limits.get("min_length", limits.get("ge")), limits.get("max_length", limits.get("le"))
    if low is not None and high is not None and low > high:
        raise SchemaError((*path, "logicalTypeOptions"), f"allow nothing: at least {low} and at most {high}")
    return Annotated[kind, Field(**limits)] if limits else kind


def _check_option(key: str, value: Any, path: tuple[str | int, ...]) -> None:
    if key == "pattern":
        try:
            re.compile(value)
        except (re.error, TypeError) as error:
            raise SchemaError(path, f"is not a regular expression: {error}") from None
    elif isinstance(value, bool) or not isinstance(value, (int, float)):
        raise SchemaError(path, f"is {value!r}: expected a number")
