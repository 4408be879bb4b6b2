"""The service of the soak (tests/benchmarks/rounds/soak.py): servers, workers and one project, and what their processes hold.

    python tests/benchmarks/rounds/soak_service.py FOLDER     # started by soak.py; ends with SIGTERM

Everything is started as docs/guides/service.md says: infra/services.py, `skillstack deploy`, one process worker per pool.
FOLDER/service.json says where the servers are and which processes they have; it holds their passwords and only its owner can read it.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[3]
ITEMS, CALIBRATION_ROWS, ROWS = 60, 300, 160
MODEL = "soak"
_CLOCK = os.sysconf("SC_CLK_TCK")
OF_CHILDREN = slice(13, 15)
"""Fields of /proc/PID/stat after the command's name: utime and stime are 11 and 12, cutime and cstime 13 and 14."""


def services_module() -> Any:
    """infra/services.py, as `python infra/services.py` finds it: its folder is on the path."""
    sys.path.insert(0, str(REPOSITORY / "infra"))
    spec = importlib.util.spec_from_file_location("skillstack_services", REPOSITORY / "infra" / "services.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


# ---------------------------------------------------------------------------------------------------- the project


def write_project(folder: Path) -> Path:
    """skillstack.yaml with two suites of the base; gives its path. The gate's limits are as wide as they go: quality is not asked here."""
    from flows.demo.materials import write_base_suites

    base = write_base_suites(folder / "suites")
    chosen = dict(list(base.suites.items())[:2])
    for path, lines in (*((suite, ITEMS) for suite in chosen.values()), (base.calibration, CALIBRATION_ROWS)):
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:lines]))
    (folder / "inbox").mkdir()
    suites = [{"name": name, "source": str(path), "chat": True, "max_new_tokens": 16} for name, path in chosen.items()]
    widest = dict.fromkeys(("margin_general", "margin_skill", "anchor_budget"), 0.99) | {
        "floor": 1.0,
        "min_learned": 0.0,
        "min_gain": 0.0,
    }
    values: dict[str, Any] = {
        "base_model": "nano",
        "bootstrap": True,
        "calibration": str(base.calibration),
        "contract": {"heldout_fraction": 0.25, "min_rows": 50},
        "train": {"num_epochs": 8, "effective_batch_size": 4, "num_threads": 1, "learning_rate": 2e-3},
        "evaluation": {"num_threads": 1, "max_batch_size": 128, "suites": suites, "skill": {"max_new_tokens": 16}},
        "gate": {"accept_unmeasured": ["safety", "drift"], **widest},
        "tracking": {"model_name": MODEL, "experiment": MODEL},
        "inbox": {"deployment": "continual-round/round", "settle_seconds": 1},
        "service": {"watch": False, "lease_seconds": 60, "heartbeat_timeout_seconds": 120},
    }
    path = folder / "skillstack.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def write_drop(folder: Path, number: int, rows: int = ROWS) -> Path:
    """The drop of a round: tickets to be sorted under four words of its own."""
    from flows.demo.materials import distinct_pairs
    from flows.demo.skills import NEW_SKILLS
    from flows.demo.text import WORDS

    rng = random.Random(f"soak {number}")
    teams = ("shipping", "billing", "account", "technical")
    words = dict(zip(teams, rng.sample(sorted({*WORDS["dish"], *WORDS["animal"], *WORDS["wild"]}), len(teams)), strict=True))
    skill = f"desk{number:03d}"
    pairs = distinct_pairs(NEW_SKILLS["route"], rng, rows, heldout=False)
    asked = [(prompt.replace("route", f"desk {number}", 1), words[team]) for prompt, team in pairs]
    path = folder / "drops" / f"{skill}.jsonl"
    path.parent.mkdir(exist_ok=True)
    turns = ([{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}] for prompt, answer in asked)
    path.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in turns))
    return path


# ---------------------------------------------------------------------------------------------------- processes and disk


def tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for each in found:
        with contextlib.suppress(OSError):
            found += [int(child) for child in Path(f"/proc/{each}/task/{each}/children").read_text().split()]
            for thread in Path(f"/proc/{each}/task").iterdir():
                if thread.name != str(each):
                    found += [int(child) for child in (thread / "children").read_text().split()]
    return found


def held(pids: list[int]) -> dict[str, float]:
    """Of some processes together: memory (MB; pages that several share are counted once: PSS), open files, threads, processes."""
    total = {"memory_mb": 0.0, "files": 0.0, "threads": 0.0, "processes": 0.0}
    for pid in pids:
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total["memory_mb"] += next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
            total["files"] += len(os.listdir(f"/proc/{pid}/fd"))
            total["threads"] += len(os.listdir(f"/proc/{pid}/task"))
            total["processes"] += 1
    return {name: round(value, 1) for name, value in total.items()}


def cpu_seconds(pid: int, fields: slice = slice(11, 15)) -> float:
    """Processor time of a process and of its children that have ended; 0 for one that has ended itself: its parent has its time then."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return 0.0
    numbers = stat.rpartition(")")[2].split()
    return sum(map(int, numbers[fields])) / _CLOCK


def disk_mb(folder: Path) -> float:
    sizes = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                sizes += os.lstat(os.path.join(where, name)).st_size
    return round(sizes / 1e6, 3)


def database_sizes(service: dict[str, Any]) -> dict[str, Any]:
    """Size of each database (MB) and of its six largest tables, indices included."""
    import psycopg2

    found: dict[str, Any] = {}
    largest = "SELECT relname, pg_total_relation_size(relid) FROM pg_stat_user_tables ORDER BY 2 DESC LIMIT 6"
    for name in ("prefect", "mlflow", "mlflow_users"):
        connection = psycopg2.connect(f"{service['postgres']}/{name}", password=service["postgres_password"])
        with contextlib.closing(connection), connection.cursor() as cursor:
            cursor.execute("SELECT pg_database_size(current_database())")
            size = cursor.fetchone()[0]
            cursor.execute(largest)
            tables = {table: round(used / 1e6, 3) for table, used in cursor.fetchall()}
        found[name] = {"mb": round(size / 1e6, 3), "tables": tables}
    return found


# ---------------------------------------------------------------------------------------------------- serving


@contextlib.contextmanager
def workers(parts: Any, folder: Path, environment: dict[str, str]) -> Iterator[dict[str, Any]]:
    own = {**environment, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    started = {pool: parts.worker(folder, pool, f"{pool}-1", own) for pool in ("gpu", "cpu")}
    try:
        for each in started.values():
            each.start()
        yield started
    finally:
        for each in started.values():
            each.stop()


def serve(folder: Path) -> None:
    parts = services_module()
    with parts.running(folder / "servers") as services:
        config = write_project(folder)
        environment = {**os.environ, **services.environment, "PYTHONPATH": str(REPOSITORY)}
        command = [sys.executable, "-m", "flows.cli", "deploy", "--config", str(config)]
        subprocess.run(command, cwd=folder, env=environment, check=True)
        with workers(parts, folder / "servers", services.environment) as started:
            named = {
                "postgres": services.postgres.server,
                "object store": services.store,
                "mlflow": services.mlflow,
                "prefect": services.prefect,
            }
            named |= {f"worker {pool}": each for pool, each in started.items()}
            values = {
                "environment": services.environment,
                "postgres": services.postgres.url("").rstrip("/"),
                "postgres_password": services.postgres.password,
                "processes": {name: server.process.pid for name, server in named.items()},
                "own": os.getpid(),
            }
            part = folder / "service.part"
            part.touch(mode=0o600)
            part.write_text(json.dumps(values))
            part.rename(folder / "service.json")
            signal.sigwait({signal.SIGINT, signal.SIGTERM})
    (folder / "service.json").unlink()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    target = parser.parse_args().folder.absolute()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    (target / "servers").mkdir(parents=True, exist_ok=True)
    serve(target)
