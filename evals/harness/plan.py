"""What an evaluation still has to compute: for each suite its items, and which of them the cache already has.

The items of lm-eval's own tasks are written down by the first evaluation, so that later ones know them without loading lm-eval.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from data_contracts.digests import file_digest, value_digest
from data_contracts.errors import EvaluationError
from data_contracts.files import write_atomically
from evals.config import EvaluationConfig, SuiteConfig
from evals.drawing import chosen, item_sizes
from evals.harness.draws import Drawn, draw_by_margin
from evals.item_cache import ItemCache
from evals.suites.items import Item, load_items, metric_of, prompting_digest, select_items, source_files, suite_digest
from evals.suites.resolve import resolve_suites
from evals.suites.scoring_code import scoring_digest
from evals.suites.task_files import definition_digest

if TYPE_CHECKING:
    from evals.harness.named import NamedSuite


@dataclass(frozen=True)
class SuiteFacts:
    """What is known of a suite before any model is loaded."""

    metric: str
    higher_is_better: bool
    suite_sha256: str
    available: int
    doc_hashes: tuple[str, ...]
    drawn: Drawn | None = None


@dataclass(frozen=True)
class SuitePlan:
    """One suite, and which of its items the cache has. `items` are local ones, `named` is lm-eval's; None where the cache has all."""

    suite: SuiteConfig
    facts: SuiteFacts
    cache: ItemCache
    known: frozenset[str]
    items: tuple[Item, ...] = ()
    named: NamedSuite | None = None

    @property
    def missing(self) -> list[str]:
        return [doc_hash for doc_hash in self.facts.doc_hashes if doc_hash not in self.known]


@dataclass(frozen=True)
class Planner:
    """Plans suites for one model under one setting."""

    model_sha256: str
    settings_sha256: str
    config: EvaluationConfig
    cache_dir: Path

    def plan(self, suite: SuiteConfig) -> SuitePlan:
        suite = prefer_local_data(suite, self.config)
        return self._plan_file(suite) if suite.is_file else self._plan_named(suite)

    def facts(self, suite: SuiteConfig) -> SuiteFacts:
        """What is known of a suite, for any model."""
        if suite.is_file:
            return self._plan_file(suite).facts
        note = None if _is_own_task(suite) or suite.draws else _read_note(self._note(suite))
        return _as_set(suite, note) if note else self._plan_named(suite).facts

    def _note(self, suite: SuiteConfig) -> Path:
        """Where the items of a task of lm-eval's own library are written down."""
        return self.cache_dir / "suites" / f"{value_digest([named_digest(suite, self.config), suite.items])[:32]}.json"

    def _plan_file(self, suite: SuiteConfig) -> SuitePlan:
        every = load_items(suite)
        items, drawn = self._choose(suite, every)
        metric = metric_of(suite, items[0].kind)
        _require_drift_of_text(suite, metric)
        digest = suite_digest(suite, items)
        facts = SuiteFacts(
            metric, _direction(suite, metric), _with_draw(digest, drawn), len(every), tuple(item.doc_hash for item in items), drawn
        )
        cache = self._cache(prompting_digest(suite))
        return SuitePlan(suite, facts, cache, _known(cache), items=tuple(items))

    def _plan_named(self, suite: SuiteConfig) -> SuitePlan:
        """A task of one's own is loaded every time: what its functions read is known by its documents alone."""
        prompting = named_digest(suite, self.config)
        cache = self._cache(prompting)
        note = self._note(suite)
        facts, known = None if _is_own_task(suite) or suite.draws else _read_note(note), _known(cache)
        if facts and known.issuperset(facts.doc_hashes):
            return SuitePlan(suite, _as_set(suite, facts), cache, known)
        from evals.harness.named import load_named
        from evals.harness.rows import higher_is_better, metric_key

        named = load_named(suite, self.cache_dir, self.config.seed)
        items, drawn = self._choose(suite, named.items)
        hashes = tuple(item.doc_hash for item in items)
        metric = metric_key(suite, next(iter(named.tasks.values()))).removesuffix(",none")
        _require_drift_of_text(suite, metric)
        digest = _with_draw(value_digest({"prompting": prompting, "items": hashes}), drawn)
        facts = SuiteFacts(metric, higher_is_better(suite, named.tasks), digest, len(named.items), hashes, drawn)
        if drawn is None:  # what was drawn is drawn again, so that a note never says less than the report
            write_atomically(note, json.dumps({name: value for name, value in facts.__dict__.items() if name != "drawn"}))
        return SuitePlan(suite, _as_set(suite, facts), cache, known, named=named)

    def _choose(self, suite: SuiteConfig, every: Sequence[Item]) -> tuple[list[Item], Drawn | None]:
        """The suite's items in its order, and how they were drawn where they were drawn by margin."""
        if not suite.draws:
            return select_items(every, suite.items), None
        drawn = draw_by_margin(suite, [item.doc_hash for item in every])
        read = chosen(drawn.pool.doc_hash, item_sizes(drawn.pool.margin), suite.items or 0)
        return [item for item, is_read in zip(every, read, strict=True) if is_read], drawn

    def _cache(self, prompting: str) -> ItemCache:
        return ItemCache.open(self.cache_dir, model=self.model_sha256, prompting=prompting, settings=self.settings_sha256)


