"""What gives a held-out item away and what does not, asked of the index itself: runs, whole questions, short questions inside a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from data_contracts.matching.heldout_index import HeldoutIndex
from data_contracts.matching.heldout_items import HeldoutItem, heldout_item
from data_contracts.rows.words import word_batch

Prose = Callable[[int, int], str]
NONE = np.empty(0, np.uint64)


def _hits(items: Sequence[HeldoutItem], *rows: Sequence[str], contained: bool = True, own_words: int = 9) -> dict[int, int]:
    """row -> line of the item that it gives away."""
    index = HeldoutIndex(items, NONE, 13, own_words, contained=contained)
    return {row: item.line for row, item in sorted(index.hits(word_batch(rows), lambda row: rows[row]).items())}


def test_thirteen_words_in_a_row_give_an_item_away_and_twelve_do_not(prose: Prose) -> None:
    item = HeldoutItem("s", 7, (prose(1, 40),), "yes")
    words = prose(1, 40).split()
    assert _hits([item], ["start", " ".join(words[5:18]), "end"], [" ".join(words[5:17])]) == {0: 7}
    assert _hits([item], [" ".join(words[5:11]), " ".join(words[11:18])]) == {0: 7}, "a run may reach over the turns of one row"


def test_the_template_of_a_suite_gives_nothing_away(prose: Prose) -> None:
    frame = "choose the best of the following answers to the question that stands below and say why it is"
    items = [HeldoutItem("s", line, (f"{frame} {prose(line, 30)}",)) for line in range(40)]
    assert _hits(items, [f"{frame} {prose(900, 30)}"]) == {}
    assert _hits(items, [f"{frame} {prose(3, 30)}"]) == {0: 3}


def test_a_very_short_question_counts_only_beside_its_answer() -> None:
    item = HeldoutItem("s", 1, ("2 + 2",), "4")
    assert _hits([item], ["2 + 2", "4"], ["2 + 2", "5"], ["4", "2 + 2"]) == {0: 1}


@pytest.mark.parametrize("contained", [True, False])
def test_a_short_question_inside_other_text_counts_where_it_is_asked_for(contained: bool) -> None:
    item = HeldoutItem("s", 1, ("Which metal melts in your hand?",), "gallium")
    rows = (
        ["Tell me: which metal melts in your hand?"],
        ["which metal melts in your hand"],
        [f"which metal melts in your hand {'so ' * 9}"],
    )
    assert _hits([item], *rows, contained=contained) == ({0: 1, 1: 1} if contained else {1: 1})


def test_a_conversation_counts_with_its_answer_wherever_it_stands_in_a_longer_one() -> None:
    turns = [("user", "Book a table"), ("assistant", "For when?"), ("user", "Tomorrow"), ("assistant", "Done.")]
    item = heldout_item("s", 1, {"messages": [{"role": role, "content": text} for role, text in turns]})
    said = [text for _, text in turns]
    rows = (
        [*said, "Thanks", "Welcome."],
        ["You are a waiter.", *said],
        ["BOOK a table!", *said[1:]],
        [*said[:3], "Sorry, full."],
        said[:2],
        [*said[:2], "Today", "Done."],
        said[2:],
    )
    assert _hits([item], *rows) == {0: 1, 1: 1, 2: 1}
    assert _hits([item], said[:2], said[2:]) == {}, "one row each"


def test_a_question_of_two_items_is_not_looked_for_inside_other_text() -> None:
    items = [HeldoutItem("s", line, ("Which metal melts in your hand?",), answer) for line, answer in enumerate(("gallium", "iron"), 1)]
    assert _hits(items, ["Tell me: which metal melts in your hand?"]) == {}


def test_items_are_counted_by_suite() -> None:
    index = HeldoutIndex([HeldoutItem(name, 1, ("what is it?",)) for name in "aba"], NONE, 13, 9, contained=True)
    assert (len(index), index.suites) == (3, {"a": 2, "b": 1})
    assert len(HeldoutIndex([], NONE, 13, 9, contained=True)) == 0
