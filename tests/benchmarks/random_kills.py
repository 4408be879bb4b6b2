"""Random SIGKILL over whole rounds on nano: does an interrupted round end as one that nobody touched?

    python tests/benchmarks/random_kills.py FOLDER [--kills 100] [--seed 0]     # goes on where it was stopped; one thread, nice 10
    python tests/benchmarks/random_kills.py FOLDER --table                      # Markdown: how many kills at which stage, and what differed

A round without a kill is run first; it says how long a round takes and what must come out. Every later round starts in a fresh state
directory and is killed at a random moment of that time, up to KILLS_A_ROUND times; half of the kills take the command alone, as the
kernel does for want of memory, and half every process of the round, as when a machine is gone. Then it is left to end, and its weights,
verdict, history, ledger and `verify` are compared with those of the round without a kill, which promotes its version. Every kill is a
line of FOLDER/kills.jsonl, every round that ended a line of FOLDER/ends.jsonl.

Each command is forked from this process, which has imported the libraries that take seconds: the round's trainer and its Prefect server are
processes of their own as ever.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from forked_command import Command, import_once

ITEMS, ROWS, KILLS_A_ROUND = 60, 240, 4
STAGES = ("before the first stage", "validate", "train", "evaluate", "decide", "register", "after the verdict is registered")
PROMOTES = {"accept_unmeasured": ["safety", "drift"], "min_learned": 0.0, "min_gain": 0.0}
"""Settings of the gate without which this small round would be held."""
COMPARED = ("weights", "verdict", "history", "verify")


def write_project(folder: Path) -> None:
    """Suites, a drop and one config; the state directory is chosen by each round."""
    from flows.demo.materials import write_base_suites, write_drop

    base = write_base_suites(folder / "suites")
    chosen = dict(list(base.suites.items())[:2])
    for path in chosen.values():
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:ITEMS]))
    drop = write_drop("route", folder / "route.jsonl")
    drop.write_text("".join(drop.read_text().splitlines(keepends=True)[:ROWS]))
    suites = [{"name": name, "source": str(path), "chat": True, "max_new_tokens": 16} for name, path in chosen.items()]
    values: dict[str, Any] = {
        "base_model": "nano",
        "bootstrap": True,
        "calibration": str(base.calibration),
        "contract": {"heldout_fraction": 0.25},
        "evaluation": {"num_threads": 1, "suites": suites},
        "train": {"num_epochs": 3, "effective_batch_size": 4, "num_threads": 1, "learning_rate": 2e-3, "save_every_steps": 10},
        "gate": {"margin_general": 0.2, "margin_skill": 0.2, "floor": 0.3, "anchor_budget": 0.3} | PROMOTES,
    }
    (folder / "values.yaml").write_text(yaml.safe_dump(values))


def config_of(folder: Path, name: str) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text((folder / "values.yaml").read_text() + f"state_dir: {folder / name}\n")
    return path


def start(folder: Path, config: Path) -> Command:
    return Command(folder, config, "round", str(folder / "route.jsonl"), "--skill", "route")


def answer(folder: Path, config: Path, *arguments: str) -> tuple[int, Any]:
    code, out, err = Command(folder, config, *arguments).result()
    return code, json.loads(out) if out else err[-500:]


def finish(folder: Path, config: Path) -> dict[str, Any]:
    """Leave the round to end, and gather what is compared."""
    code, out, err = start(folder, config).result()
    if code not in (0, 2, 3):
        return {"error": (out + err)[-800:]}
    outcome = json.loads(out)
    weights = Path(outcome["checkpoint"]) / "model" / "model.safetensors"
    _, history = answer(folder, config, "history")
    facts = ("round", "attempt", "skill", "version", "status", "decision", "champion", "promoted_by")
    rounds = [{name: each.get(name) for name in facts} for each in history["rounds"]]
    code, verified = answer(folder, config, "verify")
    verdict = {name: outcome[name] for name in ("decision", "reasons", "lost", "suites", "version", "champion")}
    return {
        "weights": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "verdict": verdict,
        "history": rounds,
        "verify": "well" if code == 0 else verified,
    }


def processes_of(marker: str) -> Iterator[int]:
    """Every process whose command line names the round's own config or state directory, and its servers by their session."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and int(entry.name) != os.getpid() and marker.encode() in (entry / "cmdline").read_bytes():
                yield int(entry.name)


