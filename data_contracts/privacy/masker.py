"""Takes secrets out of texts that leave the machine: log lines and the support bundle."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from data_contracts.privacy.secrets import find_secrets

_SECRET_NAME = re.compile(r"(?i)passw|secret|token(?:$|_)|credential|auth_string|webhook|api_?key|access_key|signing_key|connection_url")
_SHORTEST = 6
"""A value shorter than this is not masked wherever it occurs: `admin` or `1` would take half of the text with it."""

MASK = "[secret]"


def is_secret(name: str) -> bool:
    """Whether the name of an environment variable says that its value is a secret."""
    return _SECRET_NAME.search(name) is not None


class Masker:
    """Replaces secrets in texts: the values of secret variables, passwords in addresses, and what drops are searched for."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        values = {value for name, value in environment.items() if is_secret(name)}
        parts = {part for value in values for part in (value, value.partition(":")[2])}
        parts |= {_password(value) for value in environment.values() if "://" in value and "@" in value}
        parts |= {json.dumps(part, ensure_ascii=False)[1:-1] for part in parts}  # as a JSON text of the bundle holds it
        self._values = sorted((part for part in parts if len(part) >= _SHORTEST), key=len, reverse=True)
        self.count = 0

    def __call__(self, text: str) -> str:
        for value in self._values:
            self.count += text.count(value)
            text = text.replace(value, MASK)
        for span in sorted(find_secrets(text), key=lambda each: each.start, reverse=True):
            if MASK not in text[span.start : span.end]:
                self.count += 1
                text = text[: span.start] + MASK + text[span.end :]
        return text


def _password(address: str) -> str:
    try:
        return urlsplit(address).password or ""
    except ValueError:  # not an address after all
        return ""
