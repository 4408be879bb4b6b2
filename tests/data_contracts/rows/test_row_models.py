"""Properties of a contract become models that refuse what they should, strictly; a property that promises no check is refused itself."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from data_contracts.rows.row_models import SchemaError, compile_object


def _model(**property_: Any) -> Any:
    return compile_object("row", [{"name": "x", **property_}])


@pytest.mark.parametrize(
    ("property_", "good", "bad"),
    [
        ({"logicalType": "string", "logicalTypeOptions": {"minLength": 2}}, "ab", "a"),
        ({"logicalType": "string", "logicalTypeOptions": {"pattern": "^a+$"}}, "aa", "ab"),
        ({"logicalType": "integer", "logicalTypeOptions": {"minimum": 1, "exclusiveMaximum": 3}}, 2, 3),
        ({"logicalType": "integer"}, 2, "2"),
        ({"logicalType": "number"}, 2.5, "2.5"),
        ({"logicalType": "boolean"}, True, 1),
        ({"logicalType": "array", "items": {"logicalType": "string"}, "logicalTypeOptions": {"maxItems": 2}}, ["a"], ["a", "b", "c"]),
        ({"logicalType": "array", "items": {"logicalType": "string"}}, ["a"], [1]),
        ({"logicalType": "object", "properties": [{"name": "y", "logicalType": "string", "required": True}]}, {"y": "a"}, {}),
        ({"logicalType": "object"}, {"any": 1}, []),
    ],
)
def test_what_a_property_takes_and_refuses(property_: dict[str, Any], good: Any, bad: Any) -> None:
    model = _model(**property_)
    model.model_validate({"x": good})
    with pytest.raises(ValidationError):
        model.model_validate({"x": bad})


def test_a_required_field_must_be_there_and_another_may_be_null_or_absent() -> None:
    optional, required = _model(logicalType="string"), _model(logicalType="string", required=True)
    optional.model_validate({})
    optional.model_validate({"x": None, "unknown": 1})
    for value in ({}, {"x": None}):
        with pytest.raises(ValidationError):
            required.model_validate(value)


def test_a_field_named_like_a_method_of_pydantic_is_a_field() -> None:
    model = compile_object("row", [{"name": "copy", "logicalType": "string", "required": True}, {"name": "json", "logicalType": "integer"}])
    with pytest.raises(ValidationError, match="copy"):
        model.model_validate({"json": 1})


@pytest.mark.parametrize(
    ("properties", "path", "what"),
    [
        ([], (), "must be a list of at least one property"),
        ([{"logicalType": "string"}], (0,), "must be a mapping with a name"),
        ([{"name": "x", "logicalType": "string"}] * 2, (1, "name"), "occurs twice"),
        ([{"name": "x", "logicalType": "date"}], (0, "logicalType"), "is 'date'"),
        ([{"name": "x", "logicalType": "string", "required": "yes"}], (0, "required"), "expected true or false"),
        ([{"name": "x", "logicalType": "string", "unique": True}], (0, "unique"), "is not a field that is checked here"),
        (
            [{"name": "x", "logicalType": "boolean", "logicalTypeOptions": {"minimum": 1}}],
            (0, "logicalTypeOptions", "minimum"),
            "no options",
        ),
        (
            [{"name": "x", "logicalType": "integer", "logicalTypeOptions": {"minimum": "1"}}],
            (0, "logicalTypeOptions", "minimum"),
            "a number",
        ),
        (
            [{"name": "x", "logicalType": "integer", "logicalTypeOptions": {"minimum": 5, "maximum": 2}}],
            (0, "logicalTypeOptions"),
            "allow nothing: at least 5 and at most 2",
        ),
    ],
)
def test_a_wrong_property_is_refused_at_its_place(properties: Any, path: tuple[str | int, ...], what: str) -> None:
    with pytest.raises(SchemaError, match=what) as caught:
        compile_object("row", properties)
    assert caught.value.path == path
