"""The built wheel, unpacked, and what the extras of pyproject.toml bring together, read from the installed packages' own metadata."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[2]
PACKAGES = ("data_contracts", "osft_engine", "evals", "flows")


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel unpacked, as pip does where nothing else has to be built. Built from a copy, so that the checkout is left as it is."""
    source, out, target = (tmp_path_factory.mktemp(name) for name in ("source", "wheel", "installed"))
    for name in PACKAGES:
        shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source / name)
    script = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    built = subprocess.run([sys.executable, "-c", script, str(out)], cwd=source, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    with zipfile.ZipFile(next(out.glob("*.whl"))) as archive:
        archive.extractall(target)
    return target


@functools.cache
def requirements_of(name: str) -> Sequence[Requirement]:
    """What an installed distribution requires; nothing of one that is not installed."""
    try:
        return [Requirement(line) for line in importlib.metadata.distribution(name).requires or ()]
    except importlib.metadata.PackageNotFoundError:
        return []


@dataclass(frozen=True)
class Project:
    """pyproject.toml: what an installation with some extras brings."""

    dependencies: Sequence[str]
    extras: dict[str, Sequence[str]]

    def requirements(self, *extras: str) -> list[Requirement]:
        """The project's own requirements, those of extras that an extra names included."""
        found = [Requirement(line) for line in self.dependencies]
        waiting, seen = list(extras), set[str]()
        while waiting:
            extra = waiting.pop()
            if extra in seen:
                continue
            seen.add(extra)
            for requirement in map(Requirement, self.extras[extra]):
                if requirement.name == "skillstack":
                    waiting += requirement.extras
                else:
                    found.append(requirement)
        return found

    def closure(self, *extras: str) -> set[str]:
        """The names of all distributions that pip would install. What is required and not installed here counts by its name alone."""
        waiting, seen = self.requirements(*extras), dict[str, set[str]]()
        while waiting:
            wanted = waiting.pop()
            name, asked = canonicalize_name(wanted.name), set(wanted.extras) | {""}
            if asked <= seen.get(name, set()):
                continue
            seen[name] = seen.get(name, set()) | asked
            for each in requirements_of(name):
                if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in seen[name]):
                    waiting.append(each)
        return set(seen)


@pytest.fixture(scope="session")
def project() -> Project:
    declared: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return Project(declared["dependencies"], declared["optional-dependencies"])


@pytest.fixture(scope="session")
def engine_alone(installed: Path, project: Project, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """run(*arguments, cwd=...): a Python that sees the wheel and what `pip install skillstack` brings, and nothing else that is here."""
    site = tmp_path_factory.mktemp("engine-alone")
    for name in project.closure():
        link_distribution(importlib.metadata.distribution(name), site)

    def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV"))}
        environment["PYTHONPATH"] = os.pathsep.join([str(installed), str(site)])
        line = [sys.executable, "-S", *arguments]  # -S: site-packages stays out
        return subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False)

    return run


def link_distribution(distribution: importlib.metadata.Distribution, site: Path) -> None:
    """Link the files and folders that a distribution has at the top of site-packages."""
    tops = {path.parts[0] for path in distribution.files or ()} - {"..", "__pycache__"}
    assert tops, f"{distribution.name} lists no files"
    for top in tops:
        source, link = Path(str(distribution.locate_file(top))), site / top
        if source.exists() and not link.exists():
            link.symlink_to(source)
