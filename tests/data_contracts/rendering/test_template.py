"""A template prints what transformers prints with the same variables; one that fails, loops or runs away is one line."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
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


def test_a_template_that_prints_todays_date_prints_the_same_on_every_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the questions of two rounds, and the two ends of a training over midnight, would be other texts."""
    import transformers.utils.chat_template_utils as printing
    from tokenizers import Tokenizer as Backend
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Clock:
            return cls(2031, 5, 17, 8, 30)

    monkeypatch.setattr(printing, "datetime", Clock)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Backend(WordLevel({"a": 0}, unk_token="a")))
    format = "%A, %-d %B %Y (%d %b %y, %m/%d, day %j) %H:%M"
    then, now = "Friday, 26 July 2024 (26 Jul 24, 07/26, day 208) 00:00", "Saturday, 17 May 2031 (17 May 31, 05/17, day 137) 08:30"
    # With white space that trim_blocks and lstrip_blocks would take at the beginning of a template.
    turns = "{% for m in messages %}{{ m.content }}{% endfor %}"
    dated = f"\n  {{% if strftime_now is defined %}}{{{{ strftime_now('{format}') }}}}{{% endif %}} {turns}"
    for own, other in ((dated, None), ({"default": dated, "tool_use": "tools"}, None), ("plain", dated)):
        tokenizer.chat_template = own
        printed = tokenizer.apply_chat_template(TURNS, tokenize=False, chat_template=other)
        assert now in printed
        assert ChatTemplate(tokenizer, other).text(TURNS) == printed.replace(now, then)
        assert ChatTemplate(tokenizer, other).reads_the_date
    tokenizer.chat_template = {"default": dated, "tool_use": "tools"}
    assert ChatTemplate(tokenizer).text(TURNS, [{"name": "f"}]) == "tools"
    assert not ChatTemplate(tokenizer, "plain").reads_the_date


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
