"""A result that may be missing: what a view shows instead, so that one missing file does not break the page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from data_contracts.errors import SkillstackError

T = TypeVar("T")


@dataclass(frozen=True)
class Missing:
    """Why there is nothing to show: the text of the error, and what to do."""

    where: str
    what: str
    way_out: str

    def sentence(self) -> str:
        return f"{self.where}: {self.what}" + (f" ({self.way_out})" if self.way_out else "")


def attempt(ask: Callable[[], T]) -> T | Missing:
    """The result, or why there is none: for expected errors, and for files that disappear while they are read."""
    try:
        return ask()
    except SkillstackError as error:
        return Missing(error.where, error.what, error.way_out)
    except OSError as error:
        return Missing(str(error.filename or "file"), error.strerror or type(error).__name__, "it may have been removed; reload the page")