def _require_drift_of_text(suite: SuiteConfig, metric: str) -> None:
    """The gate reads drift as bits per byte, where less is better: another metric would be judged the wrong way round."""
    if suite.category == "drift" and metric != "bits_per_byte":
        what = f"is a drift suite scored by {metric}; drift is measured in bits per byte"
        raise EvaluationError(suite.name, what, "give texts without questions, or another category, such as general")


def _with_draw(digest: str, drawn: Drawn | None) -> str:
    return digest if drawn is None else value_digest({"suite": digest, "draw": drawn.digest})


def prefer_local_data(suite: SuiteConfig, config: EvaluationConfig) -> SuiteConfig:
    """The suite over its local file, where it names one and the data folder has it."""
    folder = config.data_folder or os.environ.get("SKILLSTACK_DATA", "")
    if not suite.local or not folder:
        return suite

    def in_folder(path: object) -> str:
        return str((Path(folder) / str(path)).absolute())

    fields = {**suite.local, "source": in_folder(suite.local["source"])}
    if not all(path.is_file() for path in source_files(fields["source"])):
        return suite
    if fields.get("few_shot_source"):
        fields["few_shot_source"] = in_folder(fields["few_shot_source"])
    if fields.get("data"):
        fields["data"] = {split: in_folder(path) for split, path in fields["data"].items()}
    return SuiteConfig.model_validate(suite.model_dump() | fields | {"local": {}})


def named_digest(suite: SuiteConfig, config: EvaluationConfig) -> str:
    """Digest of all that decides the prompts and scores of an lm-eval task, as far as it can be known before its data are loaded."""
    keys = ("task_metric", "few_shot", "chat", "cluster", "max_new_tokens", "score_reasoning")
    files = {split: file_digest(Path(path)) for split, path in suite.data.items() if Path(path).is_file()}
    definition = definition_digest(Path(suite.source)) if _is_own_task(suite) else ""
    spec: dict[str, Any] = {key: getattr(suite, key) for key in keys}
    named = {"task": "" if definition else suite.source, "definition": definition, "data": files}
    return value_digest(spec | named | {"seed": config.seed, "lm_eval": version("lm_eval"), "scoring": scoring_digest()})


def _is_own_task(suite: SuiteConfig) -> bool:
    return suite.source.endswith((".yaml", ".yml"))


def evaluation_identity(suites: Sequence[SuiteConfig], config: EvaluationConfig, cache_dir: Path) -> list[dict[str, Any]]:
    """What the report on these suites depends on beside the model and the settings, by content and not by where files lie.

    Raises EvaluationError for a suite that cannot be read.
    """
    planner = Planner("", "", config, cache_dir)
    fields = ("name", "category", "sealed", "margin", "higher_is_better")
    identity = []
    for suite in resolve_suites(suites, Path.cwd()):
        chosen = prefer_local_data(suite, config)
        facts = planner.facts(chosen)
        identity.append({field: getattr(chosen, field) for field in fields} | {"sha256": facts.suite_sha256, "available": facts.available})
    return identity


def _as_set(suite: SuiteConfig, facts: SuiteFacts) -> SuiteFacts:
    """The facts of an lm-eval task with the direction that the suite sets, if it does; a note holds the task's own."""
    return facts if suite.higher_is_better is None else replace(facts, higher_is_better=suite.higher_is_better)


def _direction(suite: SuiteConfig, metric: str) -> bool:
    return metric != "bits_per_byte" if suite.higher_is_better is None else suite.higher_is_better


def _known(cache: ItemCache) -> frozenset[str]:
    table: pd.DataFrame = cache.read()
    return frozenset(table["doc_hash"])


def _read_note(path: Path) -> SuiteFacts | None:
    if not path.is_file():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    return SuiteFacts(**content | {"doc_hashes": tuple(content["doc_hashes"])})


def more_items(suites: Sequence[SuiteConfig], wanted: Mapping[str, int]) -> list[SuiteConfig]:
    """The suites with the item limit raised to what is wanted of each; what was computed stays in the cache, only new items cost."""
    return [
        suite.model_copy(update={"items": max(suite.items, wanted[suite.name])}) if suite.name in wanted and suite.items else suite
        for suite in suites
    ]
