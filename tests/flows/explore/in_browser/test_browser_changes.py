"""What changes while a page is open, and what is missing: a training under way, a run deleted, no lineage, a server away, no model.

    pytest -m services tests/flows/explore/in_browser/test_browser_changes.py

The page says what it cannot show, and the rest goes on working.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.config.model import SkillstackConfig
from flows.explore import material, scene
from flows.explore.views import dynamics, spectrum
from flows.lineage import Lineage, LiveStage, connect, open_round, read_history

pytestmark = pytest.mark.services

LINEAGE_VIEWS = ("dynamics", "matrix", "capacity")


@pytest.fixture(scope="module")
def changing(changing_state: Path, explorer_in_browser: Any) -> Any:
    """A browser on a lineage that goes on while it looks."""
    return explorer_in_browser(changing_state)


@pytest.fixture
def lineage(changing_state: Path, monkeypatch: pytest.MonkeyPatch) -> Lineage:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    address = f"sqlite:///{changing_state / 'mlflow.db'}"
    return connect(address, model_name="skillstack", experiment="skillstack", state_dir=changing_state)


def nano_sentence() -> str:
    """What the first view says of nano's first layer."""
    model = material.open_model(scene.Subject("nano", scene.NANO), None)
    energies = material.measurements(model).weight_energies(next(iter(model.targets)))
    return spectrum.cut_energies(energies, 0.25).sentence()


def test_a_training_is_drawn_while_it_runs(changing: Any, lineage: Lineage) -> None:
    run = open_round(lineage, 4, "delta")
    title = "round 4 · delta"
    with LiveStage(lineage, run, "train", every=0.2) as live:

        def train(first: int, last: int) -> None:
            for step in range(first, last + 1):
                live.add(step, {"loss": 3.0 / step, "lr": 0.001, "tokens_per_second": 90.0})

        train(1, 4)
        changing.open("dynamics")
        changing.await_sentence(f"{title} (training now): 4 steps, loss 3.000 at first, 0.750 at the last step.")
        train(5, 12)
        changing.await_sentence(f"{title} (training now): 12 steps, loss 3.000 at first, 0.250 at the last step.")


def test_a_run_deleted_meanwhile_is_named_and_the_rest_goes_on(changing: Any, changing_state: Path, lineage: Lineage) -> None:
    scene.use(SkillstackConfig(state_dir=changing_state))
    record = next(each for each in read_history(lineage) if each.skill == "beta")
    changing.open("dynamics")
    changing.choose("round", dynamics.title_of(record))
    changing.wait(lambda: any(line.startswith("round 2 · beta (finished)") for line in changing.said()), "the curve of round 2")
    client(changing_state).delete_run(record.run_id)
    changing.wait(lambda: any("is deleted in MLflow" in line for line in changing.notices()), "notice of the deleted run")
    changing.choose("round", "round 1 · alpha")
    changing.wait(lambda: any(line.startswith("round 1 · alpha (finished)") for line in changing.said()), "the curve of round 1")
    assert changing.errors() == []


def client(state: Path) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{state / 'mlflow.db'}")


@pytest.mark.parametrize(
    ("variables", "words"), [({}, "no round has run yet"), ({"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}, "no MLflow server answers")]
)
def test_what_is_missing_is_named_and_another_model_can_be_looked_at(
    explorer_in_browser: Any, tmp_path: Path, variables: dict[str, str], words: str
) -> None:
    """No lineage or no server, and a folder that is no model."""
    (tmp_path / "papers").mkdir()
    browser = explorer_in_browser(tmp_path / "nothing", "--model", str(tmp_path / "papers"), **variables)
    for name in LINEAGE_VIEWS:
        browser.open(name)
        browser.wait(lambda: any(words in line for line in browser.notices()), f"the notice of {name}")
    browser.open("spectrum")
    browser.wait(lambda: any("is not a model folder: no config.json" in line for line in browser.notices()), "the notice of the folder")
    browser.choose("model", "nano (included)")
    browser.await_sentence(nano_sentence())
    assert browser.errors() == []
    assert not (tmp_path / "nothing").exists(), "looking makes nothing"
