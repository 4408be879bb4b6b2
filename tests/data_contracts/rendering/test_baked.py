"""A saved template carries its variables: a plain call prints what was trained, and a caller may still choose otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from data_contracts.errors import ConfigError
from data_contracts.rendering.baked import check_variables, with_variables

MESSAGES = [{"role": "user", "content": "Hello there."}]


def _print(tokenizer: Any, template: str, **variables: Any) -> str:
    return str(tokenizer.apply_chat_template(MESSAGES, chat_template=template, tokenize=False, add_generation_prompt=True, **variables))


def test_a_plain_call_prints_what_the_variables_gave(made: Callable[[str], Any]) -> None:
    tokenizer = made("qwen3")
    baked = with_variables(tokenizer.chat_template, {"enable_thinking": False})
    assert _print(tokenizer, baked) == _print(tokenizer, tokenizer.chat_template, enable_thinking=False)
    assert _print(tokenizer, baked, enable_thinking=True) == _print(tokenizer, tokenizer.chat_template, enable_thinking=True)
    again = with_variables(baked, {"enable_thinking": False})
    assert again == baked
    assert _print(tokenizer, with_variables(baked, {"enable_thinking": True})) == _print(tokenizer, tokenizer.chat_template)


def test_every_json_value_is_spelled_as_jinja_reads_it(made: Callable[[str], Any]) -> None:
    values = {"a": True, "b": None, "c": 1.5, "d": "it's \\ \n x", "e": [1, "two", False], "f": {"k": [None, "v"]}, "g": "{{ x }}"}
    template = "".join(f"{{{{ {name} | tojson }}}};" for name in values)
    tokenizer = made("chatml")
    assert _print(tokenizer, with_variables(template, values)) == _print(tokenizer, template, **values)


@pytest.mark.parametrize("variables", [{"messages": []}, {"add_generation_prompt": True}, {"a b": 1}, {"x": float("nan")}, {"x": {1, 2}}])
def test_what_is_no_variable_is_refused(variables: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"chat_template_kwargs\."):
        check_variables(variables)
