"""The first pass over a drop: lines become rows, rows are checked in batches, and what stays is staged on disk."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from data_contracts.config import ContractConfig
from data_contracts.contract.read import Contract
from data_contracts.drop.carve import carve_keys
from data_contracts.drop.staging import Staging
from data_contracts.drop.tally import Tally
from data_contracts.errors import DropError
from data_contracts.matching.boilerplate import SAMPLE, Boilerplate, learn_boilerplate
from data_contracts.rows.findings import SEVERITIES, Batch, Check, Finding, Severity
from data_contracts.rows.jsonl import Line, read_lines
from data_contracts.rows.records import CONVERT_ROWS, Row, decode_tools, join_parts, normal_row, shape_of
from data_contracts.rows.taught import is_context
from data_contracts.rows.words import word_batch

#: Rows that are checked together; fewer where they are long, so that memory stays flat.
_BATCH, _BATCH_CHARACTERS = 256, 1_000_000
_SAMPLE_CHARACTERS = 8_000_000
_SHOWN_FAULTS = 10
_WORD_LIST = re.compile(r"'\^\((\w+(?:\|\w+)+)\)\$'")

Progress = Callable[[int, int], None]
#: A line, the row that it is if it is one, and what reading it found.
Record = tuple[Line, Row | None, list[Finding]]


@dataclass
class DropState:
    """What is known of every row: 23 bytes each, whatever the rows hold. Index: ordinal of the rows that could be read.

    documents and context_ends are 1 for a document, and for a row whose last answer has weight 0.
    """

    alive: bytearray = field(default_factory=bytearray)
    documents: bytearray = field(default_factory=bytearray)
    context_ends: bytearray = field(default_factory=bytearray)
    lines: array[int] = field(default_factory=lambda: array("I"))
    passage_keys: array[int] = field(default_factory=lambda: array("Q"))
    prompt_keys: array[int] = field(default_factory=lambda: array("Q"))
    read: int = 0
    bad: int = 0
    dropped: int = 0

    def count(self, severity: Severity) -> None:
        """A row that does not stay."""
        self.bad += severity == "error"
        self.dropped += severity == "drop"


def read_records(drop: Path, contract: Contract, config: ContractConfig) -> Iterator[Record]:
    """Every line that is not blank, as a row or as the reasons why it is none. Raises DropError where the file cannot be read."""
    for line in read_lines(drop, max_line_bytes=config.max_line_bytes, max_depth=config.max_depth):
        yield (line, *row_of(line, contract))


def learn_template(records: Iterator[Record]) -> tuple[list[Record], Boilerplate]:
    """(the first rows, which are taken from `records`; what they share)"""
    sample: list[Record] = []
    rows = size = 0
    for record in records:
        sample.append(record)
        rows += record[1] is not None
        size += len(record[0].text)
        if rows >= SAMPLE or len(sample) >= 10 * SAMPLE or size > _SAMPLE_CHARACTERS:
            break
    return sample, learn_boilerplate(word_batch([row.texts() for _, row, _ in sample if row is not None]))


def read_drop(
    drop: Path, records: Iterable[Record], checks: Sequence[Check], tally: Tally, staging: Staging, progress: Progress | None
) -> DropState:
    """Check every line once. Raises DropError where the file cannot be read or has no rows."""
    state = DropState()
    total = drop.stat().st_size
    waiting: list[Record] = []
    size = 0
    for record in records:
        line = record[0]
        waiting.append(record)
        size += len(line.text)
        if len(waiting) == _BATCH or size > _BATCH_CHARACTERS:
            _settle(waiting, checks, tally, staging, state)
            waiting, size = [], 0
            if progress is not None:
                progress(line.end, total)
    _settle(waiting, checks, tally, staging, state)
    if progress is not None:
        progress(total, total)
    if state.read == 0:
        raise DropError(str(drop), "is empty: it has no rows", "check the export that made it")
    return state


def _settle(waiting: Sequence[Record], checks: Sequence[Check], tally: Tally, staging: Staging, state: DropState) -> None:
    """Run the checks on a batch of rows, and stage or refuse each."""
    readable = [(row, findings) for _, row, findings in waiting if row is not None]
    batch = Batch([row for row, _ in readable], first=len(state.alive))
    if readable:
        for check in checks:
            for place, finding in check.observe(batch):
                readable[place][1].append(finding)
        staging.keep_words(batch.first, batch.words)
    for line, row, findings in waiting:
        state.read += 1
        worst = worst_of([tally.add(finding) for finding in findings])
        stays = worst not in ("error", "drop")
        if not stays:
            state.count(worst)
            staging.refuse(line.number, [finding for finding in findings if tally.severity(finding.check) != "off"], line.text, row)
        if row is None:
            continue
        if stays:
            staging.keep(len(state.alive), row)
        passage, prompt = carve_keys(row)
        state.alive.append(stays)
        state.documents.append(row.shape == "document")
        state.context_ends.append(bool(row.messages) and is_context(row.messages[-1]))
        state.lines.append(line.number)
        state.passage_keys.append(passage)
        state.prompt_keys.append(prompt)


def row_of(line: Line, contract: Contract) -> tuple[Row | None, list[Finding]]:
    """The line as a row in normal form, or why it is none."""
    if line.fault is not None or line.value is None:
        check, reason = line.fault or ("json", "is not an object")
        return None, [Finding(check, line.number, reason)]
    try:
        shape = shape_of(line.value)
    except ValueError as error:
        return None, [Finding("schema", line.number, str(error))]
    model = contract.rows.get(shape)
    if model is None:
        return None, [Finding("schema", line.number, f"is a {shape} row, which the contract {contract.id} does not allow")]
    if type(line.value.get("id")) is int:
        line.value["id"] = str(line.value["id"])
    join_parts(line.value)
    decode_tools(line.value)
    try:
        model.model_validate(line.value)
    except ValidationError as error:
        return None, [Finding("schema", line.number, reason) for reason in _schema_reasons(error)]
    row = normal_row(line.number, shape, line.value)
    reasons = [f"{name[:80]!r} is not in the contract and is left out" for name in row.unknown[:_SHOWN_FAULTS]]
    if len(row.unknown) > _SHOWN_FAULTS:
        reasons.append(f"{len(row.unknown) - _SHOWN_FAULTS:,} more fields are not in the contract and are left out")
    return row, [Finding("unknown_field", line.number, reason) for reason in reasons]


def _schema_reasons(error: ValidationError) -> Iterator[str]:
    for fault in error.errors(include_url=False, include_context=False)[:_SHOWN_FAULTS]:
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in fault["loc"]).lstrip(".")
        what = _expected(fault) or fault["msg"][0].lower() + fault["msg"][1:]
        if fault["input"] == "developer":
            what += f"; OpenAI's developer is system here ({CONVERT_ROWS})"
        yield f"{place}: {what}" if fault["type"] == "missing" else f"{place}={_excerpt(fault['input'])}: {what}"


def _expected(fault: ErrorDetails) -> str:
    """A pattern that lists words, as a sentence; empty for any other fault."""
    words = _WORD_LIST.search(fault["msg"]) if fault["type"] == "string_pattern_mismatch" else None
    return f"expected {' or '.join(words.group(1).rsplit('|', 1)).replace('|', ', ')}" if words else ""


def _excerpt(value: Any) -> str:
    """What was found, short enough for one line."""
    if isinstance(value, Mapping):
        return f"an object with {', '.join(sorted(map(str, value))[:5]) or 'no fields'}"[:80]
    if isinstance(value, list):
        return f"an array of {len(value)}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def worst_of(severities: Sequence[Severity]) -> Severity:
    """The severity that decides what happens to a row."""
    return min(severities, key=SEVERITIES.index, default="off")
