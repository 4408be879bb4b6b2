"""The model's chat template and tokenizer for the data contract, with the same rendering as in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_contracts.errors import CheckpointError, RenderingError
from data_contracts.model.window import read_window, shortest
from data_contracts.rendering import RowText, TextRenderer
from flows.text.token_counts import TokenCounter
from osft_engine.config import TrainConfig


def read_tokenizer(model: Path, *, trust_remote_code: bool = False) -> Any:
    """The tokenizer of a model folder, from local files only. Raises CheckpointError."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(model, local_files_only=True, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        what = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(str(model), f"its tokenizer cannot be loaded: {what}", "check the model folder") from error


def open_text(model: Path, train: TrainConfig) -> TextRenderer:
    """The renderer of a round: the model's tokenizer with the template and variables of `train`."""
    return TextRenderer(read_tokenizer(model, trust_remote_code=train.trust_remote_code), train.chat_template, train.chat_template_kwargs)


class TokenizerRenderer:
    """Implements data_contracts.validate.ChatRenderer with a Hugging Face tokenizer. The limit of a row is the smaller of the context
    window and train.max_seq_len."""

    def __init__(self, model: Path, train: TrainConfig) -> None:
        self.text = open_text(model, train)
        self.max_tokens = (
            shortest(train.max_seq_len, read_window(model) if (model / "config.json").is_file() else None) or train.max_seq_len
        )
        self._counter = TokenCounter(
            read_tokenizer(model, trust_remote_code=train.trust_remote_code)
        )  # with a tokenizer of its own, whose settings it changes

    def render(self, rows: Sequence[Mapping[str, Any]]) -> list[RowText | RenderingError]:
        """The text of each row as in training, or the error."""
        return [self._render_one(row) for row in rows]

    def _render_one(self, row: Mapping[str, Any]) -> RowText | RenderingError:
        try:
            return self.text.row_text(row, "")
        except RenderingError as error:  # returned: an error of the row, not of the program
            return error

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each rendered text; the template has already placed the special ones."""
        return self._counter.counts(texts)
