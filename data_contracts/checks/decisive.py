"""Two rows of one template that teach different things: "... stored in Spain" and "... stored in Italy", each with its own answer.

They share most words, as copies do. They differ in that the word in which they differ decides the answer: it stands in the answer as
well, or it is all that the questions differ in and the answers differ in a few words put in place of others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

from data_contracts.rows.plain_text import content_of
from data_contracts.rows.taught import answer_of, answer_text

#: Longer texts are prose and no template; aligning them would cost their length squared.
_LONGEST = 200
_SLOT_WORDS, _MOST_SLOTS = 2, 3


def decided_otherwise(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether a word in which the questions differ decides the answers of two alike rows in normal form."""
    if "text" in one or "text" in other:
        return False
    answers = content_of(_answer(one)), content_of(_answer(other))
    if answers[0] == answers[1]:
        return False
    questions = content_of(_question(one)), content_of(_question(other))
    if max(map(len, questions)) > _LONGEST:
        return False
    slots = _slots(*questions)
    if len(slots) > _MOST_SLOTS:  # edits all over, as in a copy
        return False
    only = set(answers[0]) - set(answers[1]), set(answers[1]) - set(answers[0])
    if any(only[0] & set(left) and only[1] & set(right) for left, right in slots):
        return True
    one_word = len(slots) == 1 and max(map(len, slots[0])) <= _SLOT_WORDS and all(slots[0])
    if not one_word or max(map(len, answers)) > _LONGEST:
        return False
    said = _slots(*answers)  # other words in the same places; what was put in or left out is an edit
    return len(said) <= _MOST_SLOTS and all(left and right for left, right in said)


def _slots(one: Sequence[str], other: Sequence[str]) -> list[tuple[Sequence[str], Sequence[str]]]:
    """Where two texts differ: the words of the one there, and those of the other."""
    if len(one) == len(other):
        places = [place for place, (left, right) in enumerate(zip(one, other, strict=True)) if left != right]
        if len(places) <= _SLOT_WORDS:
            return [((one[place],), (other[place],)) for place in places]
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    return [(one[a:b], other[c:d]) for kind, a, b, c, d in matcher.get_opcodes() if kind != "equal"]


def _question(value: Mapping[str, Any]) -> str:
    return "\n".join(map(answer_text, value["messages"][: answer_of(value["messages"])]))


def _answer(value: Mapping[str, Any]) -> str:
    return answer_text(value["messages"][answer_of(value["messages"])])
