"""Hostile lines cost time in proportion to their bytes: each of these once cost the square of them (minutes for a third of a megabyte)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from data_contracts.config import ContractConfig
from data_contracts.validate import validate_drop

LENIENT = ContractConfig(max_bad_fraction=1.0, max_dropped_fraction=1.0)
SIZE = 200_000


def says(text: str) -> str:
    return json.dumps({"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "yes"}]}, ensure_ascii=False)


WORST = {
    "unknown keys": json.dumps({"text": "a", **{f"k{number}": 1 for number in range(SIZE // 11)}}),
    "the last key twice": "{" + ", ".join(f'"k{number}": 1' for number in range(SIZE // 11)) + f', "k{SIZE // 11 - 1}": 1}}',
    "phone numbers": says("".join(f"+49 170 55{number:05d}, " for number in range(SIZE // 17))),
    "social security numbers": says("219-09-9999 " * (SIZE // 12)),
    "accents": says("\u0301\u0327" * (SIZE // 4)),
}


@pytest.mark.parametrize("name", WORST)
def test_a_hostile_line_is_one_row_and_takes_seconds(
    name: str, good_lines: list[bytes], write_drop: Callable[..., Path], tmp_path: Path
) -> None:
    drop = write_drop([*good_lines, WORST[name]])
    begin = time.process_time()
    manifest = validate_drop(drop, tmp_path / "out", skill="notes", config=LENIENT)
    assert time.process_time() - begin < 10  # CPU seconds of this process; 1 to 2 are usual, 20 to 45 where the cost is the square
    assert manifest.rows_read == len(good_lines) + 1
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert sum(len(found["examples"]) for found in report["findings"] if found["check"] != "unknown_field") <= 4
