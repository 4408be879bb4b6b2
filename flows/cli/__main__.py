"""Entry point of `skillstack` and `python -m flows.cli`: the command line, or one line where the packages it needs are not installed."""

from __future__ import annotations

import importlib.metadata
import json
import sys

from flows.machine.extras import missing_extra


def main() -> None:
    """Run the command line; without its packages exit code 1, and the error as text or, with --json, as JSON."""
    try:
        from flows.cli.app import main as run_command_line
    except ModuleNotFoundError as error:
        refusal = missing_extra(error)
        if refusal is None:
            raise
        if sys.argv[1:] == ["--version"]:  # what an engine alone is asked for in a bug report
            sys.stdout.write(f"skillstack {importlib.metadata.version('skillstack')}\n")
            return
        if "--json" in sys.argv:
            answer = {"error": {"where": refusal.where, "what": refusal.what, "way_out": refusal.way_out}}
            sys.stdout.write(json.dumps(answer) + "\n")
        else:
            sys.stderr.write(f"error: {refusal}\n")
        sys.exit(1)
    run_command_line()


if __name__ == "__main__":
    main()
