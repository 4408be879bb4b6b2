"""Nothing that a report shows may hold a secret or personal data: every text passes through `mask` first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data_contracts.privacy.personal_data import find_personal_data
from data_contracts.privacy.secrets import find_secrets

#: Characters of a text that can be shown at most; more is cut before it is searched, so that a line of 32 MB costs nothing.
SEARCHED, SHOWN, LONGEST_REASON = 65_536, 4_000, 400


def mask(text: str) -> str:
    """The text with each secret and each piece of personal data replaced by its kind in brackets."""
    found = sorted((*find_secrets(text), *find_personal_data(text)), key=lambda hit: (hit.start, -hit.end))
    parts, place = [], 0
    for hit in found:
        if hit.start >= place:
            parts += [text[place : hit.start], f"[{hit.kind}]"]
        place = max(place, hit.end)
    return "".join([*parts, text[place:]]) if found else text


def one_line(reason: str) -> str:
    """A reason as a report may show it: masked, without control characters (names of fields come from the drop), and short."""
    masked = mask(reason[:SEARCHED])
    plain = masked if masked.isprintable() else "".join(char if char.isprintable() else " " for char in masked)
    return plain if len(plain) <= LONGEST_REASON else f"{plain[: LONGEST_REASON - 1]}…"


def shown(text: str) -> str:
    """A text as a report may show it: masked, then cut."""
    masked = mask(text[:SEARCHED])
    return masked if len(masked) <= SHOWN else f"{masked[:SHOWN]} … ({len(text)} characters)"


def mask_value(value: Any) -> Any:
    """A JSON value with every string in it masked, names of fields included."""
    if isinstance(value, str):
        return mask(value[:SEARCHED])
    if isinstance(value, Mapping):
        return {mask(str(name)[:SEARCHED]): mask_value(part) for name, part in value.items()}
    if isinstance(value, list):
        return [mask_value(part) for part in value]
    return value
