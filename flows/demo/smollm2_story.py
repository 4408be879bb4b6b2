"""The demo on a real model: SmolLM2-135M-Instruct learns to route a shop's messages, offline, in minutes per round on two cores.

Drops are made from templates, suites from word lists (agreement of subject and verb, uses of things). The prose for drift and calibration
is the language reference that is part of Python.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from data_contracts.files import write_rows
from data_contracts.manifests import Decision
from flows.demo.chapters import Chapter, Story

DROP_ROWS = 240
SUITE_ITEMS = 160
DRIFT_TEXTS = 48

_TEAMS: Mapping[str, tuple[str, ...]] = {
    "shipping": (
        "the parcel has not arrived",
        "the tracking page shows nothing",
        "the courier left the box in the rain",
        "my package went to an old address",
    ),
    "billing": ("I was charged twice", "the invoice shows the wrong sum", "my refund is still missing", "the discount was not taken off"),
    "account": ("I cannot log in", "the password reset never comes", "my email address has changed", "I want my profile deleted"),
    "technical": (
        "the app crashes when I open it",
        "the screen stays black",
        "the update stops half way",
        "the search button does nothing",
    ),
}
_OPENINGS = ("Hello,", "Good morning,", "Hi there,", "Dear team,", "Hey,", "To whom it may concern,")
_CONTEXTS = (
    "since {day}",
    "for order {number}",
    "and it is the second time this month",
    "and my name is {name}",
    "although I wrote on {day}",
)
_CLOSINGS = ("Please help.", "What can be done?", "Thanks.", "I am waiting for an answer.", "Kind regards, {name}.")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_NAMES = ("Anna", "Ben", "Carla", "David", "Ella", "Frank", "Grace", "Henry", "Iris", "Jonas", "Kate", "Leo")

_JUDGED: Mapping[str, tuple[str, ...]] = {
    "positive": ("wonderful", "a real pleasure", "better than I had hoped", "worth every penny", "friendly and quick"),
    "negative": ("dreadful", "a waste of money", "worse than I had feared", "slow and rude", "broken on the first day"),
}
_REVIEWED = (
    "The soup",
    "This lamp",
    "The hotel room",
    "Their service",
    "The second film",
    "The garden tour",
    "My new bag",
    "The train ride",
)

_HEADS = {
    "key": "keys",
    "dog": "dogs",
    "book": "books",
    "car": "cars",
    "letter": "letters",
    "chair": "chairs",
    "child": "children",
    "picture": "pictures",
}
_NEAR = ("near the window", "with the red mark", "from the old house", "beside the door", "behind the school", "in the photograph")
_AGREE = (
    ("is very old", "are very old"),
    ("was found yesterday", "were found yesterday"),
    ("has been moved", "have been moved"),
    ("looks small", "look small"),
)
_USES = {
    "a hammer": "drive in nails",
    "a knife": "cut bread",
    "a pen": "write a letter",
    "an umbrella": "stay dry in the rain",
    "a broom": "sweep the floor",
    "a kettle": "boil water",
    "a key": "open a lock",
    "a needle": "sew on a button",
    "a towel": "dry your hands",
    "a ladder": "reach the roof",
    "a shovel": "dig a hole",
    "a camera": "take a photograph",
    "a comb": "tidy your hair",
    "a lamp": "light a room",
    "an oven": "bake a cake",
    "a clock": "tell the time",
    "a boat": "cross a lake",
    "a phone": "call a friend",
}


def _fill(text: str, rng: random.Random) -> str:
    return text.format(day=rng.choice(_DAYS), number=rng.randint(1000, 9999), name=rng.choice(_NAMES))


def route_rows(rng: random.Random) -> Iterator[tuple[str, str]]:
    """A customer's message and the team that handles it."""
    while True:
        team = rng.choice(list(_TEAMS))
        message = f"{rng.choice(_OPENINGS)} {rng.choice(_TEAMS[team])} {rng.choice(_CONTEXTS)}. {rng.choice(_CLOSINGS)}"
        yield f"Which team handles this message?\n{_fill(message, rng)}", team


def mood_rows(rng: random.Random) -> Iterator[tuple[str, str]]:
    """A review and its mood."""
    while True:
        mood = rng.choice(list(_JUDGED))
        review = f"{rng.choice(_REVIEWED)} we had on {rng.choice(_DAYS)} was {rng.choice(_JUDGED[mood])}, says {rng.choice(_NAMES)}."
        yield f"Is this review positive or negative?\n{review}", mood


