"""The engine as a process: its exit code, and errors as the last line of stderr."""

from __future__ import annotations

import multiprocessing
import multiprocessing.process
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from osft_engine import __main__ as command_line
from osft_engine.run import TrainRun

MakeRun = Callable[..., TrainRun]


def _in_a_fork(work: Callable[[], object]) -> multiprocessing.process.BaseProcess:
    """Run `work` in a process that may die or be limited. Forked: a fresh interpreter would spend seconds on imports."""
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(timeout=120)
    return child


def test_command_line_ends_with_one_line_on_stderr(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(base=tmp_path / "nowhere")
    file = tmp_path / "run.json"
    file.write_text(run.model_dump_json())
    done = subprocess.run([sys.executable, "-m", "osft_engine", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "nowhere: is not a model folder" in done.stderr.splitlines()[-1]


def test_full_disk_is_one_clear_error(make_run: MakeRun, tmp_path: Path) -> None:
    """A file size limit stands in for a full disk: the write fails half way through in the same place."""
    run, run_file, said = make_run(method="full"), tmp_path / "run.json", tmp_path / "said"
    run_file.write_text(run.model_dump_json())

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        with said.open("w") as sys.stderr:
            status = command_line.main([str(run_file)])
        os._exit(status)

    assert _in_a_fork(limited).exitcode == 1
    assert "the disk is full" in said.read_text().splitlines()[-1]
    assert not (run.out_dir / "manifest.json").exists()
