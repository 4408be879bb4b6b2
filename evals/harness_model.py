"""lm-eval's HFLM with the recomputation taken out: contexts are read once whatever the number of choices, and an answer that greedy
decoding would give is recognised in the pass that scores it. Scores are HFLM's; the tests compare them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any

from lm_eval import utils
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import has_bos_prefix

from evals.config import EvaluationConfig
from evals.harness_scorer import ContinuationScorer, Request, Scored


class ScoringLM(HFLM):  # type: ignore[misc]
    """HFLM over a loaded model. `on_progress` is called with the share of a call's work that was just done."""

    def __init__(self, model: Any, tokenizer: Any, config: EvaluationConfig, on_progress: Callable[[float], None]) -> None:
        super().__init__(pretrained=model, tokenizer=tokenizer, max_length=config.max_length, batch_size=config.max_batch_size)
        self._on_progress = on_progress
        self.scorer = ContinuationScorer(
            model, max_length=self.max_length, max_tokens=config.max_tokens_per_batch, max_rows=config.max_batch_size
        )
        self._drafts: dict[str, str] = {}

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """(nats, would greedy decoding say it) of each continuation. Also recognises answers that `generate_until` will be asked for."""
        pairs = self._encode_pairs([request.args for request in requests])
        drafts = [number for number, request in enumerate(requests) if "draft" in request.doc]
        endings = [(number, end) for number in drafts for end in self._endings(requests[number].doc["stops"])]
        ended = [(pairs[number][0], pairs[number][1] + [end]) for number, end in endings]
        scored = self.scorer.score([*pairs, *ended], lambda done: self._on_progress(len(done) / (len(pairs) + len(ended))))
        self._accept_drafts(requests, pairs, [(number, score) for (number, _), score in zip(endings, scored[len(pairs) :], strict=True)])
        return [(score.logprob, all(score.greedy)) for score in scored[: len(pairs)]]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = True) -> list[float]:
        """Nats of whole texts, in windows of the model's length with one token of context, as HFLM cuts them."""
        owners: list[int] = []
        windows: list[Request] = []
        for number, tokens in enumerate(self._encode([request.args[0] for request in requests])):
            rolling = utils.get_rolling_token_windows(tokens, self.prefix_token_id, max_seq_len=self.max_length, context_len=1)
            for window in rolling:
                owners.append(number)
                windows.append(utils.make_disjoint_window(window))
        totals = [0.0] * len(requests)
        scored = self.scorer.score(windows, lambda done: self._on_progress(len(done) / len(windows)))
        for number, score in zip(owners, scored, strict=True):
            totals[number] += score.logprob
        return totals

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:
        """Greedy answers. Those that the scoring pass already recognised are not decoded again."""
        answers = {number: self._drafts.pop(request.args[0]) for number, request in enumerate(requests) if self._is_answered(request)}
        self._on_progress(len(answers) / len(requests))
        for numbers in self._generation_batches(requests, set(range(len(requests))) - set(answers)):
            generated = super().generate_until([requests[number] for number in numbers], disable_tqdm=True)
            answers |= dict(zip(numbers, generated, strict=True))
            self._on_progress(len(numbers) / len(requests))
        return [answers[number] for number in range(len(requests))]

    def _is_answered(self, request: Instance) -> bool:
        return "draft" in request.doc and request.args[0] in self._drafts

    def _generation_batches(self, requests: Sequence[Instance], open_numbers: set[int]) -> list[list[int]]:
        """Numbers of open requests, those of one generation setting together, longest prompt first."""
        order = sorted(open_numbers, key=lambda number: (str(requests[number].args[1]), -len(requests[number].args[0]), number))
        groups = [list(group) for _, group in groupby(order, key=lambda number: str(requests[number].args[1]))]
        size = self.scorer.max_rows
        return [group[start : start + size] for group in groups for start in range(0, len(group), size)]

    # ------------------------------------------------------------------------------------------ drafts

    def _endings(self, stops: Sequence[str]) -> set[int]:
        """Tokens after which a greedy answer is over: end of sequence, and stop texts that are one token."""
        ends = self.model.generation_config.eos_token_id
        tokens = {self.eot_token_id, *([] if ends is None else [ends] if isinstance(ends, int) else ends)}
        for stop in stops:
            encoded = self.tokenizer(stop, add_special_tokens=False)["input_ids"]
            tokens |= set(encoded) if len(encoded) == 1 else set()
        return tokens

    def _accept_drafts(self, requests: Sequence[Instance], pairs: Sequence[Request], endings: Iterable[tuple[int, Scored]]) -> None:
        """Remember each gold answer that greedy decoding of the bare context would give, token for token, and then end."""
        likely = [(number, score) for number, score in endings if score.greedy[-1]]
        contexts = self._encode([requests[number].args[0] for number, _ in likely])
        for (number, score), context in zip(likely, contexts, strict=True):
            document, (start, tokens) = requests[number].doc, pairs[number]
            moved = len(context) - len(start)  # space at the end of the context that was scored with the answer
            if (
                moved < 0
                or context != start + tokens[:moved]
                or not all(score.greedy[moved:])
                or len(tokens) - moved >= document["max_tokens"]
            ):
                continue
            text = self.tok_decode(tokens[moved:])
            if not any(stop in text for stop in document["stops"]):
                self._drafts[requests[number].args[0]] = text

    # ------------------------------------------------------------------------------------------ tokens

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        """`tok_encode` of many texts at once; a text that starts with BOS does not get a second one."""
        if not texts:
            return []
        prefix = self.tokenizer.decode(self.prefix_token_id)
        special = {} if self.add_bos_token is None else {"add_special_tokens": self.add_bos_token}
        encoded: list[list[int]] = self.tokenizer(list(texts), **special)["input_ids"]
        for number, text in enumerate(texts):
            if has_bos_prefix(text, prefix):
                encoded[number] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return encoded

    def _encode_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[Request]:
        """`_encode_pair` of many pairs: space at the end of a context belongs to the continuation; split after joint encoding."""
        stripped = [context.rstrip() for context, _ in pairs]
        wholes = self._encode([context + continuation for context, continuation in pairs])
        unique = list(dict.fromkeys(stripped))
        codes = dict(zip(unique, self._encode(unique), strict=True))
        encoded: list[Request] = []
        for (context, continuation), bare, whole in zip(pairs, stripped, wholes, strict=True):
            if context:
                encoded.append((codes[bare], whole[len(codes[bare]) :]))
            else:
                alone = self.tokenizer(continuation, add_special_tokens=False)["input_ids"]
                encoded.append(([self.prefix_token_id], alone) if self.prefix_token_id != alone[0] else (alone[:1], alone[1:]))
        return encoded
