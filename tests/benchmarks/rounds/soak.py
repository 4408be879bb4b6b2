"""Rounds of nano in a row through the service: what a round costs, and what the servers hold after it.

    python tests/benchmarks/rounds/soak.py FOLDER [--rounds 50]     # goes on where it was stopped, as long as its servers live; nice 5
    python tests/benchmarks/rounds/soak.py FOLDER --stop            # ends the servers

Servers and workers are those of soak_service.py; they are not ended when this command is. Every round is a new drop and a run of the
deployment `continual-round/round`, as the watcher or an announced drop starts it. After each round comes `skillstack gc`, after the first
and every tenth a look into the empty inbox, `history` and `verify`. FOLDER/rounds.jsonl has a line per round: memory, open files and
processor time of every server, the peak of the round's own processes, sizes of the databases and of the state folder, seconds of the round
and of its stages.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from forked_command import Command, import_once
from soak_service import OF_CHILDREN, cpu_seconds, database_sizes, disk_mb, held, tree, write_drop

DEADLINE_SECONDS, POLL_SECONDS, LOOK_EVERY = 1800.0, 0.5, 10
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
GC = ("gc", "--no-keep-anchors", "--keep-last", "3", "--decompositions-days", "0", "--actor", "soak")
"""A round of the soak takes the place of a month, so a decomposition of the round before is as old as one of a month."""


class Service:
    """The running servers: Prefect's API, commands with their addresses, and their processes."""

    def __init__(self, folder: Path, values: dict[str, Any]) -> None:
        self.folder, self.values = folder, values
        self.processes: dict[str, int] = values["processes"]
        user, _, password = values["environment"]["PREFECT_API_AUTH_STRING"].partition(":")
        self._prefect = httpx.Client(base_url=values["environment"]["PREFECT_API_URL"], auth=(user, password), timeout=30)

    def post(self, path: str, **body: Any) -> Any:
        return self._prefect.post(path, json=body).raise_for_status().json()

    def get(self, path: str) -> Any:
        return self._prefect.get(path).raise_for_status().json()

    def command(self, *arguments: str) -> dict[str, Any]:
        """A command with --json: its answer, and its wall and processor seconds without the import of the libraries."""
        before, began = os.times(), time.monotonic()
        code, out, err = Command(self.folder, self.folder / "skillstack.yaml", *arguments).result()
        after = os.times()
        used = after.children_user - before.children_user + after.children_system - before.children_system
        if code == 1:
            raise SystemExit(f"{' '.join(arguments)}: {out}{err}")
        return {"answer": json.loads(out), "seconds": round(time.monotonic() - began, 2), "cpu_seconds": round(used, 2)}

    def start(self, deployment: str, **parameters: str) -> str:
        """The id of a new run of a deployment."""
        found = self.get(f"/deployments/name/{deployment}")["id"]
        return str(self.post(f"/deployments/{found}/create_flow_run", parameters=parameters)["id"])

    def ended(self, run: str) -> dict[str, Any] | None:
        found: dict[str, Any] = self.get(f"/flow_runs/{run}")
        return found if found["state_type"] in ENDED else None


