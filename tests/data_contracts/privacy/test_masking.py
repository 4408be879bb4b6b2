"""The mask that every report passes through: what is sensitive is gone, the rest stays."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from data_contracts.config import ContractConfig
from data_contracts.privacy.masking import mask, mask_value, one_line, shown
from data_contracts.validate import validate_drop

KEY = "AK" + "IA" + "ABCDEFGHIJ234567"


@given(st.text(max_size=40), st.text(max_size=40))
def test_what_is_masked_is_gone_and_the_rest_stays(before: str, after: str) -> None:
    text = f"{before} {KEY} {after}"
    masked = mask(text)
    assert KEY not in masked
    assert "[AWS access key]" in masked


def test_masking_reaches_names_lists_and_the_cut_edge() -> None:
    value = {"messages": [{"content": f"a {KEY}"}], KEY: [KEY, 1, None]}
    assert KEY not in json.dumps(mask_value(value))
    assert KEY not in shown("x" * 3990 + f" {KEY} " + "y" * 100)
    assert one_line("a\nb\x1b[31mc") == "a b [31mc"


def test_no_output_shows_a_secret_that_it_refused(good_lines: list[bytes], write_drop: Callable[..., Path], tmp_path: Path) -> None:
    """Wherever it stands: in a turn, an id, a field's name, a broken line, a role, an answer that would become a label."""
    turns = '{"role": "user", "content": "hi there"}, {"role": "assistant", "content": "good day to you"}'
    bad = [
        f'{{"messages": [{{"role": "user", "content": "{KEY}"}}, {{"role": "assistant", "content": "b"}}]}}',
        f'{{"messages": [{turns}], "id": "{KEY}"}}',
        f'{{"messages": [{turns}], "tools": [{{"{KEY}": 1}}]}}',
        f'{{"{KEY}": 1}}',
        f'{{"text": "{KEY}"',
        f'{{"messages": [{{"role": "{KEY}", "content": "a"}}, {{"role": "assistant", "content": "b"}}]}}',
        f'{{"text": "{KEY}", "text": "b"}}',
        f'{{"prompt": "label this", "completion": "{KEY}"}}',
    ]
    config = ContractConfig(max_bad_fraction=1.0, max_dropped_fraction=1.0)
    manifest = validate_drop(write_drop([*good_lines, *bad]), tmp_path / "out", skill="notes", config=config)
    assert manifest.rows_quarantined == len(bad)
    for path in (tmp_path / "out").iterdir():
        assert KEY.encode() not in path.read_bytes(), path.name
