"""What champion and candidate answered, side by side: the items that a round lost and won, and all answers to the new skill.

    answers = compare_answers(candidate, champion, "agnews")
    write_answers(folder / "answers.parquet", answers)

A function of the two stored evaluations, so that it can be computed again; the text of sealed splits is never in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Literal

import pandas as pd
from markupsafe import Markup, escape
from pydantic import Field

from data_contracts.manifests import Category, Record
from data_contracts.rendering.plain import plain_prompt
from evals.items import Evaluation, SuiteItems

Kind = Literal["lost", "won", "wrong", "right"]
RIGHT = 0.5
SHOWN: dict[Kind, int] = {"lost": 30, "won": 10, "wrong": 20, "right": 8}
"""Items per suite and kind on a page; the Parquet file has all of them."""
AT_ONCE = 3
"""Items per suite and kind that are not folded."""
ALIKE = 0.5
"""Two answers that share less than this have no difference to mark: they differ as wholes."""
LONGEST = 1500
"""Characters of a prompt or an answer on a page."""


class Answer(Record):
    """One item on both checkpoints. Kinds: `lost` and `won` against the champion; of the new skill every item is `right` or `wrong`."""

    suite: str
    category: Category
    kind: Kind
    doc_hash: str
    prompt: str = Field(description="the text that the model read, with the marks of its template")
    gold: str
    champion: str = Field(description="what the champion answered")
    candidate: str = Field(description="what the candidate answered")
    champion_score: float
    candidate_score: float
    champion_logprob: float | None = Field(description="of the gold answer, nats")
    candidate_logprob: float | None = Field(description="of the gold answer, nats")


def compare_answers(candidate: Evaluation, champion: Evaluation, new_skill: str | None) -> tuple[Answer, ...]:
    """Suites in the candidate's order; in each the lost items, then the won ones, the largest change first.

    The items of the new skill are in the order of their digests, which has nothing to do with how they were answered: the first of them
    are a fair sample. Drift suites have no answers; suites that do not have the same items on both checkpoints are left out.
    """
    found: list[Answer] = []
    for name, after in candidate.suites.items():
        before = champion.suites.get(name)
        if before is None or after.result.sealed or after.category == "drift" or set(before.doc_hash) != set(after.doc_hash):
            continue
        found += _of_new_skill(before, after) if name == new_skill else _changed(before, after)
    return tuple(found)


def _changed(before: SuiteItems, after: SuiteItems) -> list[Answer]:
    sign = 1.0 if after.result.higher_is_better else -1.0
    moved = [(sign * (after.score[now] - before.score[then]), then, now) for then, now in _paired(before, after)]
    changed = [_answer("lost" if change < 0 else "won", before, after, then, now) for change, then, now in moved if change != 0]
    return sorted(
        changed, key=lambda answer: (answer.kind != "lost", -abs(answer.candidate_score - answer.champion_score), _less_likely(answer))
    )


def _less_likely(answer: Answer) -> float:
    """Change of the gold answer's log-probability, the largest fall first for what was lost, the largest rise first for what was won."""
    if answer.champion_logprob is None or answer.candidate_logprob is None:
        return 0.0
    change = answer.candidate_logprob - answer.champion_logprob
    return change if answer.kind == "lost" else -change


def _of_new_skill(before: SuiteItems, after: SuiteItems) -> list[Answer]:
    sign = 1.0 if after.result.higher_is_better else -1.0
    answers = [
        _answer("right" if sign * after.score[now] >= sign * RIGHT else "wrong", before, after, then, now)
        for then, now in _paired(before, after)
    ]
    return sorted(answers, key=lambda answer: (answer.kind != "wrong", answer.doc_hash))


def _paired(before: SuiteItems, after: SuiteItems) -> Iterator[tuple[int, int]]:
    position = {doc: index for index, doc in enumerate(before.doc_hash)}
    return ((position[doc], now) for now, doc in enumerate(after.doc_hash))


def _answer(kind: Kind, before: SuiteItems, after: SuiteItems, then: int, now: int) -> Answer:
    return Answer(
        suite=after.name,
        category=after.category,
        kind=kind,
        doc_hash=after.doc_hash[now],
        prompt=after.prompt[now],
        gold=after.gold[now],
        champion=before.prediction[then],
        candidate=after.prediction[now],
        champion_score=float(before.score[then]),
        candidate_score=float(after.score[now]),
        champion_logprob=_finite(before.gold_logprob[then]),
        candidate_logprob=_finite(after.gold_logprob[now]),
    )