def started_service(folder: Path) -> Service:
    """The service of an earlier start if its processes live, else a new one in an empty folder."""
    path = folder / "service.json"
    if path.is_file():
        values = json.loads(path.read_text())
        if all(Path(f"/proc/{pid}").exists() for pid in values["processes"].values()):
            return Service(folder, values)
    if (folder / "rounds.jsonl").exists():
        raise SystemExit(f"the servers of {folder} have ended, and their databases with them: choose a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(Path(__file__).with_name("soak_service.py")), str(folder)]
    with (folder / "service.log").open("ab") as log:
        serving = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def up() -> bool:
        if serving.poll() is not None:
            raise SystemExit(f"the service did not start: see {folder / 'service.log'}")
        return path.is_file()

    wait_for(up, "the service to start")
    return Service(folder, json.loads(path.read_text()))


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + DEADLINE_SECONDS
    while not (found := condition()):
        if time.monotonic() > end:
            raise SystemExit(f"waited {DEADLINE_SECONDS:.0f} s for {what}")
        time.sleep(POLL_SECONDS)
    return found


def run_round(service: Service, number: int) -> dict[str, Any]:
    """Drop and round; gives the round's run in Prefect with the peak of its processes."""
    peak = {"memory_mb": 0.0, "files": 0.0, "threads": 0.0, "processes": 0.0}
    worker = service.processes["worker gpu"]
    drop = write_drop(service.folder, number)
    started = service.start("continual-round/round", drop=str(drop), skill=drop.stem, config=str(service.folder / "skillstack.yaml"))

    def ended() -> dict[str, Any] | None:
        now = held(tree(worker)[1:])
        peak.update({name: max(value, now[name]) for name, value in peak.items()})
        return service.ended(started)

    run = wait_for(ended, f"round {number} to end")
    wait_for(lambda: len(tree(worker)) == 1, "the round's process to end")
    return {"run": run, "peak": peak}


def timings(service: Service, run: dict[str, Any]) -> dict[str, Any]:
    """Seconds of the flow run, from its start in the worker's queue, and of its tasks by stage."""
    tasks = service.post("/task_runs/filter", flow_runs={"id": {"any_": [run["id"]]}})
    stages: dict[str, float] = {}
    for task in tasks:
        stage = task["name"].split()[0].split("-")[0]
        stages[stage] = round(stages.get(stage, 0.0) + task["total_run_time"], 2)
    waited = moment(run["start_time"]) - moment(run["expected_start_time"])
    return {"waited": round(waited, 2), "seconds": round(run["total_run_time"], 2), "stages": stages}


def moment(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def used_by(pid: int) -> float:
    """Processor time of a server's processes, and of those of its children that have ended."""
    return sum(cpu_seconds(each) for each in tree(pid))


def state_mb(state: Path) -> dict[str, float]:
    """The state folder: all of it, and its parts."""
    parts = {each.name: disk_mb(each) for each in state.iterdir() if each.is_dir() and each.name != "stages"}
    parts |= {f"stages/{each.name}": disk_mb(each) for each in (state / "stages").iterdir()}
    return {"all": disk_mb(state), **{name: size for name, size in sorted(parts.items()) if size > 0.01}}


def measure(service: Service, number: int) -> dict[str, Any]:
    """One round and everything that is measured after it."""
    worker = service.processes["worker gpu"]
    before = {name: used_by(pid) for name, pid in service.processes.items()}
    of_rounds = cpu_seconds(worker, OF_CHILDREN)
    began = time.time()
    done = run_round(service, number)
    used = {name: round(used_by(pid) - before[name], 2) for name, pid in service.processes.items()}
    rounds_cpu = round(cpu_seconds(worker, OF_CHILDREN) - of_rounds, 2)
    used["worker gpu"] = round(used["worker gpu"] - rounds_cpu, 2)
    collected = service.command(*GC)
    items = collected["answer"]["checkpoints"]
    history = verified = None
    if number % LOOK_EVERY == 0 or number == 1:
        look = service.start("watch/inbox")
        wait_for(lambda: service.ended(look), "the look into the inbox")
        history, verified = service.command("history"), service.command("verify")
    return {
        "round": number,
        "time": datetime.now().astimezone().isoformat(timespec="seconds"),
        "load": round(os.getloadavg()[0], 2),
        "state": done["run"]["state_name"],
        "wall_seconds": round(time.time() - began, 2),
        **timings(service, done["run"]),
        "cpu_seconds": {"round": rounds_cpu, **used},
        "peak": done["peak"],
        "held": {name: held(tree(pid)) for name, pid in service.processes.items()},
        "databases": database_sizes(service.values),
        "state_mb": state_mb(service.folder / ".skillstack"),
        "logs_mb": disk_mb(service.folder / "servers"),
        "collected": sum(item["action"] == "collected" for item in items),
        "kept": sum(item["action"] == "keep" for item in items),
        "commands": {
            name: {"seconds": each["seconds"], "cpu_seconds": each["cpu_seconds"]}
            for name, each in (("gc", collected), ("history", history), ("verify", verified))
            if each is not None
        },
        "verified": None if verified is None else verified["answer"]["ok"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Rounds of nano in a row through the service.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--stop", action="store_true")
    options = parser.parse_args()
    folder = options.folder.absolute()
    if options.stop:
        os.kill(json.loads((folder / "service.json").read_text())["own"], signal.SIGTERM)
        return
    os.nice(max(0, 5 - os.nice(0)))
    import_once()
    service = started_service(folder)
    os.environ.update(service.values["environment"])
    rounds = folder / "rounds.jsonl"
    done = len(rounds.read_text().splitlines()) if rounds.is_file() else 0
    for number in range(done + 1, options.rounds + 1):
        line = measure(service, number)
        with rounds.open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        print(f"round {number}: {line['state']}, {line['seconds']} s, load {line['load']}", flush=True)


if __name__ == "__main__":
    main()
