"""Process groups of this process: one SIGTERM each, from whichever thread comes first; what has ended does not run."""

from __future__ import annotations

import subprocess
import sys

import pytest

from flows.machine import groups

COUNTS = (
    "import os, signal, sys\n"
    "signal.signal(signal.SIGTERM, lambda *_: os.write(1, b'told\\n'))\n"  # print may stand in the middle of one
    "print('ready', flush=True)\n"
    "for line in sys.stdin:\n"
    "    print(line.strip(), flush=True)\n"
)


def test_each_group_is_told_once_and_what_has_ended_does_not_run() -> None:
    process = groups.start([sys.executable, "-c", COUNTS], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    assert groups.any_runs()
    groups.terminate_all()
    assert process.stdout.readline() == b"told\n"
    groups.terminate(process)
    groups.terminate_all()
    process.stdin.write(b"asked\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"asked\n", "a second signal came"
    process.stdin.close()
    assert process.stdout.read() == b""
    process.wait()
    assert not groups.any_runs()
    groups.forget(process)


def test_a_group_that_has_ended_is_no_fault_for_the_others() -> None:
    ended = groups.start([sys.executable, "-c", ""])
    ended.wait()
    groups.terminate_all()
    with pytest.raises(ProcessLookupError):
        groups.terminate(subprocess.Popen(["true"]))  # not the leader of a group
    groups.forget(ended)
