"""A chat template that carries its own variables, so that every program that loads the saved model renders the prompts that it learned."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from data_contracts.errors import ConfigError

# One line for all variables, so that a later round finds and replaces it.
_OPEN, _CLOSE = "{#- chat_template_kwargs -#}", "{#- end of chat_template_kwargs -#}"
_BAKED = re.compile(re.escape(_OPEN) + r".*?" + re.escape(_CLOSE), re.DOTALL)
_NAME = re.compile(r"[A-Za-z_]\w*")
#: What apply_chat_template takes for itself.
RESERVED = frozenset({
    "messages", "conversation", "tools", "documents", "chat_template", "add_generation_prompt", "continue_final_message", "tokenize",
    "padding", "truncation", "max_length", "return_tensors", "return_dict", "return_assistant_tokens_mask", "tokenizer_kwargs",
    "sanitize_control_tokens",
})  # fmt: skip


def with_variables(template: str, variables: Mapping[str, Any]) -> str:
    """The template with these variables as its defaults, which a caller may override. Those that it carried before are replaced."""
    plain = _BAKED.sub("", template)
    if not variables:
        return template
    defaults = "".join(
        f"{{%- if {name} is not defined -%}}{{%- set {name} = {_literal(value)} -%}}{{%- endif -%}}"
        for name, value in sorted(variables.items())
    )
    return f"{_OPEN}{defaults}{_CLOSE}{plain}"


def check_variables(variables: Mapping[str, Any]) -> None:
    """Raises ConfigError for a name that is no variable of a template, or a value that JSON cannot hold."""
    for name, value in variables.items():
        where = f"chat_template_kwargs.{name}"
        if not _NAME.fullmatch(name) or name in RESERVED:
            raise ConfigError(where, "is not a variable of a chat template", "give names such as enable_thinking")
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ConfigError(where, f"is {value!r}, which JSON cannot hold", "give text, numbers, true or false") from error


def _literal(value: Any) -> str:
    """A JSON value as Jinja spells it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_literal(str(key))}: {_literal(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_literal(each) for each in value) + "]"
    if isinstance(value, str):
        return "'" + "".join(_ESCAPED.get(char, char) for char in value) + "'"
    return {True: "true", False: "false", None: "none"}[value] if value is None or isinstance(value, bool) else repr(value)


_ESCAPED = {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
