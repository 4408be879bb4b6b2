"""What doctor says of the service where there is no server, no GPU and no cluster."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from data_contracts.errors import SkillstackError
from flows.config.model import SkillstackConfig
from flows.service.doctor_services import _local_store, artifact_store, clocks, gpu_limit, launcher, prefect_server


@pytest.fixture(autouse=True)
def _no_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


def config(**values: object) -> SkillstackConfig:
    return SkillstackConfig.model_validate(values)


def test_without_servers_nothing_is_wrong(tmp_path: Path) -> None:
    bare = config(state_dir=tmp_path / "absent", service={"gpu_limit": ""})
    assert prefect_server(bare).startswith("no server")
    assert clocks(bare) == "no servers"
    assert "none yet" in artifact_store(bare)
    assert not (tmp_path / "absent").exists(), "looking creates nothing"
    assert "service.gpu_limit is empty" in gpu_limit(bare)


def test_a_server_that_does_not_answer_is_named_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(SkillstackError, match="does not answer") as raised:
        clocks(config())
    assert raised.value.where == "MLFLOW_TRACKING_URI"


def test_a_store_that_is_not_there_yet_is_judged_by_the_folder_that_is(tmp_path: Path) -> None:
    assert _local_store(str(tmp_path / "a" / "b")) == f"{tmp_path / 'a' / 'b'}: writable"
    assert list(tmp_path.iterdir()) == []


def test_trainings_start_as_the_config_says(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    assert launcher(config()) == "a local process"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert launcher(config(launch={"kind": "torchrun", "processes": 2})) == "2 processes under torchrun, 2 GPUs here"
    with pytest.raises(SkillstackError, match=r"is 4, this machine has 2 GPUs.*to 2 at most"):
        launcher(config(launch={"kind": "torchrun", "processes": 4}))


def test_kubernetes_is_asked_whether_jobs_may_be_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = config(launch={"kind": "kubernetes", "kubernetes": {"namespace": "lab"}})
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SkillstackError, match="kubectl is not installed"):
        launcher(cluster)
    program = tmp_path / "kubectl"
    for answer, way in (("echo yes", None), ("echo no; exit 1", "may not be created: no"), ("echo refused >&2; exit 1", "refused")):
        program.write_text(f'#!/bin/sh\n[ "$1 $2" = "--namespace lab" ] || exit 9\n{answer}\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        if way is None:
            assert launcher(cluster) == "jobs may be created in lab"
        else:
            with pytest.raises(SkillstackError, match=way):
                launcher(cluster)
