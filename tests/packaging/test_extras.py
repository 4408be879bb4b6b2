"""What pyproject.toml declares is what the code imports: every package comes with the extra that its importer belongs to."""

from __future__ import annotations

import ast
import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name

from flows.machine.extras import OF_EXTRAS, missing_extra

REPOSITORY = Path(__file__).parents[2]
PACKAGES = ("data_contracts", "osft_engine", "evals", "flows")
#: Imported in one function that says what is missing where it is: (folder, package) -> the extra that brings it.
OPTIONAL = {
    ("osft_engine", "datasets"): "eval",
    ("osft_engine", "bitsandbytes"): "quantize",
    ("data_contracts", "pyarrow"): "eval",
    ("flows", "model_signing"): "signing",
}
#: The extras of each folder's importers, the longest name first.
EXTRAS = {"flows/explore": "explore", "flows": "service", "evals": "eval", "osft_engine": "", "data_contracts": ""}


def imports(folder: Path) -> Iterator[tuple[str, str]]:
    """(file, top-level package) of every import of something that is neither the standard library nor this project."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            for name in names:
                top = name.partition(".")[0]
                if top not in sys.stdlib_module_names and top not in PACKAGES:
                    yield path.relative_to(REPOSITORY).as_posix(), top


@pytest.fixture(scope="module")
def providers() -> dict[str, set[str]]:
    """Top-level package -> the distributions that bring it."""
    return {top: {canonicalize_name(name) for name in names} for top, names in importlib.metadata.packages_distributions().items()}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_import_is_brought_by_the_extra_of_its_folder(package: str, project: Any, providers: dict[str, set[str]]) -> None:
    brought = {extra: project.closure(*([extra] if extra else [])) for extra in set(EXTRAS.values())}
    found = list(imports(REPOSITORY / package))
    assert found
    for path, top in found:
        extra = next(extra for folder, extra in EXTRAS.items() if path.startswith(folder + "/"))
        names = providers.get(top, set())
        if (package, top) in OPTIONAL:
            assert names & project.closure(OPTIONAL[package, top]), f"{path}: {top} is in no extra"
        else:
            assert names & brought[extra], f"{path} imports {top}: add it to {extra or 'the dependencies'} in pyproject.toml"


def test_all_is_all_that_a_user_may_need(project: Any) -> None:
    users = set(project.extras) - {"all", "dev", "servers"}
    assert users == {"eval", "service", "explore", "demo", "quantize", "signing"}
    assert project.closure("all") == set().union(*(project.closure(extra) for extra in users))


def test_the_command_line_knows_every_package_that_the_engine_lacks(project: Any, providers: dict[str, set[str]]) -> None:
    """An import that this list misses would be a traceback where `skillstack` runs with the engine only."""
    engine = project.closure()
    lacking = {top for package in ("evals", "flows") for _, top in imports(REPOSITORY / package) if not providers.get(top, set()) & engine}
    assert {"prefect", "mlflow", "lm_eval"} <= lacking
    assert lacking <= OF_EXTRAS


def test_another_missing_module_is_not_taken_for_an_extra() -> None:
    assert missing_extra(ModuleNotFoundError("No module named 'einops'", name="einops")) is None
    assert missing_extra(ImportError("cannot import name 'flow' from 'prefect'", name="prefect")) is None
    refusal = missing_extra(ModuleNotFoundError("No module named 'lm_eval.api'", name="lm_eval.api"))
    assert refusal is not None
    assert "lm_eval" in str(refusal)


def test_constraints_pin_every_direct_dependency(project: Any) -> None:
    """What was tested together is written down for each."""
    lines = (REPOSITORY / "infra" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {canonicalize_name(line.partition("==")[0]) for line in lines if "==" in line and line[0] != "#"}
    direct = {canonicalize_name(each.name) for each in project.requirements(*project.extras)}
    assert direct - pinned == set()
