"""Whether a candidate reproduces rows it was trained on, and what it means where its suite says that it learned nothing.

A model that gives back what it was taught, and scores near nothing on held-out items of the same skill, has either memorised the rows or
is measured wrongly: the suite asks in other words than the rows, or reads the answers otherwise. A person has to look; a verdict of "not
learned" would be worth nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evals.config import SuiteConfig
from evals.suites.resolve import has_chats

ROWS = 16  # generated once for each candidate: enough to tell most from few
REPRODUCED = 0.75  # of the rows; a model that learned nothing gives back next to none of them
NEAR_NOTHING = 0.1  # of the way from guessing to all right


@dataclass(frozen=True)
class Taught:
    """The rows that a candidate was trained on, and the skill that they teach."""

    skill: str
    rows: Path


def taught_suite(taught: Taught, suites: Sequence[SuiteConfig]) -> SuiteConfig | None:
    """A few rows of the drop as items, read as the skill's suite reads its own; None where it has no suite, or teaches documents."""
    own = next((suite for suite in suites if suite.name == taught.skill), None)
    if own is None or not has_chats(taught.rows):
        return None
    asked = {"source": str(taught.rows), "metric": "exact_match", "choices": (), "chat": True, "gold": "", "few_shot": None, "cluster": ""}
    # Of the rows that end with an answer that is learned; documents ask nothing.
    kept = {"where": "messages is defined and messages[-1].weight | default(1) != 0", "duplicates": "drop", "items": ROWS}
    return own.model_copy(update={"name": f"{taught.skill}.taught", "sealed": True} | asked | kept)


def find_doubt(score: float, choices: Sequence[int], reproduced: Sequence[float]) -> str:
    """Why a suite's score may be wrong, as a phrase; empty where there is no reason.

    `choices` are the numbers of choices of the suite's items (empty where answers are generated), `reproduced` is 1 for each row that the
    model gave back and 0 for each that it did not.
    """
    if not reproduced:
        return ""
    guessing = sum(1.0 / count for count in choices) / len(choices) if choices else 0.0
    right = int(sum(reproduced))
    learned_nothing = not score > guessing + NEAR_NOTHING * (1.0 - guessing)
    if not (learned_nothing and right >= REPRODUCED * len(reproduced)):
        return ""
    beside = f", where guessing gives {100 * guessing:.1f}" if guessing else ""
    return f"{right} of {len(reproduced)} training rows are given back word for word, and the suite scores {100 * score:.1f}{beside}"
