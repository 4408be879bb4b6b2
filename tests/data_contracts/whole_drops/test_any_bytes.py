"""Any bytes at all: a manifest whose files are what it says, or one clear error; never a traceback."""

from __future__ import annotations

import json
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_contracts.config import ContractConfig
from data_contracts.errors import SkillstackError
from data_contracts.manifests import DropManifest, read_manifest
from data_contracts.validate import validate_drop

CONFIG = ContractConfig(max_bad_fraction=1.0, max_dropped_fraction=1.0, min_rows=1, max_line_bytes=4096)
TEXT = st.text(st.characters(exclude_categories=()), max_size=30)
TURN = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool", "bot"]), "content": TEXT | st.none() | st.integers()},
    optional={
        "tool_calls": st.lists(st.dictionaries(TEXT, TEXT, max_size=2), max_size=2),
        "reasoning_content": TEXT,
        "name": TEXT,
        "extra": TEXT,
    },
)
ROW = st.one_of(
    st.fixed_dictionaries(
        {"messages": st.lists(TURN, max_size=5)}, optional={"id": TEXT | st.integers(), "unmask": st.booleans(), "tools": st.none()}
    ),
    st.fixed_dictionaries({"prompt": TEXT, "completion": TEXT}),
    st.fixed_dictionaries({"text": TEXT}),
    st.dictionaries(TEXT, TEXT | st.lists(TEXT, max_size=2), max_size=3),
)


def outcome(raw: bytes, folder: pytest.TempPathFactory) -> None:
    drop, out = folder.getbasetemp() / "drop.jsonl", folder.getbasetemp() / "out"
    drop.write_bytes(raw)
    shutil.rmtree(out, ignore_errors=True)
    try:
        manifest = validate_drop(drop, out, skill="any", config=CONFIG)
    except SkillstackError as error:
        line = str(error)
    else:
        line = ""
        assert read_manifest(out, DropManifest) == manifest
        names = ("clean", "heldout", "sealed", "quarantine")
        rows = [[json.loads(row) for row in (out / f"{name}.jsonl").read_text(encoding="utf-8").split("\n")[:-1]] for name in names]
        assert list(map(len, rows)) == [manifest.rows_clean, manifest.rows_heldout, manifest.rows_sealed, manifest.rows_quarantined]
        assert sum(map(len, rows)) == manifest.rows_read
    assert "\n" not in line
    assert (out / "manifest.json").exists() == (line == "")


@given(st.binary(max_size=400))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_give_a_report(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    outcome(raw, tmp_path_factory)


@given(st.lists(ROW, max_size=12))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_rows_give_a_report(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, object]]) -> None:
    outcome(b"\n".join(json.dumps(row).encode() for row in rows), tmp_path_factory)
