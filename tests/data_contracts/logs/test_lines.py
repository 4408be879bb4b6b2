"""With SKILLSTACK_LOG_FORMAT=json every line that a process writes is one JSON object; without it nothing changes. Processes are real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime

import pytest

from data_contracts.logs.lines import reason_of

PROGRAM = """
import logging, sys, threading, warnings
from data_contracts.logs.lines import about, start
start(output=True)
with about(round=3, stage="train", skill="sql"):
    logging.getLogger("osft_engine.loop").info("two\\nlines with %s", "pl4nted-word")
    thread = threading.Thread(target=logging.getLogger("other").warning, args=("from a thread",))
    thread.start(); thread.join()
    logging.getLogger("other").info("chatter of a library")
    warnings.warn("old", DeprecationWarning)
    print("warning: the memory lacks round 1", file=sys.stderr)
    print("a line of stdout")
    for share in range(100):
        sys.stderr.write(f"\\r{share} %")
    sys.stderr.write("\\n")
raise ValueError("nobody caught this")
"""


def run(program: str, **variables: str) -> tuple[list[str], int]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SKILLSTACK_")} | variables
    command = [sys.executable, "-W", "always", "-c", program]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False)
    return done.stdout.splitlines(), done.returncode


def test_every_line_says_which_round_stage_and_skill_it_is_about() -> None:
    lines, code = run(PROGRAM, SKILLSTACK_LOG_FORMAT="json", MLFLOW_TRACKING_PASSWORD="pl4nted-word")
    said = [json.loads(line) for line in lines]
    *within, last = said
    for each in within:
        assert (each["round"], each["stage"], each["skill"]) == (3, "train", "sql"), each
        assert datetime.fromisoformat(each["time"]).tzinfo is not None
    found = [(each["level"], each["logger"], each["message"]) for each in within]
    assert found[0] == ("INFO", "osft_engine.loop", "two\nlines with [secret]")
    assert found[1] == ("WARNING", "other", "from a thread")
    assert found[2][:2] == ("WARNING", "py.warnings"), "what a library tells for information is left out"
    assert found[3:] == [
        ("WARNING", "stderr", "warning: the memory lacks round 1"),
        ("INFO", "stdout", "a line of stdout"),
        ("INFO", "stderr", "99 %"),
    ]
    assert (last["level"], last["message"], code) == ("CRITICAL", "ValueError: nobody caught this", 1)
    assert "nobody caught this" in last["exception"]
    assert last["round"] is None


def test_a_child_goes_on_with_the_same_facts() -> None:
    program = """
import subprocess, sys
from data_contracts.logs.lines import about, for_child
child = "import sys; from data_contracts.logs.lines import start; start(); print('hello', file=sys.stderr)"
with about(round=7, stage="train", skill="sql"):
    subprocess.run([sys.executable, "-c", child], env=for_child())
"""
    [line], _ = run(program, SKILLSTACK_LOG_FORMAT="json")
    said = json.loads(line)
    assert (said["round"], said["stage"], said["skill"], said["message"]) == (7, "train", "sql", "hello")


@pytest.mark.parametrize("variables", [{}, {"SKILLSTACK_LOG_FORMAT": "text"}])
def test_without_it_nothing_changes(variables: dict[str, str]) -> None:
    lines, code = run(PROGRAM, **variables)
    assert code == 1
    assert "warning: the memory lacks round 1" in lines
    assert "a line of stdout" in lines
    assert "ValueError: nobody caught this" in lines
    assert not any(line.startswith("{") for line in lines)


CUDA = """Traceback (most recent call last):
  File "train.py", line 1, in <module>
    step()
torch.AcceleratorError: CUDA error: device-side assert triggered
CUDA kernel errors might be asynchronously reported at some other API call.
Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.
"""


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("", ""),
        ("noise\nerror: drop: is empty\n", "drop: is empty"),
        (CUDA, "torch.AcceleratorError: CUDA error: device-side assert triggered"),
        (CUDA + "error: step 3: out of memory\n", "step 3: out of memory"),
        (
            "Traceback (most recent call last):\n  File 'a'\nKeyError: 'x'\n\nDuring handling of the above exception:\n\n" + CUDA,
            CUDA.splitlines()[3],
        ),
        ('loading\n{"level": "error", "message": "error: no room"}\n', "no room"),
        ("Killed\n", "Killed"),
    ],
)
def test_why_a_process_ended_is_its_own_error_and_not_the_advice_after_it(output: str, reason: str) -> None:
    assert reason_of(output) == reason
