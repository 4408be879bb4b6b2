"""Twelve kinds of chat template: a tiny model is trained, saved, reloaded and evaluated under each as plain transformers would.

The continuation of a question is what the template prints behind its generation prompt, up to the end of the turn; where the printed turn
does not begin with that prompt, the answer and the end of the turn. A reasoning block that only the prompt opens is closed first.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
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
    _let_it_end(model, tokenizer, template)
    folder = tmp_path / "base"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _end_id(tokenizer: Any, template: str) -> int:
    return int(tokenizer(_end(template), add_special_tokens=False)["input_ids"][-1])


@torch.no_grad()
def _let_it_end(model: Any, tokenizer: Any, template: str) -> None:
    """Make the end of a turn the likeliest token a few tokens into the first answer, by giving it the vector of that place."""
    end, context = _end_id(tokenizer, template), _trained_context(tokenizer, ROWS[0])
    said = _greedy(model.eval(), context, set(), 5)
    for length in range(5, 0, -1):
        out = model(input_ids=torch.tensor([context + said[:length]]), use_cache=False, output_hidden_states=True)
        place = out.hidden_states[-1][0, -1]
        model.lm_head.weight[end] = place * (1.2 * out.logits[0, -1].max() / place.square().sum())
        if 0 < len(_greedy(model, context, {end}, 8)) < 8:
            return
    raise AssertionError("the model never ends an answer")


def _write(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("template", list(rendering.TEMPLATES))
def test_answers_end_where_the_template_ends_them(template: str, base: Path, tmp_path: Path) -> None:
    """Before training, so that the model's own generation_config stops at the end of sequence only: the end comes from the template."""
    tokenizer, model = AutoTokenizer.from_pretrained(base), AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    found = _evaluated(base, tmp_path, [_answers(tmp_path)])["answers"]
    ended = _said_as_plain(tokenizer, model, template, found.prediction)
    assert ended > 0, "no answer ended by itself, so that nothing was tried"


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
    choices = [{"prompt": turns[0]["content"], "choices": CHOICES, "gold": n % 3} for n, turns in enumerate(ROWS)]
    suites = [SuiteConfig(name="choices", chat=True, source=_write(tmp_path / "choices.jsonl", choices)), _answers(tmp_path)]
    found = _evaluated(saved, tmp_path, suites)

    for number, turns in enumerate(ROWS):
        start = _trained_context(tokenizer, turns)
        if template not in ("mistral", "no-prompt"):  # these have no generation prompt: what comes before the answer is printed by the turn
            assert start == list(tokenizer.apply_chat_template(turns[:1], add_generation_prompt=True)["input_ids"])
        wanted = [_logprob(model, start, tokenizer(_continuation(tokenizer, turns, each, _end(template), start))) for each in CHOICES]
        assert found["choices"].choice_logprobs[number] == pytest.approx(wanted, abs=2e-3)
    _said_as_plain(tokenizer, model, template, found["answers"].prediction)


def _end(template: str) -> str:
    return ENDS.get(template, IM_END)


def _answers(folder: Path) -> SuiteConfig:
    return SuiteConfig(name="answers", chat=True, max_new_tokens=16, source=_write(folder / "a.jsonl", [{"messages": row} for row in ROWS]))


def _evaluated(model: Path, folder: Path, suites: list[SuiteConfig]) -> dict[str, Any]:
    config = EvaluationConfig(device="cpu", max_batch_size=4, num_threads=1)
    evaluate_checkpoint(model, suites, folder / "report", config=config, cache_dir=folder / "cache")
    return dict(load_evaluation(folder / "report").suites)


def _trained_context(tokenizer: Any, turns: list[dict[str, str]]) -> list[int]:
    trained = TextRenderer(tokenizer).render_row({"messages": turns}, "row", max_tokens=128)[-1]
    return list(trained.ids[: trained.answers[-1].start])


def _said_as_plain(tokenizer: Any, model: Any, template: str, predictions: Sequence[str]) -> int:
    """Compare each prediction with plain greedy decoding; the number of answers that ended by themselves within 8 tokens."""
    ends, count = {_end_id(tokenizer, template), tokenizer.eos_token_id}, 0
    for turns, prediction in zip(ROWS, predictions, strict=True):
        said = _greedy(model, _trained_context(tokenizer, turns), ends, 64)
        # At least 8 tokens, and more where that could still be the gold answer: what was decoded begins what plain decoding says.
        lengths = [len(said)] if len(said) < 8 else [*range(8, len(said) + 1)]
        begun = [tokenizer.decode(said[:length], clean_up_tokenization_spaces=False) for length in lengths]
        assert prediction.strip() in [text.rpartition("</think>")[2].strip() for text in begun]
        count += len(said) < 8 and bool(begun[0].strip())
    return count


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
