"""One loaded model, ready for any number of suites. The place where lm-eval is called."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lm_eval.evaluator import evaluate
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from data_contracts.errors import EvaluationError, RenderingError
from data_contracts.model.folder import load_strictly, not_loaded, require_model_folder
from data_contracts.model.window import read_window
from data_contracts.rendering import TextRenderer
from evals.config import EvaluationConfig, ModelUse, SuiteConfig
from evals.harness.named import NamedSuite, silence_bars
from evals.harness.prompts import Prompt, PromptMaker
from evals.harness.rows import check_agreement, local_rows, metric_key, named_rows
from evals.harness.tasks import LocalTask, Reading
from evals.scoring.model import ScoringLM
from evals.scoring.tokens import PlainTokens
from evals.suites.items import Item

Advance = Callable[[float], None]


class Session:
    """A model that was loaded once."""

    def __init__(self, model_dir: Path, config: EvaluationConfig, use: ModelUse, *, device: str, dtype: str) -> None:
        self._config = config
        self._advance: Advance = _ignore
        if config.num_threads:
            torch.set_num_threads(config.num_threads)
        silence_bars()
        self._in_tokens = config.backend != "vllm"
        if config.backend == "vllm":
            self._lm = load_vllm(model_dir, config, use, dtype=dtype)
            self._tokenizer = self._lm.tokenizer
        else:
            self._lm, self._tokenizer = self._load(model_dir, use, device=device, dtype=dtype)
        self._renderer = TextRenderer(self._tokenizer, use.chat_template, use.chat_template_kwargs)
        self._lm.render_chat = lambda turns: self._renderer.context({"messages": turns}, "a question")[1]
        tokens = PlainTokens(self._tokenizer, add_bos=self._lm.add_bos_token, prefix_id=self._lm.prefix_token_id)
        self._prompts = PromptMaker(self._tokenizer, self._renderer, tokens, self._lm.max_length)

    def _load(self, model_dir: Path, use: ModelUse, *, device: str, dtype: str) -> tuple[ScoringLM, Any]:
        accelerator = open_accelerator() if self._config.backend == "accelerate" else None
        on = str(accelerator.device) if accelerator else device
        model, tokenizer = load_model(model_dir, device=on, dtype=dtype, trust_remote_code=use.trust_remote_code)
        window = read_window(model_dir)
        lm = ScoringLM(model, tokenizer, self._config, on_progress=lambda share: self._advance(share), window=window)
        if accelerator:
            lm.accelerator, lm._rank, lm._world_size = accelerator, accelerator.process_index, accelerator.num_processes
        return lm, tokenizer

    @property
    def is_first(self) -> bool:
        """Whether this process holds the results (of several that share the work, one does)."""
        return int(self._lm.rank) == 0

    def score(self, suite: SuiteConfig, items: Sequence[Item], advance: Advance) -> pd.DataFrame:
        """Evaluate every local item once and return the rows of the per-item store, in the items' order; empty where not `is_first`.

        Raises EvaluationError where a log-probability is not finite, or where their mean is not lm-eval's own aggregate.
        """
        task = self.task(suite, items)
        calls = 2 if items[0].kind == "answer" else 1
        outcome = self._evaluate(suite, {suite.name: task}, lambda share: advance(share * len(items) / calls))
        if outcome is None:
            return pd.DataFrame()
        rows = local_rows(task, items, outcome["samples"][suite.name])
        check_agreement(suite, rows, outcome["results"][suite.name][f"{task.metric},none"])
        return rows

    def task(self, suite: SuiteConfig, items: Sequence[Item]) -> LocalTask:
        """The items as an lm-eval task. Raises EvaluationError for one that the model's template or window cannot take."""
        if items[0].kind == "text":
            return LocalTask(suite, items, (), Reading(), in_tokens=self._in_tokens)
        if suite.chat:
            self._require_template()
        try:
            prompts = self._prompts.make(suite, items)
        except RenderingError as error:
            raise EvaluationError(error.where, error.what, error.way_out) from error
        if suite.chat and not self._in_tokens:
            self._require_same_tokens(suite, prompts)
        made = self._prompts
        reading = Reading(made.ends(suite), made.stops(suite, prompts), made.reasoning_close(suite), made.text_end(suite))
        return LocalTask(suite, items, prompts, reading, in_tokens=self._in_tokens)

    def _require_same_tokens(self, suite: SuiteConfig, prompts: Sequence[Prompt]) -> None:
        """A backend that gets text must read the tokens that training rendered, or its scores belong to another prompt."""
        for prompt in prompts:
            if tuple(self._tokenizer(prompt.text, add_special_tokens=False)["input_ids"]) != prompt.context:
                what = f"vllm would read other tokens than training rendered: {prompt.text[:80]!r}"
                raise EvaluationError(suite.name, what, "set evaluation.backend: hf")

    def score_named(self, named: NamedSuite, wanted: Sequence[str], advance: Advance) -> pd.DataFrame:
        """The same for items of lm-eval's own tasks, under lm-eval's own prompts."""
        samples = named.samples(wanted)
        tasks = {name: named.tasks[name] for name in samples}
        if named.suite.chat:
            self._require_template()
        self._lm.chat_end = self._renderer.end_text if named.suite.chat else ""
        self._lm.think_end_token = self._prompts.reasoning_close(named.suite) or None
        kwargs = {"samples": samples, "apply_chat_template": named.suite.chat, "fewshot_as_multiturn": named.suite.chat}
        outcome = self._evaluate(named.suite, tasks, lambda share: advance(share * len(wanted)), **kwargs)
        if outcome is None:
            return pd.DataFrame()
        hashes = {place: doc_hash for doc_hash, place in named.places.items()}
        tables = []
        for name, task in tasks.items():
            tables.append(named_rows(named.suite, name, task, outcome["samples"][name], hashes))
            check_agreement(named.suite, tables[-1], outcome["results"][name][metric_key(named.suite, task)])
        return pd.concat(tables, ignore_index=True)

    def _evaluate(self, suite: SuiteConfig, tasks: dict[str, Any], advance: Advance, **kwargs: Any) -> dict[str, Any] | None:
        self._advance = advance
        random.seed(self._config.seed)
        np.random.seed(self._config.seed)
        torch.manual_seed(self._config.seed)
        try:
            outcome: dict[str, Any] | None = evaluate(self._lm, {"tasks": tasks}, bootstrap_iters=0, log_samples=True, **kwargs)
        except (ValueError, AssertionError) as error:  # lm-eval asserts what a user can cause
            raise EvaluationError(suite.name, str(error), "leave such items out, or evaluate a model with a longer context") from error
        return outcome

    def _require_template(self) -> None:
        if not self._renderer.template.exists:
            raise EvaluationError(
                str(self._tokenizer.name_or_path),
                "has no chat template",
                "set chat: false on the suite, or give train.chat_template",
            )


