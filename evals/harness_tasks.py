"""Local items as an lm-eval task: lm-eval asks the model, scores and aggregates; nothing here touches the hub or a dataset cache."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.api.metrics import bits_per_byte, mean
from lm_eval.api.task import Task
from lm_eval.config.task import TaskConfig

from evals.config import SuiteConfig
from evals.suite_items import Item

OUTPUT_TYPES = {"choice": "multiple_choice", "answer": "generate_until", "text": "loglikelihood_rolling"}
METRICS = {"choice": "acc", "answer": "exact_match", "text": "bits_per_byte"}
Render = Callable[[list[dict[str, str]]], str]


class LocalTask(Task):  # type: ignore[misc]
    """Items whose prompts are rendered already, so that the hash of a prompt is the hash of what the model read."""

    VERSION = 1

    def __init__(self, suite: SuiteConfig, items: Sequence[Item], render: Render, count_tokens: Callable[[list[str]], list[int]]) -> None:
        self.suite, self.kind = suite, items[0].kind
        self.metric = suite.metric if suite.metric != "auto" else METRICS[self.kind]
        self._docs = [self._document(item, render) for item in items]
        if self.kind == "answer":
            for doc, tokens in zip(self._docs, count_tokens([item.answer for item in items]), strict=True):
                # The model recognises this draft where greedy decoding would give it, and then need not decode it again.
                doc |= {"draft": doc["answer"], "stops": list(suite.stops), "max_tokens": self._generation_length(tokens)}
        self.OUTPUT_TYPE = OUTPUT_TYPES[self.kind]
        super().__init__(
            config={"task": suite.name, "output_type": self.OUTPUT_TYPE, "num_fewshot": suite.few_shot, "generation_kwargs": None}
        )

    def _document(self, item: Item, render: Render) -> dict[str, Any]:
        if item.kind == "text":
            return {"text": item.text}
        context = render(list(item.turns)) if self.suite.chat else item.prompt
        glue = "" if self.suite.chat else self.suite.separator
        return {"context": context, "choices": list(item.choices), "gold": item.gold, "answer": item.answer, "glue": glue}

    def _generation_length(self, gold_tokens: int) -> int:
        """Tokens to generate: an answer much longer than the gold one is wrong already, unless a pattern has to find it in there."""
        if self.suite.answer_pattern:
            return self.suite.generation_limit
        return min(self.suite.generation_limit, 1 << (gold_tokens + 1).bit_length())

    def download(self, *_: Any, **__: Any) -> None:
        self.dataset = None

    def has_training_docs(self) -> bool:
        return False

    def has_validation_docs(self) -> bool:
        return False

    def has_test_docs(self) -> bool:
        return True

    def test_docs(self) -> list[dict[str, Any]]:
        return self._docs

    def doc_to_text(self, doc: dict[str, Any]) -> str:
        return str(doc.get("context", ""))

    def doc_to_target(self, doc: dict[str, Any]) -> str:
        return str(doc["text"] if self.kind == "text" else doc["glue"] + doc["answer"])

    def build_all_requests(self, *, limit: int | None = None, rank: int = 0, world_size: int = 1, **_: Any) -> None:
        documents = self.doc_iterator(rank=rank, limit=limit, world_size=world_size)
        self._instances = [instance for doc_id, doc in documents for instance in self.construct_requests(doc, "", doc_id=doc_id)]

    def construct_requests(self, doc: dict[str, Any], ctx: str, **kwargs: Any) -> list[Instance]:
        """One request a choice; for an answer the likelihood of the gold text and a greedy generation; for a text its likelihood."""
        metadata = (self.suite.name, kwargs["doc_id"], 1)
        if self.kind == "text":
            requests: list[tuple[str, tuple[Any, ...]]] = [("loglikelihood_rolling", (doc["text"],))]
        elif self.kind == "choice":
            requests = [("loglikelihood", (doc["context"], doc["glue"] + choice)) for choice in doc["choices"]]
        else:
            generation = {"until": doc["stops"], "max_gen_toks": doc["max_tokens"], "do_sample": False}
            requests = [("loglikelihood", (doc["context"], doc["glue"] + doc["answer"])), ("generate_until", (doc["context"], generation))]
        return [
            Instance(request_type=kind, doc=doc, arguments=args, idx=index, metadata=metadata)
            for index, (kind, args) in enumerate(requests)
        ]

    def process_results(self, doc: dict[str, Any], results: Sequence[Any]) -> dict[str, Any]:
        if self.kind == "text":
            return {"bits_per_byte": (results[0], len(doc["text"].encode("utf-8")))}
        if self.kind == "answer":
            return {"exact_match": float(self.extract(results[1]) == self.extract(doc["answer"]))}
        logprobs = np.array([logprob for logprob, _ in results])
        lengths = np.array([float(len(choice)) for choice in doc["choices"]])
        return {"acc": float(np.argmax(logprobs) == doc["gold"]), "acc_norm": float(np.argmax(logprobs / lengths) == doc["gold"])}

    def extract(self, text: str) -> str:
        """The answer in a text: the last match of the suite's pattern, or the whole text, without surrounding space."""
        if self.suite.answer_pattern:
            matches = list(re.finditer(self.suite.answer_pattern, text))
            if matches:
                text = matches[-1].group(1 if matches[-1].re.groups else 0)
        text = " ".join(text.split())
        return text.casefold() if self.suite.ignore_case else text

    def aggregation(self) -> dict[str, Callable[[Iterable[Any]], float]]:
        return {"bits_per_byte": bits_per_byte} if self.kind == "text" else dict.fromkeys(("acc", "acc_norm", "exact_match"), mean)

    def higher_is_better(self) -> dict[str, bool]:
        return {"bits_per_byte": False} if self.kind == "text" else dict.fromkeys(("acc", "acc_norm", "exact_match"), True)

    @property
    def config(self) -> TaskConfig:
        return self._config
