"""Text of people (reasons, names, file names, prompts) where it is shown: no markup, control character or line of it is taken for markup.

HTML pages escape by themselves (jinja2 with autoescape), the terminal prints through terminal.py; this is what both and Markdown need.
"""

from __future__ import annotations

import re

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_MARKDOWN = re.compile(r"[\\`*\[\]|~]|(?<![^\W_])_|_(?![^\W_])|^[#+=-]|(?<=^\d)[.)]|(?<=^\d\d)[.)]")


def visible(text: str) -> str:
    """Control characters (a terminal's escape sequences, changes of writing direction) as what they are: `\\x1b`."""
    return _CONTROLS.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def markdown_text(text: str) -> str:
    """One line of Markdown that shows exactly this text: in a sentence, a list or a cell of a table."""
    line = " ".join(visible(text).split())
    line = _MARKDOWN.sub(lambda found: "\\" + found.group(), line)
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
