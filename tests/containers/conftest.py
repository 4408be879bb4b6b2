"""Images that the tests of this folder share. Collected only where SKILLSTACK_CONTAINERS names an engine (make test-containers)."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

collect_ignore_glob = [] if os.environ.get("SKILLSTACK_CONTAINERS") else ["test_*.py"]


def _module(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"skillstack_containers_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def containers() -> Any:
    """engine.py as a module."""
    return _module("engine")


@pytest.fixture(scope="session")
def stacks(containers: Any) -> Any:
    """stack.py as a module."""
    return _module("stack")


@pytest.fixture(scope="session")
def user() -> Any:
    """user.py as a module."""
    return _module("user")


@pytest.fixture(scope="session")
def restarts(containers: Any) -> Any:
    """restarts.py as a module."""
    return _module("restarts")


_MEASURED: dict[str, str] = {}


@pytest.fixture(scope="session")
def measured() -> dict[str, str]:
    """What the tests measured, printed at the end for docs/results/containers.md."""
    return _MEASURED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for name, value in _MEASURED.items():
        terminalreporter.write_line(f"{name}: {value}")


@pytest.fixture(scope="session")
def wanted(containers: Any) -> tuple[str, ...]:
    """SKILLSTACK_IMAGES=trainer,mlflow limits a run to some images; what needs another one fails."""
    return tuple(filter(None, os.environ.get("SKILLSTACK_IMAGES", ",".join(containers.IMAGES)).split(",")))


@pytest.fixture(scope="session")
def images(containers: Any, wanted: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory, measured: dict[str, str]) -> dict[str, str]:
    """The base, and the three images from the Containerfiles as they are (SKILLSTACK_REUSE_IMAGES=1: those that lie here, if they do)."""
    measured["base image"] = containers.base_image(tmp_path_factory.mktemp("base"))
    found = {}
    for name in wanted:
        tag = f"skillstack-{name}:0.1.0"
        how = "as it was"
        if not (os.environ.get("SKILLSTACK_REUSE_IMAGES") and containers.is_there(tag)):
            how = f"built in {containers.build(containers.REPOSITORY / f'infra/images/{name}.Containerfile', tag):.0f} s"
        measured[f"image {name}"] = f"{containers.inspect('image', tag)['Size'] / 1e9:.2f} GB, {how}"
        found[name] = tag
    return found


@pytest.fixture(scope="session")
def stack(
    containers: Any, stacks: Any, images: dict[str, str], tmp_path_factory: pytest.TempPathFactory, measured: dict[str, str]
) -> Iterator[Any]:
    for name in stacks.STOOD_IN:
        measured[f"image {stacks.STOOD_IN[name]}"] = stacks.stand_in(name)
    kept = os.environ.get("SKILLSTACK_KEEP_STACK")  # a folder: the stack is left running there, and the next run goes on with it
    folder = Path(kept) if kept else tmp_path_factory.mktemp("stack")
    files = [] if Path("/dev/nvidia0").exists() else [containers.REPOSITORY / "infra/compose.cpu.yaml"]
    left = (folder / "env").is_file()
    found = stacks.Stack("skillstack-test", folder, files=files, secrets=stacks.secrets_in(folder / "env") if left else {})
    try:
        if not left:
            found.down()
            found.up()
        yield found
    finally:
        if not kept:
            found.down()


@pytest.fixture(scope="session")
def deployed(stack: Any, user: Any) -> Any:
    if (stack.project / "skillstack.yaml").is_file():
        return stack
    user.write_project(stack)
    done = stack.compose("--profile", "tools", "run", "--rm", "--no-deps", "deploy")
    assert "round" in done.stdout + done.stderr
    return stack
