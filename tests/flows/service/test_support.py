"""A bundle for whoever helps: useful when everything is broken, and without a secret wherever one was."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from data_contracts.errors import ConfigError
from data_contracts.privacy.masker import MASK
from flows.config.model import SkillstackConfig
from flows.service.support import write_bundle

PASSWORD, SIGNING, HUB = 'pl4nted-"word', "/keys/pl4nted.key", "hf_" + "aB3" * 12
ENVIRONMENT = {
    "MLFLOW_TRACKING_PASSWORD": PASSWORD,
    "PREFECT_API_AUTH_STRING": "admin:pl4nted-auth",
    "PREFECT_API_DATABASE_CONNECTION_URL": "postgresql+asyncpg://prefect:pl4nted-base@db/prefect",
    "MLFLOW_TRACKING_URI": "http://ana:pl4nted-uri@mlflow:5000",
    "SKILLSTACK_WEBHOOK_URL": "https://chat.example/pl4nted-hook",
    "SKILLSTACK_SIGNING_KEY": SIGNING,
    "GITHUB_TOKEN": "pl4nted-token",
    "OMP_NUM_THREADS": "1",
    "HOME": "/home/pl4nted-home",
}
LOG = f"""step 1 of 4
401 for admin:pl4nted-auth at http://ana:pl4nted-uri@mlflow:5000
password={PASSWORD} token pl4nted-token {HUB} hook https://chat.example/pl4nted-hook
Traceback: the loss is nan
"""


@pytest.fixture
def config(tmp_path: Path) -> SkillstackConfig:
    stage = tmp_path / "state/stages/train/k.partial"
    stage.mkdir(parents=True)
    (stage / "train.log").write_text("an old line\n" * 20_000 + LOG)
    (stage / "metrics.jsonl").write_text(json.dumps({"event": "step", "loss": 1.5}) + "\n")
    return SkillstackConfig(base_model="nobody/nothing", state_dir=tmp_path / "state", calibration=tmp_path / "not-there.jsonl")


def unpacked(path: Path) -> dict[str, str]:
    with tarfile.open(path) as archive:
        streams = {entry.name: archive.extractfile(entry) for entry in archive.getmembers()}
        return {name.partition("/")[2]: stream.read().decode() for name, stream in streams.items() if stream is not None}


def test_no_planted_secret_is_in_it(config: SkillstackConfig, tmp_path: Path) -> None:
    bundle = write_bundle(config, tmp_path / "bundle.tar.gz", ENVIRONMENT)
    found = unpacked(bundle.path)
    everything = "".join(found.values())
    assert "pl4nted" not in everything
    assert HUB not in everything
    assert bundle.masked > 5
    environment = json.loads(found["environment.json"])
    assert environment["MLFLOW_TRACKING_PASSWORD"] == MASK
    assert environment["OMP_NUM_THREADS"] == "1"
    assert environment["MLFLOW_TRACKING_URI"] == f"http://ana:{MASK}@mlflow:5000", "where it is may be seen"
    assert "HOME" not in environment


def test_it_holds_what_helps(config: SkillstackConfig, tmp_path: Path) -> None:
    found = unpacked(write_bundle(config, tmp_path / "bundle.tar.gz", ENVIRONMENT).path)
    assert json.loads(found["versions.json"])["packages"]["torch"]
    assert json.loads(found["config.json"])["calibration"].endswith("not-there.jsonl")
    checks = {each["check"]: each for each in json.loads(found["doctor.json"])}
    assert not checks["calibration"]["ok"]
    log = found["logs/k.partial/train.log"]
    assert "Traceback: the loss is nan" in log
    assert len(log) < 70_000, "the end of a long log"
    assert "stages/train/k.partial/train.log" in found["files.txt"]
    assert found["history.json"] == "no lineage yet"


def test_a_state_that_cannot_be_read_is_a_line_of_it(config: SkillstackConfig, tmp_path: Path) -> None:
    (config.state_dir / "mlflow.db").write_text("no database")
    (config.state_dir / "state.json").write_text("{")
    found = unpacked(write_bundle(config, tmp_path / "bundle.tar.gz", ENVIRONMENT).path)
    assert found["history.json"].startswith("LineageError: ")
    assert found["state.json"] == "{"


def test_a_file_that_is_there_is_not_overwritten(config: SkillstackConfig, tmp_path: Path) -> None:
    (tmp_path / "bundle.tar.gz").write_text("mine")
    with pytest.raises(ConfigError, match="is there already"):
        write_bundle(config, tmp_path / "bundle.tar.gz", {})
    assert (tmp_path / "bundle.tar.gz").read_text() == "mine"
