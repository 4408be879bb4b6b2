"""Every relative link and every path that README, CONTRIBUTING and docs/ name leads somewhere."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(REPOSITORY).as_posix()
    for path in [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *(REPOSITORY / "docs").rglob("*.md")]
)
FOLDERS = ("data_contracts", "osft_engine", "evals", "flows", "infra", "tests", "docs")
PACKAGES = FOLDERS[:4]
_LINK = re.compile(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]+))?\)")
_PATH = re.compile(rf"(?<![\w/.-])((?:{'|'.join(FOLDERS)})/[\w./*-]*\w(?:\.\w+)?/?)")
_MODULE = re.compile(rf"`((?:{'|'.join(PACKAGES)})(?:\.\w+)+)(?:\(\))?`")
_FILE = re.compile(r"(?<![\w/.*-])(\w+\.py)\b")
_MAKE = re.compile(r"\bmake (?:\w+=\S+ )*([a-z][\w-]*)")
_COMMAND = re.compile(r"^\s*skillstack (\w[\w-]*)|`skillstack (\w[\w-]*)", re.MULTILINE)
_EXTRA = re.compile(r"\[([\w,]+)\]['\"]")


def text_of(page: str) -> str:
    return (REPOSITORY / page).read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def broken_links(page: str) -> Iterator[str]:
    for target, anchor in _LINK.findall(text_of(page)):
        file = (REPOSITORY / page).parent / target if target else REPOSITORY / page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            yield f"{target}#{anchor}" if anchor else target


def is_there(path: str) -> bool:
    """A path, a pattern that matches something, or what a file begins with (`--out docs/results/engine`, `infra/.env` of the example)."""
    patterns = [path] if "*" in path else [path, f"{path}.*"]
    return any(next(REPOSITORY.glob(pattern), None) for pattern in patterns)


def is_module(name: str) -> bool:
    """A module, a package, or a name that a module defines."""
    path = REPOSITORY.joinpath(*name.split("."))
    if path.is_dir() or path.with_suffix(".py").is_file():
        return True
    module, defined = path.parent.with_suffix(".py"), name.rpartition(".")[2]
    module = module if module.is_file() else path.parent / "__init__.py"
    return module.is_file() and re.search(rf"\b{defined}\b", module.read_text(encoding="utf-8")) is not None


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    assert list(broken_links(page)) == []


@pytest.mark.parametrize("page", PAGES)
def test_paths_and_modules_that_are_named_exist(page: str) -> None:
    text = text_of(page)
    assert [path for path in _PATH.findall(text) if not is_there(path)] == []
    assert [name for name in _MODULE.findall(text) if not is_module(name)] == []
    assert [name for name in _FILE.findall(text) if not any(is_there(f"{folder}/**/{name}") for folder in FOLDERS)] == []


@pytest.mark.parametrize("page", PAGES)
def test_commands_targets_and_extras_that_are_named_exist(page: str) -> None:
    from typer.main import get_command

    from flows.cli.app import app

    text, commands = text_of(page), set(getattr(get_command(app), "commands", {}))
    assert {first or second for first, second in _COMMAND.findall(text)} - commands == set()
    code = "\n".join(re.findall(r"`[^`]+`|^```.*?^```", text, re.MULTILINE | re.DOTALL))
    targets = set(re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(_MAKE.findall(code)) - targets == set()
    extras = set(tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"])
    installs = [line for line in text.splitlines() if "pip install" in line]
    assert {extra for line in installs for named in _EXTRA.findall(line) for extra in named.split(",")} - extras == set()


def test_the_patterns_find_what_they_look_for() -> None:
    """A page with one mistake of each kind: the tests above could not pass over it."""
    page = "see [x](gone.md), `flows/gone.py`, `evals.gone`, infra/*.gone, tests/gone/, then gone.py and `make A=b gone`;"
    page += " `skillstack gone`; pip install 'skillstack[gone]'"
    assert [target for target, _ in _LINK.findall(page)] == ["gone.md"]
    assert _PATH.findall(page) == ["flows/gone.py", "infra/*.gone", "tests/gone/"]
    assert not any(map(is_there, _PATH.findall(page)))
    assert _MODULE.findall(page) == ["evals.gone"]
    assert not is_module("evals.gone")
    assert is_module("flows.round.flow.continual_round")
    assert _FILE.findall(page) == ["gone.py"]
    assert _MAKE.findall(page) == ["gone"]
    assert [second for _, second in _COMMAND.findall(page)] == ["gone"]
    assert _EXTRA.findall(page) == ["gone"]
