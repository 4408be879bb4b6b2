"""From the rows of a local JSONL file to items: the question, the right answer, and the digest that identifies the item."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from data_contracts.digests import file_digest, value_digest
from data_contracts.errors import EvaluationError, RenderingError
from data_contracts.rendering.chat import tools_of
from data_contracts.rows.jsonl import read_objects
from data_contracts.rows.taught import is_context
from evals.config import SuiteConfig
from evals.suites.gold import answer_text, choice_texts, gold_index, gold_value
from evals.suites.scoring_code import scoring_digest
from evals.suites.templates import condition, render

Kind = Literal["choice", "answer", "text"]
METRIC_OF_KIND = {"choice": "acc", "answer": "exact_match", "text": "bits_per_byte"}
Turn = Mapping[str, Any]


@dataclass(frozen=True)
class Item:
    """One question. `turns` is the prompt of a chat model, `prompt` that of a plain one, `text` what a drift item measures.

    `answer` is the right answer as people read it, `gold_turn` the right turn of a chat model, its reasoning and calls included.
    """

    doc_hash: str
    kind: Kind
    turns: tuple[Turn, ...] = ()
    prompt: str = ""
    choices: tuple[str, ...] = ()
    gold: int = -1
    answer: str = ""
    text: str = ""
    cluster: str | None = None
    gold_turn: Turn = field(default_factory=dict)
    tools: tuple[Any, ...] = ()

    def row(self, choice: str | None = None) -> dict[str, Any]:
        """The item as a row of a drop: the question, and the right answer or one of the choices as its last turn."""
        last = self.gold_turn if choice is None else {"role": "assistant", "content": choice}
        return {"messages": [*self.turns, last]} | ({"tools": list(self.tools)} if self.tools else {})


def metric_of(suite: SuiteConfig, kind: Kind) -> str:
    """The metric of a local suite: the one it names, or what its kind of items implies."""
    return suite.metric if suite.metric != "auto" else METRIC_OF_KIND[kind]


def load_items(suite: SuiteConfig) -> list[Item]:
    """Every item of a suite, few-shot examples in place, in the order of the file.

    Raises EvaluationError where the file is missing, malformed, empty, mixes kinds or repeats an item.
    """
    items = [_item(suite, row, where) for path in source_files(suite.source) for where, row in _rows(suite, path)]
    shots = items[: suite.shots]
    if suite.few_shot_source:
        shots = [_item(suite, row, where) for where, row in _rows(suite, Path(suite.few_shot_source))][: suite.shots]
    elif suite.shots:
        items = items[suite.shots :]
    if len(shots) < suite.shots:
        raise EvaluationError(suite.name, f"wants {suite.shots} worked examples and finds {len(shots)}", "add rows or lower few_shot")
    items = _not_worked_out(suite, _without_duplicates(suite, items), shots)
    if not items:
        raise EvaluationError(
            f"{suite.name}: {suite.source}", "has no items", "give a file with at least one row that the suite's `where` keeps"
        )
    kinds = sorted({item.kind for item in items})
    if len(kinds) > 1:
        raise EvaluationError(
            f"{suite.name}: {suite.source}", f"mixes items of the kinds {kinds}", "split the file into one suite per kind"
        )
    return [_with_shots(item, shots, suite) for item in items]


def source_files(source: str) -> list[Path]:
    """The files a source names: itself, or those that its pattern matches, in order of name."""
    path = Path(source)
    return sorted(path.parent.glob(path.name)) or [path]


def select_items(items: Sequence[Item], limit: int | None) -> list[Item]:
    """The `limit` items with the smallest digests, in file order: a fair sample, and a larger limit keeps a smaller one's items."""
    if limit is None or limit >= len(items):
        return list(items)
    chosen = {item.doc_hash for item in sorted(items, key=lambda item: item.doc_hash)[:limit]}
    return [item for item in items if item.doc_hash in chosen]


# What decides the prompts and the scores of a suite, beside its items and the code that scores them.
_PROMPTING = (
    "metric", "chat", "prompt", "choices", "gold", "cluster", "separator", "answer_pattern", "ignore_pattern", "ignore_case",
    "generation_limit", "open_choices", "score_reasoning",
)  # fmt: skip


