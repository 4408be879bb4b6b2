"""A random Llama of a few thousand parameters with suites for it; and evaluations made in memory or on disk, for gate, audit and report."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_contracts.digests import text_digest
from evals.drawing import chosen, inclusion_chances, item_sizes
from evals.gate.decide import GateEvidence
from evals.items import DrawnPool, Evaluation, SuiteItems

from .made_evaluations import made_evaluation, made_suite, stored

CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<|end|>", "<|bos|>", "<|user|>", "<|assistant|>", "<|system|>", "<|tool|>", "<|eos|>"]


RICH_TEMPLATE = (
    "{% if tools %}<|system|>{{ tools | tojson }}<|end|>{% endif %}"
    "{% for m in messages %}<|{{ m['role'] }}|>"
    "{% if m['reasoning_content'] %}<think>{{ m['reasoning_content'] }}</think>{% endif %}{{ m['content'] or '' }}"
    "{% for c in m['tool_calls'] or [] %}[{{ c['function']['name'] }} {{ c['function']['arguments'] | tojson }}]{% endfor %}"
    "<|end|>\n{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""Prints tools, calls and reasoning; a line break follows the end of a turn, which is no end of sequence (see `rich_model`)."""


def _write_tiny(folder: Path, template: str, eos: str) -> Path:
    """A random two-layer Llama that from_pretrained loads."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=eos,
        pad_token=eos,
        bos_token="<|bos|>",
        additional_special_tokens=[token for token in SPECIAL if token not in (eos, "<|bos|>")],
    )
    fast.chat_template = template
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    ends = {"bos_token_id": vocabulary["<|bos|>"], "eos_token_id": vocabulary[eos]}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(vocabulary), max_position_embeddings=256, initializer_range=0.3, **ends, **sizes))
    with torch.no_grad():  # it says letters only, so that what it says is text that can be asked back
        silent = [index for token, index in vocabulary.items() if not (token.isascii() and token.isalpha())]
        model.lm_head.weight[silent] = 0.0
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose end of turn is its end of sequence."""
    return _write_tiny(tmp_path_factory.mktemp("tiny") / "model", CHAT_TEMPLATE, "<|end|>")


@pytest.fixture(scope="session")
def rich_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose template prints tools, calls and reasoning, and whose turns do not end with its end of sequence."""
    return _write_tiny(tmp_path_factory.mktemp("rich") / "model", RICH_TEMPLATE, "<|eos|>")


@pytest.fixture(scope="module")
def session(tiny_model: Path) -> Any:
    """The tiny model, loaded once for a test file."""
    from evals.config import EvaluationConfig, ModelUse
    from evals.harness.session import Session

    return Session(tiny_model, EvaluationConfig(device="cpu", num_threads=1), ModelUse(), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def plain_lm(session: Any) -> Any:
    """HFLM as lm-eval's users run it, over the same weights."""
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=session._lm.model, tokenizer=session._tokenizer, batch_size=3)


@pytest.fixture
def write_rows(tmp_path: Path) -> Callable[..., Path]:
    """Write rows to a JSONL file and return its path."""

    def write(name: str, rows: list[dict[str, Any]]) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


@pytest.fixture
def choice_rows() -> list[dict[str, Any]]:
    words = ["red", "green", "blue-green", "black and white"]
    return [{"prompt": f"Which colour is number {n}?", "choices": words, "gold": n % 4} for n in range(24)]


@pytest.fixture
def answer_rows() -> list[dict[str, Any]]:
    return [{"prompt": f"{n} plus {n} is", "answer": str(2 * n)} for n in range(8)]


@pytest.fixture
def text_rows() -> list[dict[str, Any]]:
    return [{"text": f"Passage {n}. " + "The river was high that year. " * (n + 1)} for n in range(12)]


@pytest.fixture
def chat_rows() -> list[dict[str, Any]]:
    return [
        {"messages": [{"role": "user", "content": f"Is {n} even?"}, {"role": "assistant", "content": "yes" if n % 2 == 0 else "no"}]}
        for n in range(20)
    ]


RIGHT = np.r_[np.ones(300), np.zeros(100)]
"""A suite that the champion answers at 75 %."""
UNLEARNED = np.r_[np.ones(100), np.zeros(300)]

