"""A row of any kind as what a chat template takes: messages in the form that templates are written for, tools, and what is learned.

OpenAI's spelling and Hugging Face's differ in small things that change the text: arguments as JSON text, content that is null, text in
parts. They are brought to the form that templates expect, once, here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data_contracts.errors import RenderingError

Message = dict[str, Any]
#: Names under which a turn carries its reasoning; templates read one of them.
REASONING = ("reasoning_content", "reasoning", "thinking")


@dataclass(frozen=True)
class Chat:
    """messages: as the template takes them. learned: for each turn, whether it is an answer that counts in the loss."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] | None
    learned: tuple[bool, ...]
    unmask: bool


def chat_of(row: Mapping[str, Any], origin: str, *, unmask: bool = False) -> Chat | None:
    """The conversation of a row, or None for documents and token ids. Raises RenderingError for one that no template could take."""
    messages = row.get("messages")
    if messages is None and isinstance(row.get("prompt"), str) and isinstance(row.get("completion"), str):
        messages = [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["completion"]}]
    if messages is None:
        return None
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        raise RenderingError(origin, "messages is not a list of turns", "validate the drop first")
    plain = tuple(_message(message, f"{origin} messages[{index}]") for index, message in enumerate(messages))
    learned = tuple(_is_learned(message, f"{origin} messages[{index}]") for index, message in enumerate(messages))
    own = row.get("unmask")
    return Chat(plain, tools_of(row, origin), learned, unmask if own is None else bool(own))


def _message(message: Any, where: str) -> Message:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise RenderingError(where, "is not a turn with a role", "validate the drop first")
    made = {name: value for name, value in message.items() if value is not None and name != "weight"}
    if isinstance(made.get("content"), list):
        made["content"] = "".join(_part_text(part, where) for part in made["content"])
    if "tool_calls" in made:
        made["tool_calls"] = [_call(call, f"{where}.tool_calls[{index}]") for index, call in enumerate(made["tool_calls"])]
        if not made["tool_calls"]:
            del made["tool_calls"]
    return made


def _part_text(part: Any, where: str) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping) and part.get("type", "text") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
    raise RenderingError(where, f"has content of the type {kind!r}", 'give text: {"type": "text", "text": "..."} or a string')


def _call(call: Any, where: str) -> Any:
    """A call with its arguments as the object that they are: templates print them as JSON, and would print text as a JSON string."""
    function = call.get("function") if isinstance(call, Mapping) else None
    target = function if isinstance(function, Mapping) else call
    if not isinstance(target, Mapping) or not isinstance(target.get("name"), str):
        raise RenderingError(where, "is not a call with a name", 'give {"type": "function", "function": {"name", "arguments"}}')
    made = dict(target)
    if isinstance(made.get("arguments"), str):
        made["arguments"] = _decoded(made["arguments"], where)
    return {**call, "function": made} if target is function else made


def _decoded(text: str, where: str) -> Any:
    try:
        return json.loads(text) if text.strip() else {}
    except json.JSONDecodeError as error:
        raise RenderingError(where, f"has arguments that are not JSON: {error.msg}", "give a JSON object, or its text") from error


def tools_of(row: Mapping[str, Any], origin: str) -> tuple[Mapping[str, Any], ...] | None:
    """The tools of a row as objects, or None. Raises RenderingError for what is no list of them."""
    tools = row.get("tools")
    if isinstance(tools, str):  # a table without nested columns
        tools = _decoded(tools, f"{origin} tools")
    if not tools:
        return None
    if not isinstance(tools, list) or not all(isinstance(tool, Mapping) for tool in tools):
        raise RenderingError(f"{origin} tools", "is not a list of objects", "give the tools as JSON schemas, one object each")
    return tuple(tools)


def _is_learned(message: Mapping[str, Any], where: str) -> bool:
    weight = message.get("weight")
    if weight not in (None, 0, 1):
        raise RenderingError(where, f"has the weight {weight!r}", "give 1 (learned) or 0 (context only), or leave it out")
    return message["role"] == "assistant" and weight != 0
