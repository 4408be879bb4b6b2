"""Validate one drop from the shell, without Prefect, MLflow or a model.

    python -m data_contracts drop.jsonl --skill NAME --out FOLDER [--heldout FILE] [--earlier FOLDER ...] [--suite FILE ...] [--json]

Exit code 0 where the drop passes, 1 where it does not.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from data_contracts.config import ContractConfig
from data_contracts.errors import SkillstackError
from data_contracts.manifests import manifest_text
from data_contracts.report.render import report_table
from data_contracts.validate import validate_drop


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m data_contracts", description="Check a drop against its contract and write its folder.")
    parser.add_argument("drop", type=Path, help="a .jsonl, .jsonl.gz or .jsonl.zst file")
    parser.add_argument("--skill", required=True, help="name of the skill that the drop teaches")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; must not hold a finished stage")
    parser.add_argument("--contract", type=Path, help="ODCS 3.1 YAML; the packaged contract where left out")
    parser.add_argument("--heldout", type=Path, help="held-out items that came with the drop")
    parser.add_argument("--earlier", type=Path, nargs="*", default=[], help="folders of earlier rounds' drops, oldest first")
    parser.add_argument("--suite", type=Path, nargs="*", default=[], help="JSONL files of suites that the drop must not give away")
    parser.add_argument("--max-bad-fraction", type=float, default=0.0, help="share of rows in error that still passes")
    parser.add_argument("--json", action="store_true", help="print the manifest, or the report of a refused drop, as JSON")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; returns the exit code."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    from data_contracts.terminal import PlainConsole

    asked = parse(arguments)
    failure: SkillstackError | None = None
    try:
        config = ContractConfig(path=asked.contract, max_bad_fraction=asked.max_bad_fraction)
        with Progress(
            "reading", BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=PlainConsole(stderr=True), transient=True
        ) as bar:
            task = bar.add_task("read")
            manifest = validate_drop(
                asked.drop,
                asked.out,
                skill=asked.skill,
                config=config,
                heldout=asked.heldout,
                earlier=asked.earlier,
                suites=asked.suite,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
        if asked.json:
            print(manifest_text(manifest), end="")
    except SkillstackError as error:
        failure = error
    report = asked.out / "report.json"
    if report.is_file() and not (asked.json and failure is None):
        text = report.read_text(encoding="utf-8")
        if asked.json:
            print(text, end="")
        else:
            PlainConsole().print(report_table(json.loads(text)))
    if failure is not None:
        print(failure, file=sys.stderr)
    return 0 if failure is None else 1


if __name__ == "__main__":
    sys.exit(main())
