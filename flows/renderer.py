"""The model's own chat template and tokenizer, as the data contract asks for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_contracts.errors import CheckpointError
from flows.token_counts import TokenCounter


class TokenizerRenderer:
    """Implements data_contracts.validate.ChatRenderer with a Hugging Face tokenizer."""

    def __init__(self, model: Path, max_tokens: int, *, trust_remote_code: bool = False) -> None:
        from transformers import AutoTokenizer

        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(model, trust_remote_code=trust_remote_code)
        except (OSError, ValueError) as error:
            raise CheckpointError(
                str(model), f"its tokenizer cannot be loaded: {str(error).splitlines()[0]}", "check the model folder"
            ) from error
        self.max_tokens = max_tokens
        self._counter = TokenCounter(self._tokenizer)

    def render(self, conversations: Sequence[Sequence[Mapping[str, Any]]]) -> list[str | Exception]:
        """The exact text of each conversation, or what the template raised. One call for all of them, unless it refuses one."""
        try:
            return list(self._tokenizer.apply_chat_template([list(turns) for turns in conversations], tokenize=False))
        except Exception:  # a template raises what its author chose: find out for which conversation
            return [self._render_one(turns) for turns in conversations]

    def _render_one(self, turns: Sequence[Mapping[str, Any]]) -> str | Exception:
        try:
            return str(self._tokenizer.apply_chat_template(list(turns), tokenize=False))
        except Exception as error:  # handed on: the row is at fault, not the program
            return error

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each rendered text; the template has already placed the special ones."""
        return self._counter.counts(texts)
