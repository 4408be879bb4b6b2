"""Spellings that a reader takes for one text are one, and signs that change the meaning are not lost."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.rows.plain_text import content_of, has_code, is_plain_prose, plain_text, stream_safe

SAME = [
    ("Strasse", "stra\u00dfe"),
    ("file", "\ufb01le"),
    ("caf\u00e9", "cafe\u0301"),
    ("secret", "se\u200bcr\u00adet"),
    ("paper", "\u0440\u0430\u0440\u0435\u0433".replace("\u0433", "r")),
    ("A1", "\uff21\uff11"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_one_form_for_one_look(one: str, other: str) -> None:
    assert plain_text(one) == plain_text(other)


def test_words_that_look_different_stay_different() -> None:
    assert plain_text("caf\u00e9") != plain_text("cafe")
    assert plain_text("\u0442\u0435\u0441\u0442") != plain_text("text")


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("Who is it?", ["who", "is", "it"]),
        ("**Bold** _and_ `code`", ["bold", "and", "code"]),
        ("so good 😀", ["so", "good", "😀"]),
        ("2 + 2", ["2", "+", "2"]),
        ("2 - 2", ["2", "2"]),
        (r"a\d+", ["a", r"\d", "+"]),
        ("if (a < b)", ["if", "(", "a", "<", "b", ")"]),
        ("“Wer?” — Ich…", ["wer", "ich"]),
    ],
)
def test_signs_count_unless_they_only_dress_the_text(text: str, content: list[str]) -> None:
    assert content_of(text) == content


def test_in_code_every_mark_and_the_case_of_a_letter_count() -> None:
    assert has_code("[A-Z]")
    assert not has_code("a, b (and c)!")
    assert content_of("[A-Z]") != content_of("[a-z]")
    assert content_of("a.b", marks=True) == ["a", ".", "b"]
    assert content_of("[a]", marks=False) == ["[", "a", "]"]


@given(st.text(alphabet="ab .,!'-\n", max_size=30))
def test_plain_prose_is_its_words(text: str) -> None:
    assert is_plain_prose(text)
    assert content_of(text) == "".join(char if char.isalnum() else " " for char in text).split()


@pytest.mark.parametrize("text", ["Is it raining (now)?", "And so on, etc.?", "Is it this one (?)", "What (really?)!", "(is it (so)?)"])
def test_a_question_that_ends_with_a_bracket_is_prose(text: str) -> None:
    assert not has_code(text)
    assert is_plain_prose(text)
    assert content_of(text) == "".join(char.lower() if char.isalnum() else " " for char in text).split()


@pytest.mark.parametrize("text", ["a.?b", "(ab)?c", "(?:ab)c", "(?i)ab", "x.?(y)"])
def test_a_pattern_of_nothing_but_marks_of_sentences_is_code(text: str) -> None:
    assert has_code(text)
    assert not is_plain_prose(text)
    assert content_of(text) != content_of("".join(char for char in text if char.isalnum()))


@given(st.text(alphabet="abi .,;:!?'\"()-\n", max_size=30))
def test_one_rule_says_what_is_prose(text: str) -> None:
    """With marks of sentences alone a text is either code or prose, and what is prose is its words."""
    assert is_plain_prose(text) is not has_code(text)
    if is_plain_prose(text):
        assert content_of(text) == "".join(char if char.isalnum() else " " for char in text).split()


@given(st.text(alphabet="a\u0301\u0327b\u05b0", max_size=200))
def test_no_more_than_thirty_marks_in_a_row_and_short_runs_unchanged(text: str) -> None:
    safe = stream_safe(text)
    run = longest = 0
    for char in safe:
        run = run + 1 if unicodedata.combining(char) else 0
        longest = max(longest, run)
    assert longest <= 30
    assert safe.replace("\u034f", "") == text