def _finite(value: float) -> float | None:
    return float(value) if value == value else None


def write_answers(path: Path, answers: Sequence[Answer]) -> Path:
    """One row per answer. The same answers give the same bytes."""
    columns = list(Answer.model_fields)
    rows = pd.DataFrame([answer.model_dump() for answer in answers], columns=columns)
    numbers = [name for name in columns if name.endswith(("_score", "_logprob"))]
    rows.astype(dict.fromkeys(numbers, "float64")).to_parquet(path, index=False, compression="zstd")
    return path


def read_answers(path: Path) -> tuple[Answer, ...]:
    rows = pd.read_parquet(path)
    return tuple(
        Answer.model_validate({name: None if value != value else value for name, value in row.items()}) for row in rows.to_dict("records")
    )


@dataclass(frozen=True)
class AnswerCard:
    """An answer as a page shows it: texts without the template's marks, and what differs between the two answers marked."""

    suite: str
    kind: Kind
    prompt: str
    gold: str
    champion: Markup
    candidate: Markup


@dataclass(frozen=True)
class AnswerSuite:
    """One suite's cards, those to be seen at once and the others, and how many answers of each kind there are in all."""

    suite: str
    category: Category
    counts: dict[Kind, int]
    first: tuple[AnswerCard, ...]
    more: tuple[AnswerCard, ...]


def answer_suites(answers: Sequence[Answer]) -> list[AnswerSuite]:
    """The new skill first, then the suites that lost most; of every kind the first few."""
    by_suite: dict[str, list[Answer]] = {}
    for answer in answers:
        by_suite.setdefault(answer.suite, []).append(answer)
    shown = [_suite(name, mine) for name, mine in by_suite.items()]
    return sorted(shown, key=lambda suite: ("lost" in suite.counts or "won" in suite.counts, -suite.counts.get("lost", 0)))


def _suite(name: str, answers: Sequence[Answer]) -> AnswerSuite:
    by_kind = {kind: [answer for answer in answers if answer.kind == kind] for kind in SHOWN}
    first = [answer for mine in by_kind.values() for answer in mine[:AT_ONCE]]
    more = [answer for kind, mine in by_kind.items() for answer in mine[AT_ONCE : SHOWN[kind]]]
    counts = {kind: len(mine) for kind, mine in by_kind.items() if mine}
    return AnswerSuite(name, answers[0].category, counts, tuple(map(_card, first)), tuple(map(_card, more)))


def _card(answer: Answer) -> AnswerCard:
    was, now = mark_difference(_cut(answer.champion), _cut(answer.candidate))
    return AnswerCard(
        suite=answer.suite, kind=answer.kind, prompt=_cut(plain_prompt(answer.prompt)), gold=_cut(answer.gold), champion=was, candidate=now
    )


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"


def mark_difference(was: str, now: str) -> tuple[Markup, Markup]:
    """Both texts as HTML: words that only the first has as <del>, words that only the second has as <ins>.

    A single word is compared letter by letter: there a word's change would mark all of it. Nothing in common: both are marked completely.
    """
    one_word = len(was.split()) <= 1 and len(now.split()) <= 1
    first, second = ([*text] if one_word else _words(text) for text in (was, now))
    matcher = SequenceMatcher(None, first, second, autojunk=False)
    steps = matcher.get_opcodes() if matcher.ratio() >= ALIKE else [("replace", 0, len(first), 0, len(second))]
    old, new = [], []
    for tag, i, j, k, m in steps:
        before, after = escape("".join(first[i:j])), escape("".join(second[k:m]))
        if tag == "equal":
            old.append(before)
            new.append(after)
            continue
        old += [Markup("<del>{}</del>").format(before)] if before else []
        new += [Markup("<ins>{}</ins>").format(after)] if after else []
    return Markup("").join(old), Markup("").join(new)


def _words(text: str) -> list[str]:
    """Words with the space that follows them, so that joining gives the text again."""
    found, at = [], 0
    while at < len(text):
        end = at
        while end < len(text) and not text[end].isspace():
            end += 1
        while end < len(text) and text[end].isspace():
            end += 1
        found.append(text[at:end])
        at = end
    return found