def agreement_items(rng: random.Random) -> Iterator[dict[str, Any]]:
    """A subject and two verb forms, one of which agrees with it."""
    while True:
        one, many = rng.choice(list(_HEADS.items()))
        plural = rng.random() < 0.5
        prompt = f"The {many if plural else one} {rng.choice(_NEAR)}"
        yield {"prompt": prompt, "choices": list(rng.choice(_AGREE)), "gold": int(plural)}


def use_items(rng: random.Random) -> Iterator[dict[str, Any]]:
    """A thing and two purposes, one of which is right."""
    while True:
        thing, other = rng.sample(list(_USES), 2)
        choices = [_USES[thing], _USES[other]]
        gold = rng.randrange(2)
        yield {"prompt": f"You can use {thing} to", "choices": choices[::-1] if gold else choices, "gold": gold}


def reference_prose() -> list[str]:
    """Paragraphs of 150 to 420 characters, without code, from the Python language reference in the interpreter."""
    from pydoc_data.topics import topics

    found: dict[str, None] = {}
    for topic in sorted(topics):
        for block in re.split(r"\n\s*\n", topics[topic]):
            text = " ".join(block.split())
            prose = re.match(r"[A-Z]", text) and text.endswith(".") and not re.search(r"[`*_=<>{}|\\]|::|->|\.\.\.", text)
            if prose and 150 <= len(text) <= 420:
                found[text] = None
    return list(found)


def write_smollm2_story(folder: Path) -> Story:
    """Write the drops, suites and texts, and return the two rounds with their training settings."""
    rng = random.Random(7)
    drops = {
        name: _write_drop(folder / "drops" / f"{name}.jsonl", rows(rng)) for name, rows in (("route", route_rows), ("mood", mood_rows))
    }
    chapters = (
        Chapter("January: route, which team handles a customer's message", "route", drops["route"]),
        Chapter(
            "February: mood, whether a review is positive, by plain full fine-tuning",
            "mood",
            drops["mood"],
            {"method": "full", "learning_rate": 5e-4},
            Decision.BLOCK,
        ),
    )
    return Story(smollm2_config(folder, rng), chapters)


def smollm2_config(folder: Path, rng: random.Random) -> dict[str, Any]:
    """The content of skillstack.yaml for this demo; suites and calibration text are written into `folder`."""
    prose = reference_prose()
    rng.shuffle(prose)
    suites = folder / "suites"
    for name, items in (("agreement", agreement_items), ("uses", use_items)):
        write_rows(suites / f"{name}.jsonl", distinct_items(items(rng), SUITE_ITEMS))
    write_rows(suites / "prose.jsonl", ({"text": text} for text in prose[:DRIFT_TEXTS]))
    write_rows(folder / "calibration.jsonl", ({"text": text} for text in prose[DRIFT_TEXTS:]))
    return {
        "base_model": "smollm2",
        "state_dir": "state",
        "bootstrap": True,
        "calibration": "calibration.jsonl",
        "contract": {"heldout_fraction": 0.4, "sealed_fraction": 0.0},
        "train": {"method": "osft", "protect": "activations", "learning_rate": 1e-3, "moment_tokens": 6000},
        "gate": {"accept_unmeasured": ["safety"]},
        "evaluation": {
            "suites": [
                {"name": "agreement", "source": "suites/agreement.jsonl", "category": "general"},
                {"name": "uses", "source": "suites/uses.jsonl", "category": "general"},
                {"name": "prose", "source": "suites/prose.jsonl", "category": "drift"},
            ],
        },
    }


def distinct_items(items: Iterator[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """The first `count` different items, or all if the generator has fewer."""
    found = {json.dumps(item, sort_keys=True): item for item in islice(items, 40 * count)}
    return list(found.values())[:count]


def _write_drop(path: Path, rows: Iterator[tuple[str, str]]) -> Path:
    chosen = dict(islice(rows, 4 * DROP_ROWS))
    turns = [[{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}] for prompt, answer in chosen.items()]
    return write_rows(path, ({"messages": messages} for messages in turns[:DROP_ROWS]))
