"""Answers in tokens, put together to the examples that training reads.

Where the template prints a conversation so that each answer follows exactly the tokens of its prompt, one example holds them all. Where
it prints a turn otherwise once it is not the last (earlier reasoning left out, another header), that turn gets an example of its own,
which ends with it: training and evaluation always see the same prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from data_contracts.rendering.answers import AnswerText
from data_contracts.rendering.encoding import Ids, encode, encode_after


@dataclass(frozen=True)
class Answer:
    """One turn that is learned: ids[start:stop] are the answer, its end (the ids `end`) included; ids[:start] are its prompt."""

    turn: int
    start: int
    stop: int
    end: Ids


@dataclass(frozen=True)
class Rendering:
    """What is trained on. learn[i]: whether predicting ids[i] counts in the loss (learn[0] never does). text: what the ids spell."""

    ids: Ids
    learn: tuple[bool, ...]
    origin: str
    text: str = ""
    answers: tuple[Answer, ...] = ()

    @property
    def loss_tokens(self) -> int:
        return sum(self.learn)


@dataclass(frozen=True)
class Piece:
    """One answer in tokens: ids are its context and itself, tail what the template prints after it. text spells ids and tail."""

    answer: Answer
    ids: Ids
    tail: Ids
    text: str


def make_rendering(ids: Sequence[int], learn: Sequence[bool], origin: str, text: str, answers: Sequence[Answer] = ()) -> Rendering:
    return Rendering(tuple(ids), (False, *learn[1:]) if learn else (), origin, text, tuple(answers))


def tokenise(tokenizer: Any, found: AnswerText, end_mark: str) -> Piece:
    """`end_mark` is the one special token that the answer ends with, or empty."""
    context = encode(tokenizer, found.context)
    ids = context + encode_after(tokenizer, found.context, context, found.answer)
    through = found.context + found.answer
    tail = encode_after(tokenizer, through, ids, found.tail)
    end = ids[-1:] if end_mark else encode(tokenizer, found.end)
    return Piece(Answer(found.turn, len(context), len(ids), end), ids, tail, through + found.tail)


def together(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """Pieces in groups, each an example: the last piece of a group begins with the ids of every other one."""
    groups: list[list[Piece]] = []
    for piece in reversed(pieces):
        host = next((group for group in groups if group[-1].ids[: len(piece.ids)] == piece.ids), None)
        if host is None:
            groups.append([piece])
        else:
            host.insert(0, piece)
    return groups[::-1]


def learned_example(group: Sequence[Piece], origin: str) -> Rendering:
    """The example of a group: the answers count in the loss, their contexts and what follows them do not."""
    host = group[-1]
    ids = host.ids + host.tail
    learn = [False] * len(ids)
    for piece in group:
        learn[piece.answer.start : piece.answer.stop] = [True] * (piece.answer.stop - piece.answer.start)
    return make_rendering(ids, learn, origin, host.text, [piece.answer for piece in group])


def unmasked_example(example: Rendering, more: Ids, text: str, skipped: Sequence[int]) -> Rendering:
    """The same with every token in the loss, but for the answers of the turns `skipped`; `more` and `text` are what follows the example."""
    ids = example.ids + more
    learn = [True] * len(ids)
    for answer in example.answers:
        if answer.turn in skipped:
            learn[answer.start : answer.stop] = [False] * (answer.stop - answer.start)
    kept = [answer for answer in example.answers if answer.turn not in skipped]
    return make_rendering(ids, learn, example.origin, example.text + text, kept)
