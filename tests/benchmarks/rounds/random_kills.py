"""Random SIGKILL over whole rounds on nano: does an interrupted round end as one that nobody touched?

    python tests/benchmarks/rounds/random_kills.py FOLDER [--kills 100] [--seed 0]     # goes on where it was stopped; one thread, nice 10
    python tests/benchmarks/rounds/random_kills.py FOLDER --table                      # Markdown: kills at each stage, and what differed

A round without a kill is run first; it says how long each stage takes and what must come out. Every later round is killed up to
KILLS_PER_ROUND times: half of the kills come at a random moment of the whole time, half at a random moment of a random stage, because the
stages that write to the registry are short. Half of the kills take the command alone, as the kernel does for want of memory, and half
every process of the round, as when a machine is gone. Then the round is left to end, and its weights, verdict, history, ledger and `verify`
are compared with those of the round without a kill, which promotes its version. Every kill is a line of FOLDER/kills.jsonl, every round
that ended a line of FOLDER/ends.jsonl.

Every FRESH_EVERY-th round begins without a state and on a Prefect server of its own, as on a laptop; the others begin as a copy of a
lineage that has its base, and share one Prefect server, as in a service. Each command is forked from this process, which has imported the
libraries that take seconds; the trainer and the server are processes of their own as ever.
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

from forked_command import Command, import_once, prefect_server
from killed_rounds import STAGES, config_of, holds, make_base, stage_of, write_project

KILLS_PER_ROUND, FRESH_EVERY = 10, 5
POLL_SECONDS = 0.02
COMPARED = ("weights", "verdict", "history", "verify")


def start(folder: Path, config: Path) -> Command:
    return Command(folder, config, "round", str(folder / "route.jsonl"), "--skill", "route")


def answer(folder: Path, config: Path, *arguments: str) -> tuple[int, Any]:
    code, out, err = Command(folder, config, *arguments).result()
    return code, json.loads(out) if out else err[-500:]


def finish(folder: Path, config: Path) -> dict[str, Any]:
    """Leave the round to end, and gather what is compared."""
    round = start(folder, config)
    entered: dict[str, float] = {}
    began, state = time.monotonic(), config.with_suffix("")
    while not round.wait(POLL_SECONDS):
        entered.setdefault(stage_of(state), time.monotonic() - began)
    entered["end"] = time.monotonic() - began
    code, out, err = round.result()
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
        "entered": entered,
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
        found = finish(folder, beginning(folder, "reference", fresh=False))
        assert "error" not in found, found["error"]
        assert found["verdict"]["champion"] == found["verdict"]["version"] > 1, "it is to promote"
        path.write_text(json.dumps(found))
    found = json.loads(path.read_text())
    assert isinstance(found, dict)
    return found


def beginning(folder: Path, name: str, *, fresh: bool) -> Path:
    """The config of a new state directory: one that does not exist yet, or a copy of a lineage with its base alone."""
    shutil.rmtree(folder / name, ignore_errors=True)
    config = config_of(folder, name)
    if fresh:
        os.environ.pop("PREFECT_API_URL", None)
        return config
    os.environ["PREFECT_API_URL"] = (folder / "server.url").read_text()
    shutil.copytree(folder / "base", folder / name)
    return config


def reached(round: Command, state: Path, expected: dict[str, Any], chance: random.Random) -> bool:
    """Wait for the moment of a kill; False if the round ended before it."""
    entered: dict[str, float] = expected["entered"]
    names, stage = list(entered), stage_of(state)
    passed = names.index(stage) if stage in names else 0
    if chance.random() < 0.5:
        return not round.wait(chance.uniform(0.0, entered["end"] - entered[names[passed]]))
    number = chance.randrange(passed, len(names) - 1)
    share = chance.random()
    while not round.wait(POLL_SECONDS):
        if STAGES.index(stage_of(state)) >= STAGES.index(names[number]):
            return not round.wait(share * (entered[names[number + 1]] - entered[names[number]]))
    return False


def interrupted_round(folder: Path, number: int, expected: dict[str, Any], chance: random.Random) -> None:
    fresh = number % FRESH_EVERY == 0
    config = beginning(folder, f"round-{number}", fresh=fresh)
    state = config.with_suffix("")
    for attempt in range(1, KILLS_PER_ROUND + 1):
        if holds(state, "SELECT count(*) FROM runs WHERE status = 'FINISHED' AND name LIKE 'round 1 %'"):
            break  # it has ended: a further start only reads its outcome, and is not counted
        process, everything, began = start(folder, config), chance.random() < 0.5, time.monotonic()
        if not reached(process, state, expected, chance):
            break
        stage = stage_of(state)
        kill(process, state, everything)
        line = {"round": number, "attempt": attempt, "fresh": fresh, "stage": stage, "killed": "all" if everything else "command"}
        append(folder / "kills.jsonl", line | {"seconds": round(time.monotonic() - began, 2)})
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
        make_base(folder)
        with prefect_server(folder):
            expected = reference(folder)
            number = 1 + max((each["round"] for each in lines(folder / "ends.jsonl")), default=0)
            while sum(each["round"] < number and each["stage"] != STAGES[-1] for each in lines(folder / "kills.jsonl")) < options.kills:
                interrupted_round(folder, number, expected, random.Random(f"{options.seed} {number}"))
                number += 1
    print(table(folder))


if __name__ == "__main__":
    main()
