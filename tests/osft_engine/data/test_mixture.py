"""A pass is the drop and rows drawn anew from what is practised beside it, the same ones whenever the same pass is made."""

from __future__ import annotations

from collections import Counter

import pytest

from osft_engine.data.examples import Example
from osft_engine.data.mixture import Mixture, mixture


def rows(name: str, count: int, tokens: int = 4) -> list[Example]:
    return [Example((1,) * tokens, (False,) + (True,) * (tokens - 1), f"{name}:{number}") for number in range(count)]


def passed(mixed: Mixture, epoch: int, seed: int = 3) -> list[str]:
    return [mixed.examples[index].origin for step in mixed.steps(4, seed, epoch) for index in step]


def test_shares_are_of_the_pass_and_an_empty_pool_leaves_its_place() -> None:
    mixed = mixture(rows("own", 60), ((rows("earlier", 100), 0.25), (rows("text", 100), 0.15)))
    assert [len(mixed.own), *(pool.drawn for pool in mixed.pools), mixed.per_pass] == [60, 25, 15, 100]
    assert mixture(rows("own", 60), (([], 0.25), (rows("text", 100), 0.4))).per_pass == 100
    assert mixture(rows("own", 60), ((rows("earlier", 100), 0.0),)).examples == tuple(rows("own", 60))


def test_every_row_of_the_drop_once_a_pass_and_of_a_pool_each_in_turn() -> None:
    mixed = mixture(rows("own", 10), ((rows("earlier", 7), 0.25), (rows("text", 40), 0.25)))
    count: Counter[str] = Counter()
    for epoch in range(14):
        found = Counter(passed(mixed, epoch))
        assert all(found[example.origin] == 1 for example in mixed.own)
        assert sum(found.values()) == 20
        count += found
    assert {count[f"earlier:{number}"] for number in range(7)} == {10}  # 14 passes of 5 are ten times the seven rows
    assert {count[f"text:{number}"] for number in range(40)} == {1, 2}  # and 30 more than the forty rows once


def test_the_next_pass_takes_other_rows_and_the_same_pass_the_same() -> None:
    mixed = mixture(rows("own", 9), ((rows("earlier", 30), 0.25),))
    first, second = ({origin for origin in passed(mixed, epoch) if origin.startswith("earlier")} for epoch in (0, 1))
    assert first.isdisjoint(second)
    assert passed(mixed, 1) == passed(mixed, 1)
    assert passed(mixed, 1) != passed(mixed, 1, seed=4)


def test_a_pool_that_is_smaller_than_its_share_comes_once_a_pass() -> None:
    mixed = mixture(rows("own", 9), ((rows("earlier", 2), 0.25),))
    assert Counter(passed(mixed, 0))["earlier:0"] == 1
    assert mixed.per_pass == 11


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_tokens_of_a_step_are_those_of_what_is_drawn(share: float) -> None:
    mixed = mixture(rows("own", 10, tokens=4), ((rows("text", 90, tokens=24), share),))
    assert mixed.mean_tokens == pytest.approx(4 + share * 20)
