"""The small skills of the demo: nano's base skills, and the new skills of its monthly drops.

A skill is a name and a generator of (prompt, answer) pairs. The answer follows from the prompt, so held-out items test the skill and not
memory. A hash of the prompt decides whether a pair is held out; held-out pairs are never trained on.
"""

from __future__ import annotations

import hashlib
import random
import string
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from flows.demo.text import MONTHS, NAMES, OBJECTS, TOPICS, WORDS, fill, lexicon

HELDOUT_SHARE = 10  # one prompt out of so many is held out

_LETTERS = string.ascii_lowercase
_WORDS = frozenset(lexicon())


@dataclass(frozen=True)
class Skill:
    """A skill of nano: a name, a generator of pairs, and a description."""

    name: str
    make: Callable[[random.Random], tuple[str, str]]
    about: str


def _letters(rng: random.Random, low: int, high: int) -> str:
    """A string of random letters that is not a word of nano's lexicon (words have tokens of their own)."""
    while True:
        text = "".join(rng.choice(_LETTERS) for _ in range(rng.randint(low, high)))
        if text not in _WORDS:
            return text


def _copy(rng: random.Random) -> tuple[str, str]:
    text = _letters(rng, 3, 8)
    return f"copy {text}", text


def _reverse(rng: random.Random) -> tuple[str, str]:
    text = _letters(rng, 3, 6)
    return f"reverse {text}", text[::-1]


def _sort(rng: random.Random) -> tuple[str, str]:
    text = _letters(rng, 3, 5)
    return f"sort {text}", "".join(sorted(text))


def _upper(rng: random.Random) -> tuple[str, str]:
    text = _letters(rng, 3, 7)
    return f"upper {text}", text.upper()


def _add(rng: random.Random) -> tuple[str, str]:
    a, b = rng.randint(10, 999), rng.randint(1, 9)
    return f"add {a} {b}", str(a + b)


def _larger(rng: random.Random) -> tuple[str, str]:
    a, b = rng.sample(range(100, 1000), 2)
    return f"larger {a} {b}", str(max(a, b))


def _find(rng: random.Random) -> tuple[str, str]:
    count = rng.randint(2, 4)
    names, objects = rng.sample(NAMES, count), rng.sample(OBJECTS, count)
    wanted = rng.randrange(count)
    owners = " and ".join(f"{name} has the {thing}" for name, thing in zip(names, objects, strict=True))
    return f"find the {objects[wanted]} : {owners}", names[wanted]


def _topic(rng: random.Random) -> tuple[str, str]:
    topic = rng.choice(list(TOPICS))
    return f"topic {fill(rng.choice(TOPICS[topic]), rng)}", topic


def _practice(rng: random.Random) -> tuple[str, str]:
    """One of several easy exercises, which no suite scores: they make nano's training more varied."""
    text = _letters(rng, 2, 7)
    a, b = rng.sample(range(100, 1000), 2)
    place = rng.randrange(12)
    exercises = (
        (f"first {text}", text[0]),
        (f"last {text}", text[-1]),
        (f"second {text}", text[1]),
        (f"length {text}", str(len(text))),
        (f"smaller {a} {b}", str(min(a, b))),
        (f"next {text[0]}", _LETTERS[(_LETTERS.index(text[0]) + 1) % 26]),
        (f"month {MONTHS[place]}", f"{place + 1:02d}"),
    )
    return rng.choice(exercises)


_TICKETS = (
    "{name} wrote {time} about the {size} KEY",
    "the KEY of order {number} is not right",
    "order {number} and the KEY for {name}",
    "{time} the customer {name} asked for the KEY",
    "the customer said the {size} KEY of {month}",
    "{name} has the {object} and asked about the KEY",
)
_TEAMS = {"shipping": "goods", "billing": "money", "account": "access", "technical": "device"}


def _route(rng: random.Random) -> tuple[str, str]:
    team = rng.choice(list(_TEAMS))
    ticket = rng.choice(_TICKETS).replace("KEY", rng.choice(WORDS[_TEAMS[team]]))
    return f"route {fill(ticket, rng)}", team


_REVIEWS = (
    "the {service} in {month} was ADJ",
    "{name} VERB the {size} {service}",
    "{name} and {name} found the {service} ADJ",
    "{time} {name} VERB the {dish} and the {service}",
    "the {dish} at the {stop} was ADJ",
    "{name} said the {size} {dish} is ADJ",
)


def _mood(rng: random.Random) -> tuple[str, str]:
    good = rng.random() < 0.5
    review = rng.choice(_REVIEWS)
    review = review.replace("ADJ", "{praise}" if good else "{blame}").replace("VERB", "{liked}" if good else "{loathed}")
    return f"mood {fill(review, rng)}", "good" if good else "bad"


def _date(rng: random.Random) -> tuple[str, str]:
    day, month, year = rng.randint(1, 28), rng.randint(1, 12), rng.randint(1900, 2029)
    return f"date {day} {MONTHS[month - 1]} {year}", f"{year}-{month:02d}-{day:02d}"


def _double(rng: random.Random) -> tuple[str, str]:
    text = _letters(rng, 3, 5)
    return f"double {text}", "".join(letter * 2 for letter in text)


def _ends(rng: random.Random) -> tuple[str, str]:
    text = _letters(rng, 3, 7)
    return f"ends {text}", text[0] + text[-1]


def _shift(rng: random.Random) -> tuple[str, str]:
    text = _letters(rng, 3, 6)
    return f"shift {text}", "".join(_LETTERS[(_LETTERS.index(letter) + 1) % 26] for letter in text)


BASE_SKILLS: Mapping[str, Skill] = {
    skill.name: skill
    for skill in (
        Skill("copy", _copy, "write the letters again"),
        Skill("reverse", _reverse, "write the letters backwards"),
        Skill("sort", _sort, "write the letters in the order of the alphabet"),
        Skill("upper", _upper, "write the letters in capitals"),
        Skill("add", _add, "add a digit to a number below 1000"),
        Skill("larger", _larger, "give the larger of two three-digit numbers"),
        Skill("topic", _topic, "name the topic of a sentence"),
    )
}

# Parts of nano's training that no suite scores: easy exercises, and one task that a model of this size did not learn in this time.
PRACTICE = Skill("practice", _practice, "several easy exercises")
FIND = Skill("find", _find, "say who has the thing")

NEW_SKILLS: Mapping[str, Skill] = {
    skill.name: skill
    for skill in (
        Skill("route", _route, "name the team that handles a customer's message"),
        Skill("mood", _mood, "say whether a review is good or bad"),
        Skill("date", _date, "write a date as year-month-day"),
        Skill("double", _double, "write every letter twice"),
        Skill("ends", _ends, "write the first and the last letter"),
        Skill("shift", _shift, "write the letter after each letter"),
    )
}


def is_heldout(prompt: str) -> bool:
    """Depends on the prompt alone, so that the order of generation cannot leak an item into training."""
    return int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:4], "big") % HELDOUT_SHARE == 0


def pairs(skill: Skill, rng: random.Random, *, heldout: bool) -> Iterator[tuple[str, str]]:
    """Endless (prompt, answer) pairs of one part of the split."""
    while True:
        prompt, answer = skill.make(rng)
        if is_heldout(prompt) == heldout:
            yield prompt, answer
