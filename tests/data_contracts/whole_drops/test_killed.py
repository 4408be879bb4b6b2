"""Killing a validation at any moment leaves nothing that a later stage takes for whole, and running it again gives the same bytes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from data_contracts.config import ContractConfig
from data_contracts.errors import DropError, ManifestError
from data_contracts.manifests import DropManifest, read_manifest
from data_contracts.validate import validate_drop

#: Counts what touches the file system inside the output folder, and dies by SIGKILL just before the wanted one.
CHILD = """
import os, signal, sys
from pathlib import Path
from data_contracts.config import ContractConfig
from data_contracts.validate import validate_drop
drop, out, wanted = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
seen = 0
def hook(event, arguments):
    global seen
    if event in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir") and str(out) in str(arguments[0]):
        seen += 1
        if seen == wanted:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
validate_drop(drop, out, skill="notes", config=ContractConfig())
print(seen)
"""


def run_child(drop: Path, out: Path, wanted: int) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[3]
    return subprocess.run(
        [sys.executable, "-c", CHILD, str(drop), str(out), str(wanted)], cwd=root, capture_output=True, text=True, check=False
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def drop(tmp_path_factory: pytest.TempPathFactory, good_lines: list[bytes]) -> Path:
    path = tmp_path_factory.mktemp("killed") / "drop.jsonl"
    path.write_bytes(b"\n".join([*good_lines, *good_lines[:5]]) + b"\n")
    return path


def test_a_validation_that_is_killed_anywhere_leaves_no_manifest_and_can_be_run_again(drop: Path, tmp_path: Path) -> None:
    reference = run_child(drop, tmp_path / "reference", 0)
    assert reference.returncode == 0, reference.stderr
    moments = int(reference.stdout.split()[-1])
    assert moments > 20
    for wanted in sorted({1, 2, moments // 4, moments // 2, 3 * moments // 4, moments - 9, moments - 4, moments - 1, moments}):
        out = tmp_path / f"killed-{wanted}"
        assert run_child(drop, out, wanted).returncode == -signal.SIGKILL
        with pytest.raises(ManifestError):
            read_manifest(out, DropManifest)
        manifest = validate_drop(drop, out, skill="notes", config=ContractConfig())
        assert read_manifest(out, DropManifest) == manifest
        assert contents(out) == contents(tmp_path / "reference"), wanted


def test_a_finished_folder_is_not_written_again(drop: Path, tmp_path: Path) -> None:
    validate_drop(drop, tmp_path / "out", skill="notes", config=ContractConfig())
    before = contents(tmp_path / "out")
    with pytest.raises(DropError, match="already holds a finished stage"):
        validate_drop(drop, tmp_path / "out", skill="notes", config=ContractConfig())
    assert contents(tmp_path / "out") == before


def test_a_folder_that_holds_the_drop_is_not_cleared(good_lines: list[bytes], tmp_path: Path) -> None:
    drop = tmp_path / "clean.jsonl"
    drop.write_bytes(b"\n".join(good_lines))
    with pytest.raises(DropError, match="which is read"):
        validate_drop(drop, tmp_path, skill="notes", config=ContractConfig())
    assert drop.read_bytes() == b"\n".join(good_lines)
