"""The files of nano's demo: monthly drops, suites of its base skills, text for drift and for calibration.

Everything is generated from a seed, so the same call writes the same bytes on every machine.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_contracts.errors import ConfigError
from data_contracts.files import write_rows
from flows.demo.skills import BASE_SKILLS, NEW_SKILLS, PRACTICE, Skill, pairs
from flows.demo.text import passage

DROP_ROWS = 1200
SUITE_ITEMS = 200
DRIFT_TEXTS = 150
CALIBRATION_ROWS = 1200


@dataclass(frozen=True)
class BaseSuites:
    """Files for what nano must keep. suites: base skill -> file of {"prompt", "answer"} items; drift and calibration are text."""

    suites: Mapping[str, Path]
    drift: Path
    calibration: Path


def write_base_suites(folder: Path, *, seed: int = 1) -> BaseSuites:
    """Held-out items of every base skill, held-out text, and mixed text that represents round 0 in the subspace memory."""
    suites = {}
    for name, skill in BASE_SKILLS.items():
        rng = random.Random(f"suite {name} {seed}")
        items = distinct_pairs(skill, rng, SUITE_ITEMS, heldout=True)
        suites[name] = write_rows(folder / f"{name}.jsonl", ({"prompt": prompt, "answer": answer} for prompt, answer in items))
    texts = random.Random(f"drift {seed}")
    drift = write_rows(folder / "prose.jsonl", ({"text": passage(texts)} for _ in range(DRIFT_TEXTS)))
    return BaseSuites(suites, drift, write_rows(folder / "calibration.jsonl", calibration_rows(seed)))


def calibration_rows(seed: int = 1) -> list[dict[str, Any]]:
    """What nano learned before the first drop: questions of all kinds with their answers, and a quarter plain text."""
    rng = random.Random(f"calibration {seed}")
    kinds = (*BASE_SKILLS.values(), PRACTICE)
    sources = [pairs(skill, rng, heldout=False) for skill in kinds]
    rows: list[dict[str, Any]] = []
    while len(rows) < CALIBRATION_ROWS:
        rows += [_chat(*next(source)) for source in sources]
        rows += [{"text": passage(rng)} for _ in range(3)]
    return rows[:CALIBRATION_ROWS]


def write_drop(skill: str, path: Path, seed: int = 0, *, rows: int = DROP_ROWS) -> Path:
    """One month's drop: `rows` chat rows of a new skill, no prompt twice. Raises ConfigError for a skill that the demo does not have."""
    if skill not in NEW_SKILLS:
        raise ConfigError(skill, "is not a new skill of the demo", f"the new skills are {', '.join(NEW_SKILLS)}")
    rng = random.Random(f"drop {skill} {seed}")
    return write_rows(path, (_chat(*pair) for pair in distinct_pairs(NEW_SKILLS[skill], rng, rows, heldout=False)))


def distinct_pairs(skill: Skill, rng: random.Random, count: int, *, heldout: bool) -> list[tuple[str, str]]:
    """`count` pairs with different prompts, in the order of generation."""
    found: dict[str, str] = {}
    for prompt, answer in pairs(skill, rng, heldout=heldout):
        found.setdefault(prompt, answer)
        if len(found) == count:
            break
    return list(found.items())


def _chat(prompt: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]}
