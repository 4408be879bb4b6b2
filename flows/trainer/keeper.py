"""Run a command that must stop when the flow that started it stops:  python -m flows.trainer.keeper --parent PID -- COMMAND...

torchrun and the Kubernetes client do not watch their parent process. A training that continues after its flow was killed would write into
the folder of the resumed round. And torchrun exits with 1 when a signal stopped it, though its processes have saved their state: the exit
code of a command that received a signal to stop is the engine's own for that, so that the flow may try it again.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from types import FrameType

from osft_engine.loop.stopping import STOPPED

WATCH_SECONDS = 1.0
GRACE_SECONDS = 20.0


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m flows.trainer.keeper")
    parser.add_argument("--parent", type=int, required=True, help="process id of the flow; the command is stopped when this process ends")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    child = subprocess.Popen([part for part in options.command if part != "--"])

    received: list[int] = []

    def forward(number: int, _: FrameType | None) -> None:
        received.append(number)
        child.send_signal(number)

    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, forward)
    code = keep(child, options.parent)
    return STOPPED if received and code != 0 else code


def keep(child: subprocess.Popen[bytes], parent: int) -> int:
    """Wait for the child; stop it when the parent has ended."""
    while True:
        try:
            return child.wait(timeout=WATCH_SECONDS)
        except subprocess.TimeoutExpired:
            if os.getppid() != parent:
                return end(child)


def end(child: subprocess.Popen[bytes]) -> int:
    child.terminate()
    try:
        return child.wait(timeout=GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
