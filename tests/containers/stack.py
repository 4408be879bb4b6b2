"""The stack of infra/compose.yaml under a name of its own, and images that stand in for those of a registry that is not reached."""

from __future__ import annotations

import json
import secrets
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skillstack_containers_engine import ENGINE, REPOSITORY, USER, build, engine, inspect, obtain, wait_for

STAND_INS = Path(__file__).parent / "stand_ins"
STOOD_IN = {
    "postgres": "docker.io/library/postgres:18.6-bookworm",
    "minio": "docker.io/minio/minio:RELEASE.2025-09-07T16-13-09Z",
    "prefect": "docker.io/prefecthq/prefect:3.8.8-python3.11",
}
ORDER = (
    ("postgres", "healthy"), ("owner", "ended"), ("minio", "healthy"), ("bucket", "ended"), ("mlflow", "healthy"), ("prefect", "healthy"),
    ("worker-gpu", "running"), ("worker-cpu", "running"),
)  # fmt: skip


def stand_in(name: str) -> str:
    package = next(line for line in (REPOSITORY / "infra/constraints.txt").read_text().splitlines() if line.startswith("prefect=="))
    options = ["--build-arg", f"PACKAGE={package}"] if name == "prefect" else []
    return obtain(STOOD_IN[name], lambda: build(STAND_INS / f"{name}.Containerfile", STOOD_IN[name], *options) and None)


@dataclass
class Stack:
    """The services of infra/compose.yaml under a name of their own, with drawn secrets and a project folder."""

    name: str
    folder: Path
    ports: tuple[int, int] = (5000, 4200)
    files: list[Path] = field(default_factory=list)
    secrets: Mapping[str, str] = field(default_factory=dict)  # drawn where none are given
    environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        for each in (self.project, self.state):
            each.mkdir(parents=True, exist_ok=True)
            shutil.chown(each, USER, USER)
        values = {name: secrets.token_urlsafe(18) for name in _variables()} | {
            "MINIO_ROOT_USER": "skillstack",
            "PREFECT_SERVER_API_AUTH_STRING": f"admin:{secrets.token_urlsafe(18)}",
            "SKILLSTACK_WEBHOOK_URL": "",
            **self.secrets,
            "SKILLSTACK_PROJECT": str(self.project),
            "SKILLSTACK_STATE": str(self.state),
        }
        self.environment = values
        (self.folder / "env").write_text("".join(f"{name}={value}\n" for name, value in values.items()))

    @property
    def project(self) -> Path:
        return self.folder / "project"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def compose(self, *arguments: str, check: bool = True, seconds: float = 1800) -> subprocess.CompletedProcess[str]:
        files = [REPOSITORY / "infra/compose.yaml", *self.files]
        line = [
            *_compose(),
            "-p",
            self.name,
            "--env-file",
            str(self.folder / "env"),
            *(part for file in files for part in ("-f", str(file))),
        ]
        done = subprocess.run([*line, *arguments], capture_output=True, text=True, timeout=seconds, check=False)
        if check and done.returncode:
            raise AssertionError(
                f"{shlex.join([*line, *arguments])} ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-5000:]}"
            )
        return done

    def container(self, service: str) -> str:
        """Its id, whether it runs or not."""
        labels = [f"label=com.docker.compose.project={self.name}", f"label=com.docker.compose.service={service}"]
        found = engine("ps", "-a", "-q", *(part for label in labels for part in ("--filter", label))).stdout.split()
        assert found, f"no container of {service}"
        return found[0]

    def healthy(self, service: str) -> bool:
        """Asked directly: an engine without systemd has no timer that would."""
        if ENGINE[0].endswith("podman"):
            return engine("healthcheck", "run", self.container(service), check=False).returncode == 0
        return bool(inspect("container", self.container(service))["State"].get("Health", {}).get("Status") == "healthy")

    def state_of(self, service: str) -> dict[str, Any]:
        found: dict[str, Any] = inspect("container", self.container(service))["State"]
        return found

    def up(self, *services: str) -> None:
        """All, or these, in the order of depends_on; each is waited for here, because an older podman does not wait for health."""
        for service, condition in ORDER:
            if not services or service in services:
                self.start(service, condition)

    def address(self, service: str) -> str:
        """Its address on the stack's own network, which this machine reaches."""
        networks = inspect("container", self.container(service))["NetworkSettings"]["Networks"]
        return str(next(iter(networks.values()))["IPAddress"])

    def start(self, service: str, condition: str = "healthy") -> None:
        self.compose("up", "-d", "--no-build", "--no-deps", service)
        self.wait(service, condition)

    def wait(self, service: str, condition: str = "healthy", seconds: float = 600) -> None:
        def reached() -> bool:
            state = self.state_of(service)
            if condition == "ended":
                assert state["Running"] or not state["ExitCode"], self.log(service)
                return not state["Running"] and state["Status"] != "created"
            return bool(state["Running"]) and (condition == "running" or self.healthy(service))

        try:
            wait_for(reached, f"{service} to be {condition}", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log(service)}") from error

    def log(self, service: str, lines: int = 40) -> str:
        done = engine("logs", "--tail", str(lines), self.container(service), check=False)
        return done.stdout + done.stderr

    def run(self, *command: str, check: bool = True, variables: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """A command in the CPU worker's container, as a person would with `docker compose exec`."""
        options = [part for name, value in (variables or {}).items() for part in ("--env", f"{name}={value}")]
        return engine("exec", *options, self.container("worker-cpu"), *command, check=check)

    def answer(self, *arguments: str) -> Any:
        done = self.run("skillstack", *arguments, "--json", check=False)
        assert done.returncode != 1, done.stdout + done.stderr
        return json.loads(done.stdout)

    def down(self) -> None:
        self.compose("--profile", "tools", "down", "--volumes", "--timeout", "5", check=False)


def secrets_in(file: Path) -> dict[str, str]:
    """The values of an environment file."""
    return dict(line.split("=", 1) for line in file.read_text().splitlines())


def _variables() -> list[str]:
    lines = (REPOSITORY / "infra/.env.example").read_text().splitlines()
    return [line.partition("=")[0] for line in lines if "=" in line and not line.startswith("#")]


def _compose() -> list[str]:
    if ENGINE[0].endswith("podman"):
        return [str(Path(sys.executable).parent / "podman-compose"), "--in-pod", "false"]
    return [*ENGINE, "compose"]
