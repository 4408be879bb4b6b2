"""A year of rounds through the real flow, with the gate on: thirteen tasks on SmolLM2-135M, or fourteen small skills on nano.

    python -P tests/benchmarks/rounds/deep_stacking.py --model FOLDER --data ../shared/data --out FOLDER
    python -P tests/benchmarks/rounds/deep_stacking.py --model nano --out FOLDER

Each month is `skillstack round DROP --skill TASK` in a project that `skillstack init` made for the model. nano's is used as it was written;
what a user of SmolLM2 adds is in `settings`. A month's policy, as a release owner may have it: a held round is approved with its reason;
after a block that found a loss half of the same update is offered (`--scale 0.5`); then the task is given up. The months share a Prefect
server, as a team's do. OUT/rounds.jsonl has a line for every attempt; OUT/audit.json, history.json and verify.json are what those commands
answer at the end. Started again on the same OUT it goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

sys.path.append(str(Path(__file__).resolve().parent))  # python -P leaves it out

from forked_command import Command, import_once, prefect_server

ORDER = ("mnli", "cb", "wic", "copa", "qqp", "boolq", "rte", "yelp", "amazon", "sst2", "dbpedia", "agnews", "multirc")
MONTHS = (
    "desks",
    "route",
    "date",
    "queries",
    "mood",
    "double",
    "measures",
    "desk101",
    "shift",
    "desk102",
    "ends",
    "desk103",
    "desk104",
    "desk105",
)
ROWS, PIQA_ITEMS, TEXTS, CALIBRATION_ROWS, TEXT_CHARACTERS = 600, 900, 200, 60, 1200
TRIAL = Path(__file__).resolve().parents[2] / "e2e" / "three_drops.py"
NOT_KEPT = ("wall_seconds", "checkpoint", "report")


def read_lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def text_of(line: str) -> str:
    return "\n".join(turn["content"] for turn in json.loads(line)["messages"])[:TEXT_CHARACTERS]


def write_drop(data: Path, task: str, folder: Path, rows: int, shorter: float = 0.5) -> Path:
    """So many rows of the shorter half of a task's (or another share), drawn once."""
    path = folder / f"{task}.jsonl"
    if path.exists():
        return path
    lines = list(dict.fromkeys(read_lines(data / "cl15" / task / "drop.jsonl")))
    short = sorted(lines, key=len)[: max(math.ceil(len(lines) * shorter), min(rows, len(lines)))]
    path.write_text("\n".join(random.Random(f"{task} 7").sample(short, min(rows, len(short)))) + "\n", encoding="utf-8")
    return path


def write_small_drop(task: str, folder: Path, rows: int) -> Path:
    """A drop for nano: of the trial of three drops, of the demo's new skills, or tickets under four words of their own."""
    import soak_service

    from flows.demo.materials import write_drop as of_the_demo
    from flows.demo.skills import NEW_SKILLS

    path = folder / f"{task}.jsonl"
    if path.exists():
        return path
    if task in NEW_SKILLS:
        return of_the_demo(task, path, rows=rows)
    if task.startswith("desk1"):
        return soak_service.write_drop(folder, int(task.removeprefix("desk")), rows).rename(path)
    subprocess.run([sys.executable, "-P", str(TRIAL), str(folder / "trial")], check=True)
    return (folder / "trial" / f"{task}.jsonl").rename(path)


