"""The settings of a step size's schedule: transformers' names, and numbers that were given as text."""

from __future__ import annotations

import math
from typing import Literal


def refuse_metric_followers(name: object) -> object:
    """Two schedules of transformers are no function of the step: a resumed run could not compute its step size."""
    if name in ("reduce_lr_on_plateau", "greedy"):
        raise ValueError(f"{name} follows a metric while it trains; take a schedule of steps, such as cosine or warmup_stable_decay")
    return name


def numbers(settings: dict[str, bool | int | float | str]) -> dict[str, bool | int | float | str]:
    """Numbers given as text become numbers: Training Hub's type for these settings is text."""
    return {name: number(value) if isinstance(value, str) else value for name, value in settings.items()}


def number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        if not math.isfinite(value):
            raise ValueError(f"{text!r} is not a finite number")
        return value
    return text


Scheduler = Literal[
    "linear",
    "cosine",
    "constant",
    "constant_with_warmup",
    "cosine_with_restarts",
    "cosine_with_min_lr",
    "cosine_warmup_with_min_lr",
    "polynomial",
    "inverse_sqrt",
    "warmup_stable_decay",
]
