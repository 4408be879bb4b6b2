"""A drop in, a manifest out: counts that add up, sides that are stable, files that a later stage accepts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_contracts.config import ContractConfig
from data_contracts.errors import DropError
from data_contracts.manifests import DropManifest, read_manifest
from data_contracts.validate import validate_drop


def chat(question: str, answer: str) -> str:
    return json.dumps({"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]})


def write_drop(folder: Path, lines: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "drop.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def drop(tmp_path: Path) -> Path:
    return write_drop(tmp_path, [chat(f"How much is {n} and {n * 7}?", str(n * 8)) for n in range(400)])


def rows(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def test_every_row_lands_on_exactly_one_side(drop: Path, tmp_path: Path) -> None:
    manifest = validate_drop(drop, tmp_path / "out", skill="sums", config=ContractConfig())
    assert read_manifest(tmp_path / "out", DropManifest) == manifest
    sides = [rows(tmp_path / "out" / f"{name}.jsonl") for name in ("clean", "heldout", "sealed", "quarantine")]
    assert [len(side) for side in sides[:3]] == [manifest.rows_clean, manifest.rows_heldout, manifest.rows_sealed]
    assert sum(map(len, sides)) == manifest.rows_read == 400
    assert not set(sides[0]) & set(sides[1])
    assert not set(sides[0]) & set(sides[2])
    assert not set(sides[1]) & set(sides[2])
    assert manifest.rows_heldout >= 30
    assert manifest.rows_sealed >= 15


def test_two_validations_give_the_same_bytes(drop: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        validate_drop(drop, tmp_path / name, skill="sums", config=ContractConfig())
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "b").iterdir())
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)


def test_a_bad_row_fails_the_drop_and_the_good_ones_survive_where_allowed(drop: Path, tmp_path: Path) -> None:
    drop.write_text(drop.read_text() + '{"messages": [{"role": "bot", "content": "x"}]}\n')
    with pytest.raises(DropError, match=r"drop\.jsonl:401: .*messages"):
        validate_drop(drop, tmp_path / "strict", skill="sums", config=ContractConfig())
    assert not (tmp_path / "strict" / "manifest.json").exists()
    assert json.loads((tmp_path / "strict" / "report.json").read_text())["outcome"] == "failed"
    manifest = validate_drop(drop, tmp_path / "lenient", skill="sums", config=ContractConfig(max_bad_fraction=0.01))
    assert manifest.rows_quarantined == 1
    assert manifest.rows_read == 401


def test_supplied_heldout_replaces_the_carving(drop: Path, tmp_path: Path) -> None:
    suite = tmp_path / "suite.jsonl"
    suite.write_text("".join(json.dumps({"prompt": f"Is {n} odd?", "choices": ["yes", "no"], "gold": n % 2}) + "\n" for n in range(90)))
    manifest = validate_drop(drop, tmp_path / "out", skill="sums", config=ContractConfig(), heldout=suite)
    assert manifest.rows_clean == 400
    assert manifest.rows_heldout + manifest.rows_sealed == 90
    assert manifest.rows_heldout > manifest.rows_sealed > 0


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "does not exist"),
        (b"", "no rows"),
        (b"\n \n", "no rows"),
        (b"\xff\xfe{\x00", "UTF-16"),
        (b"\x80abc\n", "UTF-8"),
        (b"{oops\n", "JSON"),
    ],
)
def test_an_unreadable_drop_ends_with_where_what_and_the_way_out(tmp_path: Path, content: bytes | None, what: str) -> None:
    path = tmp_path / "drop.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DropError, match=what) as caught:
        validate_drop(path, tmp_path / "out", skill="sums", config=ContractConfig())
    assert caught.value.way_out
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "manifest.json").exists()
