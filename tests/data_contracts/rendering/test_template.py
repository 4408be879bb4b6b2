"""A template prints what transformers prints with the same variables; one that fails, loops or runs away is one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from data_contracts.errors import RenderingError
from data_contracts.rendering import template as module
from data_contracts.rendering.template import ChatTemplate

TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]


class Tokenizer:
    """Stands in for a tokenizer whose template is a Python function."""

    chat_template = "set"

    def __init__(self, prints: Callable[..., str]) -> None:
        self.prints = prints

    def apply_chat_template(self, messages: Any, **given: Any) -> str:
        return self.prints(messages, **given)


def test_the_tokenizer_gets_the_variables_the_override_and_the_tools() -> None:
    seen: list[dict[str, Any]] = []

    def prints(messages: Any, **given: Any) -> str:
        seen.append(given)
        return "printed"

    own, other = ChatTemplate(Tokenizer(prints)), ChatTemplate(Tokenizer(prints), "other", {"thinking": False})
    assert own.text(TURNS) == other.text(TURNS, ({"name": "f"},), prompt=True) == "printed"
    assert seen[0] == {"tools": None, "tokenize": False, "add_generation_prompt": False}
    expected = {"chat_template": "other", "thinking": False, "tools": [{"name": "f"}], "tokenize": False, "add_generation_prompt": True}
    assert seen[1] == expected


def test_a_tokenizer_without_a_template_has_one_only_where_it_is_given() -> None:
    assert not ChatTemplate(object()).exists
    assert ChatTemplate(object(), "given").exists
    assert ChatTemplate(Tokenizer(str)).exists


def test_what_the_template_raises_is_one_short_line() -> None:
    def fails(messages: Any, **given: Any) -> str:
        raise KeyError("first line " + "x" * 500 + "\nsecond line")

    with pytest.raises(RenderingError, match="the chat template refuses it") as caught:
        ChatTemplate(Tokenizer(fails)).text(TURNS)
    assert len(caught.value.what) < 300
    assert "\n" not in str(caught.value)


def test_only_a_call_without_content_is_tried_again_with_an_empty_one() -> None:
    def joins(messages: Any, **given: Any) -> str:
        return "".join(turn["content"] for turn in messages)

    template = ChatTemplate(Tokenizer(joins))
    assert template.text([TURNS[0], {"role": "assistant", "tool_calls": [{"name": "f"}]}]) == "q"
    with pytest.raises(RenderingError):
        template.text([TURNS[0], {"role": "assistant"}])


def test_a_template_that_grows_without_bound_is_refused_and_a_long_row_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LARGEST", 1000)
    grows = ChatTemplate(Tokenizer(lambda messages, **given: "x" * 20_000))
    with pytest.raises(RenderingError, match="prints 20000 characters"):
        grows.text(TURNS)
    assert len(grows.text([{"role": "user", "content": "q" * 400}])) == 20_000, "50 times its input is no runaway"
