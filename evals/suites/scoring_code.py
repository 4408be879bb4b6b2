"""Digest of the code that makes prompts and scores answers: scores of another version are never reused or compared.

Comments, docstrings and layout are left out, so that a page of words costs no evaluation.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import data_contracts
from data_contracts.digests import value_digest

_HERE = Path(__file__).parents[1]
# Of this package: what makes items of rows, prompts of items, and scores of answers.
_MINE = ("scoring/*.py", "harness/*.py", "suites/gold.py", "suites/items.py", "suites/templates.py")
# Of data_contracts: what renders a row and finds where an answer ends, and how long a text may be.
_CONTRACTS = ("rendering/*.py", "model/lengths.py", "model/window.py")


@cache
def scoring_digest() -> str:
    """sha256 over the scoring modules as the interpreter reads them."""
    roots = ((_HERE, _MINE), (Path(data_contracts.__file__).parent, _CONTRACTS))
    files = {path.relative_to(root).as_posix(): path for root, patterns in roots for pattern in patterns for path in root.glob(pattern)}
    return value_digest({name: source_meaning(files[name].read_text(encoding="utf-8")) for name in sorted(files)})


def source_meaning(source: str) -> str:
    """A module's syntax tree without its docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)
