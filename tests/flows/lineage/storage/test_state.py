"""The state directory: moved, copied, read only, half made, made by a newer release."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from data_contracts.errors import LineageError
from flows.lineage import Lineage, connect, current_champion, open_round, read_history, roll_back, verify_lineage
from flows.lineage.storage.state import describe_place


def opened(state: Path) -> Lineage:
    return connect(f"sqlite:///{state}/mlflow.db", model_name="tiny", experiment="rounds", state_dir=state)


def copied(state: Path, target: Path) -> Path:
    """As a person copies a project: the state directory, and the files beside it."""
    shutil.copytree(state, target)
    for path in state.parent.glob("*.jsonl"):
        shutil.copy(path, target.parent)
    return target


def files_of(state: Path) -> dict[str, bytes]:
    return {path.relative_to(state).as_posix(): path.read_bytes() for path in state.rglob("*") if path.is_file()}


@pytest.fixture
def original(grown: Lineage) -> Path:
    return grown.state_dir


def places(state: Path) -> set[str]:
    with closing(sqlite3.connect(state / "mlflow.db")) as database:
        rows = [
            *database.execute("SELECT artifact_location FROM experiments WHERE name = 'rounds'"),
            *database.execute("SELECT artifact_uri FROM runs"),
            *database.execute("SELECT artifact_location FROM logged_models"),
            *database.execute("SELECT storage_location FROM model_versions"),
        ]
    return {place for (place,) in rows}


def test_a_copy_is_a_lineage_of_its_own_and_leaves_the_original_alone(
    original: Path, tmp_path: Path, register: Callable[..., object]
) -> None:
    copy = copied(original, tmp_path / "project of mine" / "state")
    before = files_of(original)
    lineage = opened(copy)
    roll_back(lineage, reason="try it on the copy", actor="ann")
    assert verify_lineage(lineage).findings == ()
    assert all(place.startswith((copy / "artifacts").as_uri()) for place in places(copy))
    assert files_of(original) == before
    assert f"copied from {original}" in (describe_place(copy) or "")
    ids = [json.loads((state / "state.json").read_text())["id"] for state in (original, copy)]
    assert ids[0] != ids[1]


def test_a_moved_lineage_goes_on_where_it_is_and_the_old_folder_stays_away(original: Path, tmp_path: Path) -> None:
    moved, identity = tmp_path / "elsewhere" / "state", json.loads((original / "state.json").read_text())["id"]
    moved.parent.mkdir()
    original.rename(moved)
    for path in original.parent.glob("*.jsonl"):
        path.rename(moved.parent / path.name)
    assert f"was moved from {original}" in (describe_place(moved) or "")
    lineage = opened(moved)
    roll_back(lineage, reason="still possible", actor="ann")
    assert verify_lineage(lineage).findings == ()
    assert not original.exists()
    assert json.loads((moved / "state.json").read_text())["id"] == identity


def test_a_copied_lineage_of_a_release_without_state_json_is_recognised_too(original: Path, tmp_path: Path) -> None:
    (original / "state.json").unlink()
    copy = tmp_path / "copy"
    shutil.copytree(original, copy)
    before = files_of(original)
    roll_back(opened(copy), reason="try it on the copy", actor="ann")
    assert files_of(original) == before
    assert f"copied from {original}" in (describe_place(copy) or "")


def test_opening_a_lineage_that_is_in_order_writes_nothing(original: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in original.rglob("*")}
    lineage = opened(original)
    read_history(lineage)
    assert {path: path.stat().st_mtime_ns for path in original.rglob("*")} == before


def test_a_lineage_can_be_read_from_a_database_that_cannot_be_written(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # MLflow makes the folders of what it takes for a path, beginning with `file:`
    uri = f"sqlite:///file:{original}/mlflow.db?mode=ro&uri=true"
    lineage = connect(uri, model_name="tiny", experiment="rounds", state_dir=original)
    assert [record.version for record in read_history(lineage)] == [1, 2, 3]
    assert current_champion(lineage).version == 3  # type: ignore[union-attr]
    assert verify_lineage(lineage).findings == ()
    with pytest.raises(LineageError, match="readonly"):
        roll_back(lineage, reason="no", actor="ann")


def test_a_state_of_a_newer_release_is_refused_in_one_line(original: Path) -> None:
    path = original / "state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 99, "something_new": 1}))
    with pytest.raises(LineageError, match=r"newer skillstack \(state schema 99, this one knows 1\)"):
        opened(original)


def test_a_disk_that_fills_under_mlflow_is_named_as_full(grown: Lineage) -> None:
    """SQLite refuses to let the file grow, as on a full disk."""
    from sqlalchemy import event

    engine = grown.client._tracking_client.store.engine
    engine.dispose()

    @event.listens_for(engine, "connect")
    def limit(connection: sqlite3.Connection, _: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {connection.execute('PRAGMA page_count').fetchone()[0]}")

    def fill() -> None:
        for number in range(200):
            open_round(grown, 9, f"skill-{number}", key=f"{number}" * 50)

    try:
        with pytest.raises(LineageError, match="the disk is full"):
            fill()
    finally:
        event.remove(engine, "connect", limit)
        engine.dispose()
