"""Three drops of 600 rows as three teams of a town would bring them: routing with a taxonomy, SQL snippets, unit conversion.

    python -P tests/e2e/three_drops.py OUT
    cd OUT && skillstack init . && skillstack round desks.jsonl --skill desks

Deterministic, no row of a drop twice. Not changed after the first training on them, so that no setting and no drop was fitted to the other.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

ROWS = 600

# A taxonomy of two levels, as a town's front office has it: area, desk, and how people word what belongs there.
TAXONOMY = {
    "streets": {
        "lighting": (
            "the lamp by the {place} is dark",
            "it is black as night near the {place}",
            "the light at the {place} flickers {when}",
        ),
        "surface": (
            "there is a deep hole in the road at the {place}",
            "the pavement by the {place} is cracked",
            "my wheel broke on the bump near the {place}",
        ),
        "parking": (
            "someone parks in front of the {place} {when}",
            "i got a fine at the {place} and it is wrong",
            "where can residents park by the {place}",
        ),
    },
    "waste": {
        "missed": (
            "our bin was not emptied {when}",
            "the truck drove past the {place} and left the bags",
            "nobody collected the paper bin near the {place}",
        ),
        "bulky": (
            "i have an old sofa to throw out",
            "please pick up a fridge and a bed at the {place}",
            "who takes a wardrobe away {when}",
        ),
    },
    "water": {
        "leak": (
            "water runs out of the ground by the {place}",
            "a pipe burst at the {place} {when}",
            "the cellar of the {place} is wet from a broken main",
        ),
        "meter": (
            "i want to report the number on my meter",
            "the meter was read twice {when}",
            "my reading cannot be right, nobody lives at the {place}",
        ),
    },
    "parks": {
        "trees": (
            "a branch hangs over the path at the {place}",
            "the tree near the {place} fell {when}",
            "please cut the hedge by the {place}",
        ),
        "play": (
            "the swing by the {place} has a loose chain",
            "the slide at the {place} is rusty",
            "there is glass in the sand pit {when}",
        ),
    },
}
PLACES = ("school", "library", "bakery", "church", "old mill", "market", "pool", "museum", "clinic", "stadium", "fire house", "post office")
WHEN = ("today", "since monday", "every night", "last week", "on the 3rd", "this morning", "again", "in the storm")
OPENINGS = ("", "hello, ", "good morning, ", "to whom it may concern: ", "urgent! ")


def desks(rng: random.Random) -> tuple[str, str]:
    """What a citizen writes, and area/desk of the taxonomy."""
    area = rng.choice(sorted(TAXONOMY))
    desk = rng.choice(sorted(TAXONOMY[area]))
    wording = rng.choice(TAXONOMY[area][desk]).format(place=rng.choice(PLACES), when=rng.choice(WHEN))
    return f"which desk: {rng.choice(OPENINGS)}{wording}", f"{area}/{desk}"


# table -> columns of text with values that occur, columns of numbers
SCHEMA: dict[str, tuple[dict[str, tuple[str, ...]], tuple[str, ...]]] = {
    "members": ({"name": ("Ruth", "Omar", "Lena"), "town": ("Bath", "York", "Ely")}, ("age", "fee")),
    "loans": ({"title": ("Ulysses", "Persuasion"), "branch": ("north", "harbour")}, ("weeks", "fine")),
    "rooms": ({"wing": ("east", "west"), "use": ("lab", "office")}, ("floor", "seats")),
    "buses": ({"depot": ("Kent", "Hull"), "fuel": ("gas", "diesel")}, ("stops", "minutes")),
}
TOTALS = {"highest": "MAX", "lowest": "MIN", "average": "AVG", "total": "SUM"}


def queries(rng: random.Random) -> tuple[str, str]:
    """A question about one table, and the statement that answers it."""
    table = rng.choice(sorted(SCHEMA))
    texts, numbers = SCHEMA[table]
    column, number = rng.choice([*texts, *numbers]), rng.choice(numbers)
    form = rng.randrange(4)
    if form == 0:
        falling = rng.random() < 0.5
        return (
            f"query: {column} of {table} sorted by {number}{' downwards' if falling else ''}",
            f"SELECT {column} FROM {table} ORDER BY {number}{' DESC' if falling else ''};",
        )
    if rng.random() < 0.5:
        which = rng.choice(sorted(texts))
        value = rng.choice(texts[which])
        said, condition = f"with {which} {value}", f"{which} = '{value}'"
    else:
        limit, (word, sign) = rng.randint(2, 90), rng.choice((("over", ">"), ("under", "<")))
        said, condition = f"with {number} {word} {limit}", f"{number} {sign} {limit}"
    if form == 1:
        return f"query: {column} of {table} {said}", f"SELECT {column} FROM {table} WHERE {condition};"
    if form == 2:
        return f"query: number of {table} {said}", f"SELECT COUNT(*) FROM {table} WHERE {condition};"
    word, function = rng.choice(sorted(TOTALS.items()))
    return f"query: {word} {number} of {table} {said}", f"SELECT {function}({number}) FROM {table} WHERE {condition};"


# (larger unit, smaller unit, how many of the smaller one are one of the larger)
UNITS = (
    ("km", "m", 1000),
    ("m", "cm", 100),
    ("cm", "mm", 10),
    ("kg", "g", 1000),
    ("t", "kg", 1000),
    ("l", "ml", 1000),
    ("ha", "a", 100),
    ("h", "min", 60),
)


def measures(rng: random.Random) -> tuple[str, str]:
    """A quantity in one unit, and the same in another: upwards with decimals, downwards in whole numbers."""
    large, small, factor = rng.choice(UNITS)
    number = rng.randint(1, 120)
    if factor != 60 and rng.random() < 0.4:
        return f"express {number} {small} in {large}", f"{Decimal(number) / factor:f} {large}"
    return f"express {number} {large} in {small}", f"{number * factor} {small}"


DROPS: dict[str, Callable[[random.Random], tuple[str, str]]] = {"desks": desks, "queries": queries, "measures": measures}


def pairs(skill: str, rows: int = ROWS, seed: int = 1) -> dict[str, str]:
    """Question -> answer, in the order of generation; other seeds give other questions of the same kind."""
    rng, found = random.Random(f"{skill} {seed}"), dict[str, str]()
    while len(found) < rows:
        question, answer = DROPS[skill](rng)
        found.setdefault(question, answer)
    return found


def write_drop(skill: str, path: Path, rows: int = ROWS, seed: int = 1) -> Path:
    """The drop as conversations of one question and one answer."""
    turns = (
        [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}] for asked, answer in pairs(skill, rows, seed).items()
    )
    path.write_text("".join(json.dumps({"messages": each}) + "\n" for each in turns), encoding="utf-8")
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="OUT", help="made if it is not there")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for each in DROPS:
        write_drop(each, folder / f"{each}.jsonl")
