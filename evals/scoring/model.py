"""lm-eval's HFLM with the recomputation taken out: contexts are read once whatever the number of choices, and an answer that greedy
decoding would give is recognised in the pass that scores it. Scores are HFLM's; the tests compare them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from lm_eval import utils
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from data_contracts.model.window import shortest
from evals.config import EvaluationConfig
from evals.scoring.generation import GreedyGenerator
from evals.scoring.scorer import ContinuationScorer, Request, Scored
from evals.scoring.tokens import PlainTokens

Ids = tuple[int, ...]


@dataclass(frozen=True)
class LikelihoodIds:
    """Of a request for a likelihood: the context and the continuation in tokens."""

    context: Ids
    continuation: Ids


@dataclass(frozen=True)
class AnswerIds:
    """Of a request for an answer: what it is generated after, and the tokens that end it."""

    asked: Ids
    ends: Ids


@dataclass(frozen=True)
class Draft:
    """The right answer of a request for an answer: where greedy decoding is seen to give it, it need not be decoded."""

    asked: Ids
    ends: Ids
    stops: tuple[str, ...]
    limit: int


class ScoringLM(HFLM):  # type: ignore[misc]
    """HFLM over a loaded model. `on_progress` is called with the share of a call's work that was just done.

    A request of a local suite carries its tokens as its last argument, one of lm-eval's own tasks is tokenised as HFLM does it.
    `window`: tokens that the model reads at once, where it says so.
    """

    def __init__(
        self, model: Any, tokenizer: Any, config: EvaluationConfig, on_progress: Callable[[float], None], *, window: int | None = None
    ) -> None:
        limit = shortest(config.max_length, window)
        super().__init__(pretrained=model, tokenizer=tokenizer, max_length=limit, batch_size=config.max_batch_size)
        self._on_progress = on_progress
        self.scorer = ContinuationScorer(
            model, max_length=self.max_length, max_tokens=config.max_tokens_per_batch, max_rows=config.max_batch_size
        )
        self.generator = GreedyGenerator(model, tokenizer, max_rows=config.max_batch_size)
        self.tokens = PlainTokens(tokenizer, add_bos=self.add_bos_token, prefix_id=self.prefix_token_id)
        self.chat_end = ""
        """Text that ends an answer to lm-eval's own chat tasks, beside the tokenizer's end of sequence."""
        self._drafts: dict[Ids, str] = {}

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """(nats, would greedy decoding give it) of each continuation. Also recognises answers that `generate_until` will need."""
        pairs = self._pairs(requests)
        drafts = [(number, request.doc["draft"]) for number, request in enumerate(requests) if request.doc.get("draft")]
        endings = [(number, draft, end) for number, draft in drafts for end in self._endings(draft, pairs[number])]
        ended = [(pairs[number][0], [*pairs[number][1], end]) for number, _, end in endings]
        scored = self.scorer.score([*pairs, *ended], lambda done: self._on_progress(len(done) / (len(pairs) + len(ended))))
        tried = [(draft, request, score) for (_, draft, _), request, score in zip(endings, ended, scored[len(pairs) :], strict=True)]
        self._accept([*((draft, pairs[number], scored[number]) for number, draft in drafts), *tried])
        return [(score.logprob, all(score.greedy)) for score in scored[: len(pairs)]]

    def _pairs(self, requests: Sequence[Instance]) -> list[Request]:
        of_lm_eval = [request for request in requests if not isinstance(request.args[-1], LikelihoodIds)]
        items = [(request.task_name, request.doc_id) for request in of_lm_eval]
        encoded = iter(self.tokens.encode_pairs([request.args[:2] for request in of_lm_eval], items))
        given = (request.args[-1] for request in requests)
        return [(list(ids.context), list(ids.continuation)) if isinstance(ids, LikelihoodIds) else next(encoded) for ids in given]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = True) -> list[float]:
        """Nats of complete texts, in windows of the model's length with one token of context, as HFLM cuts them. What begins a sequence is
        context: HFLM also counts it as text where a tokenizer adds it."""
        owners: list[int] = []
        windows: list[Request] = []
        for number, tokens in enumerate(self.tokens.measured(request.args[0]) for request in requests):
            rolling = utils.get_rolling_token_windows(tokens, self.prefix_token_id, max_seq_len=self.max_length, context_len=1)
            for place, (context, scored_tokens) in enumerate(map(utils.make_disjoint_window, rolling)):
                owners.append(number)
                windows.append((context if place else self.tokens.start, scored_tokens))
        totals = [0.0] * len(requests)
        scored = self.scorer.score(windows, lambda done: self._on_progress(len(done) / len(windows)))
        for number, score in zip(owners, scored, strict=True):
            totals[number] += score.logprob
        return totals

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:
        """Greedy answers. Those that the scoring pass already recognised are not decoded again."""
        asked = {number: request.args[-1] for number, request in enumerate(requests) if isinstance(request.args[-1], AnswerIds)}
        answers = {number: self._drafts.pop(ids.asked) for number, ids in asked.items() if ids.asked in self._drafts}
        self._on_progress(len(answers) / len(requests))
        for numbers in self._generation_batches(requests, set(range(len(requests))) - set(answers)):
            batch = [requests[number] for number in numbers]
            answers |= dict(zip(numbers, self._answers(batch) if numbers[0] in asked else self._of_lm_eval(batch), strict=True))
            self._on_progress(len(numbers) / len(requests))
        return [answers[number] for number in range(len(requests))]

    def tok_batch_encode(
        self, strings: Sequence[str], padding_side: str = "left", left_truncate_len: int | None = None, truncation: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What HFLM's own generation reads: as `PlainTokens` has it, or a tokenizer that ends every text would end each question."""
        rows = [ids[-left_truncate_len:] if left_truncate_len else ids for ids in self.tokens.encode(strings)]
        padded = self.tokenizer.pad({"input_ids": rows}, padding_side=padding_side, return_tensors="pt")
        return padded["input_ids"], padded["attention_mask"]

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """lm-eval's own chat tasks are rendered with the template that the model was trained with, too, and where a task begins the answer
        (`gen_prefix`, the last turn then) its words stand behind the prompt."""
        if add_generation_prompt:
            return self.render_chat(chat_history)
        *asked, begun = chat_history
        return self.render_chat(asked) + begun["content"]

    render_chat: Callable[[list[dict[str, str]]], str]
    """The prompt of a conversation as text; set by the session."""

    def _answers(self, batch: Sequence[Instance]) -> list[str]:
        _, settings, ids = batch[0].args
        contexts = [request.args[-1].asked for request in batch]
        return self.generator.answers(contexts, ends=ids.ends, stops=settings["until"], limit=settings["max_gen_toks"])

    def _of_lm_eval(self, batch: Sequence[Instance]) -> list[str]:
        """HFLM's own generation, which also stops where a chat turn ends; one batch of it."""
        if self.chat_end:
            batch = [_with_stop(request, self.chat_end) for request in batch]
        self.generator.start_anew()
        answers: list[str] = super().generate_until(list(batch), disable_tqdm=True)
        return answers

    def _generation_batches(self, requests: Sequence[Instance], open_numbers: set[int]) -> list[list[int]]:
        """Numbers of open requests, those of one generation setting together, longest prompt first."""
        order = sorted(open_numbers, key=lambda number: (str(requests[number].args[1]), -len(requests[number].args[0]), number))
        groups = [list(group) for _, group in groupby(order, key=lambda number: str(requests[number].args[1]))]
        found: list[list[int]] = []
        for group in groups:
            limit = requests[group[0]].args[1].get("max_gen_toks") or self.max_gen_toks
            batches = self.generator.batches(self._asked([requests[number] for number in group], limit), limit)
            found += [[group[place] for place in batch] for batch in batches]
        return found

    def _asked(self, group: Sequence[Instance], limit: int) -> list[Ids]:
        """What each answer of a group is generated after; HFLM cuts what is too long with the answer."""
        if isinstance(group[0].args[-1], AnswerIds):
            return [request.args[-1].asked for request in group]
        return [tuple(ids[-max(1, self.max_length - limit) :]) for ids in self.tokens.encode([request.args[0] for request in group])]

    # ------------------------------------------------------------------------------------------ drafts

    def _endings(self, draft: Draft, pair: Request) -> set[int]:
        """Tokens after which the right answer would be over, where it does not hold its end itself: those that end a text, and stop texts
        that are one token."""
        if any(token in draft.ends for token in pair[1]):
            return set()
        tokens = {*self.generator.eos, *draft.ends}
        for stop in draft.stops:
            encoded = self.tokens.bare(stop)
            tokens |= set(encoded) if len(encoded) == 1 else set()
        return tokens

    def _accept(self, tried: Iterable[tuple[Draft, Request, Scored]]) -> None:
        """Remember each right answer that greedy decoding of the bare context would give, token for token, and then end."""
        for draft, (start, tokens), score in tried:
            moved = len(draft.asked) - len(start)  # space at the end of the context that was scored with the answer
            if moved < 0 or list(draft.asked) != [*start, *tokens[:moved]]:
                continue
            end = next((at for at, token in enumerate(tokens) if at >= moved and token in draft.ends), len(tokens) - 1)
            if not all(score.greedy[moved : end + 1]) or not self._ends(draft, tokens[end]) or end - moved >= draft.limit:
                continue
            text = self.generator.text(tokens[moved:end])
            if not any(stop in text for stop in draft.stops):
                self._drafts[draft.asked] = text

    def _ends(self, draft: Draft, token: int) -> bool:
        return token in self._endings(draft, ([], []))


def _with_stop(request: Instance, stop: str) -> Instance:
    """The same request, stopped by one text more."""
    context, settings = request.args
    until = settings.get("until") or []
    stops = [until] if isinstance(until, str) else list(until)
    made = Instance(request.request_type, request.doc, (context, {**settings, "until": [*stops, stop]}), request.idx)
    made.metadata = request.metadata
    return made
