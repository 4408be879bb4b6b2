"""Jinja templates over the rows of a suite: what they print, and the value behind them where it has a type."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jinja2

from data_contracts.errors import EvaluationError

_ONE_EXPRESSION = re.compile(r"\s*\{\{(.*)\}\}\s*", re.DOTALL)


class NullValueError(jinja2.TemplateError):
    """A template would print a null as the word None."""


def _no_null(value: Any) -> Any:
    if value is None:
        raise NullValueError("a value is null and would be printed as the word None")
    return value


_ENVIRONMENT = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=True, finalize=_no_null)


@lru_cache(maxsize=256)
def _compile(template: str) -> jinja2.Template:
    return _ENVIRONMENT.from_string(template)


@lru_cache(maxsize=256)
def _expression(template: str) -> Any:
    """The compiled expression of a template that is one `{{ expression }}`; None for any other template."""
    found = _ONE_EXPRESSION.fullmatch(template)
    try:
        return _ENVIRONMENT.compile_expression(found.group(1), undefined_to_none=False) if found else None
    except jinja2.TemplateSyntaxError:  # two expressions with text between them
        return None


def render(template: str, row: Mapping[str, Any], where: str) -> str:
    """The text of a template over a row. Raises EvaluationError where the row does not fit it."""
    try:
        return _compile(template).render(**row)
    except (jinja2.TemplateError, TypeError) as error:
        raise EvaluationError(where, f"does not fit the template {template!r}: {error}", f"the row has {sorted(row)}") from error


def value_of(template: str, row: Mapping[str, Any], where: str) -> tuple[Any, bool]:
    """(value of a template over a row, whether its type is known): that of a single `{{ expression }}` is, any other text's is not."""
    expression = _expression(template)
    if expression is None:
        return render(template, row, where), False
    try:
        value = expression(**row)
    except (jinja2.TemplateError, TypeError) as error:
        raise EvaluationError(where, f"does not fit the template {template!r}: {error}", f"the row has {sorted(row)}") from error
    if isinstance(value, jinja2.Undefined):
        raise EvaluationError(where, f"does not fit the template {template!r}: it is not there", f"the row has {sorted(row)}")
    return value, True


@lru_cache(maxsize=256)
def condition(expression: str) -> Any:
    """A suite's `where`, compiled once and applied to each row."""
    return _ENVIRONMENT.compile_expression(expression)
