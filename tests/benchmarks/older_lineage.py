"""Is a lineage that another release made still read, verified and continued?

    git worktree add /tmp/older 20fd20b
    python tests/benchmarks/older_lineage.py make --checkout /tmp/older --folder /tmp/lineage
    python tests/benchmarks/older_lineage.py continue --folder /tmp/lineage

`make` runs two rounds of nano through the command line of the other release's checkout. `continue` copies what it left, then looks at the
copy with this release (history, verify, audit, doctor, replay) and runs a third round; it exits 1 where a command did not end as it should.
The lineage is not kept in the repository: three checkpoints and their memories are 40 MB.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_ENVIRONMENT = ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME")
_MATERIALS = """
import json, pathlib, sys
from flows.demo.materials import write_drop
from flows.demo.story import nano_config
folder = pathlib.Path(sys.argv[1])
config = nano_config(folder)
config["evaluation"]["suites"] = [each for each in config["evaluation"]["suites"] if each["name"] in ("copy", "add", "prose")]
config["train"]["num_epochs"] = 3
(folder / "skillstack.yaml").write_text(json.dumps(config, indent=2))  # JSON is YAML
for skill in ("shift", "date", "route"):
    write_drop(skill, folder / f"{skill}.jsonl", rows=900)
"""
_COMMAND = "import sys; from flows.cli import main; main()"  # of releases before flows/cli was a folder
_HERE = Path(__file__).parents[2]


def run(checkout: Path, folder: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in _ENVIRONMENT} | {"PYTHONPATH": str(checkout)}
    line = [sys.executable, "-c", code, *arguments]
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def command(checkout: Path, folder: Path, *arguments: str, ends: tuple[int, ...] = (0,)) -> tuple[bool, Any]:
    """Run one command; whether it ended as it should, and its answer."""
    started = time.monotonic()
    code = _COMMAND if checkout != _HERE else _COMMAND.replace("flows.cli ", "flows.cli.app ")
    done = run(checkout, folder, code, *arguments, "--json")
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        answer = {"stdout": done.stdout[-2000:]}
    well = done.returncode in ends
    print(f"{'ok ' if well else 'NOT'} {' '.join(arguments)}: exit {done.returncode} in {time.monotonic() - started:.0f} s", flush=True)
    if not well:
        print(json.dumps(answer, indent=1)[:3000], done.stderr[-3000:], sep="\n", flush=True)
    return well, answer


def make(checkout: Path, folder: Path) -> bool:
    folder.mkdir(parents=True)
    written = run(checkout, folder, _MATERIALS, str(folder))
    if written.returncode:
        print(written.stderr)
        return False
    rounds = [command(checkout, folder, "round", f"{skill}.jsonl", "--skill", skill, ends=(0, 2, 3)) for skill in ("shift", "date")]
    for _, answer in rounds:
        print({key: answer.get(key) for key in ("round", "skill", "decision", "version", "champion")})
    return all(well for well, _ in rounds)


def go_on(folder: Path) -> bool:
    here = folder.with_name(f"{folder.name}-continued")
    shutil.rmtree(here, ignore_errors=True)
    shutil.copytree(folder, here)
    config = json.loads((here / "skillstack.yaml").read_text())
    config["gate"] = {"accept_unmeasured": ["safety"]}  # what doctor asks for of a config that was written before the gate asked
    (here / "skillstack.yaml").write_text(json.dumps(config, indent=2))
    well = []
    _, records = command(_HERE, here, "history")
    held = [record["version"] for record in records["rounds"] if record["decision"] == "INCONCLUSIVE"]
    for line in (
        ("doctor",),
        ("history",),
        ("verify",),
        ("audit",),
        ("gate", "replay", "1"),
        ("gate", "replay", "2"),
        *(("approve", str(version), "--reviewer", "tester", "--reason", "the next round starts from a held one") for version in held),
        ("round", "route.jsonl", "--skill", "route"),
        ("history",),
        ("verify",),
        ("audit",),
    ):
        ends = (0, 2, 3) if line[0] == "round" else (0,)
        ended, answer = command(_HERE, here, *line, ends=ends)
        well.append(ended)
        if line[0] == "round":
            print({key: answer.get(key) for key in ("round", "skill", "decision", "version", "champion", "reasons")})
    return all(well)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("make", "continue"))
    parser.add_argument("--checkout", type=Path, help="of the other release (make)")
    parser.add_argument("--folder", type=Path, required=True, help="where the lineage lies; new for make")
    options = parser.parse_args()
    folder = options.folder.absolute()
    well = make(options.checkout.absolute(), folder) if options.what == "make" else go_on(folder)
    raise SystemExit(0 if well else 1)


if __name__ == "__main__":
    main()
