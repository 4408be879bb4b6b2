"""What people write is shown as exactly that in Markdown: no mark of it is in force."""

from __future__ import annotations

import html

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


def test_markdown_shows_the_text_itself(hostile: str) -> None:
    """By an independent renderer: CommonMark with tables and strikethrough, raw HTML allowed."""
    from markdown_it import MarkdownIt

    renderer = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    flat = " ".join(visible(hostile).split())
    assert renderer.render(markdown_text(hostile)) == f"<p>{html.escape(flat, quote=True)}</p>\n"
    table = renderer.render(f"| a | b |\n|---|---|\n| {markdown_text(hostile)} | end |\n")
    assert (table.count("<td>"), f"<td>{html.escape(flat, quote=True)}</td>" in table) == (2, True)


@pytest.mark.parametrize("start", ["# no heading", "- no item", "+ no item", "1. no list", "12) no list", "> no quote", "=== no rule"])
def test_markdown_begins_no_block(start: str) -> None:
    from markdown_it import MarkdownIt

    assert MarkdownIt("commonmark").render(markdown_text(start)) == f"<p>{html.escape(start)}</p>\n"
