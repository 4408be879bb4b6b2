"""What a model reads of each local item, in token ids, and what it may answer.

The prompt of a chat item is the ids that training rendered before the answer, token for token, and a choice is scored with the end of
its turn. A plain item is tokenised as scoring/tokens.py does it. There, where one choice begins another ("1" and "10"), every choice of
the item is scored with the text that ends a plain answer (the suite's first stop, a line break unless it sets another): without it the
shorter of the two could never lose. Choices that only begin an answer (`open_choices`) are scored as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from data_contracts.errors import EvaluationError
from data_contracts.rendering import TextRenderer
from evals.config import SuiteConfig
from evals.scoring.tokens import PlainTokens
from evals.suites.items import Item, behind

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Prompt:
    """`context` and each of `continuations` (the choices, or the right answer alone) are what likelihoods are taken of, `texts` the same as
    text; `asked` is the context that an answer is generated from, `limit` its longest length; `gold` is the right answer as the model would
    write it.

    lead: what stands between `text` and a generated answer. cut: tokens of the context that the model's window has no room for, taken from
    its beginning.
    """

    text: str
    context: Ids
    continuations: tuple[Ids, ...]
    texts: tuple[str, ...]
    asked: Ids = ()
    gold: str = ""
    limit: int = 0
    cut: int = 0
    lead: str = ""


class PromptMaker:
    """Makes prompts for one model. `window`: tokens that it reads at once."""

    def __init__(self, tokenizer: Any, renderer: TextRenderer, tokens: PlainTokens, window: int) -> None:
        self._tokenizer, self._renderer, self._tokens, self._window = tokenizer, renderer, tokens, window

    def make(self, suite: SuiteConfig, items: Sequence[Item]) -> list[Prompt]:
        """The prompts of choices or answers, in the items' order. Raises EvaluationError for an item that cannot be rendered."""
        prompts = [self._chat(suite, item) for item in items] if suite.chat else self._plain(suite, items)
        for item, prompt in zip(items, prompts, strict=True):
            _require_distinct(suite, item, prompt)
        return [self._fit(suite, item, prompt) for item, prompt in zip(items, prompts, strict=True)]

    def reasoning_close(self, suite: SuiteConfig) -> str:
        """What closes the reasoning that the suite sets aside; empty where nothing is set aside."""
        return self._renderer.reasoning_close if suite.chat and not suite.score_reasoning else ""

    def ends(self, suite: SuiteConfig) -> tuple[int, ...]:
        """Tokens that end a chat answer."""
        return tuple(self._renderer.end_ids) if suite.chat else ()

    def text_end(self, suite: SuiteConfig) -> str:
        """The text that ends a chat answer, where that is no token of its own; otherwise empty."""
        end = self._renderer.end_text if suite.chat else ""
        return "" if any(self._tokenizer.decode([token]) in end for token in self.ends(suite)) else end

    def stops(self, suite: SuiteConfig, prompts: Sequence[Prompt]) -> tuple[str, ...]:
        """Texts that end an answer while it is generated: the suite's, and `text_end` unless a right answer holds it too."""
        end = self.text_end(suite)
        return (*suite.stops, end) if end and not any(end in prompt.gold for prompt in prompts) else suite.stops

    # ------------------------------------------------------------------------------------------ chat

    def _chat(self, suite: SuiteConfig, item: Item) -> Prompt:
        where = f"{suite.name}: {item.prompt[:60]!r}"
        rows = [item.row(choice) for choice in item.choices] if item.kind == "choice" else [item.row()]
        questions = [self._renderer.question(row, where) for row in rows]
        pairs = [(question.context_ids, question.answer_ids) for question in questions]
        if suite.open_choices:
            pairs = [(context, answer[: self._said(answer)]) for context, answer in pairs]
        context, answers = _one_context(pairs)
        first = questions[0]
        texts = tuple(question.said + ("" if suite.open_choices else question.end) for question in questions)
        prompt = Prompt(first.context, context, answers, texts)
        if item.kind == "choice":
            return prompt
        gold = self._gold(suite, answers[0], where)
        limit = self._limit(suite, len(answers[0]), reasons=bool((close := self.reasoning_close(suite)) and close in gold))
        return replace(prompt, asked=context, gold=gold, limit=limit)

    def _gold(self, suite: SuiteConfig, answer: Ids, where: str) -> str:
        """The right answer as the model would write it. Raises EvaluationError where it could not write it to its end."""
        said = self._said(answer)
        if said < len(answer) - 1:
            what = f"the right answer holds {self._tokenizer.decode([answer[said]])!r}, which ends an answer of this model"
            raise EvaluationError(where, what, "write it in another way, or leave the item out")
        gold = self._tokenizer.decode(answer[:said], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return str(gold).removesuffix(self.text_end(suite))

    def _said(self, answer: Ids) -> int:
        """Number of tokens before the one that ends an answer."""
        return next((at for at, token in enumerate(answer) if token in self._renderer.end_ids), len(answer))

    # ------------------------------------------------------------------------------------------ plain

    def _plain(self, suite: SuiteConfig, items: Sequence[Item]) -> list[Prompt]:
        texts = [_continuations(suite, item) for item in items]
        pairs = [(item.prompt, text) for item, own in zip(items, texts, strict=True) for text in own]
        encoded = iter(self._tokens.encode_pairs(pairs))
        # A space is the answer's: most tokenizers make one token of it and the word behind it.
        lead = suite.separator.rstrip(" \t")
        asked = self._tokens.encode([item.prompt + lead for item in items]) if items[0].kind == "answer" else [[]] * len(items)
        prompts = []
        for item, own, before in zip(items, texts, asked, strict=True):
            context, answers = _one_context([(tuple(start), tuple(rest)) for start, rest in (next(encoded) for _ in own)])
            limit = self._limit(suite, len(answers[0])) if item.kind == "answer" else 0
            prompts.append(Prompt(item.prompt, context, answers, own, tuple(before), item.answer, limit, lead=lead))
        return prompts

    # ------------------------------------------------------------------------------------------ lengths

    def _limit(self, suite: SuiteConfig, gold_tokens: int, *, reasons: bool = False) -> int:
        """Tokens to generate. A longer gold raises the suite's limit. An answer much longer than the gold one is wrong already, unless a
        pattern has to find it in there or reasoning may take its own length."""
        needed = 1 << (gold_tokens * (2 if reasons else 1) + 1).bit_length()
        if suite.answer_pattern or reasons:
            return max(suite.generation_limit, needed)
        return max(min(suite.generation_limit, needed), gold_tokens + 1)

    def _fit(self, suite: SuiteConfig, item: Item, prompt: Prompt) -> Prompt:
        """The same cut to the window: one context for all continuations, however long each is, and at most half of it to generate into
        unless the right answer needs more."""
        longest = max(map(len, prompt.continuations))
        prompt = replace(prompt, limit=min(prompt.limit, max(longest + 1, self._window // 2)))
        room, room_asked = self._window + 1 - longest, self._window - prompt.limit
        if room < 1 or room_asked < 1:
            what = f"an answer of {max(prompt.limit, longest)} tokens does not fit a model of {self._window} tokens"
            raise EvaluationError(
                f"{suite.name}: {item.prompt[:60]!r}", what, "leave such items out, or evaluate a model with a longer window"
            )
        cut = max(len(prompt.context) - room, len(prompt.asked) - room_asked, 0)
        return replace(prompt, context=prompt.context[-room:], asked=prompt.asked[-room_asked:], cut=cut) if cut else prompt


def _continuations(suite: SuiteConfig, item: Item) -> tuple[str, ...]:
    """Of a plain item: its choices, with what ends an answer where one of them begins another, or its right answer."""
    if item.kind != "choice":
        return (behind(suite.separator, item.answer),)
    ambiguous = any(other != choice and other.startswith(choice) for choice in item.choices for other in item.choices)
    end = (*suite.stops, "\n")[0] if ambiguous and not suite.open_choices else ""
    return tuple(behind(suite.separator, choice) + end for choice in item.choices)


def _require_distinct(suite: SuiteConfig, item: Item, prompt: Prompt) -> None:
    """Of two choices that a template or a tokenizer makes the same, the first would win whatever the model knows."""
    seen: dict[Ids, str] = {}
    for choice, ids in zip(item.choices, prompt.continuations, strict=False):
        if item.kind == "choice" and (other := seen.setdefault(ids, choice)) != choice:
            what = f"the choices {other!r} and {choice!r} are the same tokens to this model"
            raise EvaluationError(f"{suite.name}: {item.prompt[:60]!r}", what, "write choices that differ in more than that")


def _one_context(pairs: Sequence[tuple[Ids, Ids]]) -> tuple[Ids, tuple[Ids, ...]]:
    """(one context, what follows it for each): where a tokenizer makes the contexts differ in their last tokens, those follow too."""
    first = pairs[0][0]
    if all(context == first for context, _ in pairs):
        return first, tuple(answer for _, answer in pairs)
    same = min(map(len, (context for context, _ in pairs)))
    while same > 1 and any(context[:same] != first[:same] for context, _ in pairs):
        same -= 1
    return first[:same], tuple((*context[same:], *answer) for context, answer in pairs)