def prompting_digest(suite: SuiteConfig) -> str:
    """Digest of everything except the items that decides the prompts and how answers are scored."""
    spec: dict[str, Any] = {key: getattr(suite, key) for key in _PROMPTING} | {"stops": suite.stops, "few_shot": suite.shots}
    if suite.shots:  # which rows they are depends on `where` too
        spec["shots"] = [suite.where, *(file_digest(path) for path in source_files(suite.few_shot_source or suite.source))]
    return value_digest(spec | {"scoring": scoring_digest()})


def suite_digest(suite: SuiteConfig, items: Sequence[Item]) -> str:
    """Digest of the chosen items and of everything that decides their prompts."""
    return value_digest({"prompting": prompting_digest(suite), "items": [item.doc_hash for item in items]})


def _rows(suite: SuiteConfig, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file and line, row) of every row that the suite keeps."""
    keep = condition(suite.where) if suite.where else None
    for where, row in read_objects(path, error=EvaluationError):
        if keep is None or keep(**row):
            yield where, row


def _item(suite: SuiteConfig, row: Mapping[str, Any], where: str) -> Item:
    if _is_text(suite, row):
        item = _text_item(row, where)
    elif "messages" in row:
        item = _chat_item(suite, row, where)
    else:
        item = _prompt_item(suite, row, where)
    cluster = cluster_of(suite, row, where)
    return replace(item, cluster=cluster, doc_hash=_identity(item, cluster))


def cluster_of(suite: SuiteConfig, row: Mapping[str, Any], where: str) -> str | None:
    """What a row shares with others; None for a row that shares nothing, where that is empty."""
    return (render(suite.cluster, row, where).strip() or None) if suite.cluster else None


def _is_text(suite: SuiteConfig, row: Mapping[str, Any]) -> bool:
    """Whether a row is a text whose likelihood is measured. Its text is a question where suite or row say what the answer is."""
    if not isinstance(row.get("text"), str) or "prompt" in row or "messages" in row:
        return False
    asks = suite.prompt != SuiteConfig.model_fields["prompt"].default or suite.choices or suite.gold
    answered = any(row.get(name) is not None for name in ("choices", "gold", "answer"))
    return suite.metric == "bits_per_byte" or (suite.metric == "auto" and not asks and not answered)


def _identity(item: Item, cluster: str | None) -> str:
    """Digest of all that is rendered from a row, whatever the row's keys are called; other keys (subject, source) may change freely."""
    asked = {"turns": item.turns, "prompt": item.prompt, "choices": item.choices, "text": item.text, "tools": item.tools}
    right = {"gold": item.gold, "answer": item.answer, "gold_turn": item.gold_turn, "cluster": cluster}
    return value_digest({"kind": item.kind} | asked | right)


def _text_item(row: Mapping[str, Any], where: str) -> Item:
    if not row["text"]:
        raise EvaluationError(where, "has an empty text", "remove the row")
    return Item("", "text", text=row["text"])


def _prompt_item(suite: SuiteConfig, row: Mapping[str, Any], where: str) -> Item:
    prompt = render(suite.prompt, row, where)
    if not prompt.strip():
        raise EvaluationError(
            where, "has an empty prompt", 'rows are {"prompt", "choices", "gold"}, {"prompt", "answer"}, {"messages"} or {"text"}'
        )
    gold, typed = gold_value(suite.gold, row, where)
    turns = ({"role": "user", "content": prompt},)
    given = suite.choices or row.get("choices") or ()
    choices = choice_texts(given, where) if given else ()
    index = gold_index(choices, gold, where, typed=typed, numbered=any(not isinstance(choice, str) for choice in given)) if choices else -1
    answer = choices[index] if choices else answer_text(gold, where)
    return _asked(suite, turns, prompt, choices, index, answer, {"role": "assistant", "content": answer}, _tools(row, where), where)