def kill(process: Command, state: Path, everything: bool) -> None:
    os.kill(process.pid, signal.SIGKILL)
    if everything:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        for pid in processes_of(str(state)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    process.wait()


def stage_of(state: Path) -> str:
    """Where the round is, by what lies in its state directory."""
    stages = state / "stages"

    def done(name: str) -> bool:
        return any(stages.glob(f"{name}/*/manifest.json"))

    if done("decide"):
        return STAGES[6] if _registered(state) else STAGES[5]
    if done("train"):
        return STAGES[4] if not any(stages.glob("evaluate/*.partial")) and done("evaluate") else STAGES[3]
    if done("validate"):
        return STAGES[2]
    return STAGES[1] if any(stages.glob("validate/*")) else STAGES[0]


def _registered(state: Path) -> bool:
    """Whether the candidate's version is in the registry (read only; the round may be writing)."""
    import sqlite3

    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(f"file:{state / 'mlflow.db'}?mode=ro", uri=True)) as store:
        return bool(store.execute("SELECT count(*) FROM model_versions WHERE version > 1").fetchone()[0])
    return False


def append(path: Path, value: dict[str, Any]) -> None:
    with path.open("a") as stream:
        stream.write(json.dumps(value) + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")] if path.is_file() else []


def reference(folder: Path) -> dict[str, Any]:
    path = folder / "reference.json"
    if not path.is_file():
        began = time.monotonic()
        found = finish(folder, config_of(folder, "reference"))
        assert "error" not in found, found["error"]
        assert found["verdict"]["champion"] == found["verdict"]["version"] > 1, "it is to promote"
        path.write_text(json.dumps(found | {"seconds": time.monotonic() - began}))
    found = json.loads(path.read_text())
    assert isinstance(found, dict)
    return found


def interrupted_round(folder: Path, number: int, expected: dict[str, Any], chance: random.Random) -> None:
    state = folder / f"round-{number}"
    shutil.rmtree(state, ignore_errors=True)
    config = config_of(folder, state.name)
    for attempt in range(1, KILLS_A_ROUND + 1):
        process, everything = start(folder, config), chance.random() < 0.5
        delay = chance.uniform(0.02, 1.0) * expected["seconds"]
        if process.wait(delay):
            break  # it ended before its moment came
        stage = stage_of(state)
        kill(process, state, everything)
        append(
            folder / "kills.jsonl",
            {"round": number, "attempt": attempt, "seconds": round(delay, 2), "stage": stage, "killed": "all" if everything else "command"},
        )
    found = finish(folder, config)
    differs = [name for name in COMPARED if found.get(name) != expected[name]]
    append(folder / "ends.jsonl", {"round": number, "differs": differs, **({"found": found} if differs else {})})
    if not differs:
        shutil.rmtree(state)


def table(folder: Path) -> str:
    kills, ends = lines(folder / "kills.jsonl"), lines(folder / "ends.jsonl")
    ended = {each["round"] for each in ends}
    kills = [each for each in kills if each["round"] in ended]
    counts = {who: Counter(each["stage"] for each in kills if each["killed"] == who) for who in ("command", "all")}
    rows = ["| stage at the kill | command killed | every process killed |", "| --- | ---: | ---: |"]
    rows += [f"| {stage} | {counts['command'][stage]} | {counts['all'][stage]} |" for stage in STAGES]
    rows.append(f"| all | {sum(counts['command'].values())} | {sum(counts['all'].values())} |")
    different = [each for each in ends if each["differs"]]
    rows.append(f"\n{len(kills)} kills in {len(ends)} rounds; {len(ends) - len(different)} rounds ended equal to the one without a kill.")
    rows += [f"- round {each['round']}: {', '.join(each['differs'])} differ" for each in different]
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="Random SIGKILL over whole rounds on nano.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    folder = options.folder.absolute()
    if not options.table:
        os.nice(max(0, 10 - os.nice(0)))
        import_once()
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "values.yaml").is_file():
            write_project(folder)
        expected = reference(folder)
        number = 1 + max((each["round"] for each in lines(folder / "ends.jsonl")), default=0)
        while sum(each["round"] < number for each in lines(folder / "kills.jsonl")) < options.kills:
            interrupted_round(folder, number, expected, random.Random(f"{options.seed} {number}"))
            number += 1
    print(table(folder))


if __name__ == "__main__":
    main()