def load_model(model_dir: Path, *, device: str, dtype: str, trust_remote_code: bool) -> tuple[Any, Any]:
    """(model in eval mode on its device, tokenizer). Raises CheckpointError where the folder is not one complete model."""
    disable_progress_bar()
    model = load_strictly(AutoModelForCausalLM, model_dir, trust_remote_code=trust_remote_code, dtype=getattr(torch, dtype))
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(model_dir), local_files_only=True, trust_remote_code=trust_remote_code)
    except Exception as error:  # tokenizers and a model's own code raise many types
        way_out = "put the tokenizer files beside the weights"
        raise not_loaded(model_dir, error, "has no usable tokenizer", way_out, trusted=trust_remote_code) from error
    return model.to(device).eval(), tokenizer


def open_accelerator() -> Any:
    """The process group of the accelerate backend; every process holds a complete copy of the model and a share of the items."""
    from accelerate import Accelerator

    return Accelerator()


def load_vllm(model_dir: Path, config: EvaluationConfig, use: ModelUse, *, dtype: str) -> Any:
    """lm-eval's vLLM model, as it is: vLLM batches and shares prefixes by itself."""
    from lm_eval.models.vllm_causallms import VLLM

    require_model_folder(model_dir)
    settings = {"dtype": dtype, "max_length": config.max_length, "seed": config.seed, "trust_remote_code": use.trust_remote_code}
    return VLLM(pretrained=str(model_dir), batch_size="auto", **settings)


def _ignore(_: float) -> None:
    return None
