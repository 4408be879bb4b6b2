"""What is right in a row of a suite: a JSON text is a text, a JSON integer is the index of a choice.

A row's `"4"` is the choice that reads 4, its `4` the fifth choice, whatever the choices look like. The same holds for a `gold` template
that is one `{{ expression }}`; where a template prints its answer in any other way the type is not known, and a number that could mean
both is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from data_contracts.errors import EvaluationError
from evals.suites.templates import value_of


def gold_value(template: str, row: Mapping[str, Any], where: str) -> tuple[Any, bool]:
    """(the right answer as the row or the suite's template gives it, whether its type is known)."""
    if template:
        return value_of(template, row, where)
    value = row["gold"] if row.get("gold") is not None else row.get("answer", "")
    return value, True


def choice_texts(choices: object, where: str) -> tuple[str, ...]:
    """The choices of a row as texts. Raises EvaluationError where they are none that a model could answer."""
    if not isinstance(choices, (list, tuple)):
        raise EvaluationError(where, f"has choices that are no list: {str(choices)[:60]!r}", "give the choices as a list of texts")
    texts = tuple(str(choice) if _is_number(choice) else choice for choice in choices)
    if not all(isinstance(text, str) for text in texts):
        raise EvaluationError(where, f"has the choices {list(choices)}", "write every choice as text")
    if len(texts) < 2 or len(set(texts)) != len(texts) or not all(texts):
        raise EvaluationError(where, f"has the choices {list(choices)}", "give at least two choices, all different, none empty")
    return texts


def gold_index(choices: Sequence[str], gold: Any, where: str, *, typed: bool, numbered: bool = False) -> int:
    """Position of the right choice. `typed`: the type of `gold` is known; `numbered`: the row wrote its choices as numbers."""
    if _is_number(gold) and numbered:
        raise EvaluationError(where, f"gold {gold} may be a choice or its index: the choices are numbers", "write the choices as texts")
    as_text = list(choices).index(gold) if isinstance(gold, str) and gold in choices else None
    as_index = _as_index(gold, len(choices), typed=typed)
    if as_text is not None and as_index is not None and as_text != as_index:
        what = f"gold {gold!r} is the choice {as_text} and the index of another"
        raise EvaluationError(where, what, "write the gold template as one {{ expression }}: a text is a choice, a number is an index")
    found = as_text if as_text is not None else as_index
    if found is None:
        way_out = "gold is the text of the right choice, or its index as a JSON integer"
        raise EvaluationError(where, f"gold {gold!r} is not one of the {len(choices)} choices", way_out)
    return found


def _as_index(gold: Any, choices: int, *, typed: bool) -> int | None:
    if isinstance(gold, str) and not typed and gold.strip().isdecimal():
        gold = int(gold)
    known = isinstance(gold, int) and not isinstance(gold, bool) and 0 <= gold < choices
    return gold if known else None


def answer_text(gold: Any, where: str) -> str:
    """The right answer of a row without choices. Raises EvaluationError for what is no text and no number."""
    if gold is not None and not isinstance(gold, str) and not _is_number(gold):
        raise EvaluationError(where, f"has the answer {str(gold)[:60]}, of the type {type(gold).__name__}", "write the answer as one text")
    text = "" if gold is None else str(gold)
    if not text.strip():
        raise EvaluationError(where, "has no answer", 'add "answer", or a last assistant turn')
    return text


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
