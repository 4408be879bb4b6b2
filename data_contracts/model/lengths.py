"""Lengths past which a model reads the same tokens in another way. Rows that are read together must lie on one side of each, or the value
of one would depend on the others.

A sliding window hides early tokens from late ones. longrope and dynamic RoPE (transformers' modeling_rope_utils) turn every position by the
length of the longest row that is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

UNLIMITED = 1 << 22
_WINDOWS = ("sliding_window", "sliding_window_size", "attention_window_size", "attention_chunk_size", "window_size")


@dataclass(frozen=True)
class LengthSteps:
    """window: tokens that the narrowest layer looks back over. switches: lengths past which longrope takes other frequencies.
    stretches: length past which dynamic RoPE has other frequencies for every length, or UNLIMITED."""

    window: int = UNLIMITED
    switches: tuple[int, ...] = ()
    stretches: int = UNLIMITED

    def turning(self, length: int) -> tuple[int, int]:
        """Rows of one turning get the same positions together as alone."""
        return sum(length > switch for switch in self.switches), length if length > self.stretches else 0

    @property
    def first(self) -> int | None:
        """Length past which an example changes how those beside it are read; None where none does."""
        return min((*self.switches, self.stretches)) if self.switches or self.stretches < UNLIMITED else None

    def reading(self, length: int) -> tuple[int, int, int]:
        """Rows of one reading may also get one mask in place of the model's own."""
        return (int(length > self.window), *self.turning(length))


def length_steps(config: Any) -> LengthSteps:
    """The steps of a model, from the configuration of its language model."""
    ropes = list(_ropes(config))
    trained = int(getattr(config, "max_position_embeddings", None) or UNLIMITED)
    longest = [_original(rope, config, trained) for rope in ropes if _kind(rope) in ("longrope", "su")]
    return LengthSteps(
        window=_narrowest(config),
        switches=tuple(sorted(set(longest))),
        stretches=trained if any("dynamic" in _kind(rope) for rope in ropes) else UNLIMITED,
    )


def _ropes(config: Any) -> Iterator[Mapping[str, Any]]:
    """The settings of RoPE: one mapping, or one for each type of layer inside it. A model's own code may keep the older name."""
    for name in ("rope_parameters", "rope_scaling"):
        settings = getattr(config, name, None)
        if isinstance(settings, Mapping):
            yield settings
            yield from (inner for inner in settings.values() if isinstance(inner, Mapping))


def _kind(rope: Mapping[str, Any]) -> str:
    return str(rope.get("rope_type") or rope.get("type") or "")


def _original(rope: Mapping[str, Any], config: Any, trained: int) -> int:
    name = "original_max_position_embeddings"
    return int(rope.get(name) or getattr(config, name, None) or trained)


def _narrowest(config: Any) -> int:
    windows = (getattr(config, name, None) for name in _WINDOWS)
    return min((window for window in windows if isinstance(window, int) and window > 0), default=UNLIMITED)
