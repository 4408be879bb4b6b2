"""Train one candidate in a separate process:

    python -m osft_engine run.json [--parent PID]

Exit code 0, or 1 with the error as the last line of stderr: where, what and the way out. On SIGTERM or SIGINT it finishes its step, saves
its state and exits with code 75; the same command goes on from there. With `--parent` the process ends in the same way when the one that
started it is gone; its successor waits for it, so that two processes never write into one folder.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from pathlib import Path

from data_contracts.errors import SkillstackError
from data_contracts.logs.lines import start

WATCH_SECONDS = 1.0
SAVE_SECONDS = 20.0
"""Time for a training that has lost its parent to finish its step and save its state."""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m osft_engine", description="Train one candidate.")
    parser.add_argument("run", type=Path, help="run file (JSON)")
    parser.add_argument("--parent", type=int, help="process id of the parent; the training ends when it is gone")
    options = parser.parse_args(arguments)
    start(output=True)  # here both streams are a log
    if options.parent is not None:
        end_with_parent(options.parent)
    from osft_engine.loop.stopping import STOPPED, StopSignal, TrainingStoppedError

    stop = StopSignal().listen()  # before torch is imported, which takes seconds
    from osft_engine.run import read_run
    from osft_engine.train import train_candidate

    logger = logging.getLogger("osft_engine")
    try:
        run = read_run(options.run)
        logger.info("training of %s begins", run.skill)
        train_candidate(run, stop=stop)
        logger.info("training of %s ended", run.skill)
    except TrainingStoppedError as error:
        print(f"error: {error}", file=sys.stderr)
        return STOPPED
    except SkillstackError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def end_with_parent(parent: int) -> None:
    """Watch from a thread that the parent still is the one named; an orphan is adopted by another process and then stops."""

    def watch() -> None:
        while os.getppid() == parent:
            gone.wait(WATCH_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)
        gone.wait(SAVE_SECONDS)
        os._exit(1)

    gone = threading.Event()
    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
