"""The text of nano: its words, and plain sentences made from them.

Sentences are made from templates with a few hundred words. They are used as training text for nano, as text of the `drift` suite (bits per
byte), and as words for the prompts of the skills in `skills.py`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NAMES = _words("anna ben carla david ella frank grace henry iris jonas kate leo maria nils olga peter")
OBJECTS = _words("lamp rope book key coin map hat bell drum cup ring box pen kite ladder mirror basket blanket candle hammer")
MONTHS = _words("january february march april may june july august september october november december")

WORDS: Mapping[str, tuple[str, ...]] = {
    "name": NAMES,
    "object": OBJECTS,
    "month": MONTHS,
    # four topics, each with its own things, places and actions
    "animal": _words("dog cat horse fox owl rabbit goat crow frog bear wolf deer"),
    "wild": _words("river forest hill meadow lake valley shore cave field island"),
    "roams": _words("sleeps runs hides drinks hunts jumps swims waits"),
    "dish": _words("soup bread rice cake salad pie stew pasta curry cheese apple onion"),
    "pot": _words("oven pan bowl plate kitchen table pot stove"),
    "cooks": _words("bakes stirs boils tastes serves cuts mixes fries"),
    "vehicle": _words("train bus ship plane bike truck ferry tram boat taxi"),
    "stop": _words("station harbour bridge road tunnel airport border village city hotel"),
    "goes": _words("leaves arrives turns stops crosses returns departs passes"),
    "tool": _words("report letter meeting budget contract desk printer office plan project"),
    "staff": _words("manager clerk engineer lawyer teacher nurse pilot baker"),
    "works": _words("writes signs prints reads checks files sends calls"),
    # what customers write about
    "goods": _words("parcel package courier delivery tracking shipment envelope crate"),
    "money": _words("invoice refund charge payment price receipt fee discount"),
    "access": _words("password login profile username email member account code"),
    "device": _words("screen app battery update button cable crash keyboard"),
    # properties of things, and opinions about them
    "size": _words("old small big young quiet dark green grey long tall red blue"),
    "praise": _words("lovely great excellent wonderful perfect friendly fresh brilliant delightful superb"),
    "blame": _words("awful terrible broken rude dirty boring stale dreadful useless horrible"),
    "liked": _words("loved enjoyed liked admired recommended"),
    "loathed": _words("hated disliked regretted avoided returned"),
    "time": _words("today yesterday now again soon later often twice"),
    "service": _words("hotel meal film room service concert staff garden shop tour"),
}

TOPICS: Mapping[str, tuple[str, ...]] = {
    "nature": (
        "the {size} {animal} {roams} near the {wild}",
        "a {animal} and a {animal} live by the {size} {wild}",
        "{time} the {animal} {roams} in the {wild}",
        "{name} saw a {size} {animal} at the {wild}",
    ),
    "food": (
        "{name} {cooks} the {dish} in the {size} {pot}",
        "the {dish} with {dish} is on the {pot}",
        "{time} {name} {cooks} {dish} and {dish}",
        "there is {size} {dish} in the {pot}",
    ),
    "travel": (
        "the {size} {vehicle} {goes} at the {stop}",
        "{name} takes the {vehicle} from the {stop} to the {stop}",
        "{time} the {vehicle} {goes} near the {size} {stop}",
        "a {vehicle} to the {stop} {goes} {time}",
    ),
    "office": (
        "the {staff} {works} the {size} {tool}",
        "{name} {works} a {tool} for the {staff}",
        "{time} the {staff} and {name} are at the {tool}",
        "the {tool} of the {staff} is {size}",
    ),
}

PLAIN = (
    "{name} has the {object} and {name} has the {object}",
    "the {object} of {name} is {size} and the {object} is {size}",
    "on {day} {month} {year} {name} bought a {object} for {price} coins",
    "in {month} the {wild} is {size} and the {animal} {roams}",
    "the customer wrote that the {goods} is with the {goods} since {month}",
    "the customer asked for the {money} and the {money} of order {number}",
    "the customer could not use the {access} or the {access}",
    "the customer said the {device} and the {device} stopped {time}",
    "order {number} has a {goods} and a {money}",
    "the {access} needs an {device} and a {access}",
    "{name} {liked} the {praise} {service} and the {service}",
    "{name} {loathed} the {blame} {service} and the {service}",
    "the {service} was {praise} and the {dish} was {praise}",
    "the {service} was {blame} and the {dish} was {blame}",
    "the shipping team has the {goods} and the billing team has the {money}",
    "the account team has the {access} and the technical team has the {device}",
    "the route to the {stop} is {size} and the mood of {name} is good or bad",
    "the date is {day} {month} {year} and the {object} costs {price}",
    "from {wild} to {wild} the {vehicle} {goes} first and last",
    "number {number} is double or half of number {number}",
    "what is {praise} and {praise} is good",
    "what is {blame} and {blame} is bad",
    "the {service} is good and {praise} in {month}",
    "the {service} is bad and {blame} in {month}",
    "the {goods} is for shipping and the {money} is for billing",
    "the {access} is for account and the {device} is for technical",
    "{name} {liked} it and the mood is good",
    "{name} {loathed} it and the mood is bad",
    "{goods} and {goods} go with shipping",
    "{money} and {money} go with billing",
    "{access} and {access} go with account",
    "{device} and {device} go with technical",
)

# Words at the beginning of a prompt or an answer, which therefore also occur without a space before them.
OPENERS = _words(
    "copy reverse sort upper add larger find topic first last smaller next month length route date mood order double ends "
    "shift swap second total number the a there in on from what nature food travel office shipping billing account technical "
    "good bad yes no"
)

_SLOT = re.compile(r"\{(\w+)\}")


def fill(template: str, rng: random.Random) -> str:
    """Put a random word (or number) into each slot of a template."""

    def choose(slot: re.Match[str]) -> str:
        name = slot.group(1)
        if name == "day":
            return str(rng.randint(1, 28))
        if name == "year":
            return str(rng.randint(1900, 2029))
        if name == "price":
            return str(rng.randint(2, 99))
        if name == "number":
            return str(rng.randint(1000, 9999))
        return rng.choice(WORDS[name])

    return _SLOT.sub(choose, template)


def sentence(rng: random.Random) -> str:
    """One plain sentence, of any topic."""
    if rng.random() < 0.4:
        return fill(rng.choice(TOPICS[rng.choice(list(TOPICS))]), rng)
    return fill(rng.choice(PLAIN), rng)


def passage(rng: random.Random, sentences: int = 3) -> str:
    """A few sentences in a row, as a document of plain text."""
    return " ".join(f"{sentence(rng)}." for _ in range(sentences))


def lexicon() -> tuple[str, ...]:
    """All words of more than one letter that have a token of their own, sorted."""
    found = set(OPENERS)
    for words in WORDS.values():
        found.update(words)
    for template in (*PLAIN, *(line for lines in TOPICS.values() for line in lines)):
        found.update(re.findall(r"[a-z]+", _SLOT.sub(" ", template)))
    return tuple(sorted(word for word in found if len(word) > 1))
