"""Side by side: the items that were lost and won are those whose scores say so, stored as they were, shown without template marks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evals.items import load_evaluation
from evals.report.answers import AT_ONCE, SHOWN, answer_suites, compare_answers, mark_difference, read_answers, write_answers


@pytest.fixture
def two(make_suite, make_evaluation):
    """Champion and candidate: `old` lost items 0 to 4 and won item 9; `new` is right on items 0 to 29 of 40."""
    old, now = np.r_[np.ones(8), np.zeros(12)], np.r_[np.zeros(5), np.ones(3), np.zeros(1), np.ones(1), np.zeros(10)]
    text = [f"<|im_start|>user\nQuestion {index}<|im_end|>\n<|im_start|>assistant\n" for index in range(20)]

    def build(name: str, score: np.ndarray, new: np.ndarray, likely: np.ndarray):
        suite = make_suite("old", score, logprob=likely)
        return make_evaluation(
            name,
            type(suite)(**{**suite.__dict__, "prompt": tuple(text)}),
            make_suite("new", new),
            make_suite("old.sealed", score, sealed=True),
            make_suite("prose", np.linspace(1, 2, 20) * (1 if name == "champion" else 1.1), category="drift"),
        )

    before = build("champion", old, np.zeros(40), np.full(20, -1.0))
    after = build("candidate", now, np.r_[np.ones(30), np.zeros(10)], np.linspace(-3, -1, 20))
    return before, after


def test_what_is_lost_and_won_is_what_the_scores_say(two) -> None:
    before, after = two
    answers = compare_answers(after, before, "new")
    then, now = (pd.Series(each.suites["old"].score, index=each.suites["old"].doc_hash) for each in two)
    mine = [answer for answer in answers if answer.suite == "old"]
    assert {answer.doc_hash for answer in mine if answer.kind == "lost"} == set(now.index[(then == 1) & (now == 0)])
    assert {answer.doc_hash for answer in mine if answer.kind == "won"} == set(now.index[(then == 0) & (now == 1)])
    lost = [answer for answer in mine if answer.kind == "lost"]
    changes = [(answer.candidate_logprob or 0) - (answer.champion_logprob or 0) for answer in lost]
    assert changes == sorted(changes), "the answer that became least likely comes first"
    assert mine[: len(lost)] == lost
    first = lost[0]
    assert (first.gold, first.champion, first.candidate) == ("answer 0", "answer 0", "not answer 0")


def test_of_the_new_skill_every_item_is_there_in_an_order_that_scores_do_not_decide(two) -> None:
    before, after = two
    mine = [answer for answer in compare_answers(after, before, "new") if answer.suite == "new"]
    assert [answer.kind for answer in mine] == ["wrong"] * 10 + ["right"] * 30
    for kind in ("wrong", "right"):
        digests = [answer.doc_hash for answer in mine if answer.kind == kind]
        assert digests == sorted(digests)


def test_sealed_texts_and_drift_are_not_in_it(two) -> None:
    before, after = two
    assert {answer.suite for answer in compare_answers(after, before, "new")} == {"old", "new"}


def test_other_items_on_the_two_checkpoints_are_not_compared(make_suite, make_evaluation) -> None:
    before = make_evaluation("a", make_suite("old", np.ones(20)))
    after = make_evaluation("b", make_suite("old", np.zeros(21)))
    assert compare_answers(after, before, None) == ()


def test_the_file_has_all_of_it_and_the_same_bytes_again(two, tmp_path: Path) -> None:
    before, after = two
    answers = compare_answers(after, before, "new")
    first, second = (write_answers(tmp_path / name, answers) for name in ("a.parquet", "b.parquet"))
    assert first.read_bytes() == second.read_bytes()
    assert read_answers(first) == answers
    table = pd.read_parquet(first)
    assert len(table) == 6 + 40
    assert table["prompt"][0].startswith("<|im_start|>user"), "stored as the model read it"


def test_no_answers_are_a_file_too(tmp_path: Path) -> None:
    assert read_answers(write_answers(tmp_path / "none.parquet", ())) == ()


def test_they_can_be_computed_again_from_the_stored_items(two, tmp_path: Path, store_evaluation) -> None:
    before, after = two
    stored = [load_evaluation(store_evaluation(each, tmp_path / name)) for name, each in (("before", before), ("after", after))]
    assert compare_answers(stored[1], stored[0], "new") == compare_answers(after, before, "new")


def test_a_page_shows_the_new_skill_first_and_some_of_every_kind(two) -> None:
    before, after = two
    new, old = answer_suites(compare_answers(after, before, "new"))
    assert (new.suite, new.counts) == ("new", {"wrong": 10, "right": 30})
    assert [card.kind for card in new.first] == ["wrong"] * AT_ONCE + ["right"] * AT_ONCE
    assert len(new.first) + len(new.more) == 10 + SHOWN["right"]
    assert (old.suite, old.counts) == ("old", {"lost": 5, "won": 1})
    assert old.first[0].prompt == "Question 0"


def test_what_differs_is_marked_and_nothing_becomes_markup() -> None:
    was, now = mark_difference("route to the <b>billing</b> team", "route to the sales team")
    assert str(was) == "route to the <del>&lt;b&gt;billing&lt;/b&gt; </del>team"
    assert str(now) == "route to the <ins>sales </ins>team"
    assert [str(each) for each in mark_difference("okqkr", "okqkrz")] == ["okqkr", "okqkr<ins>z</ins>"]
    assert [str(each) for each in mark_difference("729", "22")] == ["<del>729</del>", "<ins>22</ins>"]
    assert [str(each) for each in mark_difference("same", "same")] == ["same", "same"]
    assert [str(each) for each in mark_difference("travel", "")] == ["<del>travel</del>", ""]