def write_project(options: argparse.Namespace) -> Path:
    """What `skillstack init` writes for the model, with this user's suites, calibration text and limits; gives the config file."""
    folder: Path = options.out
    line = [sys.executable, "-P", "-m", "flows.cli", "init", str(folder / "project"), "--base-model", options.model]
    subprocess.run(line, check=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    project = folder / "project"
    path = project / "skillstack.yaml"
    values: dict[str, Any] = yaml.safe_load(path.read_text())
    values["service"] = {"gpu_limit": ""}  # one round at a time: nothing to share, and a new server knows no limits
    if options.model == "nano":
        values["train"] |= options.train
        if options.threads:
            values["train"]["num_threads"] = values["evaluation"]["num_threads"] = options.threads
        path.write_text(yaml.safe_dump(values), encoding="utf-8")
        return path
    suites = project / "suites"
    write_rows(suites / "piqa.jsonl", [json.loads(line) for line in read_lines(options.data / "piqa" / "suite.jsonl")[: options.piqa]])
    calibration = [json.loads(line) for line in read_lines(suites / "calibration.jsonl")]
    for name, place in (("maths", "gsm8k"), ("code", "trace/Py150")):
        lines = list(dict.fromkeys(read_lines(options.data / place / "drop.jsonl")))
        random.Random(7).shuffle(lines)
        write_rows(suites / f"{name}.jsonl", [{"text": text_of(line)} for line in lines[: options.texts]])
        calibration += [{"text": text_of(line)} for line in lines[options.texts :][:CALIBRATION_ROWS]]
    random.Random(7).shuffle(calibration)
    write_rows(suites / "calibration.jsonl", calibration)
    path.write_text(yaml.safe_dump(settings(values, options)), encoding="utf-8")
    return path


def settings(values: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """init's settings, and what this user changes: suites (XSTest for the safety set's own prompts), limits for a model that is near
    chance in many of these tasks, and the schedule of the continual benchmark (three passes instead of training until the loss has
    settled, to keep the year short)."""
    own = [suite for suite in values["evaluation"]["suites"] if suite.get("category") != "safety"]
    values["evaluation"]["data_folder"] = str(options.data.absolute())
    values["evaluation"]["suites"] = [
        *own,
        {"source": "safety"},
        {"source": "instruction-following"},
        {"name": "piqa", "source": "suites/piqa.jsonl", "category": "general"},
        {"name": "maths", "source": "suites/maths.jsonl", "category": "drift", "margin": 0.02},
        {"name": "code", "source": "suites/code.jsonl", "category": "drift", "margin": 0.02},
    ]
    values["evaluation"]["suites"] = [s for s in values["evaluation"]["suites"] if s["source"] not in options.without]
    values["evaluation"]["skill"] = {"max_new_tokens": 8}
    values["contract"] |= {"heldout_fraction": options.heldout, "sealed_fraction": 0.03}
    values["train"] |= {"num_epochs": 3, "until_settled": False, "moment_tokens": 16384}
    values["train"] |= options.train
    values["gate"] |= {"min_learned": 0.0, "drift_budget": 0.06} | options.gate
    if options.threads:
        values["train"]["num_threads"] = values["evaluation"]["num_threads"] = options.threads
    return values


class Year:
    """The months as they go by; every attempt is a line of OUT/rounds.jsonl at once."""

    def __init__(self, folder: Path, config: Path, deadline: float) -> None:
        self.folder, self.config, self.deadline = folder, config, deadline
        self.rounds = folder / "rounds.jsonl"
        self.began = time.time()

    def done(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in read_lines(self.rounds)] if self.rounds.exists() else []

    def ask(self, *arguments: str) -> tuple[int, dict[str, Any], str]:
        """A command's exit code, its answer as JSON ({} where it gave none), and what it wrote to stderr."""
        code, out, err = Command(self.config.parent, self.config, *arguments).result()
        with contextlib.suppress(ValueError):
            return code, json.loads(out), err
        return code, {}, out + err

    def month(self, task: str, drop: Path) -> None:
        """One task: the round, and what a release owner does about its verdict."""
        answer = self.attempt(task, drop)
        if answer.get("decision") == "BLOCK" and answer["lost"]:
            answer = self.attempt(task, drop, "--scale", "0.5")
        if answer.get("decision") == "INCONCLUSIVE":
            reason = "held: no loss was found, and the items cannot rule one out"
            code, _, err = self.ask("approve", str(answer["version"]), "--reviewer", "release-owner", "--reason", reason)
            self.write(
                {
                    "task": task,
                    "event": "approved" if code == 0 else "not approved",
                    "version": answer["version"],
                    "error": err[-500:] if code else "",
                }
            )

    def attempt(self, task: str, drop: Path, *more: str) -> dict[str, Any]:
        if time.time() > self.deadline:
            raise TimeoutError
        began = time.time()
        code, answer, err = self.ask("round", str(drop), "--skill", task, *more)
        seconds = round(time.time() - began, 1)
        kept = {name: value for name, value in answer.items() if name not in NOT_KEPT}
        line = {"task": task, "event": " ".join(["round", *more]), "exit": code, "wall_seconds": seconds, "state_mb": self.state_mb()}
        self.write(line | kept | ({} if answer else {"error": err[-2000:]}))
        return answer

    def state_mb(self) -> float:
        found = 0
        for where, _, names in os.walk(self.config.parent / ".skillstack"):
            for name in names:
                with contextlib.suppress(OSError):
                    found += os.lstat(os.path.join(where, name)).st_size
        return round(found / 1e6, 1)

    def write(self, line: dict[str, Any]) -> None:
        with self.rounds.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line | {"at": round(time.time() - self.began, 1), "date": f"{datetime.now(UTC):%Y-%m-%d}"}) + "\n")
        print(
            {name: line.get(name) for name in ("task", "event", "decision", "wall_seconds", "reasons", "error") if line.get(name)},
            flush=True,
        )

    def closing(self) -> None:
        """What an auditor asks for at the end of the year."""
        for name in ("history", "audit", "verify"):
            began = time.time()
            code, answer, err = self.ask(name)
            (self.folder / f"{name}.json").write_text(json.dumps(answer or {"exit": code, "error": err[-2000:]}), encoding="utf-8")
            print(name, code, f"{time.time() - began:.1f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="nano, or a folder of SmolLM2-135M-Instruct (python -m flows.base_models.smollm2)")
    parser.add_argument("--data", type=Path, help="folder that holds cl15, piqa, gsm8k and trace; not for nano")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=20_000, help="no attempt begins later than this")
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of a drop")
    parser.add_argument("--shorter", type=float, default=0.5, help="share of a task's rows, the shortest, to draw from; not for nano")
    parser.add_argument("--heldout", type=float, default=0.35, help="share of a drop's rows for the gate; not for nano")
    parser.add_argument("--piqa", type=int, default=PIQA_ITEMS)
    parser.add_argument("--texts", type=int, default=TEXTS, help="texts of maths and of code")
    parser.add_argument("--tasks", nargs="+", help="default: the tasks of the model's year")
    parser.add_argument("--train", type=json.loads, default={}, help="settings of the train section as JSON, over those of init")
    parser.add_argument("--gate", type=json.loads, default={}, help="the same for the gate section; not for nano")
    parser.add_argument("--without", nargs="+", default=[], help="sources of suites that are left out; not for nano")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: as torch decides")
    options = parser.parse_args()
    options.out = options.out.absolute()
    small = options.model == "nano"
    options.model = options.model if small else str(Path(options.model).absolute())
    began = time.time()
    options.out.mkdir(parents=True, exist_ok=True)
    import_once()
    config = options.out / "project" / "skillstack.yaml"
    if not config.exists():
        write_project(options)
    year = Year(options.out, config, began + 60 * options.minutes)
    drops = {
        task: write_small_drop(task, options.out, options.rows)
        if small
        else write_drop(options.data, task, options.out, options.rows, options.shorter)
        for task in options.tasks or (MONTHS if small else ORDER)
    }
    finished = {line["task"] for line in year.done()}
    with prefect_server(options.out):
        os.environ["PREFECT_API_URL"] = (options.out / "server.url").read_text()
        with contextlib.suppress(TimeoutError):
            for task, drop in drops.items():
                if task not in finished:
                    year.month(task, drop)
        year.closing()


if __name__ == "__main__":
    main()
