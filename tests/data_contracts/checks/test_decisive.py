"""Two rows of one template that teach different things are no copies of each other."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_contracts.checks.decisive import decided_otherwise
from data_contracts.config import ContractConfig
from data_contracts.manifests import DropManifest
from data_contracts.validate import validate_drop

Chat = Callable[[str, str], str]


def counts(manifest: DropManifest) -> dict[str, int]:
    return {finding.check: finding.rows for finding in manifest.findings}


COUNTRIES = ["Spain", "Italy", "France", "Norway", "Poland", "Greece", "Chile", "Japan", "Kenya", "Peru", "India", "Egypt", "Cuba", "Malta"]


TABLES = [
    ("orders", "order number"),
    ("clients", "client name"),
    ("parts", "part number"),
    ("bills", "bill date"),
    ("stores", "store name"),
]


FRAMES = (
    "Please write me one SQL statement that lists the {0} of every one of the {1} which are stored in {2} since {3}, newest first.",
    "I need the {0} column from our {1} table for all rows stored in {2} after the year {3} and nothing else, sorted descending.",
)


def test_questions_of_one_template_that_differ_in_the_word_that_decides_all_stay(
    chat: Chat, write_drop: Callable[..., Path], tmp_path: Path
) -> None:
    rows = [
        chat(
            frame.format(column, table, country, year),
            f"SELECT {column.replace(' ', '_')} FROM {table} WHERE country = '{country}' AND y >= {year};",
        )
        for frame in FRAMES
        for table, column in TABLES
        for country in COUNTRIES
        for year in range(2019, 2022)
    ]
    random.Random(0).shuffle(rows)
    manifest = validate_drop(write_drop(rows), tmp_path / "out", skill="sql", config=ContractConfig())
    assert (manifest.rows_quarantined, counts(manifest)) == (0, {})


@pytest.mark.parametrize(
    ("questions", "answers", "apart"),
    [
        (("all parts stored in Spain", "all parts stored in Italy"), ("WHERE country = 'Spain'", "WHERE country = 'Italy'"), True),
        (("5 km from 2020 in metres", "7 km from 2021 in metres"), ("5000 metres, as of 2020", "7000 metres, as of 2021"), True),
        (("how far is 5 km", "how far is 7 km"), ("that is 5000 metres", "that is 7000 metres"), True),
        (("is a < b", "is a > b"), ("yes, as a is less", "no, as a is more"), True),
        (("all parts stored in Spain", "all parts stored in Italy"), ("the same for both", "the same for both"), False),
        (("all the red parts stored in Spain", "all the blue parts kept in Spain"), ("an answer of mine", "the answer of mine"), False),
        (("all parts stored in Spain", "all parts stored in Spain"), ("an answer of mine", "the answer of mine"), False),
    ],
)
def test_what_decides_is_a_word_of_both_or_the_only_one(questions: tuple[str, str], answers: tuple[str, str], apart: bool) -> None:
    rows = [
        {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
        for question, answer in zip(questions, answers, strict=True)
    ]
    assert decided_otherwise(rows[0], rows[1]) is apart


def test_a_call_decides_as_words_do() -> None:
    def row(city: str, *calls: str) -> dict[str, Any]:
        answer = [{"function": {"name": "book", "arguments": {"to": name}}} for name in calls]
        return {"messages": [{"role": "user", "content": f"book the trip to {city}"}, {"role": "assistant", "tool_calls": answer}]}

    assert decided_otherwise(row("Rome", "Rome"), row("Paris", "Paris"))
    assert not decided_otherwise(row("Rome", "Oslo"), row("Paris", "Oslo"))
    results = [
        {
            "messages": [
                *row("Rome", code)["messages"],
                {"role": "tool", "content": "ok"},
                {"role": "assistant", "content": f"It is {code}."},
            ]
        }
        for code in ("AB1", "CD2")
    ]
    assert decided_otherwise(*results), "a call before the answer is part of what is asked"


def test_what_follows_the_last_learned_answer_decides_nothing() -> None:
    def row(city: str, answer: str) -> dict[str, Any]:
        turns = [{"role": "user", "content": f"all parts stored in {city}"}, {"role": "assistant", "content": f"WHERE c = '{answer}'"}]
        return {"messages": [*turns, {"role": "user", "content": "good"}, {"role": "assistant", "content": "I know", "weight": 0}]}

    assert decided_otherwise(row("Spain", "Spain"), row("Italy", "Italy"))
    assert not decided_otherwise(row("Spain", "any"), row("Italy", "any"))
