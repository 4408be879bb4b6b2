"""Three drops of 600 rows for a first round: routing with a taxonomy of eight labels, SQL snippets, unit conversion.

python -P tests/benchmarks/rounds/first_drops.py OUT
cd OUT && skillstack init . && skillstack round sql.jsonl --skill sql
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable
from pathlib import Path

TAX = {
    "billing/refund": [
        "I want my money back for {o}",
        "please refund the {o} I returned {w}",
        "the refund for {o} has not arrived {w}",
        "you owe me money for the {o}, it was sent back {w}",
    ],
    "billing/invoice": [
        "I need a copy of the invoice for {o}",
        "the invoice for {o} shows the wrong address",
        "where is the bill for the {o} from {w}",
        "please send the receipt for {o} again",
    ],
    "account/password": [
        "I cannot log in since {w}",
        "my password for the {o} page is not accepted",
        "please reset my password, I lost it {w}",
        "the login code did not come {w}",
    ],
    "account/close": [
        "please close my account at the end of {w}",
        "delete my profile and the {o} data",
        "I want to leave, cancel my account {w}",
        "remove all my data from {w}",
    ],
    "delivery/late": [
        "my {o} was to arrive {w} and is not here",
        "the parcel with the {o} is late",
        "where is my {o}, I ordered it {w}",
        "still waiting for the {o} since {w}",
    ],
    "delivery/damaged": [
        "the {o} came broken",
        "the box of the {o} was open and wet",
        "my {o} has a crack since it came {w}",
        "the {o} was smashed when it arrived {w}",
    ],
    "product/howto": [
        "how do I switch on the {o}",
        "which cable does the {o} need",
        "how can I clean the {o}",
        "what does the red light on the {o} mean",
    ],
    "product/fault": [
        "the {o} stopped working {w}",
        "the {o} makes a loud noise",
        "the {o} gets too hot after {w}",
        "my {o} does not start since {w}",
    ],
}
OBJ = [
    "lamp",
    "kettle",
    "printer",
    "router",
    "chair",
    "camera",
    "phone",
    "heater",
    "toaster",
    "clock",
    "speaker",
    "mixer",
    "tablet",
    "keyboard",
    "monitor",
    "scale",
    "fan",
    "drill",
    "radio",
    "mouse",
]
WHEN = [
    "Monday",
    "Tuesday",
    "Friday",
    "last week",
    "yesterday",
    "in June",
    "in March",
    "two days ago",
    "this morning",
    "on the 5th",
    "on the 12th",
    "last month",
]
NAME = ["Anna", "Ben", "Carla", "David", "Eva", "Finn", "Greta", "Hugo", "Ida", "Jan"]


def tickets(rng: random.Random) -> tuple[str, str]:
    """A customer's message, and the label that it is routed to."""
    label = rng.choice(sorted(TAX))
    text = rng.choice(TAX[label]).format(o=rng.choice(OBJ), w=rng.choice(WHEN))
    head = rng.choice(["Hello, ", "Hi, ", "", f"{rng.choice(NAME)} writes: ", "Dear team, "])
    return f"route: {head}{text}", label


TAB = {
    "customers": ["name", "city", "age"], "orders": ["id", "total", "day"], "books": ["title", "author", "price"],
    "staff": ["name", "salary", "office"], "trips": ["driver", "distance", "fare"],
}  # fmt: skip
VAL = {
    "city": ["Lyon", "Oslo", "Porto", "Bern"], "office": ["north", "south", "east"], "author": ["Mann", "Woolf", "Kafka"],
    "driver": ["Ida", "Jan", "Eva"], "name": ["Anna", "Ben", "Hugo"], "title": ["Emma", "Dune"],
}  # fmt: skip


def sql(rng: random.Random) -> tuple[str, str]:
    """A question about one table, and its statement."""
    table = rng.choice(sorted(TAB))
    column, where, kind = rng.choice(TAB[table]), rng.choice(TAB[table]), rng.randrange(4)
    if kind == 0:
        return f"sql: {column} of all {table}", f"SELECT {column} FROM {table};"
    if kind == 1:
        return f"sql: count the {table}", f"SELECT COUNT(*) FROM {table};"
    if where in VAL:
        value = rng.choice(VAL[where])
        said, condition = f"{where} is {value}", f"{where} = '{value}'"
    else:
        number, (word, sign) = rng.randint(2, 99), rng.choice([("above", ">"), ("below", "<")])
        said, condition = f"{where} is {word} {number}", f"{where} {sign} {number}"
    if kind == 2:
        return f"sql: {column} of {table} whose {said}", f"SELECT {column} FROM {table} WHERE {condition};"
    return f"sql: how many {table} have {said}".replace(" is ", " "), f"SELECT COUNT(*) FROM {table} WHERE {condition};"


UNITS = [
    ("km", "m", 1000), ("m", "cm", 100), ("cm", "mm", 10), ("kg", "g", 1000), ("t", "kg", 1000), ("l", "ml", 1000), ("h", "min", 60),
    ("min", "s", 60),
]  # fmt: skip


def units(rng: random.Random) -> tuple[str, str]:
    """A length, weight, volume or time in a larger unit, and in a smaller one."""
    large, small, factor = rng.choice(UNITS)
    number = rng.randint(1, 99)
    return f"convert {number} {large} to {small}", f"{number * factor} {small}"


def write(make: Callable[[random.Random], tuple[str, str]], path: Path, rows: int = 600, seed: int = 1) -> None:
    """`rows` different questions as conversations."""
    rng, found = random.Random(f"{make.__name__} {seed}"), dict[str, str]()
    while len(found) < rows:
        question, answer = make(rng)
        found.setdefault(question, answer)
    turns = ([{"role": "user", "content": asked}, {"role": "assistant", "content": answer}] for asked, answer in found.items())
    path.write_text("".join(json.dumps({"messages": each}) + "\n" for each in turns), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="OUT", help="made if it is not there")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for each in (tickets, sql, units):
        write(each, folder / f"{each.__name__}.jsonl")
