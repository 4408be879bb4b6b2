"""Train one candidate in a process of its own:

    python -m osft_engine run.json [--parent PID]

Exit code 0, or 1 with one line that says where, what and the way out as the last line of stderr. With `--parent` the process ends when
the one that started it is gone: a flow that was killed must not leave a trainer behind that writes where its successor works.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from pathlib import Path

from data_contracts.errors import SkillstackError

WATCH_SECONDS = 1.0


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m osft_engine", description="Train one candidate.")
    parser.add_argument("run", type=Path, help="run file (JSON)")
    parser.add_argument("--parent", type=int, help="process to outlive under no circumstances")
    options = parser.parse_args(arguments)
    if options.parent is not None:
        end_with_parent(options.parent)
    from osft_engine.run import read_run
    from osft_engine.train import train_candidate

    try:
        train_candidate(read_run(options.run))
    except SkillstackError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def end_with_parent(parent: int) -> None:
    """Watch from a thread that the parent still is the one named; an orphan is adopted by another process and then stops at once."""

    def watch() -> None:
        while os.getppid() == parent:
            gone.wait(WATCH_SECONDS)
        os._exit(1)

    gone = threading.Event()
    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
