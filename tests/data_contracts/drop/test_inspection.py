"""The checks of one drop: those that need a model's template are there only with one, and copies are looked for last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_contracts.checks.template import ChatRenderer, Template
from data_contracts.contract.read import load_contract
from data_contracts.drop.inspection import Inspection
from data_contracts.matching.boilerplate import Boilerplate
from data_contracts.rendering import RowText

NONE = np.empty(0, np.uint64)


class Renderer:
    max_tokens = 8

    def render(self, rows: Sequence[Mapping[str, Any]]) -> list[RowText]:
        return [RowText(("x",)) for _ in rows]

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        return [1 for _ in texts]


def _inspection(work: Path, renderer: ChatRenderer | None) -> Inspection:
    common = {"earlier": (), "items": (), "suites": (), "refresh": False, "work": work}
    return Inspection(load_contract(), "sums", Boilerplate(NONE, NONE, NONE), renderer=renderer, **common)


def test_a_template_is_checked_only_where_there_is_one(tmp_path: Path) -> None:
    without, with_one = _inspection(tmp_path, None), _inspection(tmp_path, Renderer())
    assert not any(isinstance(check, Template) for check in without.checks)
    assert [type(check) for check in with_one.checks if not isinstance(check, Template)] == [type(check) for check in without.checks]
    assert [check.summary()["length"]["unit"] for each in (without, with_one) for check in each.checks if "length" in check.summary()] == [
        "words",
        "tokens",
    ]


def test_copies_are_looked_for_after_everything_that_refuses_a_row(tmp_path: Path) -> None:
    """A row that another check refuses must not be the original that its copy is dropped for."""
    inspection = _inspection(tmp_path, None)
    assert inspection.checks[-2:] == (inspection.exact, inspection.near)
