"""Spellings of one text that a reader takes for the same, brought to one form before texts are compared.

plain_text    compatibility forms (NFKC), case, invisible characters, and letters that look like Latin ones
content_of    the words and signs that a short text consists of: two texts are the same where these are
"""

from __future__ import annotations

import re
import unicodedata

#: What is drawn as nothing: soft hyphen, zero-width spaces and joiners, marks of direction, variation selectors, tags.
_UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0"
    "\U000e0000-\U000e0fff]"
)
#: Letters of other scripts that are drawn as a Latin one (from Unicode's confusables.txt, UTS 39): what stands for what, pair by pair.
_PAIRS = (
    "аaеeоoрpсcуyхxіiїiјjѕsһhԁdԛqԝwѵvӏlгrкkвbмmнhтtёe АAВBЕEКKМMНHОOРPСCТTУYХXІIЇIЈJЅSҺHԀDԚQԜWѴVӀLГRЁE "  # Cyrillic
    "αaβbεeγyιiκkνvοoρpτtυuχxηnωw ΑAΒBΕEΖZΗHΙIΚKΜMΝNΟOΡPΤTΥYΧX "  # Greek
    "օoոnսuցgհhյjզq ɑaɡgɩiıiɪiʏyʟlᴏoᴠvᴡwᴢz"  # Armenian, small capitals and variants of Latin
).replace(" ", "")
_LOOKALIKES = str.maketrans(_PAIRS[::2], _PAIRS[1::2])
_MARKS = re.compile(r"[^\w\s]{31,}")
#: Emphasis of Markdown around words; the signs inside code stay.
_EMPHASIS = re.compile(r"(?<![\w*_`~\\])(\*{1,3}|_{1,3}|`{1,3}|~~)(?=[^\s*_`~])([^*_`~\n]{1,100})(?<=\S)\1(?![\w*_`~])")
_CONTENT = re.compile(r"\\.|[^\W_]+|[^\w\s]|_", re.DOTALL)
#: Signs that come with sentences, and count only in a text that holds signs of code.
_PROSE = frozenset(".,;:!?'\"()-")
#: A question mark after a bracket or a full stop ends a question ("is it (now)?"), unless the text goes on behind it without a space.
_CODE = re.compile(r"[\\\[\]{}<>=^|~]|[.)][+*$]|[.)]\?(?=[\w(.])|\(\?(?=[:!][\w(]|[aimsux]+\))")
#: Signs that dress a text up without changing what it says.
DECORATION = frozenset("*_#`~|>=")
_SIGNS = re.compile(r"[^\w\s.,;:!?'\"()-]|_")


def stream_safe(text: str) -> str:
    """At most 30 combining marks in a row (Unicode's stream-safe form, UAX 15): sorting more would cost their number squared."""
    return text if text.isascii() else _MARKS.sub(_joined, text)


def _joined(run: re.Match[str]) -> str:
    parts, marks = [], 0
    for char in run.group():
        marks = marks + 1 if unicodedata.combining(char) else 0
        if marks > 30:
            parts.append("\u034f")
            marks = 1
        parts.append(char)
    return "".join(parts)


def plain_text(text: str) -> str:
    """For a text that is not ASCII: one form for all spellings that look the same to a reader."""
    return unicodedata.normalize("NFKC", stream_safe(_UNSEEN.sub("", text))).translate(_LOOKALIKES).casefold()


def has_code(text: str) -> bool:
    """Whether every mark of a text has a meaning, as in code."""
    return _CODE.search(text) is not None


def content_of(text: str, *, marks: bool | None = None) -> list[str]:
    """Words and signs, in order. Emoji, operators and every other sign count; the marks of sentences and emphasis do not, unless the text
    holds signs of code, in which each of them has a meaning. `marks` decides that instead of the text."""
    seen = _UNSEEN.sub("", text)
    if not text.isascii():
        seen = unicodedata.normalize("NFKC", stream_safe(seen)).translate(_LOOKALIKES)
    if _SIGNS.search(seen):
        seen = _EMPHASIS.sub(r"\2", seen)
    parts: list[str] = _CONTENT.findall(seen)
    if has_code(seen) if marks is None else marks:
        return [part if len(part) == 1 or part[0] == "\\" else part.casefold() for part in parts]  # [A-Z] is not [a-z]
    return [part.casefold() for part in parts if not _is_prose(part)]


def _is_prose(part: str) -> bool:
    if part in _PROSE:
        return True
    return not part.isascii() and len(part) == 1 and unicodedata.category(part)[0] in "PM"


def is_plain_prose(text: str) -> bool:
    """ASCII without a sign that counts and without code: its content is its words."""
    return text.isascii() and _SIGNS.search(text) is None and not has_code(text)
