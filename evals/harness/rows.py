"""From what lm-eval logged to the rows of the per-item store, and the checks that make them believable."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_contracts.digests import value_digest
from data_contracts.errors import EvaluationError
from evals.config import SuiteConfig
from evals.harness.prompts import Prompt
from evals.harness.tasks import LocalTask
from evals.items import COLUMNS
from evals.suites.items import Item, cluster_of

AGREEMENT = 1e-12  # the same numbers, summed in another order
PER_TEXT = ("bits_per_byte", "byte_perplexity", "word_perplexity")

_NO_CHOICES: tuple[Any, ...] = (None, None, None)
_NOTHING_KEPT = ("", 0, "", "")  # no reasoning set aside, no context cut, answers compared as they are

Sample = dict[str, Any]
Row = tuple[Any, ...]


def local_rows(task: LocalTask, items: Sequence[Item], samples: Sequence[Sample]) -> pd.DataFrame:
    """Rows of a local suite, in the items' order."""
    ordered = sorted(samples, key=lambda sample: sample["doc_id"])
    return pd.DataFrame([_local_row(task, item, sample) for item, sample in zip(items, ordered, strict=True)], columns=list(COLUMNS))


def named_rows(suite: SuiteConfig, name: str, task: Any, samples: Sequence[Sample], hashes: Mapping[tuple[str, int], str]) -> pd.DataFrame:
    """Rows of one lm-eval task; lm-eval logs every document once per filter."""
    metric, chosen = metric_key(suite, task).rsplit(",", 1)
    rows = [_named_row(suite, task, metric, sample, hashes[name, sample["doc_id"]]) for sample in samples if sample["filter"] == chosen]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def metric_key(suite: SuiteConfig, task: Any) -> str:
    """metric,filter of the suite's score: as the suite says, otherwise the task's first metric under its first filter."""
    names, filters = list(task.aggregation()), [ensemble.name for ensemble in task._filters]
    metric, _, chosen = suite.task_metric.partition(",")
    metric, chosen = metric or names[0], chosen or filters[0]
    if metric not in names or chosen not in filters:
        raise EvaluationError(suite.name, f"has no metric {suite.task_metric!r}", f"metrics are {names}, filters {filters}")
    return f"{metric},{chosen}"


def higher_is_better(suite: SuiteConfig, tasks: Mapping[str, Any]) -> bool:
    """The direction that lm-eval's tasks give the suite's metric. Raises EvaluationError where the tasks of a group disagree."""
    found = {bool((task.higher_is_better() or {}).get(metric_key(suite, task).rsplit(",", 1)[0], True)) for task in tasks.values()}
    if len(found) > 1:
        what = "has tasks of which some call a higher score better and some a lower one"
        raise EvaluationError(suite.name, what, "name its tasks as suites of their own")
    return found.pop()


def check_agreement(suite: SuiteConfig, rows: pd.DataFrame, expected: float) -> None:
    """Raises EvaluationError where the mean of these rows is not lm-eval's own aggregate."""
    mean = float(np.average(rows["score"].to_numpy(float), weights=rows["weight"].to_numpy(float)))
    if not abs(mean - expected) <= AGREEMENT * max(1.0, abs(expected)):
        raise EvaluationError(
            suite.name,
            f"the mean of the stored scores, {mean!r}, is not lm-eval's {expected!r}",
            "report it with the suite: the harness is wrong",
        )


def _local_row(task: LocalTask, item: Item, sample: Sample) -> Row:
    """One line of the per-item store, in the order of COLUMNS."""
    answers = sample["filtered_resps"]
    if item.kind == "text":
        return _text_row(task.suite, item.doc_hash, item.text, (answers[0], len(item.text.encode("utf-8"))), item.cluster)
    prompt = task.prompts[sample["doc"]["number"]]
    logprobs = _finite(task.suite, prompt.text, [answer[0] for answer in (answers if item.kind == "choice" else answers[:1])])
    reasoning, right, given, choices = "", "", "", _NO_CHOICES
    if item.kind == "choice":
        ranked = rank_choices(logprobs, item.choices, task.metric)
        prediction, gold = item.choices[int(np.argmax(ranked))], logprobs[item.gold]
        choices = (logprobs, *gold_standing(logprobs, ranked, [item.gold]))
    else:
        ended = task.ended(sample["doc"], answers[1])
        reasoning, said = task.set_aside(ended)
        given, right = task.compared(ended, sample["doc"]["answer"])
        prediction, gold = said.strip(), logprobs[0]
    shown = (item.cluster, prompt.text, item.answer, prediction)
    kept = (reasoning, prompt.cut, right, given, *choices)
    return (item.doc_hash, _prompt_digest(prompt), float(sample[task.metric]), gold, 1.0, *shown, *kept)


