"""Whether a candidate reproduces rows that it was trained on, and what that means where its suite shows nothing learned.

A model that reproduces its training rows, and scores near zero on held-out items of the same skill, has either memorised the rows or is
measured wrongly: the prompts of the suite differ from those of the rows, or its answers are read differently. A person has to look; a
verdict of "not learned" would be unfounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evals.config import SuiteConfig
from evals.suites.resolve import has_chats

ROWS = 16  # generated once for each candidate: enough to distinguish most from few
REPRODUCED = 0.75  # of the rows; a model that learned nothing reproduces almost none
NEAR_ZERO = 0.1  # of the way from chance to a perfect score


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
    form = {"source": str(taught.rows), "metric": "exact_match", "choices": (), "chat": True, "gold": "", "few_shot": None, "cluster": ""}
    # Of the rows that end with an answer that is learned; documents have no question.
    kept = {"where": "messages is defined and messages[-1].weight | default(1) != 0", "duplicates": "drop", "items": ROWS}
    return own.model_copy(update={"name": f"{taught.skill}.taught", "sealed": True} | form | kept)


def find_doubt(score: float, choices: Sequence[int], reproduced: Sequence[float]) -> str:
    """Why a suite's score may be wrong, as a phrase; empty where there is no reason.

    `choices` are the numbers of choices of the suite's items (empty where answers are generated), `reproduced` is 1 for each row that
    the model reproduced and 0 for each that it did not.
    """
    if not reproduced:
        return ""
    guessing = sum(1.0 / count for count in choices) / len(choices) if choices else 0.0
    right = int(sum(reproduced))
    learned_nothing = not score > guessing + NEAR_ZERO * (1.0 - guessing)
    if not (learned_nothing and right >= REPRODUCED * len(reproduced)):
        return ""
    beside = f", where guessing gives {100 * guessing:.1f}" if guessing else ""
    return f"{right} of {len(reproduced)} training rows are reproduced word for word, and the suite scores {100 * score:.1f}{beside}"
