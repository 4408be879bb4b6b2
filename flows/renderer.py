"""The model's own chat template and tokenizer, as the data contract asks for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_contracts.errors import CheckpointError


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
        self._last: tuple[Sequence[Mapping[str, Any]], str] = ((), "")

    def render(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """The exact text of a conversation. Raises what the template raises. Asked twice in a row, it is rendered once."""
        if self._last[0] is not messages:
            self._last = (messages, str(self._tokenizer.apply_chat_template(list(messages), tokenize=False)))
        return self._last[1]

    def token_count(self, messages: Sequence[Mapping[str, Any]]) -> int:
        """Tokens of the rendered conversation; the template has already placed the special ones."""
        return len(self._tokenizer(self.render(messages), add_special_tokens=False)["input_ids"])