BuildEvidence = Callable[..., GateEvidence]
MakeSuite = Callable[..., SuiteItems]
MakeEvaluation = Callable[..., Evaluation]
StoreEvaluation = Callable[[Evaluation, Path], Path]


@pytest.fixture(scope="session")
def make_suite() -> MakeSuite:
    return made_suite


@pytest.fixture(scope="session")
def draw_items() -> Callable[..., SuiteItems]:
    """A suite of which `n` items are read, drawn by `margin` as the model of that name has them."""

    def drawn(suite: SuiteItems, margin: np.ndarray, n: int, by: str) -> SuiteItems:
        sizes = item_sizes(margin)
        chance, read = inclusion_chances(sizes, n), chosen(suite.doc_hash, sizes, n)
        pool = DrawnPool(suite.doc_hash, margin, chance)
        names = ("doc_hash", "prompt_hash", "cluster", "prompt", "gold", "prediction")
        texts = {name: tuple(np.array(getattr(suite, name), dtype=object)[read]) for name in names}
        score, weight = suite.score[read], 1.0 / chance[read]
        changes = {"n": n, "available": len(margin), "drawn_by": text_digest(by), "score": float(np.average(score, weights=weight))}
        result = suite.result.model_copy(update={**changes, "suite_sha256": text_digest(f"{suite.name} {n}"), "mean_gold_logprob": None})
        return replace(suite, result=result, score=score, gold_logprob=suite.gold_logprob[read], weight=weight, pool=pool, **texts)

    return drawn


@pytest.fixture(scope="session")
def make_evaluation() -> MakeEvaluation:
    return made_evaluation


@pytest.fixture(scope="session")
def store_evaluation() -> StoreEvaluation:
    return stored


@pytest.fixture(scope="session")
def flip() -> Callable[..., np.ndarray]:
    """Scores with the first `lost` right answers made wrong and the last `won` wrong answers made right."""

    def change(score: np.ndarray, lost: int = 0, won: int = 0) -> np.ndarray:
        changed = score.copy()
        changed[np.flatnonzero(score == 1)[:lost]] = 0
        if won:
            changed[np.flatnonzero(score == 0)[-won:]] = 1
        return changed

    return change


@pytest.fixture
def evidence(make_suite, make_evaluation, flip) -> BuildEvidence:
    """Evidence for a round that adds `new`; each pair is (items lost, items won) of a suite against the champion.

    `drift` scales bits per byte, `since` says how many items an anchor knew that the champion has lost, `margins` are suites' own.
    """

    def build(
        old: tuple[int, int] = (2, 2),
        older: tuple[int, int] = (2, 2),
        piqa: tuple[int, int] = (2, 2),
        gain: int = 200,
        drift: float = 1.0,
        since: dict[str, int] | None = None,
        margins: dict[str, float] | None = None,
        **fields: object,
    ) -> GateEvidence:
        texts = np.linspace(0.8, 1.2, 60)
        wobble = np.linspace(-1, 1, 60) * 1e-3
        champion = make_evaluation(
            "champion",
            make_suite("old", RIGHT),
            make_suite("older", RIGHT),
            make_suite("new", UNLEARNED),
            make_suite("piqa", RIGHT, category="general"),
            make_suite("text", texts, category="drift"),
        )
        own = margins or {}
        candidate = make_evaluation(
            "candidate",
            make_suite("old", flip(RIGHT, *old), margin=own.get("old")),
            make_suite("older", flip(RIGHT, *older), margin=own.get("older")),
            make_suite("new", flip(UNLEARNED, won=gain)),
            make_suite("piqa", flip(RIGHT, *piqa), category="general", margin=own.get("piqa")),
            make_suite("text", texts * drift + wobble, category="drift", margin=own.get("text")),
        )
        anchor = make_evaluation(
            "anchor",
            *(make_suite(name, _better(RIGHT, (since or {}).get(name, 0))) for name in ("old", "older")),
            make_suite("piqa", _better(RIGHT, (since or {}).get("piqa", 0)), category="general"),
        )
        return replace(GateEvidence(candidate, champion, dict.fromkeys(("old", "older", "piqa"), anchor), "new"), **fields)

    return build


def _better(score: np.ndarray, more: int) -> np.ndarray:
    """The score of an anchor that knew `more` items that the champion has lost since."""
    better = score.copy()
    better[np.flatnonzero(score == 0)[:more]] = 1
    return better
