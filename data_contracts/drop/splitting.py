"""The second pass: what only all rows together show, then every row to its side, all in line order."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_contracts.config import ContractConfig
from data_contracts.drop.carve import Cuts, Side, choose_cuts, place_keys, sides_of
from data_contracts.drop.reading import DropState
from data_contracts.drop.staging import Staging, merged, quarantine_json
from data_contracts.drop.tally import Tally
from data_contracts.matching.boilerplate import Boilerplate
from data_contracts.matching.heldout_index import HeldoutIndex
from data_contracts.matching.heldout_items import HeldoutItem, heldout_item
from data_contracts.rows.findings import Check, Finding, WholeDrop

_TRAIN = int(Side.TRAIN)
SPLITS = ("clean", "heldout", "sealed")


@dataclass
class Carving:
    """sides: uint8[R], the Side of each row that is alive; cuts: None where nothing was carved."""

    sides: NDArray[np.uint8]
    cuts: Cuts | None


@dataclass
class Written:
    """Rows of each split, and for each row of each split the ordinal it came from."""

    rows: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    ordinals: dict[str, array[int]] = field(default_factory=lambda: {name: array("I") for name in SPLITS})

    def splits(self) -> list[NDArray[np.int64]]:
        """For each split the ordinals of its rows, in file order."""
        return [np.array(self.ordinals[name], np.int64) for name in SPLITS]


def conclude(state: DropState, checks: Sequence[Check], tally: Tally, staging: Staging) -> dict[int, list[Finding]]:
    """What the checks find after all rows were read: findings by ordinal. Rows that they drop are no longer alive."""
    late: dict[int, list[Finding]] = {}
    whole = WholeDrop(alive=state.alive, lines=state.lines, value=staging.value)
    for check in checks:
        found = list(check.conclude(whole))
        for ordinal, finding in found:
            severity = tally.add(finding)
            if ordinal >= 0 and severity in ("error", "drop"):
                late.setdefault(ordinal, []).append(finding)
                state.alive[ordinal] = 0
                state.count(severity)
    return late


def carve(state: DropState, config: ContractConfig, tally: Tally) -> Carving:
    """Choose the held-out rows. Documents are carved only from drops that hold nothing else; a row whose last answer is not learned never
    is: it would be scored by what the model is not to learn."""
    sides = np.zeros(len(state.alive), np.uint8)
    alive = np.frombuffer(bytes(state.alive), np.uint8) == 1
    conversations = alive & (np.frombuffer(bytes(state.documents), np.uint8) == 0)
    rows = conversations if conversations.any() else alive
    context = rows & (np.frombuffer(bytes(state.context_ends), np.uint8) == 1)
    eligible = np.flatnonzero(rows & ~context)
    if context.any() and config.heldout_fraction + config.sealed_fraction > 0:
        tally.add(Finding("heldout_size", 0, _kept_in_training(int(context.sum()), int(rows.sum()))))
    if len(eligible) == 0:
        return Carving(sides, None)
    keys = place_keys(*(np.frombuffer(part, np.uint64)[eligible] for part in (state.passage_keys, state.prompt_keys)))
    cuts = choose_cuts(keys, config)
    sides[eligible] = sides_of(keys, cuts)
    if cuts.moved:
        counts = np.bincount(sides[eligible], minlength=3)
        reason = (
            f"limits in rows moved the shares: {counts[Side.HELDOUT]} rows are held out and {counts[Side.SEALED]} sealed of {len(eligible)}"
        )
        tally.add(Finding("heldout_size", 0, reason))
    return Carving(sides, cuts)


def _kept_in_training(context: int, rows: int) -> str:
    way_out = "; none is left to hold out: give items with --heldout" if context == rows else ""
    return f"{context} of {rows} rows end with an answer of weight 0, which is not learned: they stay in training{way_out}"


def drop_overlaps(
    staging: Staging, state: DropState, late: dict[int, list[Finding]], carving: Carving, tally: Tally, overlap: HeldoutIndex
) -> None:
    """Training rows that give away a row held out from their own drop are no longer alive."""
    if len(overlap) == 0:
        return
    for first, words in staging.words():
        for place, item in sorted(overlap.hits(words, lambda _: ()).items()):
            ordinal = first + place
            if not state.alive[ordinal] or carving.sides[ordinal] != _TRAIN:
                continue
            named = f"the held-out row of line {item.line}" if item.line else "a held-out item that came with the drop"
            finding = Finding("heldout_overlap", state.lines[ordinal], f"gives away {named}")
            severity = tally.add(finding)
            if severity in ("error", "drop"):
                late[ordinal] = [finding]
                state.alive[ordinal] = 0
                state.count(severity)


def write_splits(work: Path, staging: Staging, state: DropState, late: Mapping[int, list[Finding]], carving: Carving) -> Written:
    """Every staged row to its side, every other one to the quarantine, all in line order."""
    written = Written()
    with ExitStack() as stack:
        out = [stack.enter_context((work / f"{name}.jsonl").open("wb")) for name in SPLITS]
        sides = carving.sides.tobytes()

        def settle() -> Iterator[tuple[int, str]]:
            for ordinal, line, text in staging.kept():
                if not state.alive[ordinal]:
                    yield line, quarantine_json(line, late[ordinal], json.loads(text))
                    continue
                name = SPLITS[sides[ordinal]]
                out[sides[ordinal]].write(text + b"\n")
                written.rows[name] += 1
                written.ordinals[name].append(ordinal)

        quarantine = stack.enter_context((work / "quarantine.jsonl").open("w", encoding="utf-8"))
        quarantine.writelines(merged(staging.refused(), settle()))
    return written


def heldout_items(staging: Staging, state: DropState, carving: Carving) -> list[HeldoutItem]:
    """The rows that were carved, as items that training rows are compared with."""
    items = []
    for ordinal, line, text in staging.kept():
        if state.alive[ordinal] and carving.sides[ordinal] != _TRAIN:
            items.append(heldout_item("held out", line, json.loads(text)))
    return items


def overlap_index(items: Iterable[HeldoutItem], boilerplate: Boilerplate, options: Mapping[str, float]) -> HeldoutIndex:
    """What a training row may not share with the held-out rows of its own drop."""
    return HeldoutIndex(list(items), boilerplate.frames, int(options["words"]), int(options["own_words"]), contained=False)
