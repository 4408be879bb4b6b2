"""A chat template with its variables, as one thing that prints: the only place where a template is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from data_contracts.errors import RenderingError
from data_contracts.rendering.bounded import TooSlowError, time_limit
from data_contracts.rendering.chat import Message

SECONDS = 10.0  # a conversation is printed in well under a millisecond
_LARGEST, _GROWTH = 4_000_000, 100  # characters; a template that prints both more than this and so many times its input runs away
_WAY_OUT = "correct the row, or give another train.chat_template or train.chat_template_kwargs"


class ChatTemplate:
    """Prints conversations. `override` replaces the tokenizer's own template; `kwargs` are further variables of the template."""

    def __init__(self, tokenizer: Any, override: str | None = None, kwargs: Mapping[str, Any] | None = None) -> None:
        self._tokenizer, self._override, self._kwargs = tokenizer, override, dict(kwargs or {})

    @property
    def exists(self) -> bool:
        return bool(self._override or getattr(self._tokenizer, "chat_template", None))

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


def _with_content(message: Message) -> Message:
    """A call without content, for templates that concatenate the content of every turn."""
    return {**message, "content": ""} if "content" not in message and message.get("tool_calls") else message


def _in_a_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
