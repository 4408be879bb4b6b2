"""Text to token ids where a text is a context and what follows it.

The context is tokenised by itself, because that is how a model is prompted. What follows is cut from the tokens of both together where the
context's tokens begin them; where a token would reach over the boundary, it is tokenised behind a short text that it does not merge with.
"""

from __future__ import annotations

from typing import Any

Ids = tuple[int, ...]
#: Texts that end in a way few tokenizers merge across; the first that does not merge with the continuation is used.
_ANCHORS = ("\n", "a", ".", "0", "a ")


def encode(tokenizer: Any, text: str) -> Ids:
    """Ids of a text in which the special tokens are already spelled."""
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else ()


def encode_after(tokenizer: Any, context: str, context_ids: Ids, text: str) -> Ids:
    """Ids of `text` as it stands after `context`, whose ids are given: context_ids + these are what the model reads."""
    if not text:
        return ()
    joint = encode(tokenizer, context + text)
    if joint[: len(context_ids)] == context_ids:
        return joint[len(context_ids) :]
    for anchor in _ANCHORS:
        alone, together = encode(tokenizer, anchor), encode(tokenizer, anchor + text)
        if together[: len(alone)] == alone:
            return together[len(alone) :]
    return encode(tokenizer, text)
