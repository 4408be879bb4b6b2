"""Digest of the code that asks and scores: a newer scorer never meets an old score, in the cache, in a stage or at the gate.

Comments, docstrings and layout are left out, so that a page of words costs no evaluation.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import data_contracts
from data_contracts.digests import value_digest

_HERE = Path(__file__).parent
# Of this package: what makes items of rows, prompts of items, and scores of answers.
_MINE = ("harness_*.py", "suite_gold.py", "suite_items.py", "suite_templates.py")
# Of data_contracts: what renders a row and finds where an answer ends, and how long a text may be.
_CONTRACTS = ("rendering/*.py", "window.py")


@cache
def scoring_digest() -> str:
    """sha256 over the scoring modules as the interpreter reads them."""
    roots = ((_HERE, _MINE), (Path(data_contracts.__file__).parent, _CONTRACTS))
    files = sorted({path for root, patterns in roots for pattern in patterns for path in root.glob(pattern)})
    return value_digest({path.name: source_meaning(path.read_text(encoding="utf-8")) for path in files})


def source_meaning(source: str) -> str:
    """A module's syntax tree without its docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)
