"""Digest of the code of a stage: all modules of this project that its entry modules import, directly or indirectly.

Comments, docstrings and layout do not count: they change no result, so editing them does not repeat a stage.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

from data_contracts.digests import text_digest, value_digest

PACKAGES = ("data_contracts", "evals", "flows", "osft_engine")


def code_digest(*entries: str) -> str:
    """Digest of the entry modules and of all modules of this project that they import, also inside functions."""
    return value_digest({name: _module_digest(name) for name in sorted(imported_modules(entries))})


def imported_modules(entries: Iterable[str]) -> set[str]:
    """The entry modules, the modules of this project that they import, and so on, with the packages whose `__init__` runs before.

    Of `flows` only the entries themselves count: tasks only pass data on, so a change of theirs does not repeat a stage.
    Raises ModuleNotFoundError for an entry that is not a module of this project.
    """
    found: set[str] = set()
    entries = tuple(entries)
    waiting = list(entries)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        if _source(name) is None:
            raise ModuleNotFoundError(f"no module {name!r}")
        found.add(name)
        waiting += [each for each in _imports(name) if each in entries or not each.startswith("flows")]
    return found


@functools.cache
def _imports(name: str) -> tuple[str, ...]:
    path = _source(name)
    assert path is not None
    inside = name if path.name == "__init__.py" else name.rpartition(".")[0]
    wanted = [name.rpartition(".")[0]] if "." in name else []
    for node in ast.walk(_tree(path)):
        wanted += _names_of(node, inside)
    return tuple(module for module in dict.fromkeys(wanted) if module.split(".")[0] in PACKAGES and _source(module) is not None)


def _names_of(node: ast.AST, package: str) -> Iterator[str]:
    """Module names in an import statement: for `from a import b`, a and a.b (which may be no module)."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        parts = package.split(".")
        base = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
        module = ".".join(part for part in (base, node.module or "") if part)
        yield module
        yield from (f"{module}.{alias.name}" for alias in node.names)


@functools.cache
def _source(name: str) -> Path | None:
    """The file of a module, found without importing anything."""
    top, *rest = name.split(".")
    spec = find_spec(top)
    if spec is None or not spec.submodule_search_locations:
        return None
    place = Path(next(iter(spec.submodule_search_locations))).joinpath(*rest)
    for path in (place.with_suffix(".py") if rest else place, place / "__init__.py"):
        if path.is_file():
            return path
    return None


@functools.cache
def _module_digest(name: str) -> str:
    path = _source(name)
    assert path is not None
    return text_digest(ast.unparse(_Bare().visit(_tree(path))))


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes())


class _Bare(ast.NodeTransformer):
    """Removes strings that are statements: docstrings of modules, classes, functions and fields."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str) else node
