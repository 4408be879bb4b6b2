"""MLflow's SQLite file is made completely or not at all."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from data_contracts.errors import LineageError, SkillstackError
from flows.lineage import Lineage, connect, current_champion
from flows.lineage.storage.database import is_whole, set_aside
from flows.lineage.storage.state import describe_place


def opened(state: Path) -> Lineage:
    return connect(f"sqlite:///{state}/mlflow.db", model_name="tiny", experiment="rounds", state_dir=state)


_MAKE = "import sys; from pathlib import Path; from flows.lineage import connect; state = Path(sys.argv[1]); " + (
    "connect(f'sqlite:///{state}/mlflow.db', model_name='tiny', experiment='rounds', state_dir=state)"
)


def test_a_first_start_that_was_cut_short_leaves_no_database_and_the_next_one_makes_it(tmp_path: Path) -> None:
    """Killed in the middle of the migrations, as often as it takes to be killed there."""
    state, pause = tmp_path / "state", threading.Event()
    with subprocess.Popen([sys.executable, "-c", _MAKE, str(state)]) as process:
        while process.poll() is None and not (state / ".mlflow.db.partial").exists():
            pause.wait(0.01)  # the migrations take seconds
        process.kill()
    assert not (state / "mlflow.db").exists()
    assert current_champion(opened(state)) is None


def test_a_half_made_database_of_an_earlier_release_is_set_aside(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    with closing(sqlite3.connect(state / "mlflow.db")) as database, database:
        database.execute("CREATE TABLE experiments (experiment_id INTEGER)")
    assert current_champion(opened(state)) is None
    assert (state / "mlflow.db.half-made-1").is_file()
    assert "from an interrupted first start" in (describe_place(state) or "")


def test_a_damaged_database_is_named_and_kept(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(LineageError, match=r"mlflow\.db: file is not a database.*backup"):
        opened(tmp_path)
    assert (tmp_path / "mlflow.db").read_bytes().startswith(b"no database")


def test_a_disk_without_room_is_named_before_a_database_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 2_000_000, 2_000_000))  # type: ignore[attr-defined]
    with pytest.raises(SkillstackError, match=r"the disk is full: 2\.0 MB are free"):
        opened(tmp_path / "state")
    assert not (tmp_path / "state" / "mlflow.db").exists()


def test_a_database_is_whole_with_the_newest_schema_or_with_content(grown: Lineage, tmp_path: Path) -> None:
    database = tmp_path / "copy.db"
    assert not is_whole(database)
    database.touch()
    assert not is_whole(database)
    shutil.copy(grown.state_dir / "mlflow.db", database)
    assert is_whole(database)
    with closing(sqlite3.connect(database)) as opened_copy, opened_copy:
        opened_copy.execute("UPDATE alembic_version SET version_num = 'older'")
    assert is_whole(database), "MLflow upgrades an older schema itself"
    with closing(sqlite3.connect(database)) as opened_copy, opened_copy:
        for table in ("model_versions", "registered_models", "runs", "logged_models"):
            opened_copy.execute(f"DELETE FROM {table}")
    assert not is_whole(database)


def test_what_is_set_aside_takes_no_others_place(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    assert set_aside(database) == []
    for number in (1, 2):
        database.write_bytes(b"half")
        database.with_name("mlflow.db-wal").touch()
        assert set_aside(database) == [tmp_path / f"mlflow.db.half-made-{number}"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db.half-made-1", "mlflow.db.half-made-2"]
