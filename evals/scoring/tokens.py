"""Text to token ids, many texts at a time: for plain prompts and for lm-eval's own tasks.

As lm-eval's HFLM does it, but for two of its slips: a tokenizer that ends every text with a token of its own does not end a context here,
and where a context and what follows it merge into one token, that token is scored.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from lm_eval.models.utils import has_bos_prefix

Pair = tuple[list[int], list[int]]  # (tokens of a context, tokens of what follows it)


class PlainTokens:
    """`add_bos` is lm-eval's add_bos_token (None: as the tokenizer does); `prefix_id` stands before a text without context."""

    def __init__(self, tokenizer: Any, *, add_bos: bool | None, prefix_id: int) -> None:
        self._tokenizer, self._prefix_id = tokenizer, prefix_id
        self._front = _front(tokenizer, {} if add_bos is None else {"add_special_tokens": add_bos})

    @property
    def start(self) -> list[int]:
        """What a text without context is read after."""
        return self._front or [self._prefix_id]

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Contexts, behind what the tokenizer puts in front of a text; one that starts with BOS does not get a second one."""
        prefix = self._tokenizer.decode(self._prefix_id)
        encoded = self._tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
        return [ids if has_bos_prefix(text, prefix) else [*self._front, *ids] for text, ids in zip(texts, encoded, strict=True)]

    def bare(self, text: str) -> list[int]:
        """A text without any token of the tokenizer's own."""
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def measured(self, text: str) -> list[int]:
        """The tokens of a text that are measured after `start`: where it begins with BOS itself, those behind it."""
        ids = self.bare(text)
        return ids[1:] if ids[:1] == [self._prefix_id] else ids

    def encode_pairs(self, pairs: Sequence[tuple[str, str]], items: Sequence[Hashable] | None = None) -> list[Pair]:
        """Each pair is encoded as one text, and split behind the tokens that its context has alone too. Space at the end of a context is
        the continuation's.

        `items` says whose each pair is: those of one item and context are split at one place, as a token more makes a choice less likely.
        Without it each pair is split by itself.
        """
        contexts = [context.rstrip() for context, _ in pairs]
        unique = list(dict.fromkeys(contexts))
        codes = dict(zip(unique, self.encode(unique), strict=True))
        wholes = self.encode([context + continuation for context, continuation in pairs])
        places = [_in_common(codes[context], whole) for context, whole in zip(contexts, wholes, strict=True)]
        if items is not None:
            places = _lowest(places, [*zip(contexts, items, strict=True)])
        # Nothing in common at all: the prefix is the context, and then of every pair of that context, or they could not be compared.
        lost = {context for context, place in zip(contexts, places, strict=True) if not place}
        return [self._split(whole, 0 if context in lost else place) for context, whole, place in zip(contexts, wholes, places, strict=True)]

    def _split(self, whole: list[int], place: int) -> Pair:
        if not place and whole[:1] != [self._prefix_id]:
            return [self._prefix_id], whole
        return whole[: max(place, 1)], whole[max(place, 1) :]


def _front(tokenizer: Any, settings: dict[str, bool]) -> list[int]:
    """The tokens that a tokenizer puts before a text; what it puts behind one ends it, and nothing follows an end."""
    whole, bare = (list(tokenizer("a", **chosen)["input_ids"]) for chosen in (settings, {"add_special_tokens": False}))
    places = (at for at in range(len(whole)) if bare and whole[at : at + len(bare)] == bare)
    return whole[: next(places, 0)]


def _in_common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many first tokens are the same."""
    return next((at for at, (mine, theirs) in enumerate(zip(one, other, strict=False)) if mine != theirs), min(len(one), len(other)))


def _lowest(places: Sequence[int], owners: Sequence[Hashable]) -> list[int]:
    """Of each owner's places the lowest, for all of them."""
    lowest: dict[Hashable, int] = {}
    for owner, place in zip(owners, places, strict=True):
        lowest[owner] = min(place, lowest.get(owner, place))
    return [lowest[owner] for owner in owners]
