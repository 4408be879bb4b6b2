"""A stage's key follows the code that does its work: what is really imported counts, what is only said does not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flows.workspace.code_digest import imported_modules

_PRINT = "import sys; from flows.workspace.code_digest import code_digest; print(code_digest(*sys.argv[1:]))"


@pytest.fixture
def tree(tmp_path: Path, repository: Path) -> Path:
    """A copy of the project's own packages, to edit."""
    for name in ("data_contracts", "evals", "flows", "osft_engine"):
        shutil.copytree(repository / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "nano"))
    return tmp_path


def digest(tree: Path, *entries: str) -> str:
    done = subprocess.run([sys.executable, "-c", _PRINT, *entries], cwd=tree, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, path
    path.write_text(text.replace(old, new, 1))


def test_words_in_the_code_change_no_key(tree: Path) -> None:
    before = digest(tree, "osft_engine.__main__")
    files = sorted((tree / "osft_engine").rglob("*.py")) + sorted((tree / "data_contracts").rglob("*.py"))
    for path in files:
        edit(path, '"""', '"""Said otherwise. ')
        path.write_text(path.read_text() + "\n\n# a remark\n")
    assert digest(tree, "osft_engine.__main__") == before


def test_an_edit_of_what_is_imported_through_others_changes_the_key(tree: Path) -> None:
    before = digest(tree, "osft_engine.__main__"), digest(tree, "evals.gate.decide")
    reader = tree / "data_contracts" / "rows" / "jsonl.py"
    reader.write_text(reader.read_text() + "\nWIDTH = 3\n")
    after = digest(tree, "osft_engine.__main__"), digest(tree, "evals.gate.decide")
    assert after[0] != before[0], "the trainer reads its rows by that module"
    assert after[1] == before[1], "the gate does not"


def test_the_engine_and_the_gate_know_nothing_of_each_other() -> None:
    engine, gate = imported_modules(["osft_engine.__main__"]), imported_modules(["evals.gate.decide", "flows.round.reports"])
    assert {"osft_engine.train", "osft_engine.subspace.linear", "data_contracts.manifests"} <= engine
    assert not any(name.startswith(("evals", "flows")) for name in engine)
    assert {"evals.gate.checks", "evals.gate.pairing", "flows.round.reports"} <= gate
    assert [name for name in sorted(gate) if name.startswith("flows")] == ["flows.round.reports"]


def test_every_module_that_a_running_gate_has_loaded_is_in_its_key() -> None:
    loaded = (
        "import sys, evals.gate.decide; print(*[m for m in sys.modules if m.split('.')[0] in ('evals', 'data_contracts', 'osft_engine')])"
    )
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= imported_modules(["evals.gate.decide"])


def test_an_entry_that_is_no_module_is_an_error() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"osft_engine\.nowhere"):
        imported_modules(["osft_engine.nowhere"])
