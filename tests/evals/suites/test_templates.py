"""Templates over rows: what they print, the type behind a single expression, and errors that name the row's fields."""

from __future__ import annotations

from typing import Any

import pytest

from data_contracts.errors import EvaluationError
from evals.suites.templates import condition, render, value_of

ROW = {"q": "two?", "n": 2, "safe": False, "gone": None, "html": "<b>"}


@pytest.mark.parametrize(
    ("template", "value", "typed"),
    [
        ("{{ n }}", 2, True),
        (" {{ n + 1 }} ", 3, True),
        ("{{ 'yes' if safe else 'no' }}", "no", True),
        ("{{ n }}.", "2.", False),
        ("{{ q }} {{ n }}", "two? 2", False),
        ("plain", "plain", False),
        ("{{ gone }}", None, True),
    ],
)
def test_only_a_single_expression_has_a_type(template: str, value: Any, typed: bool) -> None:
    assert value_of(template, ROW, "row") == (value, typed)


def test_text_is_printed_as_it_is() -> None:
    assert render("{{ html }}\n", ROW, "row") == "<b>\n"


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ absent }} x", "'absent' is undefined"),
        ("{{ gone }} x", "a value is null and would be printed as the word None"),
        ("{{ n + q }} x", "unsupported operand"),
        ("{% if %}", "does not fit the template"),
    ],
)
def test_a_row_that_does_not_fit_is_named_with_its_fields(template: str, reason: str) -> None:
    with pytest.raises(EvaluationError, match=reason) as caught:
        render(template, ROW, "s.jsonl:3")
    assert caught.value.where == "s.jsonl:3"
    assert "'gone', 'html', 'n', 'q', 'safe'" in caught.value.way_out


@pytest.mark.parametrize(("template", "reason"), [("{{ absent }}", "it is not there"), ("{{ n + q }}", "unsupported operand")])
def test_an_expression_without_a_value_is_an_error_too(template: str, reason: str) -> None:
    with pytest.raises(EvaluationError, match=reason):
        value_of(template, ROW, "row")


def test_a_condition_keeps_rows() -> None:
    assert condition("n > 1 and not safe")(**ROW)
    assert not condition("safe")(**ROW)
