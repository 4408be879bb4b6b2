"""The second pass: what checks find late takes rows out, rows that are left go to their side, and everything keeps its line order."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_contracts.config import ContractConfig
from data_contracts.contract.read import load_contract, severities
from data_contracts.drop.carve import Side
from data_contracts.drop.reading import DropState
from data_contracts.drop.splitting import Carving, carve, conclude, heldout_items, write_splits
from data_contracts.drop.staging import Staging
from data_contracts.drop.tally import Tally
from data_contracts.rows.findings import Batch, Finding, WholeDrop
from data_contracts.rows.records import Row


class Late:
    """Finds what it is given once all rows are known, and notes which rows it was shown as alive."""

    def __init__(self, *found: tuple[int, Finding]) -> None:
        self.found, self.alive = found, b""

    def observe(self, batch: Batch) -> Iterator[tuple[int, Finding]]:
        return iter(())

    def conclude(self, drop: WholeDrop) -> Iterator[tuple[int, Finding]]:
        self.alive = bytes(drop.alive)
        yield from self.found

    def summary(self) -> Mapping[str, Any]:
        return {}


def _row(line: int) -> Row:
    turns = [{"role": "user", "content": f"q{line}"}, {"role": "assistant", "content": f"a{line}"}]
    return Row(line, "chat", {"messages": turns})


@pytest.fixture
def staged(tmp_path: Path) -> tuple[Staging, DropState, Tally]:
    """Rows of the lines 1, 2, 4, 5 and 6; line 3 was refused while reading."""
    staging, tally = Staging(tmp_path), Tally(severities(load_contract(), {}))
    lines = (1, 2, 4, 5, 6)
    for ordinal, line in enumerate(lines):
        staging.keep(ordinal, _row(line))
    staging.refuse(3, [Finding("json", 3, "is not JSON")], "{oops")
    staging.close()
    state = DropState(
        bytearray(b"\1" * 5), bytearray(5), bytearray(5), array("I", lines), array("Q", range(5)), array("Q", range(5)), read=6, bad=1
    )
    return staging, state, tally


def test_a_row_that_one_check_drops_is_gone_for_the_next(staged: tuple[Staging, DropState, Tally]) -> None:
    staging, state, tally = staged
    first = Late(
        (1, Finding("exact_duplicate", 2, "twice")), (3, Finding("refusal", 5, "only a warning")), (-1, Finding("language", 0, "mixed"))
    )
    second = Late()
    late = conclude(state, [first, second], tally, staging)
    assert {ordinal: [finding.check for finding in found] for ordinal, found in late.items()} == {1: ["exact_duplicate"]}
    assert second.alive == b"\1\0\1\1\1"
    assert (state.bad, state.dropped) == (1, 1)
    assert {count.check: count.rows for count in tally.counts()} == {"exact_duplicate": 1, "language": 1, "refusal": 1}


def test_every_row_goes_to_its_side_and_the_quarantine_is_in_line_order(staged: tuple[Staging, DropState, Tally], tmp_path: Path) -> None:
    staging, state, tally = staged
    late = conclude(state, [Late((1, Finding("secret", 2, "a key")), (4, Finding("secret", 6, "a key")))], tally, staging)
    carving = Carving(np.array([Side.TRAIN, Side.TRAIN, Side.HELDOUT, Side.SEALED, Side.TRAIN], np.uint8), None)
    written = write_splits(tmp_path, staging, state, late, carving)
    assert written.rows == {"clean": 1, "heldout": 1, "sealed": 1}
    assert [part.tolist() for part in written.splits()] == [[0], [2], [3]]
    for name, line in (("clean", 1), ("heldout", 4), ("sealed", 5)):
        assert [json.loads(row) for row in (tmp_path / f"{name}.jsonl").read_text().splitlines()] == [_row(line).value]
    quarantine = [json.loads(row) for row in (tmp_path / "quarantine.jsonl").read_text().splitlines()]
    assert [(record["line"], record["findings"][0]["check"]) for record in quarantine] == [(2, "secret"), (3, "json"), (6, "secret")]
    assert [(item.line, item.questions) for item in heldout_items(staging, state, carving)] == [(4, ("q4",)), (5, ("q5",))]


def test_only_rows_that_are_left_are_carved_and_moved_shares_are_named(staged: tuple[Staging, DropState, Tally]) -> None:
    _, state, tally = staged
    state.passage_keys = state.prompt_keys = array("Q", [number << 61 for number in range(5)])  # places 0, 1/8, ... 1/2
    state.alive[0] = 0
    config = ContractConfig(heldout_fraction=0.4, sealed_fraction=0.05, heldout_min_rows=0, sealed_min_rows=0)
    carving = carve(state, config, tally)
    assert carving.sides.tolist() == [Side.TRAIN, Side.HELDOUT, Side.HELDOUT, Side.HELDOUT, Side.TRAIN]
    assert tally.counts() == ()
    carving = carve(state, config.model_copy(update={"heldout_max_rows": 2}), tally)
    assert carving.sides.tolist()[:3] == [Side.TRAIN, Side.HELDOUT, Side.HELDOUT]
    assert [(count.check, count.rows) for count in tally.counts()] == [("heldout_size", 1)]
    state.alive[:] = bytes(5)
    assert carve(state, config, tally).cuts is None
