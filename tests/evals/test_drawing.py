"""The draw by margin: chances are what they are said to be, a larger number keeps the items of a smaller one, nobody is left out."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from data_contracts.digests import text_digest
from evals.drawing import ASSUMED_CHURN, LEAST_SIZE, chosen, inclusion_chances, item_sizes

MARGINS = np.random.default_rng(5).exponential(2.0, 300)


def test_sizes_are_square_roots_of_the_chance_to_flip_above_the_bound() -> None:
    sizes, order = item_sizes(MARGINS), np.argsort(MARGINS)
    free = sizes > LEAST_SIZE * sizes.mean() * (1 + 1e-9)
    spread = MARGINS[free] / -stats.norm.ppf(sizes[free] ** 2)  # one number, if sizes are what they are said to be
    np.testing.assert_allclose(spread, spread[0], rtol=1e-6)
    assert stats.norm.cdf(-MARGINS / spread[0]).mean() == pytest.approx(ASSUMED_CHURN, rel=1e-6)
    assert sizes.min() >= LEAST_SIZE * sizes.mean() * (1 - 1e-9)
    assert (np.diff(sizes[order]) <= 0).all(), "who is nearer to the border has the larger size"


@pytest.mark.parametrize("unit", [1e-3, 1.0, 50.0])
def test_the_unit_of_margins_makes_no_difference(unit: float) -> None:
    np.testing.assert_allclose(item_sizes(MARGINS * unit), item_sizes(MARGINS), rtol=1e-9)


@pytest.mark.parametrize("margins", [np.zeros(40), np.r_[np.zeros(30), np.ones(10)], np.ones(40)])
def test_margins_that_say_nothing_still_give_every_item_a_chance(margins: np.ndarray) -> None:
    chance = inclusion_chances(item_sizes(margins), 20)
    assert chance.sum() == pytest.approx(20)
    assert chance.min() >= LEAST_SIZE * 20 / 40 - 1e-12


@pytest.mark.parametrize("n", [1, 30, 150, 299])
def test_chances_add_up_and_have_a_floor(n: int) -> None:
    chance = inclusion_chances(item_sizes(MARGINS), n)
    assert chance.sum() == pytest.approx(n)
    assert ((chance >= LEAST_SIZE * n / 300 - 1e-12) & (chance <= 1.0)).all()


def test_reading_all_or_more_is_certain() -> None:
    assert (inclusion_chances(item_sizes(MARGINS), 300) == 1.0).all()
    assert (inclusion_chances(item_sizes(MARGINS), 1000) == 1.0).all()


@pytest.mark.parametrize("n", [40, 150])
def test_items_are_read_as_often_as_their_chance_says(n: int) -> None:
    """2,000 draws with other numbers: an item is read as often as its chance says within 4.5 standard errors and two points, by which
    the draw of a fixed number of items differs from independent ones where a chance is near 1."""
    sizes, generator = item_sizes(MARGINS), np.random.default_rng(8)
    chance, count = inclusion_chances(sizes, n), np.zeros(300)
    for _ in range(2000):
        numbers = generator.random(300)
        hashes = [f"{int(number * 16**13):013x}" for number in numbers]
        count += chosen(hashes, sizes, n)
    error = np.sqrt(chance * (1 - chance) / 2000) + 1e-9
    assert (np.abs(count / 2000 - chance) < 4.5 * error + 0.02).all()


def test_a_larger_number_keeps_the_items_of_a_smaller_one() -> None:
    hashes, sizes = [text_digest(str(number)) for number in range(300)], item_sizes(MARGINS)
    reads = [chosen(hashes, sizes, n) for n in (10, 100, 250, 300)]
    assert [int(read.sum()) for read in reads] == [10, 100, 250, 300]
    assert all((fewer <= more).all() for fewer, more in pairwise(reads))


def test_with_equal_margins_the_draw_is_that_of_the_smallest_digests() -> None:
    hashes = [text_digest(str(number)) for number in range(100)]
    read = chosen(hashes, item_sizes(np.ones(100)), 30)
    assert {each for each, is_read in zip(hashes, read, strict=True) if is_read} == set(sorted(hashes)[:30])
