"""Train one candidate in a process of its own:

    python -m osft_engine run.json

Exit code 0, or 1 with one line that says where, what and the way out as the last line of stderr.
"""

from __future__ import annotations

import sys
from pathlib import Path

from data_contracts.errors import SkillstackError


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m osft_engine run.json", file=sys.stderr)
        return 1
    from osft_engine.run import read_run
    from osft_engine.train import train_candidate

    try:
        train_candidate(read_run(Path(arguments[0])))
    except SkillstackError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
