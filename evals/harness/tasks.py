"""Local items as an lm-eval task: lm-eval prompts the model, scores and aggregates; nothing here uses the hub or a dataset cache."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.api.metrics import bits_per_byte, mean
from lm_eval.api.task import Task
from lm_eval.config.task import TaskConfig

from data_contracts.errors import EvaluationError
from evals.config import SuiteConfig
from evals.harness.prompts import Prompt
from evals.scoring.model import AnswerIds, Draft, LikelihoodIds
from evals.suites.items import Item, metric_of

OUTPUT_TYPES = {"choice": "multiple_choice", "answer": "generate_until", "text": "loglikelihood_rolling"}


@dataclass(frozen=True)
class Reading:
    """How answers end and are read: tokens and texts that end one, and what closes the reasoning that is set aside.

    text_end: ends a chat answer where no token does. It is among `stops` unless a right answer holds it too.
    """

    ends: tuple[int, ...] = ()
    stops: tuple[str, ...] = ()
    reasoning_close: str = ""
    text_end: str = ""


class LocalTask(Task):  # type: ignore[misc]
    """Items whose prompts are rendered already, so that the hash of a prompt is the hash of what the model read.

    `in_tokens`: the model is handed the tokens of its prompts; otherwise (vLLM) their text.
    """

    VERSION = 1

    def __init__(self, suite: SuiteConfig, items: Sequence[Item], prompts: Sequence[Prompt], reading: Reading, *, in_tokens: bool) -> None:
        self.suite, self.kind, self.prompts, self.reading = suite, items[0].kind, prompts, reading
        self._in_tokens = in_tokens
        self.metric = metric_of(suite, self.kind)
        texts = [{"text": item.text} for item in items] if self.kind == "text" else []
        self._docs = texts or [
            self._document(number, item, prompt) for number, (item, prompt) in enumerate(zip(items, prompts, strict=True))
        ]
        for item, prompt in zip(items, prompts, strict=bool(prompts)):
            self._require_sayable(item, prompt)
        self.OUTPUT_TYPE = OUTPUT_TYPES[self.kind]
        super().__init__(
            config={"task": suite.name, "output_type": self.OUTPUT_TYPE, "num_fewshot": suite.few_shot, "generation_kwargs": None}
        )

    def _document(self, number: int, item: Item, prompt: Prompt) -> dict[str, Any]:
        doc = {"number": number, "context": prompt.text, "choices": list(item.choices), "gold": item.gold, "answer": prompt.gold}
        if self.kind == "answer" and self._in_tokens:
            doc["draft"] = Draft(prompt.asked, self.reading.ends, self.reading.stops, prompt.limit)
        return doc

    def _require_sayable(self, item: Item, prompt: Prompt) -> None:
        """A right answer that the suite's own stop cuts off could never be given. Raises EvaluationError."""
        if self.kind != "answer":
            return
        where, way_out = f"{self.suite.name}: {item.prompt[:60]!r}", "set `stop` to a text that no answer holds, or to []"
        for stop in filter(None, self.suite.stops):
            if not self.is_right(prompt.gold.split(stop)[0], prompt.gold):
                what = f"the right answer {prompt.gold[:60]!r} holds {stop!r}, which ends an answer of this suite"
                raise EvaluationError(where, what, way_out)

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
        return str(doc["text"] if self.kind == "text" else doc["answer"])

    def build_all_requests(self, *, limit: int | None = None, rank: int = 0, world_size: int = 1, **_: Any) -> None:
        documents = self.doc_iterator(rank=rank, limit=limit, world_size=world_size)
        self._instances = [instance for doc_id, doc in documents for instance in self.construct_requests(doc, "", doc_id=doc_id)]

    def construct_requests(self, doc: dict[str, Any], ctx: str, **kwargs: Any) -> list[Instance]:
        """One request per choice; for an answer the likelihood of the gold text and a greedy generation; for a text its likelihood."""
        metadata = (self.suite.name, kwargs["doc_id"], 1)
        requests = [("loglikelihood_rolling", (doc["text"],))] if self.kind == "text" else list(self._requests(doc))
        return [
            Instance(request_type=kind, doc=doc, arguments=args, idx=index, metadata=metadata)
            for index, (kind, args) in enumerate(requests)
        ]

    def _requests(self, doc: dict[str, Any]) -> Iterator[tuple[str, tuple[Any, ...]]]:
        prompt = self.prompts[doc["number"]]
        for text, ids in zip(prompt.texts, prompt.continuations, strict=True):
            yield "loglikelihood", (prompt.text, text, *([LikelihoodIds(prompt.context, ids)] if self._in_tokens else ()))
        if self.kind == "answer":
            settings = {"until": list(self.reading.stops), "max_gen_toks": prompt.limit, "do_sample": False}
            ids = [AnswerIds(prompt.asked, self.reading.ends)] if self._in_tokens else ()
            yield "generate_until", (prompt.text + prompt.lead, settings, *ids)

    def process_results(self, doc: dict[str, Any], results: Sequence[Any]) -> dict[str, Any]:
        if self.kind == "text":
            return {"bits_per_byte": (results[0], len(doc["text"].encode("utf-8")))}
        if self.kind == "answer":
            return {"exact_match": float(self.is_right(self.ended(doc, results[1]), doc["answer"]))}
        logprobs = np.array([logprob for logprob, _ in results])
        lengths = np.array([float(len(choice)) for choice in doc["choices"]])
        return {"acc": float(np.argmax(logprobs) == doc["gold"]), "acc_norm": float(np.argmax(logprobs / lengths) == doc["gold"])}

    def ended(self, doc: dict[str, Any], text: str) -> str:
        """What was generated, up to the text that ends an answer: its first, or the next after as many as the right answer holds itself."""
        end = self.reading.text_end
        return end.join(text.split(end)[: doc["answer"].count(end) + 1]) if end else text

    def set_aside(self, text: str) -> tuple[str, str]:
        """(reasoning, the answer after it); no reasoning where the text closes none, or the suite scores it."""
        close = self.reading.reasoning_close
        before, found, after = text.rpartition(close) if close else ("", "", text)
        return (before + found).strip(), after

    def is_right(self, said: str, gold: str) -> bool:
        """Whether an answer that has ended is the right one."""
        given, right = self.compared(said, gold)
        return given == right

    def compared(self, said: str, gold: str) -> tuple[str, str]:
        """(answer, right answer) as they are compared.

        Where the right answer has several lines, as code has, the lines and their indentation count; on one line any white space is one
        space. White space around an answer and at the ends of its lines never counts.
        """
        found, right = (self.extract(self.set_aside(text)[1]) for text in (said, gold))
        if len(right.splitlines()) > 1:
            return "\n".join(_lines(found)), "\n".join(_lines(right))
        return " ".join(found.split()), " ".join(right.split())

    def extract(self, text: str) -> str:
        """The answer in a text: the last match of the suite's pattern, or all of the text, without what does not count and white space
        around it.

        NFC, because some tokenizers read and write no other spelling of the same letters.
        """
        text = unicodedata.normalize("NFC", text)
        if self.suite.answer_pattern:
            found = map(_taken, re.finditer(self.suite.answer_pattern, text))
            text = next((answer for answer in reversed(list(found)) if answer.strip()), text)  # a pattern may match nothing, too
        if self.suite.ignore_pattern:
            text = re.sub(self.suite.ignore_pattern, "", text)
        text = text.strip()
        return text.casefold() if self.suite.ignore_case else text

    def aggregation(self) -> dict[str, Callable[[Iterable[Any]], float]]:
        return {"bits_per_byte": bits_per_byte} if self.kind == "text" else dict.fromkeys(("acc", "acc_norm", "exact_match"), mean)

    def higher_is_better(self) -> dict[str, bool]:
        return {"bits_per_byte": False} if self.kind == "text" else dict.fromkeys(("acc", "acc_norm", "exact_match"), True)

    @property
    def config(self) -> TaskConfig:
        return self._config


def _taken(match: re.Match[str]) -> str:
    """What a match says: of alternatives with a group each, the one that took part."""
    return str(next((group for group in match.groups() if group is not None), match.group()))


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]
