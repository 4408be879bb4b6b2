"""The tokenizer that the project builds is the one that nano is shipped with."""

from __future__ import annotations

from typing import Any

from flows.demo.tokenizer import build_tokenizer
from flows.demo.train_nano import chat_row


def test_its_tokenizer_is_the_one_that_the_project_builds(loaded: tuple[Any, Any]) -> None:
    shipped, built = loaded[1], build_tokenizer()
    text = "".join(chat_row("route the parcel of order 4821 is not right", "shipping")) + "\nWords it never saw, in ASCII: Zebra!"
    assert shipped(text).input_ids == built(text).input_ids
    assert shipped.get_vocab() == built.get_vocab()
    assert shipped.chat_template == built.chat_template
    assert shipped.decode(shipped(text).input_ids) == text
