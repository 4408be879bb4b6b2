"""A saved model is asked with the text that it learned, and stops where its answers end."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, GenerationConfig

from data_contracts.digests import model_files
from data_contracts.manifests import CheckpointManifest, read_manifest
from osft_engine.data.model_text import stop_at
from osft_engine.rescale import scale_candidate
from osft_engine.run import TrainRun
from osft_engine.train import train_candidate

# The turn ends with <|pad|>, which is not the tokenizer's end of sequence; the prompt depends on a variable.
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|pad|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if style == 'plain' %}<plain>\n{% endif %}{% endif %}"
)
TOOL_USE = "{{ tools | tojson }}" + TEMPLATE.replace("<plain>", "<tools>")
USER = [{"role": "user", "content": "3 plus 4?"}]


def test_every_model_that_a_run_writes_carries_template_variables_and_the_end_of_an_answer(
    make_run: Callable[..., TrainRun], base_folder: Path, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    shutil.copytree(base_folder, base)
    (base / "chat_template.jinja").write_text(TEMPLATE)
    (base / "additional_chat_templates").mkdir()
    (base / "additional_chat_templates" / "tool_use.jinja").write_text(TOOL_USE)
    (base / "additional_chat_templates" / "rag.jinja").write_text("rag")
    run = make_run(base=base, chat_template_kwargs={"style": "plain"}, checkpoint_at_epoch=True)
    train_candidate(run)
    scale_candidate(run.out_dir, run.base, tmp_path / "half", 0.5)
    for folder in (run.out_dir / "model", run.out_dir / "epochs" / "epoch-1", tmp_path / "half" / "model"):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        asked = tokenizer.apply_chat_template(USER, add_generation_prompt=True, tokenize=False)
        assert asked == "<|im_start|>user\n3 plus 4?<|pad|><|im_start|>assistant\n<plain>\n"
        with_tools = tokenizer.apply_chat_template(USER, tools=[{"name": "f"}], add_generation_prompt=True, tokenize=False)
        assert with_tools.endswith("assistant\n<tools>\n")
        assert tokenizer.chat_template["rag"] == "rag"
        ends = GenerationConfig.from_pretrained(folder).eos_token_id
        assert set(ends) == {tokenizer.convert_tokens_to_ids("<|pad|>"), tokenizer.convert_tokens_to_ids("<|im_end|>")}
    assert "additional_chat_templates/rag.jinja" in model_files(run.out_dir / "model")
    manifest = read_manifest(run.out_dir, CheckpointManifest)
    assert manifest.config["chat_template_kwargs"] == {"style": "plain"}
    assert "model/additional_chat_templates/tool_use.jinja" in manifest.files


def test_generation_stops_at_every_end_and_a_file_that_does_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "generation_config.json"
    cases: list[tuple[Any, tuple[int, ...], Any]] = [(7, (7,), 7), (7, (9, 7), [7, 9]), ([7, 8], (9,), [7, 8, 9]), (None, (9,), 9)]
    for before, ends, after in cases:
        text = json.dumps({"eos_token_id": before, "max_length": 5})
        path.write_text(text)
        stop_at(path, ends)
        assert json.loads(path.read_text()) == {"eos_token_id": after, "max_length": 5}
        assert (path.read_text() == text) == (before == after)
