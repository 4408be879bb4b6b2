"""A real MLflow store on SQLite for every test: migrated once a session, then copied."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from data_contracts.digests import text_digest
from data_contracts.manifests import (
    CheckpointManifest,
    Decision,
    EvalReport,
    SuiteResult,
    TrainingSummary,
    Verdict,
    file_ref,
    write_manifest,
)
from flows.lineage import Lineage, RoundRun, VersionRef


def open_store(state_dir: Path) -> Lineage:
    return Lineage(f"sqlite:///{state_dir}/mlflow.db", model_name="tiny", experiment="rounds", state_dir=state_dir)


def copy_state(source: Path, target: Path) -> Path:
    """A second, independent lineage: MLflow keeps the artifacts' absolute places, so they are changed in the copy."""
    from mlflow.tracking._tracking_service import utils

    utils._artifact_repos_cache.clear()  # it knows runs by id, and a copy's runs have the ids of the source's
    shutil.copytree(source, target)
    with closing(sqlite3.connect(target / "mlflow.db")) as database, database:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri"), ("logged_models", "artifact_location")):
            database.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (str(source), str(target)))
    return target


@pytest.fixture(scope="session")
def empty_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    state = tmp_path_factory.mktemp("empty") / "state"
    open_store(state)
    return state


@pytest.fixture(scope="session")
def grown_state(tmp_path_factory: pytest.TempPathFactory, empty_state: Path) -> Path:
    """Base and two promoted rounds: the champion is version 3."""
    state = copy_state(empty_state, tmp_path_factory.mktemp("grown") / "state")
    lineage = open_store(state)
    _, champion, _ = run_round(lineage, "base", 0)
    lineage.promote(champion.version, expected_champion=None, reason="start", actor="test", verdict=None)
    for number, name in enumerate(("first", "second"), start=1):
        _, version, folders = run_round(lineage, name, number, parent=champion.model_sha256)
        lineage.promote(version.version, expected_champion=champion.version, reason="gate", actor="flow", verdict=folders.verdict)
        champion = version
    return state


@pytest.fixture
def state_dir(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    source = "grown_state" if "grown" in request.fixturenames else "empty_state"
    return copy_state(request.getfixturevalue(source), tmp_path / "state")


@pytest.fixture
def open_lineage(state_dir: Path) -> Callable[[], Lineage]:
    return lambda: open_store(state_dir)


@pytest.fixture
def lineage(state_dir: Path) -> Lineage:
    return open_store(state_dir)


@pytest.fixture
def grown(state_dir: Path) -> Lineage:
    """Base and two promoted rounds: the champion is version 3."""
    return open_store(state_dir)


@dataclass
class RoundFolders:
    """The finished folders of one round, as the stages leave them."""

    checkpoint: Path
    manifest: CheckpointManifest
    evaluation: Path
    report: EvalReport
    verdict_folder: Path
    verdict: Verdict


def write_folders(
    state_dir: Path,
    name: str,
    *,
    skill: str | None = None,
    parent: str | None = None,
    decision: Decision = Decision.PASS,
    score: float = 0.9,
) -> RoundFolders:
    """What the stages of a round would leave, in the smallest form that keeps every rule."""
    root = state_dir / "rounds" / name
    weights = root / "checkpoint" / "model" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(name.encode() * 100)
    metrics = root / "checkpoint" / "metrics.jsonl"
    metrics.write_text("".join(f'{{"event":"step","step":{step},"loss":{2.0 / step},"lr":0.001}}\n' for step in range(1, 6)))
    manifest = CheckpointManifest(
        skill=skill,
        method="base" if parent is None else "osft",
        model_sha256=text_digest(name),
        parent_sha256=parent,
        drop_sha256=None if parent is None else text_digest("drop " + name),
        summary=None if parent is None else _summary(),
        files={"model/model.safetensors": file_ref(root / "checkpoint", weights)},
    )
    write_manifest(root / "checkpoint", manifest)
    suite = {"metric": "acc,none", "higher_is_better": True, "n": 100, "seconds": 1.0}
    suites = (
        SuiteResult(name="old", category="skill", score=score, suite_sha256=text_digest("old"), **suite),
        SuiteResult(name="piqa, 0-shot", category="general", score=0.5, suite_sha256=text_digest("piqa"), **suite),
    )
    report = EvalReport(model_sha256=manifest.model_sha256, settings={"dtype": "float32"}, settings_sha256=text_digest("s"), suites=suites)
    write_manifest(root / "evaluation", report)
    verdict = Verdict(
        decision=decision,
        reasons=(f"{decision.value} because of {name}",),
        checks=(),
        lost=() if decision is Decision.PASS else ("old",),
        policy={},
        candidate_sha256=manifest.model_sha256,
        champion_sha256=parent or manifest.model_sha256,
    )
    write_manifest(root / "verdict", verdict)
    return RoundFolders(root / "checkpoint", manifest, root / "evaluation", report, root / "verdict", verdict)


def _summary() -> TrainingSummary:
    return TrainingSummary(
        steps=5, examples=10, loss_tokens=100, dropped_too_long=0, first_loss=2.0, final_loss=0.4, seconds=1.0, tokens_per_second=100.0,
        peak_memory_bytes=1, trainable_parameters=1, max_leak=1e-7,
    )  # fmt: skip


def run_round(
    lineage: Lineage, name: str, number: int, *, parent: str | None = None, decision: Decision = Decision.PASS, score: float = 0.9
) -> tuple[RoundRun, VersionRef, RoundFolders]:
    """One whole round up to its registered version."""
    skill = None if parent is None else name
    folders = write_folders(lineage.state_dir, name, skill=skill, parent=parent, decision=decision, score=score)
    opened = lineage.open_round(number, skill, key=name)
    lineage.log_stage(opened, "train", folders.manifest, folders.checkpoint, seconds=1.0)
    lineage.log_stage(opened, "evaluate", folders.report, folders.evaluation)
    judged = None if parent is None else folders.verdict
    if judged is not None:
        lineage.log_stage(opened, "decide", judged, folders.verdict_folder)
    version = lineage.register_candidate(
        opened,
        folders.checkpoint,
        folders.manifest,
        evaluation=folders.evaluation,
        report=folders.report,
        verdict_folder=folders.verdict_folder,
        verdict=judged,
    )
    lineage.finish_round(opened)
    return opened, version, folders


@pytest.fixture
def make_folders(state_dir: Path) -> Callable[..., RoundFolders]:
    return partial(write_folders, state_dir)


@pytest.fixture
def register() -> Callable[..., tuple[RoundRun, VersionRef, RoundFolders]]:
    return run_round


@pytest.fixture(scope="session")
def copy_of() -> Callable[[Path, Path], Path]:
    return copy_state
