"""Fill the item cache: the settings that scores depend on, and the loop over suites whose items are not known yet.

Where the cache holds everything neither torch nor lm-eval is imported.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from data_contracts.devices import DeviceChoice, choose_device
from data_contracts.digests import text_digest
from evals.config import EvaluationConfig, ModelUse
from evals.harness.plan import SuitePlan
from evals.suites.scoring_code import scoring_digest

Progress = Callable[[int, int, str], None]
AS_IT_IS = ModelUse()


def harness_settings(config: EvaluationConfig, use: ModelUse = AS_IT_IS) -> dict[str, Any]:
    """What changes scores but belongs to no suite. Scores under different settings are never compared, and never share a cache."""
    device = evaluation_device(config).device
    return {
        "backend": config.backend,
        "device": device.split(":")[0],
        "dtype": resolve_dtype(config, device),
        "max_length": config.max_length,
        "seed": config.seed,
        "versions": {name: version(name) for name in ("lm_eval", "torch", "transformers")},
        "scorer": scoring_digest()[:16],
        "chat_template": text_digest(use.chat_template) if use.chat_template else "",
        "chat_template_kwargs": use.chat_template_kwargs,
    }


def evaluation_device(config: EvaluationConfig) -> DeviceChoice:
    """Where a model is evaluated. torch is loaded only where there may be an accelerator."""
    return choose_device(config.device, sees_cuda)


def sees_cuda() -> bool:
    """Whether torch can use a GPU."""
    import torch

    return torch.cuda.is_available()


def resolve_dtype(config: EvaluationConfig, device: str) -> str:
    return config.dtype if config.dtype != "auto" else ("float32" if device == "cpu" else "bfloat16")


def fill_cache(model_dir: Path, plans: Sequence[SuitePlan], config: EvaluationConfig, use: ModelUse, counter: Counter) -> dict[str, float]:
    """Compute what the cache lacks, suite by suite, so that a cut evaluation keeps the suites it finished. Returns seconds by suite."""
    session, seconds = None, {}
    for plan in plans:
        missing = plan.missing
        counter.start(plan.suite.name, cached=len(plan.facts.doc_hashes) - len(missing))
        if not missing:
            continue
        if session is None:
            from evals.harness.session import Session  # torch, transformers and lm-eval load here

            device = evaluation_device(config).device
            session = Session(model_dir, config, use, device=device, dtype=resolve_dtype(config, device))
        started = time.perf_counter()
        if plan.named:
            rows = session.score_named(plan.named, missing, counter.advance)
        else:
            wanted = set(missing)
            rows = session.score(plan.suite, [item for item in plan.items if item.doc_hash in wanted], counter.advance)
        if session.is_first:
            plan.cache.add(rows)
        seconds[plan.suite.name] = time.perf_counter() - started
    return seconds


class Counter:
    """Items done, over all suites."""

    def __init__(self, report: Progress | None, total: int) -> None:
        self._report, self._total, self._done, self._suite = report, total, 0.0, ""

    def start(self, suite: str, *, cached: int) -> None:
        self._suite = suite
        self.advance(cached)

    def advance(self, items: float) -> None:
        self._done += items
        if self._report:
            self._report(min(round(self._done), self._total), self._total, self._suite)

    def reach(self, done: int, suite: str) -> None:
        """Items done so far, as another process has counted them."""
        self._suite = suite
        self.advance(max(0.0, done - self._done))

    def finish(self) -> None:
        self.advance(self._total - self._done)
