"""A project on the service: its folder, its commands, and Prefect's API as its user sees it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import yaml

from flows.config.model import load_config
from flows.demo.materials import write_base_suites, write_drop
from flows.lineage import Lineage
from flows.workspace.workspace import open_workspace

ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
DEADLINE_SECONDS = 900.0
POLL_SECONDS = 0.2


class Project:
    """A user's folder on the service: skillstack.yaml, an inbox, suites; commands run as processes of their own."""

    def __init__(self, folder: Path, services: Any, name: str, **changes: Any) -> None:
        self.folder, self.environment = folder, services.environment
        user, _, password = self.environment["PREFECT_API_AUTH_STRING"].partition(":")
        self._prefect = httpx.Client(base_url=self.environment["PREFECT_API_URL"], auth=(user, password), timeout=30)
        (folder / "inbox").mkdir(parents=True)
        base = write_base_suites(folder / "suites")
        chosen = dict(list(base.suites.items())[:2])
        for path, lines in (*((suite, 120) for suite in chosen.values()), (base.calibration, 300)):
            path.write_text("".join(path.read_text().splitlines(keepends=True)[:lines]))
        suites = [
            {"name": suite, "source": str(path.relative_to(folder)), "chat": True, "max_new_tokens": 16} for suite, path in chosen.items()
        ]
        self.values: dict[str, Any] = {
            "base_model": "nano",
            "bootstrap": True,
            "calibration": str(base.calibration.relative_to(folder)),
            "contract": {"heldout_fraction": 0.25},
            "train": {"num_epochs": 2, "effective_batch_size": 32, "num_threads": 1, "learning_rate": 2e-3, "save_every_steps": 2},
            "evaluation": {"num_threads": 1, "max_batch_size": 128, "suites": suites, "skill": {"max_new_tokens": 16}},
            # Wide margins, because a few dozen items cannot show that two points were not lost; the floor still blocks. A gain that is
            # proven is enough: two short passes over the drop are not meant to make a useful skill.
            "gate": {
                "margin_general": 0.1,
                "margin_skill": 0.1,
                "floor": 0.15,
                "anchor_budget": 0.15,
                "accept_unmeasured": ["safety", "drift"],
                "min_learned": 0.0,
            },
            "tracking": {"model_name": name, "experiment": name},
            "inbox": {"deployment": "continual-round/round", "settle_seconds": 1},
            "service": {"watch_cron": "* * * * *", "timezone": "Europe/Berlin", "lease_seconds": 60, "heartbeat_timeout_seconds": 75},
        }
        self.config = self.write_config(**changes)

    def write_config(self, file: str = "skillstack.yaml", **changes: Any) -> Path:
        values = dict(self.values)
        for section, change in changes.items():
            values[section] = {**values.get(section, {}), **change} if isinstance(change, dict) else change
        path = self.folder / file
        path.write_text(yaml.safe_dump(values))
        return path

    def drop(self, skill: str, seed: int = 0, *, rows: int = 500, to: str = "drops") -> Path:
        """Written beside and moved in, as a careful sender does."""
        (self.folder / to).mkdir(exist_ok=True)
        path = write_drop(skill, self.folder / f"{skill}-{seed}.part", seed, rows=rows)
        return path.rename(self.folder / to / f"{skill}--{seed}.jsonl")

    def command(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "flows.cli.app", *arguments]
        environment = {**os.environ, **self.environment, **variables}
        return subprocess.run(line, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False)

    def answer(self, *arguments: str, **variables: str) -> dict[str, Any]:
        """A command's JSON; the test fails with its words where it exits 1."""
        done = self.command(*arguments, "--json", **variables)
        assert done.returncode != 1, done.stdout + done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    @property
    def lineage(self) -> Lineage:
        return open_workspace(load_config(self.config)).lineage

    @property
    def stages(self) -> Path:
        return self.folder / ".skillstack" / "stages"

    # ------------------------------------------------------------------------------------------------ Prefect's API

    def get(self, path: str) -> Any:
        return self._prefect.get(path).raise_for_status().json()

    def post(self, path: str, **body: Any) -> Any:
        answer = self._prefect.post(path, json=body).raise_for_status()
        return answer.json() if answer.content else None

    def submit(self, deployment: str, config: Path | None = None, **parameters: Any) -> str:
        """Ask for a run of a deployment; gives its id."""
        found = self.get(f"/deployments/name/{deployment}")
        values = {"config": str(config or self.config), **parameters}
        return str(self.post(f"/deployments/{found['id']}/create_flow_run", parameters=values)["id"])

    def flow_run(self, run: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"/flow_runs/{run}")
        return found

    def wait_for(self, condition: Callable[[], Any], what: str, seconds: float = DEADLINE_SECONDS) -> Any:
        """The first true answer of a condition; a server that is away for a moment is asked again."""
        pause, end = threading.Event(), time.monotonic() + seconds
        while True:
            with contextlib.suppress(httpx.TransportError, httpx.HTTPStatusError):
                if found := condition():
                    return found
            assert time.monotonic() < end, f"waited {seconds:.0f} s for {what}"
            pause.wait(POLL_SECONDS)

    def watch(self, on: bool) -> None:
        """Let the deployment that looks into the inbox rest, or work."""
        inbox = self.get("/deployments/name/watch/inbox")["id"]
        self.post(f"/deployments/{inbox}/{'resume' if on else 'pause'}_deployment")

    def ended(self, run: str) -> dict[str, Any]:
        """Wait for a flow run's end."""

        def state() -> dict[str, Any] | None:
            found = self.flow_run(run)
            return found if found["state_type"] in ENDED else None

        found: dict[str, Any] = self.wait_for(state, f"flow run {run} to end")
        return found

    def events(self) -> list[dict[str, Any]]:
        """What the trainers told so far."""
        lines = [line for path in self.stages.glob("train/*/metrics.jsonl") for line in path.read_text().splitlines(keepends=True)]
        return [json.loads(line) for line in lines if line.endswith("\n")]


def backup(postgres: Any, s3_url: str, state: Path, action: str, folder: Path) -> None:
    """infra/backup.sh as the runbook calls it."""
    variables = {
        "PATH": f"{postgres_folder(postgres)}{os.pathsep}{os.environ['PATH']}",
        "PGHOST": "127.0.0.1",
        "PGPORT": str(postgres.port),
        "PGUSER": "skillstack",
        "PGPASSWORD": postgres.password,
        "SKILLSTACK_STATE": str(state),
        "SKILLSTACK_BUCKET": "skillstack",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": s3_url,
        "PYTHON": sys.executable,
    }
    script = Path(__file__).parents[2] / "infra" / "backup.sh"
    done = subprocess.run([str(script), action, str(folder)], env={**os.environ, **variables}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def postgres_folder(postgres: Any) -> str:
    """Where the server's own programs lie: pg_dump must not be older than the server."""
    return str(Path(postgres.server.command[0]).parent)
