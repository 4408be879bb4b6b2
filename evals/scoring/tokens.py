"""Text to token ids as lm-eval's HFLM does it, many texts at a time: for plain prompts and for lm-eval's own tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lm_eval.models.utils import has_bos_prefix

Pair = tuple[list[int], list[int]]  # (tokens of a context, tokens of what follows it)


class PlainTokens:
    """`add_bos` is lm-eval's add_bos_token (None: as the tokenizer does); `prefix_id` stands before a text without context."""

    def __init__(self, tokenizer: Any, *, add_bos: bool | None, prefix_id: int) -> None:
        self._tokenizer, self._add_bos, self._prefix_id = tokenizer, add_bos, prefix_id

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """`tok_encode` of many texts at once; a text that starts with BOS does not get a second one."""
        if not texts:
            return []
        prefix = self._tokenizer.decode(self._prefix_id)
        special = {} if self._add_bos is None else {"add_special_tokens": self._add_bos}
        encoded: list[list[int]] = self._tokenizer(list(texts), **special)["input_ids"]
        for number, text in enumerate(texts):
            if has_bos_prefix(text, prefix):
                encoded[number] = self.bare(text)
        return encoded

    def bare(self, text: str) -> list[int]:
        """A text without any token of the tokenizer's own."""
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def encode_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[Pair]:
        """`_encode_pair` of many pairs: space at the end of a context belongs to the continuation; split after joint encoding."""
        stripped = [context.rstrip() for context, _ in pairs]
        wholes = self.encode([context + continuation for context, continuation in pairs])
        unique = list(dict.fromkeys(stripped))
        codes = dict(zip(unique, self.encode(unique), strict=True))
        encoded: list[Pair] = []
        for (context, continuation), bare, whole in zip(pairs, stripped, wholes, strict=True):
            if context:
                encoded.append((codes[bare], whole[len(codes[bare]) :]))
            else:
                alone = self.bare(continuation)
                encoded.append(([self._prefix_id], alone) if self._prefix_id != alone[0] else (alone[:1], alone[1:]))
        return encoded
