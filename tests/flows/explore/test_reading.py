"""Views 4 to 6 on a real lineage: what they show is what the files and MLflow hold, and nothing is written."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from data_contracts.errors import LineageError
from flows.config.model import SkillstackConfig
from flows.explore import scene
from flows.explore.answer import Missing
from flows.explore.reading import ReadingClient, open_for_reading, read_rounds
from flows.explore.views import capacity, dynamics, matrix


def digest_of(folder: Path) -> str:
    """Every name and byte below a folder."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        found.update(str(path.relative_to(folder)).encode())
        if path.is_file():
            found.update(path.read_bytes())
    return found.hexdigest()


def test_reading_changes_no_byte(explored: SkillstackConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = digest_of(explored.state_dir)
    now = scene.look()
    assert not isinstance(now.records, Missing)
    assert not isinstance(now.lineage, Missing)
    view = matrix.view_lineage(now.records)
    matrix.matrix_figure(view)
    capacity.capacity_figure(capacity.view_capacity(now.records))
    dynamics.curve_of_round(now.lineage, now.records[1])
    assert digest_of(explored.state_dir) == before
    assert list(tmp_path.iterdir()) == []


def test_the_client_refuses_to_write(explored: SkillstackConfig) -> None:
    store = open_for_reading(explored)
    for method in ("set_tag", "log_batch", "create_run", "delete_run", "set_registered_model_alias", "transition_model_version_stage"):
        with pytest.raises(LineageError, match="only reads"):
            getattr(store.client, method)
    # Even MLflow's own client, were it reached, would be refused by the database.
    inner = store.client._client
    with pytest.raises(Exception, match="readonly database"):
        inner.set_tag(read_rounds(store)[0].run_id, "a", "b")
    assert isinstance(store.client, ReadingClient)


# ------------------------------------------------------------------------------------------------ what can be missing
