"""The renderer says what the model's own template and tokenizer say, many conversations at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data_contracts.errors import CheckpointError, RenderingError
from data_contracts.rendering import RowText
from flows.demo.tokenizer import build_tokenizer
from flows.text.renderer import TokenizerRenderer, open_text
from osft_engine.config import TrainConfig

TRAIN = TrainConfig(max_seq_len=64)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with a tokenizer whose template refuses system turns."""
    tokenizer = build_tokenizer()
    refusal = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turns') }}{% endif %}"
    tokenizer.chat_template = refusal + tokenizer.chat_template
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def chat(question: str, *, system: bool = False) -> dict[str, Any]:
    head = [{"role": "system", "content": "Be brief."}] if system else []
    return {"messages": [*head, {"role": "user", "content": question}, {"role": "assistant", "content": "yes"}]}


def test_one_conversation_that_the_template_refuses_leaves_the_others_alone(model: Path) -> None:
    renderer = TokenizerRenderer(model, TRAIN)
    rendered = renderer.render([chat("copy kmp"), chat("copy kmp", system=True), chat("again")])
    whole = [renderer.render([chat(question)])[0] for question in ("copy kmp", "again")]
    assert [rendered[0], rendered[2]] == whole
    assert isinstance(rendered[1], RenderingError)
    assert "no system turns" in str(rendered[1])


def test_texts_and_counts_are_the_tokenizer_s(model: Path) -> None:
    renderer, tokenizer = TokenizerRenderer(model, TRAIN), build_tokenizer()
    conversations = [chat(f"copy {'kmp ' * n}") for n in range(40)]
    texts = [text for each in renderer.render(conversations) if isinstance(each, RowText) for text in each.texts]
    assert texts == [tokenizer.apply_chat_template(row["messages"], tokenize=False) for row in conversations]
    assert renderer.token_counts(texts) == [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]


def test_a_folder_without_a_tokenizer_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="its tokenizer cannot be loaded"):
        TokenizerRenderer(tmp_path, TRAIN)


def test_validation_reads_what_training_reads(model: Path) -> None:
    template = "{{ greeting }}{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
    train = TrainConfig(chat_template=template, chat_template_kwargs={"greeting": "hi "})
    renderer = TokenizerRenderer(model, train)
    [text] = renderer.render([chat("copy kmp")])
    assert isinstance(text, RowText)
    assert text.texts == ("hi <|user|>copy kmp<|end|><|assistant|>yes<|end|>",)
    [example] = open_text(model, train).render_row(chat("copy kmp"), "row", max_tokens=64)
    assert renderer.token_counts(text.texts) == [len(example.ids)]


def test_rows_are_counted_by_the_models_own_window(model: Path) -> None:
    (model / "config.json").write_text('{"n_positions": 32}')
    assert TokenizerRenderer(model, TRAIN).max_tokens == 32
    assert TokenizerRenderer(model, TrainConfig(max_seq_len=16)).max_tokens == 16