def rank_choices(logprobs: Sequence[float], choices: Sequence[str], metric: str) -> NDArray[np.float64]:
    """What the metric ranks: nats of each choice, by its characters for acc_norm."""
    return np.array(logprobs) / (np.array([len(choice) for choice in choices]) if metric == "acc_norm" else 1.0)


def gold_standing(logprobs: Sequence[float], ranked: NDArray[np.float64], gold: Sequence[int]) -> tuple[float | None, float]:
    """(margin of the best gold choice to the best other one as they are ranked, None where there is no other; probability of the gold)."""
    right = np.isin(np.arange(len(ranked)), gold)
    margin = float(ranked[right].max() - ranked[~right].max()) if not right.all() else None
    chances = np.exp(np.array(logprobs) - max(logprobs))
    return margin, float(chances[right].sum() / chances.sum())


def _prompt_digest(prompt: Prompt) -> str:
    """Of the exact tokens that the model read before the answer, and of their text."""
    return value_digest([prompt.text, prompt.context, prompt.asked])


def _named_row(suite: SuiteConfig, task: Any, metric: str, sample: Sample, doc_hash: str) -> Row:
    doc, value = sample["doc"], sample[metric]
    prompt = str(sample["arguments"][0][0])
    cluster = cluster_of(suite, doc, suite.name)
    if metric in PER_TEXT:
        if metric != "bits_per_byte":
            raise EvaluationError(suite.name, f"{metric} has no mean over items", "set task_metric: bits_per_byte")
        return _text_row(suite, doc_hash, prompt, value, cluster)
    if not isinstance(value, (bool, int, float, np.number)) or not 0.0 <= float(value) <= 1.0:
        raise EvaluationError(
            suite.name, f"{metric} of an item is {value!r}, not a number in [0, 1]", f"task_metric is one of {sample['metrics']}"
        )
    (gold_logprob, gold, prediction), choices = _gold(suite, task, metric, sample)
    shown = (cluster, prompt, gold, prediction)
    return (doc_hash, sample["prompt_hash"], float(value), gold_logprob, 1.0, *shown, *_NOTHING_KEPT, *choices)


def _gold(suite: SuiteConfig, task: Any, metric: str, sample: Sample) -> tuple[tuple[float | None, str, str], Row]:
    """(nats of the gold choice or None where the task has none, gold, prediction), and what is stored of the choices."""
    answers, target = sample["filtered_resps"], sample["target"]
    if task.OUTPUT_TYPE == "multiple_choice":
        texts = [str(arguments[0 if task.multiple_input else 1]) for arguments in sample["arguments"]]
        logprobs = _finite(suite, texts[0], [answer[0] for answer in answers])
        gold = task.doc_to_text(sample["doc"]) if task.multiple_input else target
        if isinstance(gold, str):
            gold = task.doc_to_choice(sample["doc"]).index(gold)
        every = gold if isinstance(gold, list) else [int(gold)]
        first = max(every, key=lambda index: logprobs[index])
        # lm-eval counts a choice's characters without the separator that it is read with.
        choices = task.doc_to_choice(sample["doc"])
        own, alone = logprobs[: len(choices)], logprobs[len(choices) :]  # without their question, for tasks that count mutual information
        counted = list(np.subtract(own, alone)) if metric == "acc_mutual_info" else own
        ranked = rank_choices(counted, choices, metric)
        best = int(np.argmax(ranked))
        return (logprobs[first], texts[first].strip(), texts[best].strip()), (own, *gold_standing(own, ranked, every))
    if task.OUTPUT_TYPE == "loglikelihood":
        (logprob,) = _finite(suite, str(sample["arguments"][0][0]), [answers[0][0]])
        return (logprob, str(target), str(target) if answers[0][1] else ""), _NO_CHOICES
    return (None, str(target), str(answers[0])), _NO_CHOICES


def _text_row(suite: SuiteConfig, doc_hash: str, text: str, value: tuple[float, int], cluster: str | None) -> Row:
    (nats,), size = _finite(suite, text, [value[0]]), value[1]
    return (doc_hash, _sha256(text), -nats / size / math.log(2), nats, float(size), cluster, text, "", "", *_NOTHING_KEPT, *_NO_CHOICES)


def _finite(suite: SuiteConfig, prompt: str, logprobs: Sequence[float]) -> list[float]:
    """A model whose logits are all NaN still scores one over the number of choices: only log-probabilities show that it is broken."""
    if not all(math.isfinite(logprob) for logprob in logprobs):
        what = f"a log-probability is not finite: {list(logprobs)} on {prompt[:80]!r}"
        raise EvaluationError(suite.name, what, "the checkpoint is broken: train it again, or evaluate it in float32")
    return [float(logprob) for logprob in logprobs]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