def _chat_item(suite: SuiteConfig, row: Mapping[str, Any], where: str) -> Item:
    turns = row["messages"]
    if not isinstance(turns, list) or not all(isinstance(turn, Mapping) and isinstance(turn.get("role"), str) for turn in turns):
        raise EvaluationError(
            where, "has messages that are no list of turns", 'write {"messages": [{"role": "user", "content": ...}, ...]}'
        )
    if len(turns) < 2 or turns[-1]["role"] != "assistant":
        raise EvaluationError(where, "does not end with an assistant turn after a question", "add the gold answer as last message")
    last = turns[-1]
    answer = turn_text(last)
    if not answer.strip() and not last.get("tool_calls"):
        raise EvaluationError(where, "has no answer", "add a last assistant turn with content or tool calls")
    if is_context(last):
        way_out = "leave the row out, with its weight or by `where: messages[-1].weight | default(1) != 0`"
        raise EvaluationError(where, "has a gold answer of weight 0, which is context and not learned", way_out)
    if not suite.chat and any(turn.get("tool_calls") or turn.get("content") is None for turn in turns):
        raise EvaluationError(where, "has turns without text, which a plain prompt cannot ask", "set chat: true on the suite")
    prompt = "\n\n".join(map(turn_text, turns[:-1]))
    given = suite.choices or row.get("choices") or ()
    choices = choice_texts(given, where) if given and not last.get("tool_calls") else ()
    own = answer if answer in choices else answer.strip()  # the classes of a drop are without white space around them
    gold: tuple[Any, bool] = gold_value(suite.gold, row, where) if suite.gold else (own, True)
    index = gold_index(choices, gold[0], where, typed=gold[1]) if choices else -1
    shown = answer if answer.strip() else json.dumps(last.get("tool_calls"), ensure_ascii=False)
    return _asked(suite, tuple(turns[:-1]), prompt, choices, index, choices[index] if choices else shown, last, _tools(row, where), where)


def _asked(
    suite: SuiteConfig,
    turns: tuple[Turn, ...],
    prompt: str,
    choices: tuple[str, ...],
    index: int,
    answer: str,
    gold_turn: Turn,
    tools: tuple[Any, ...],
    where: str,
) -> Item:
    """A question as a choice or as an answer to be given, as the suite's metric says."""
    if suite.metric in ("acc", "acc_norm") or (suite.metric == "auto" and bool(choices)):
        if not choices:
            raise EvaluationError(where, "has no choices", "give at least two choices, or set metric: exact_match")
        return Item("", "choice", turns, prompt, choices, index, answer, gold_turn=gold_turn, tools=tools)
    return Item("", "answer", turns, prompt, answer=answer, gold_turn=gold_turn, tools=tools)


def _tools(row: Mapping[str, Any], where: str) -> tuple[Any, ...]:
    try:
        return tools_of(row, where) or ()
    except RenderingError as error:
        raise EvaluationError(error.where, error.what, error.way_out) from error


def turn_text(turn: Turn) -> str:
    """The text of a turn: its content, or the text parts of it; empty where it has none."""
    content = turn.get("content")
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    return "" if content is None else str(content)


def behind(separator: str, answer: str) -> str:
    """An answer as it stands behind a plain prompt. One that brings a space of its own does not get a second one."""
    return (separator.rstrip(" ") if answer.startswith(" ") else separator) + answer


def _without_duplicates(suite: SuiteConfig, items: Sequence[Item]) -> list[Item]:
    """Items are paired between checkpoints by digest, so a digest must occur once."""
    kept: dict[str, Item] = {}
    for item in items:
        if item.doc_hash in kept and suite.duplicates == "error":
            what = f"holds the same item twice: {(item.prompt or item.text)[:80]!r}"
            raise EvaluationError(f"{suite.name}: {suite.source}", what, "remove one of them, or set duplicates: drop")
        kept.setdefault(item.doc_hash, item)
    return list(kept.values())


def _not_worked_out(suite: SuiteConfig, items: Sequence[Item], shots: Sequence[Item]) -> list[Item]:
    """Without the items that a worked example asks too: its answer would stand in their prompts."""

    def question(item: Item) -> str:
        return value_digest([item.turns, item.prompt, item.choices, item.tools])

    shown = {question(shot) for shot in shots}
    found = [item for item in items if item.kind != "text" and question(item) in shown]
    if found and suite.duplicates == "error":
        what = f"asks {len(found)} of its worked examples as items too, the first of them {found[0].prompt[:80]!r}"
        raise EvaluationError(f"{suite.name}: {suite.source}", what, "give other rows as worked examples, or set duplicates: drop")
    gone = {item.doc_hash for item in found}
    return [item for item in items if item.doc_hash not in gone]


def _with_shots(item: Item, shots: Sequence[Item], suite: SuiteConfig) -> Item:
    if not shots or item.kind == "text":
        return item
    turns = tuple(turn for shot in shots for turn in (*shot.turns, shot.gold_turn))
    plain = "".join(f"{shot.prompt}{behind(suite.separator, shot.answer)}\n\n" for shot in shots)
    return replace(item, turns=turns + item.turns, prompt=plain + item.prompt)
