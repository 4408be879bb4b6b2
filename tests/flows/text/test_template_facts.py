"""What doctor and a round say of a model's text, and that doctor leaves the machine as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_contracts.errors import RenderingError
from data_contracts.rendering import Question, TextRenderer
from flows.base_models.resolve import NANO
from flows.config.model import SkillstackConfig
from flows.service.doctor import _base_model, _state_directory, _text
from flows.text.template_facts import compare_contexts, text_facts
from osft_engine.config import TrainConfig

WITH_TOOLS = (
    "{{ tools | tojson if tools else '' }}{% for m in messages %}<|user|>{{ m['content'] }}<|pad|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def test_the_text_of_nano_is_described() -> None:
    facts = {fact.name: fact.value for fact in text_facts(NANO, TrainConfig())}
    assert facts["window"].endswith("train.max_seq_len is 2048")
    assert facts["chat template"] == "the tokenizer's own, with a generation prompt, prints no tools"
    assert facts["end of an answer"] == "'<|end|>'; generation stops at the token ids [1]"
    assert facts["reasoning"] == "not printed by the template"
    assert facts["sample row"].startswith("the ")


def test_a_tokenizer_without_a_template_is_said_to_have_none_with_the_way_out(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(NANO)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes((NANO / "config.json").read_bytes())
    facts = {fact.name: fact.value for fact in text_facts(tmp_path, TrainConfig())}
    assert facts["chat template"] == "none: rows with messages are refused, set train.chat_template"


def test_the_configs_template_and_variables_are_those_that_are_described() -> None:
    train = TrainConfig(chat_template=WITH_TOOLS, chat_template_kwargs={"mood": "calm"})
    facts = {fact.name: fact.value for fact in text_facts(NANO, train)}
    assert facts["chat template"] == "train.chat_template, with a generation prompt, prints tools, with mood='calm'"
    assert facts["end of an answer"] == "'<|pad|>'; generation stops at the token ids [0, 1]"


def test_a_template_that_reads_the_date_is_said_to_print_one_and_the_same() -> None:
    train = TrainConfig(chat_template="{{ strftime_now('%d %b %Y') }}" + WITH_TOOLS)
    facts = {fact.name: fact.value for fact in text_facts(NANO, train)}
    assert facts["chat template"].endswith("prints tools; prints 26 July 2024 as today's date on every day")


def test_another_context_than_training_reads_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.text.renderer import open_text

    monkeypatch.setattr(TextRenderer, "question", lambda *_: Question((1, 2), (3,), "", ""))
    with pytest.raises(RenderingError, match=r"sample row: training has .* tokens before the answer, evaluation has 2 other ones"):
        compare_contexts(open_text(NANO, TrainConfig()), TrainConfig())


def test_doctor_downloads_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("doctor asked the hub")

    monkeypatch.setattr("flows.base_models.resolve._download", refuse)
    for name in ("somebody/model", "smollm2"):
        config = SkillstackConfig(base_model=name, state_dir=tmp_path / "state")
        assert "is not on this machine yet" in _base_model(config)
        assert "is not on this machine yet" in _text(config)
        assert "GB free" in _state_directory(config)
    assert list(tmp_path.iterdir()) == []
