"""JSONL rows to token ids with a loss mask: the assistant's tokens only, found by rendering the chat template, for any template.

No template needs to mark its generations. The conversation is rendered up to each assistant turn and including it; where a template
rewrites earlier turns (so that neither is a prefix of the whole), the turn is found by rendering it again with a marker as its content.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_contracts.errors import DropError, TrainingError
from data_contracts.jsonl import read_objects

_MARKER = "\u2402skillstack-turn\u2403"


@dataclass(frozen=True)
class Example:
    """One training example. learn[i] says whether predicting ids[i] counts in the loss (learn[0] never does)."""

    ids: tuple[int, ...]
    learn: tuple[bool, ...]
    origin: str

    @property
    def loss_tokens(self) -> int:
        return sum(self.learn)


@dataclass(frozen=True)
class ExampleSet:
    """What a file gave, and what was left out of it."""

    examples: tuple[Example, ...]
    dropped_too_long: int
    dropped_without_loss: int

    @property
    def mean_tokens(self) -> float:
        return sum(len(example.ids) for example in self.examples) / max(1, len(self.examples))


def assistant_spans(tokenizer: Any, messages: Sequence[Mapping[str, Any]], text: str) -> list[tuple[int, int]]:
    """Character ranges of `text` (the rendered conversation) that the assistant wrote, its end-of-turn token included."""
    spans: list[tuple[int, int]] = []
    cursor = 0
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        span = _span_by_prefix(tokenizer, messages, index, text) or _span_by_marker(tokenizer, messages, index, text)
        if span is None or span[0] < cursor:
            raise TrainingError(
                f"messages[{index}]", "cannot be found in the rendered chat template", "give a chat_template that prints every turn once"
            )
        spans.append(span)
        cursor = span[1]
    return spans


def _render(tokenizer: Any, messages: Sequence[Mapping[str, Any]], *, prompt: bool = False) -> str:
    return str(tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=prompt))


def _span_by_prefix(tokenizer: Any, messages: Sequence[Mapping[str, Any]], index: int, text: str) -> tuple[int, int] | None:
    before = _render(tokenizer, messages[:index], prompt=True)
    through = _render(tokenizer, messages[: index + 1])
    if not (through.startswith(before) and text.startswith(through)):
        return None
    return len(before), _end_of_turn(tokenizer, through, len(before), str(messages[index]["content"]))


def _span_by_marker(tokenizer: Any, messages: Sequence[Mapping[str, Any]], index: int, text: str) -> tuple[int, int] | None:
    marked = [dict(message) for message in messages]
    marked[index]["content"] = _MARKER
    head, found, tail = _render(tokenizer, marked).partition(_MARKER)
    if not found or not text.startswith(head) or not text.endswith(tail) or len(head) + len(tail) > len(text):
        return None
    content_end = len(text) - len(tail)
    following = _render(tokenizer, marked[: index + 1]).partition(_MARKER)[2]
    closing = following if tail.startswith(following) else ""
    return len(head), _end_of_turn(tokenizer, text[:content_end] + closing, content_end, "")


def _end_of_turn(tokenizer: Any, through: str, start: int, content: str) -> int:
    """Where a turn that ends with `through` stops counting: after its first special token, so that a line break after it does not count."""
    after_content = through.find(content.strip(), start) + len(content.strip()) if content.strip() else start
    after_content = max(after_content, start)
    closings = [(through.find(token, after_content), token) for token in tokenizer.all_special_tokens]
    found = [at + len(token) for at, token in closings if at >= 0]
    return min(found, default=len(through))


def encode_chat(tokenizer: Any, messages: Sequence[Mapping[str, Any]], origin: str, *, unmask: bool = False) -> Example:
    """Tokenise a conversation once, as a whole, and mark the assistant's tokens by their character offsets."""
    try:
        text = _render(tokenizer, messages)
        spans = [(0, len(text))] if unmask else assistant_spans(tokenizer, messages, text)
    except TrainingError as error:
        raise TrainingError(f"{origin} {error.where}", error.what, error.way_out) from error
    except Exception as error:  # templates raise jinja2 errors of many types for roles or orders they refuse
        raise TrainingError(
            origin, f"the chat template refuses this conversation: {error}", "mend the row or give another chat_template"
        ) from error
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    learn = [any(low <= start < high for low, high in spans) and end > start for start, end in encoded["offset_mapping"]]
    return _example(encoded["input_ids"], learn, origin)


def encode_document(tokenizer: Any, text: str, origin: str, max_tokens: int) -> list[Example]:
    """Plain text counts in every token; a long document becomes several examples, none of them cut away."""
    ids = list(tokenizer(text)["input_ids"])
    if tokenizer.eos_token_id is not None and (not ids or ids[-1] != tokenizer.eos_token_id):
        ids.append(tokenizer.eos_token_id)
    pieces = [ids[start : start + max_tokens] for start in range(0, len(ids), max_tokens)]
    return [_example(piece, [True] * len(piece), origin) for piece in pieces]


def _example(ids: Sequence[int], learn: Sequence[bool], origin: str) -> Example:
    return Example(tuple(ids), (False, *learn[1:]) if learn else (), origin)


def encode_row(tokenizer: Any, row: Mapping[str, Any], origin: str, *, unmask: bool, max_tokens: int) -> list[Example]:
    """One row: a conversation, a document, or token ids with labels (-100 where nothing is learned).

    Raises DropError for any other shape.
    """
    if isinstance(row.get("messages"), list):
        return [encode_chat(tokenizer, row["messages"], origin, unmask=unmask)]
    if isinstance(row.get("text"), str):
        return encode_document(tokenizer, row["text"], origin, max_tokens)
    if isinstance(row.get("input_ids"), list) and len(row["input_ids"]) == len(row.get("labels", ())):
        return [_example(row["input_ids"], [label != -100 for label in row["labels"]], origin)]
    raise DropError(origin, "has neither 'messages' nor 'text'", "validate the drop first")


def load_examples(path: Path, tokenizer: Any, *, max_tokens: int, unmask: bool = False) -> ExampleSet:
    """Tokenise a JSONL file. Examples over `max_tokens` and examples without a token to learn are left out and counted.

    Raises TrainingError where nothing is left to train on.
    """
    kept: list[Example] = []
    too_long = without_loss = 0
    for origin, row in read_objects(path):
        for example in encode_row(tokenizer, row, origin, unmask=unmask, max_tokens=max_tokens):
            if len(example.ids) > max_tokens:
                too_long += 1
            elif example.loss_tokens == 0:
                without_loss += 1
            else:
                kept.append(example)
    if not kept:
        what = (
            f"nothing to train on: {too_long} examples are longer than {max_tokens} tokens, {without_loss} have no token of the assistant's"
        )
        raise TrainingError(str(path), what, "raise max_seq_len, or check that the rows have assistant messages")
    return ExampleSet(tuple(kept), too_long, without_loss)


def require_chat_template(tokenizer: Any, override: str | None, where: str) -> None:
    """Install the override, if any. Raises TrainingError where the tokenizer ends up without a template."""
    if override is not None:
        tokenizer.chat_template = override
    if not tokenizer.chat_template:
        raise TrainingError(where, "its tokenizer has no chat template", "set train.chat_template, or train on documents ({'text'})")
