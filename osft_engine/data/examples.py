"""A JSONL file to training examples: rendered, counted, and without the rows that do not fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data_contracts.errors import TrainingError
from data_contracts.rendering import Rendering, TextRenderer
from data_contracts.rows.jsonl import read_objects
from osft_engine.config import TrainConfig

#: One training example: ids, which of them count in the loss, and where they come from.
Example = Rendering


@dataclass(frozen=True)
class ExampleSet:
    """What a file gave, and what was left out of it."""

    examples: tuple[Example, ...]
    dropped_too_long: int
    dropped_without_loss: int

    @property
    def mean_tokens(self) -> float:
        return sum(len(example.ids) for example in self.examples) / max(1, len(self.examples))


def open_renderer(tokenizer: Any, config: TrainConfig) -> TextRenderer:
    """The renderer of a run: the tokenizer with the template and the variables that the config names."""
    return TextRenderer(tokenizer, config.chat_template, config.chat_template_kwargs)


def encode_row(renderer: TextRenderer, row: Mapping[str, Any], origin: str, *, unmask: bool, max_tokens: int) -> list[Example]:
    """One row as examples, without their text, which training does not need. Raises RenderingError."""
    return [replace(found, text="") for found in renderer.render_row(row, origin, unmask=unmask, max_tokens=max_tokens)]


def load_examples(path: Path, renderer: TextRenderer, *, max_tokens: int, unmask: bool = False) -> ExampleSet:
    """Tokenise a JSONL file. Examples over `max_tokens` and examples without a token to learn are left out and counted.

    Raises RenderingError for a row that the template cannot print, TrainingError where nothing is left to train on.
    """
    kept: list[Example] = []
    too_long = without_loss = 0
    for where, row in read_objects(path):
        origin = f"{path.name}{where.removeprefix(str(path))}"  # a step that fails names up to eight of them
        for example in encode_row(renderer, row, origin, unmask=unmask, max_tokens=max_tokens):
            if len(example.ids) > max_tokens:
                too_long += 1
            elif example.loss_tokens == 0:
                without_loss += 1
            else:
                kept.append(example)
    if not kept:
        what = (
            f"nothing to train on: {too_long} examples are longer than {max_tokens} tokens, {without_loss} have no token of the assistant's"
        )
        raise TrainingError(str(path), what, "raise max_seq_len, or check that the rows have assistant messages")
    return ExampleSet(tuple(kept), too_long, without_loss)
