"""A chat template with its variables, as one thing that prints: the only place where a template is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from data_contracts.errors import RenderingError
from data_contracts.rendering.bounded import TooSlowError, time_limit
from data_contracts.rendering.chat import Message

SECONDS = 10.0  # a conversation is printed in well under a millisecond
_LARGEST, _GROWTH = 4_000_000, 100  # characters; a template that prints both more than this and so many times its input runs away
#: What a template prints as today's date (that of Meta's own templates where they are given none). With the true one, next month's
#: candidate would be asked other questions than the champion was, and answer in another context than it was trained in.
TODAY = datetime(2024, 7, 26)
_CLOCK = "strftime_now"  # the only way by which transformers lets a template read the time
_WAY_OUT = "correct the row, or give another train.chat_template or train.chat_template_kwargs"


class ChatTemplate:
    """Prints conversations. `override` replaces the tokenizer's own template; `kwargs` are further variables of the template."""

    def __init__(self, tokenizer: Any, override: str | None = None, kwargs: Mapping[str, Any] | None = None) -> None:
        self._tokenizer, self._override, self._kwargs = tokenizer, override, dict(kwargs or {})

    @property
    def exists(self) -> bool:
        return bool(self._override or getattr(self._tokenizer, "chat_template", None))

    @property
    def reads_the_date(self) -> bool:
        """Whether it can print today's date, in whose place it is given TODAY."""
        return _CLOCK in str(self._override or getattr(self._tokenizer, "chat_template", None))

    def text(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None = None, *, prompt: bool = False) -> str:
        """The conversation as the model reads it; with `prompt`, up to where it is to answer.

        Raises RenderingError where the template refuses it, loops or runs away.
        """
        try:
            printed = self._print(messages, tools, prompt)
        except TooSlowError as error:
            raise RenderingError(
                "", f"the chat template ran for more than {SECONDS:g} seconds", "give another train.chat_template"
            ) from error
        except Exception as error:  # a template raises what its author chose
            filled = [_with_content(message) for message in messages]
            if filled == list(messages):
                raise RenderingError("", f"the chat template refuses it: {_in_a_line(error)}", _WAY_OUT) from error
            return self.text(filled, tools, prompt=prompt)
        if len(printed) > _LARGEST and len(printed) > _GROWTH * len(str(messages) + str(tools)):
            raise RenderingError("", f"the chat template prints {len(printed)} characters for it", "give another train.chat_template")
        return printed

    def _print(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None, prompt: bool) -> str:
        chosen = {} if self._override is None else {"chat_template": self._override}
        if self.reads_the_date:
            chosen["chat_template"] = _STOPPED_CLOCK + self._tokenizer.get_chat_template(self._override, tools)
        with time_limit(SECONDS):
            return str(
                self._tokenizer.apply_chat_template(
                    list(messages),
                    tools=None if tools is None else list(tools),
                    tokenize=False,
                    add_generation_prompt=prompt,
                    **chosen,
                    **self._kwargs,
                )
            )


def _stopped_clock() -> str:
    """A macro that takes the clock's place: transformers hands no functions to templates. Its line leaves no trace in what is printed."""
    codes = [f"%{letter}" for letter in "aAbBcdHIjmMpSUwWxXyY"]
    spelled = {code: TODAY.strftime(code) for code in codes}
    spelled |= {f"%-{code[1]}": text.lstrip("0") or "0" for code, text in spelled.items() if text.isdigit()}
    filters = "".join(f"|replace({code!r}, {text!r})" for code, text in spelled.items())
    return f"{{% macro {_CLOCK}(format) %}}{{{{ format{filters} }}}}{{% endmacro %}}\n"


_STOPPED_CLOCK = _stopped_clock()


def _with_content(message: Message) -> Message:
    """A call without content, for templates that concatenate the content of every turn."""
    return {**message, "content": ""} if "content" not in message and message.get("tool_calls") else message


def _in_a_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
