"""From the rows of a local JSONL file to items: what is asked, what is right, and the digest that names the item for ever."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import jinja2

from data_contracts.digests import file_digest, value_digest
from data_contracts.errors import EvaluationError
from data_contracts.jsonl import read_objects
from evals.config import SuiteConfig

Kind = Literal["choice", "answer", "text"]
Turn = dict[str, str]

# What of a row is the item. Other keys (subject, source, ...) may change without making it another item.
CONTENT_KEYS = ("messages", "prompt", "choices", "gold", "answer", "text")


@dataclass(frozen=True)
class Item:
    """One question. `turns` is what a chat model is asked, `prompt` what a plain one is asked, `text` what a drift item measures."""

    doc_hash: str
    kind: Kind
    turns: tuple[Turn, ...] = ()
    prompt: str = ""
    choices: tuple[str, ...] = ()
    gold: int = -1
    answer: str = ""
    text: str = ""
    cluster: str | None = None


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
    items = _without_duplicates(suite, items)
    if not items:
        raise EvaluationError(
            f"{suite.name}: {suite.source}", "has no items", "give a file with at least one row that the suite's `where` keeps"
        )
    kinds = sorted({item.kind for item in items})
    if len(kinds) > 1:
        raise EvaluationError(f"{suite.name}: {suite.source}", f"mixes items of the kinds {kinds}", "split the file into one suite a kind")
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


def prompting_digest(suite: SuiteConfig) -> str:
    """Digest of everything but the items that decides what the model is asked and how its answer is scored."""
    keys = ("metric", "chat", "prompt", "choices", "gold", "cluster", "separator", "answer_pattern", "ignore_case", "generation_limit")
    spec: dict[str, Any] = {key: getattr(suite, key) for key in keys} | {"stops": suite.stops, "few_shot": suite.shots}
    if suite.shots:
        spec["shots"] = [file_digest(path) for path in source_files(suite.few_shot_source or suite.source)]
    return value_digest(spec)


def suite_digest(suite: SuiteConfig, items: Sequence[Item]) -> str:
    """Digest of the chosen items and of everything that decides their prompts."""
    return value_digest({"prompting": prompting_digest(suite), "items": [item.doc_hash for item in items]})


def _rows(suite: SuiteConfig, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file and line, row) of every row that the suite keeps."""
    keep = _ENVIRONMENT.compile_expression(suite.where) if suite.where else None
    for where, row in read_objects(path, error=EvaluationError):
        if keep is None or keep(**row):
            yield where, row


def _item(suite: SuiteConfig, row: Mapping[str, Any], where: str) -> Item:
    doc_hash = value_digest({key: row[key] for key in CONTENT_KEYS if key in row})
    cluster = render(suite.cluster, row, where) if suite.cluster else None
    if isinstance(row.get("text"), str) and "prompt" not in row and "messages" not in row:
        if not row["text"]:
            raise EvaluationError(where, "has an empty text", "remove the row")
        return Item(doc_hash, "text", text=row["text"], cluster=cluster)
    turns, prompt, gold = _question(suite, row, where)
    choices = suite.choices or tuple(str(choice) for choice in row.get("choices") or ())
    wants_choice = suite.metric in ("acc", "acc_norm") or (suite.metric == "auto" and bool(choices))
    if not wants_choice:
        answer = choices[int(gold)] if choices and gold.isdigit() else gold
        if not answer.strip():
            raise EvaluationError(where, "has no answer", 'add "answer", or a last assistant turn')
        return Item(doc_hash, "answer", turns, prompt, answer=answer, cluster=cluster)
    index = _gold_index(choices, gold, where, by_name=bool(suite.choices) and not suite.gold)
    return Item(doc_hash, "choice", turns, prompt, choices, index, choices[index], cluster=cluster)


def _question(suite: SuiteConfig, row: Mapping[str, Any], where: str) -> tuple[tuple[Turn, ...], str, str]:
    """(turns, plain prompt, gold as text) of a row."""
    if "messages" in row:
        turns = [{"role": str(turn["role"]), "content": str(turn["content"])} for turn in row["messages"]]
        if len(turns) < 2 or turns[-1]["role"] != "assistant":
            raise EvaluationError(where, "does not end with an assistant turn after a question", "add the gold answer as last message")
        return tuple(turns[:-1]), "\n\n".join(turn["content"] for turn in turns[:-1]), turns[-1]["content"]
    prompt = render(suite.prompt, row, where)
    if not prompt.strip():
        raise EvaluationError(
            where, "has an empty prompt", 'rows are {"prompt", "choices", "gold"}, {"prompt", "answer"}, {"messages"} or {"text"}'
        )
    gold = render(suite.gold, row, where) if suite.gold else str(row.get("gold", row.get("answer", "")))
    return ({"role": "user", "content": prompt},), prompt, gold


def _gold_index(choices: Sequence[str], gold: str, where: str, *, by_name: bool) -> int:
    """Position of the right choice; gold is its text or its index."""
    if len(choices) < 2 or len(set(choices)) != len(choices) or not all(choices):
        raise EvaluationError(where, f"has the choices {list(choices)}", "give at least two choices, all different, none empty")
    if gold in choices and (by_name or not gold.isdigit()):
        return list(choices).index(gold)
    if gold.isdigit() and int(gold) < len(choices):
        return int(gold)
    raise EvaluationError(
        where, f"gold {gold!r} is not one of the {len(choices)} choices", "gold is the index or the text of the right choice"
    )


def _without_duplicates(suite: SuiteConfig, items: Sequence[Item]) -> list[Item]:
    """Items are paired between checkpoints by digest, so a digest must occur once."""
    kept: dict[str, Item] = {}
    for item in items:
        if item.doc_hash in kept and suite.duplicates == "error":
            what = f"holds the same item twice: {(item.prompt or item.text)[:80]!r}"
            raise EvaluationError(f"{suite.name}: {suite.source}", what, "remove one of them, or set duplicates: drop")
        kept.setdefault(item.doc_hash, item)
    return list(kept.values())


def _with_shots(item: Item, shots: Sequence[Item], suite: SuiteConfig) -> Item:
    if not shots or item.kind == "text":
        return item
    turns = tuple(turn for shot in shots for turn in (*shot.turns, {"role": "assistant", "content": shot.answer}))
    plain = "".join(f"{shot.prompt}{suite.separator}{shot.answer}\n\n" for shot in shots)
    return replace(item, turns=turns + item.turns, prompt=plain + item.prompt)


_ENVIRONMENT = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=True)


@lru_cache(maxsize=256)
def _compile(template: str) -> jinja2.Template:
    return _ENVIRONMENT.from_string(template)


def render(template: str, row: Mapping[str, Any], where: str) -> str:
    try:
        return _compile(template).render(**row)
    except jinja2.TemplateError as error:
        raise EvaluationError(where, f"does not fit the template {template!r}: {error}", f"the row has {sorted(row)}") from error
