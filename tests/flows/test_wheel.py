"""A wheel without the checkout: every file that the packages read is in it, and `skillstack deploy` finds its deployments."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PACKAGES = ("data_contracts", "osft_engine", "evals", "flows")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that the checkout is left as it is."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in PACKAGES:
        shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source / name)
    script = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    built = subprocess.run([sys.executable, "-c", script, str(out)], cwd=source, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel unpacked, as pip does where nothing else has to be built."""
    target = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def files_of(root: Path) -> Iterator[str]:
    for package in PACKAGES:
        for path in (root / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path.relative_to(root).as_posix()


def test_every_file_of_the_packages_is_in_the_wheel(installed: Path) -> None:
    assert set(files_of(REPOSITORY)) == set(files_of(installed))


def test_a_wheel_alone_deploys_and_makes_its_demo_and_suites(installed: Path, tmp_path: Path) -> None:
    """`deploy` goes as far as asking the server, which is not there; nano speaks by its template; a suite set is read."""
    script = """
import sys, flows, evals
from pathlib import Path
from flows.base_models.resolve import resolve_base_model
from flows.service.deployments import PREFECT_FILE
from osft_engine.checkpoint.read import load_tokenizer
from osft_engine.config import TrainConfig
home = Path(sys.argv[1])
assert all(Path(each.__file__).is_relative_to(home) for each in (flows, evals)), flows.__file__
assert PREFECT_FILE.is_relative_to(home)
nano = resolve_base_model("nano", Path("models"))
assert nano.resolve().is_relative_to(home.resolve()) or nano.is_dir()
assert load_tokenizer(nano, TrainConfig()).chat_template
from flows.cli.app import main
sys.argv = ["skillstack", "init", "--json"]
try:
    main()
except SystemExit as end:
    assert not end.code
sys.argv = ["skillstack", "deploy", "--json"]
main()
"""
    environment = {**os.environ, "PYTHONPATH": str(installed), "PREFECT_API_URL": "http://127.0.0.1:9/api"}
    command = [sys.executable, "-c", script, str(installed)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "no Prefect server answers" in done.stdout, done.stdout + done.stderr
