"""How many directions a ratio makes trainable. Without torch, so that a page can count before torch is loaded."""

from __future__ import annotations


def trainable_count(directions: int, ratio: float) -> int:
    """round(ratio * directions), at least one: a layer that was named as a target trains something."""
    return max(1, min(directions, round(ratio * directions)))
