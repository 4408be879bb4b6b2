"""Twelve kinds of chat template: a tiny model is trained, saved, reloaded and evaluated under each as plain transformers would.

The continuation of a question is what the template prints behind its generation prompt, up to the end of the turn; where the printed turn
does not begin with that prompt, the answer and the end of the turn. A reasoning block that only the prompt opens is closed first.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from data_contracts.rendering import TextRenderer
from evals.config import EvaluationConfig, SuiteConfig
from evals.harness.run import evaluate_checkpoint
from evals.items import load_evaluation
from osft_engine.config import TrainConfig
from osft_engine.data.inputs import write_drop
from osft_engine.run import TrainRun
from osft_engine.train import train_candidate

_PLACE = Path(__file__).parents[1] / "data_contracts" / "rendering" / "conftest.py"
_SPEC = importlib.util.spec_from_file_location("rendering_templates", _PLACE)
assert _SPEC is not None
assert _SPEC.loader is not None
rendering: Any = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(rendering)

CHOICES = ["red", "reddish", "blue"]
ROWS = [[{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": CHOICES[n % 3]}] for n in range(8)]
ENDS = {"llama3": "<|eot_id|>", "gemma": "<end_of_turn>", "mistral": "</s>", "plain": "\n", "no-end": "</s>"}
IM_END = "<|im_end|>"


@pytest.fixture
def base(template: str, tmp_path: Path) -> Path:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={symbol: n for n, symbol in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(rendering.SPECIALS))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    tokenizer.chat_template = rendering.TEMPLATES[template]
    torch.manual_seed(3)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    ends = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.bos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=256, **sizes, **ends))
    for parameter in model.parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=0.15)
    folder = tmp_path / "base"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _write(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("template", list(rendering.TEMPLATES))
def test_trained_saved_reloaded_and_evaluated_under_a_template(template: str, base: Path, tmp_path: Path) -> None:
    drop, general = tmp_path / "drop", tmp_path / "general.jsonl"
    write_drop([{"messages": row} for row in ROWS], drop, source="rows", skill="colours")
    _write(general, [{"text": f"The {n} cats of row {n * n} sleep on {n % 3} mats."} for n in range(12)])
    settings = {"learning_rate": 1e-2, "warmup_steps": 0, "max_seq_len": 128, "effective_batch_size": 4, "device": "cpu", "num_epochs": 2}
    train_candidate(
        TrainRun(base=base, drop=drop, calibration=general, skill="colours", out_dir=tmp_path / "out", config=TrainConfig(**settings))
    )
    saved = tmp_path / "out" / "model"
    tokenizer, model = AutoTokenizer.from_pretrained(saved), AutoModelForCausalLM.from_pretrained(saved, dtype=torch.float32).eval()
    end = ENDS.get(template, IM_END)
    end_id = tokenizer(end, add_special_tokens=False)["input_ids"][-1]

    choices = [{"prompt": turns[0]["content"], "choices": CHOICES, "gold": n % 3} for n, turns in enumerate(ROWS)]
    suites = [
        SuiteConfig(name="choices", chat=True, source=_write(tmp_path / "choices.jsonl", choices)),
        SuiteConfig(name="answers", chat=True, max_new_tokens=16, source=_write(tmp_path / "a.jsonl", [{"messages": row} for row in ROWS])),
    ]
    config = EvaluationConfig(device="cpu", max_batch_size=4, num_threads=1)
    evaluate_checkpoint(saved, suites, tmp_path / "report", config=config, cache_dir=tmp_path / "cache")
    found = load_evaluation(tmp_path / "report").suites

    for number, turns in enumerate(ROWS):
        context = list(tokenizer.apply_chat_template(turns[:1], add_generation_prompt=True)["input_ids"])
        trained = TextRenderer(tokenizer).render_row({"messages": turns}, "row", max_tokens=128)[-1]
        if template not in ("mistral", "no-prompt"):  # these have no generation prompt: what comes before the answer is printed by the turn
            assert list(trained.ids[: trained.answers[-1].start]) == context
        start = list(trained.ids[: trained.answers[-1].start])
        wanted = [_logprob(model, start, tokenizer(_continuation(tokenizer, turns, each, end, start))) for each in CHOICES]
        assert found["choices"].choice_logprobs[number] == pytest.approx(wanted, abs=2e-3)
        said = _greedy(model, start, {end_id, tokenizer.eos_token_id}, 64)
        # At least 8 tokens, and more where that could still be the gold answer: what was decoded begins what plain decoding says.
        begun = [tokenizer.decode(said[:count], clean_up_tokenization_spaces=False) for count in (*range(8, 65), len(said))]
        assert found["answers"].prediction[number].strip() in [text.rpartition("</think>")[2].strip() for text in begun]


def _continuation(tokenizer: Any, turns: list[dict[str, str]], choice: str, end: str, start: list[int]) -> str:
    """What the template prints behind `start` for this choice, up to the end of the turn."""
    printed = tokenizer.apply_chat_template([turns[0], {"role": "assistant", "content": choice}], tokenize=False)
    before = tokenizer.decode(start, clean_up_tokenization_spaces=False)
    closed = "\n</think>\n\n" if before.endswith("<think>\n") else ""
    behind = printed[len(before) :] if printed.startswith(before) else closed + choice
    return behind[: behind.rindex(end) + len(end)] if end in behind else behind + end


@torch.no_grad()
def _logprob(model: Any, context: list[int], continuation: Any) -> float:
    answer = list(continuation["input_ids"])
    logprobs = torch.log_softmax(model(input_ids=torch.tensor([context + answer]), use_cache=False).logits[0].float(), -1)
    return sum(float(logprobs[len(context) - 1 + index, token]) for index, token in enumerate(answer))


@torch.no_grad()
def _greedy(model: Any, context: list[int], ends: set[int], limit: int) -> list[int]:
    said: list[int] = []
    while len(said) < limit:
        token = int(model(input_ids=torch.tensor([context + said]), use_cache=False).logits[0, -1].argmax())
        if token in ends:
            break
        said.append(token)
    return said
