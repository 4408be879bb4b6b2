"""The renderer says what the model's own template and tokenizer say, many conversations at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_contracts.errors import CheckpointError
from flows.demo.tokenizer import build_tokenizer
from flows.renderer import TokenizerRenderer


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with a tokenizer whose template refuses system turns."""
    tokenizer = build_tokenizer()
    refusal = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turns') }}{% endif %}"
    tokenizer.chat_template = refusal + tokenizer.chat_template
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def chat(question: str, *, system: bool = False) -> list[dict[str, str]]:
    head = [{"role": "system", "content": "Be brief."}] if system else []
    return [*head, {"role": "user", "content": question}, {"role": "assistant", "content": "yes"}]


def test_one_conversation_that_the_template_refuses_leaves_the_others_alone(model: Path) -> None:
    renderer = TokenizerRenderer(model, max_tokens=64)
    rendered = renderer.render([chat("copy kmp"), chat("copy kmp", system=True), chat("again")])
    whole = [renderer.render([chat(question)])[0] for question in ("copy kmp", "again")]
    assert [rendered[0], rendered[2]] == whole
    assert isinstance(rendered[1], Exception)
    assert "no system turns" in str(rendered[1])


def test_texts_and_counts_are_the_tokenizer_s(model: Path) -> None:
    renderer, tokenizer = TokenizerRenderer(model, max_tokens=64), build_tokenizer()
    conversations = [chat(f"copy {'kmp ' * n}") for n in range(40)]
    texts = [str(text) for text in renderer.render(conversations)]
    assert texts == [tokenizer.apply_chat_template(turns, tokenize=False) for turns in conversations]
    assert renderer.token_counts(texts) == [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]


def test_a_folder_without_a_tokenizer_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="its tokenizer cannot be loaded"):
        TokenizerRenderer(tmp_path, max_tokens=64)
