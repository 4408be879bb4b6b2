"""One loaded model, ready for any number of suites. The place where lm-eval is called."""

from __future__ import annotations

import hashlib
import logging
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lm_eval.evaluator import evaluate
from transformers import AutoModelForCausalLM, AutoTokenizer

from data_contracts.errors import CheckpointError, ConfigError, EvaluationError
from evals.config import EvaluationConfig, SuiteConfig
from evals.harness_model import ScoringLM
from evals.harness_tasks import LocalTask
from evals.items import COLUMNS
from evals.suite_items import Item

AGREEMENT = 1e-9


class Session:
    """A model that was loaded once."""

    def __init__(self, model_dir: Path, config: EvaluationConfig, *, device: str, dtype: str) -> None:
        if config.backend != "hf":
            raise ConfigError("evaluation.backend", f"{config.backend!r} does not score local suites", "use hf")
        if config.num_threads:
            torch.set_num_threads(config.num_threads)
        self._config = config
        self._advance: Callable[[float], None] = _ignore
        for name in ("lm_eval", "lm-eval"):
            logging.getLogger(name).setLevel(logging.ERROR)
        model, self._tokenizer = load_model(model_dir, device=device, dtype=dtype)
        self._lm = ScoringLM(model, self._tokenizer, config, on_requests=lambda count: self._advance(count))

    def score(self, suite: SuiteConfig, items: Sequence[Item], advance: Callable[[float], None]) -> pd.DataFrame:
        """Ask every item once and return the rows of the per-item store, in the items' order.

        Raises EvaluationError where a log-probability is not finite, or where our mean is not lm-eval's own aggregate.
        """
        self._seed()
        task = LocalTask(suite, items, self._render, self._count_tokens)
        task.build_all_requests()
        share = len(items) / len(task.instances)
        self._advance = lambda count: advance(count * share)
        try:
            outcome = evaluate(self._lm, {"tasks": {suite.name: task}}, bootstrap_iters=0, log_samples=True)
        except ValueError as error:
            raise EvaluationError(suite.name, str(error), "leave such items out, or evaluate a model with a longer context") from error
        samples = sorted(outcome["samples"][suite.name], key=lambda sample: sample["doc_id"])
        rows = pd.DataFrame([_row(task, item, sample) for item, sample in zip(items, samples, strict=True)], columns=list(COLUMNS))
        _check_finite(suite, rows)
        _check_agreement(suite, rows, outcome["results"][suite.name][f"{task.metric},none"])
        return rows

    def _render(self, turns: list[dict[str, str]]) -> str:
        if not self._tokenizer.chat_template:
            raise EvaluationError(
                str(self._tokenizer.name_or_path), "has no chat template", "set chat: false on the suite, or add a template"
            )
        return str(self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

    def _count_tokens(self, text: str) -> int:
        return len(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _seed(self) -> None:
        random.seed(self._config.seed)
        np.random.seed(self._config.seed)
        torch.manual_seed(self._config.seed)


def load_model(model_dir: Path, *, device: str, dtype: str) -> tuple[Any, Any]:
    """(model in eval mode on its device, tokenizer). Raises CheckpointError where the folder does not load."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(model_dir), local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(str(model_dir), dtype=getattr(torch, dtype), local_files_only=True)
        return model.to(device).eval(), tokenizer
    except Exception as error:  # transformers, safetensors and torch raise many types for a damaged folder
        what = f"does not load: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise CheckpointError(str(model_dir), what, "train or export the checkpoint again") from error


def _row(task: LocalTask, item: Item, sample: dict[str, Any]) -> tuple[Any, ...]:
    """One line of the per-item store, in the order of COLUMNS, from what lm-eval logged."""
    answers = sample["filtered_resps"]
    if item.kind == "text":
        size = len(item.text.encode("utf-8"))
        return (
            item.doc_hash,
            _sha256(item.text),
            -answers[0] / size / math.log(2),
            answers[0],
            float(size),
            item.cluster,
            item.text,
            "",
            "",
        )
    prompt = sample["doc"]["context"]
    if item.kind == "choice":
        logprobs = np.array([logprob for logprob, _ in answers])
        if task.metric == "acc_norm":
            logprobs = logprobs / np.array([len(choice) for choice in item.choices])
        prediction, gold = item.choices[int(np.argmax(logprobs))], answers[item.gold][0]
    else:
        prediction, gold = answers[1].strip(), answers[0][0]
    return (item.doc_hash, _sha256(prompt), float(sample[task.metric]), gold, 1.0, item.cluster, prompt, item.answer, prediction)


def _check_finite(suite: SuiteConfig, rows: pd.DataFrame) -> None:
    """A model whose logits are all NaN scores one over the number of choices: only its log-probabilities tell."""
    for column in ("score", "gold_logprob"):
        bad = ~np.isfinite(rows[column].to_numpy(float))
        if bad.any():
            first = rows["prompt"][int(bad.argmax())][:80]
            what = f"{int(bad.sum())} of {len(rows)} items have a {column} that is not finite, the first on {first!r}"
            raise EvaluationError(suite.name, what, "the checkpoint is broken: train it again, or evaluate it in float32")


def _check_agreement(suite: SuiteConfig, rows: pd.DataFrame, aggregate: float) -> None:
    ours = float(np.average(rows["score"].to_numpy(float), weights=rows["weight"].to_numpy(float)))
    if not abs(ours - aggregate) <= AGREEMENT * max(1.0, abs(aggregate)):
        raise EvaluationError(
            suite.name, f"our mean {ours!r} is not lm-eval's {aggregate!r}", "report this with the suite; it is a defect of the harness"
        )


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _ignore(_: float) -> None:
    return None
