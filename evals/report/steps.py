"""What to try next, as a page and as Markdown show it: the names of commands and settings between backticks are code."""

from __future__ import annotations

import re

from markupsafe import Markup

from data_contracts.escaping import markdown_text

_CODE = re.compile(r"`([A-Za-z][\w .-]*)`")


def step_html(step: str) -> Markup:
    parts = _CODE.split(step)
    return Markup("").join(Markup("<code>{}</code>").format(part) if index % 2 else part for index, part in enumerate(parts))


def step_markdown(step: str) -> str:
    plain = step.replace(_PLACE, " ")
    line, spans = markdown_text(_CODE.sub(_PLACE, plain)), [found[0] for found in _CODE.finditer(plain)]
    return "".join(part + span for part, span in zip(line.split(_PLACE), [*spans, ""], strict=True))


_PLACE = "\ue000"
"""Stands where code is while the rest is escaped: a character for private use, which no sentence has."""
