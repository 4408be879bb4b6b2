"""What people write is shown as exactly that in Markdown: no mark of it is in force."""

from __future__ import annotations

import pytest

from data_contracts.escaping import markdown_text, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31m", "\\x1b[31m"),
        ("a\u202eb", "a\\u202eb"),
        ("tab\tand\nline", "tab\tand\nline"),
        ("\x00\x7f\x9b", "\\x00\\x7f\\x9b"),
        ("é 漢 😀", "é 漢 😀"),
    ],
)
def test_controls_are_shown_and_letters_stay(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a | b", "a \\| b"),
        ("[x](http://y)", "\\[x\\](http://y)"),
        ("`code` and *stars*", "\\`code\\` and \\*stars\\*"),
        ("snake_case_name", "snake_case_name"),
        ("_emphasis_", "\\_emphasis\\_"),
        ("# title", "\\# title"),
        ("- point", "\\- point"),
        ("a - b", "a - b"),
        ("1. first", "1\\. first"),
        ("12) twelfth", "12\\) twelfth"),
        ("two\nlines  here", "two lines here"),
        ("<b> & </b>", "&lt;b&gt; &amp; &lt;/b&gt;"),
    ],
)
def test_markdown_shows_the_text_on_one_line(text: str, escaped: str) -> None:
    assert markdown_text(text) == escaped
