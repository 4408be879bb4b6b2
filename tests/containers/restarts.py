"""A round on the stack, watched stage by stage from this machine, and what is done to its containers meanwhile.

The processes of the worker are held (SIGSTOP) while a container is killed, so that a stage of a tenth of a second is met as surely as a
long one; they go on before the container is started again, so that they meet its absence.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml
from skillstack_containers_engine import USER, engine, wait_for

from flows.demo.materials import write_base_suites, write_drop

STAGES = ("validate", "train", "evaluate", "decide", "register")
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
SECONDS = 1800.0
ASK_SECONDS = 1.0
ITEMS, ROWS, STEPS_BEFORE = 60, 240, 3
logger = logging.getLogger(__name__)


def write_materials(stack: Any) -> None:
    """One drop and two suites for all rounds, below the project's folder, where the inbox does not look."""
    folder = stack.project / "restarts"
    if folder.exists():
        return
    folder.mkdir()
    base = write_base_suites(folder / "suites")
    for path, lines in (*((path, ITEMS) for path in base.suites.values()), (base.calibration, 300)):
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:lines]))
    write_drop("route", folder / "route.jsonl", rows=ROWS)
    own(folder)


def write_config(stack: Any, name: str) -> Path:
    """The config of a round whose state directory and registered model are its own; its path in the containers."""
    folder, inside = stack.project / "restarts", Path("/project/restarts")
    names = sorted(path.stem for path in (folder / "suites").glob("*.jsonl") if path.stem not in ("prose", "calibration"))[:2]
    suites = [{"name": each, "source": str(inside / f"suites/{each}.jsonl"), "chat": True, "max_new_tokens": 16} for each in names]
    values = {
        "base_model": "nano",
        "bootstrap": True,
        "state_dir": f"/project/.skillstack/restarts/{name}",
        "calibration": str(inside / "suites/calibration.jsonl"),
        "contract": {"heldout_fraction": 0.25},
        "train": {"num_epochs": 2, "effective_batch_size": 4, "num_threads": 1, "learning_rate": 2e-3, "save_every_steps": 2},
        "evaluation": {
            "num_threads": 1, "max_batch_size": 32, "skill": {"max_new_tokens": 16},
            "suites": suites,
        },
        "gate": {
            "margin_general": 0.2, "margin_skill": 0.2, "floor": 0.3, "anchor_budget": 0.3, "accept_unmeasured": ["safety", "drift"],
            "min_learned": 0.0, "min_gain": 0.0,
        },
        "tracking": {"model_name": name, "experiment": name},
        "service": {"lease_seconds": 60},
    }  # fmt: skip
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(values))
    own(folder)
    return inside / f"{name}.yaml"


def own(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, USER, USER)


@dataclass
class WatchedRound:
    """One round as a flow run of the stack's pool `gpu`."""

    stack: Any
    name: str
    run: str = field(init=False)
    config: Path = field(init=False)
    began: float = field(init=False)
    log: list[str] = field(default_factory=list)  # the stages in which something was killed, and what brought the round on

    def __post_init__(self) -> None:
        shutil.rmtree(self.state, ignore_errors=True)
        self.config = write_config(self.stack, self.name)
        user, _, password = self.stack.environment["PREFECT_SERVER_API_AUTH_STRING"].partition(":")
        api = f"http://127.0.0.1:{self.stack.ports[1]}/api"
        self._prefect = httpx.Client(base_url=api, auth=(user, password), timeout=20)
        found = self._prefect.get("/deployments/name/continual-round/round").raise_for_status().json()
        values = {"config": str(self.config), "drop": "/project/restarts/route.jsonl", "skill": "route"}
        asked = self._prefect.post(f"/deployments/{found['id']}/create_flow_run", json={"parameters": values}).raise_for_status()
        self.run, self.began = str(asked.json()["id"]), time.monotonic()

    @property
    def state(self) -> Path:
        return Path(self.stack.state / "restarts" / self.name)

    # ------------------------------------------------------------------------------------------------ where it is

    def flow_run(self) -> dict[str, Any]:
        """Its state in Prefect; empty while the server is away."""
        with contextlib.suppress(httpx.TransportError, httpx.HTTPStatusError):
            found: dict[str, Any] = self._prefect.get(f"/flow_runs/{self.run}").raise_for_status().json()
            return found
        return {}

    def stage(self) -> str:
        """The stage that it is in, by what lies in its state directory; empty before the first and between two."""
        stages = self.state / "stages"
        if any(stages.glob("decide/*/manifest.json")):
            return "register"
        if any(stages.glob("decide/*")):
            return "decide"
        if any(stages.glob("train/*/manifest.json")):
            return "evaluate" if len(list(stages.glob("evaluate/*.partial"))) else ""
        if any(stages.glob("validate/*/manifest.json")):
            return "train" if self.steps() >= STEPS_BEFORE else ""
        return "validate" if any(stages.glob("validate/*.partial")) else ""

    def steps(self) -> int:
        """Lines of whole steps that the trainer wrote so far."""
        return sum(path.read_bytes().count(b'"event": "step"') for path in self.state.glob("stages/train/*/metrics.jsonl"))

    # ------------------------------------------------------------------------------------------------ what is done to it

    def reach(self, stage: str, first: int) -> list[int]:
        """Wait until it is in this stage, and hold the worker's processes there (`first`: its init). What ends before is retried."""
        end, asked = time.monotonic() + SECONDS, time.monotonic()
        while True:
            if self.stage() == stage:
                held = hold(first)
                if self.stage() == stage:
                    return held
                let_go(held)
            assert time.monotonic() < end, f"waited {SECONDS:.0f} s for {stage}; it is in {self.stage()!r}, {self.flow_run()}"
            if time.monotonic() - asked > ASK_SECONDS:
                self.retry_if_ended(f"before {stage}")
                asked = time.monotonic()
            time.sleep(0.005)

    def kill_in_stages(self, plan: Mapping[str, str]) -> None:
        """Stage -> container that is killed while the round is held there. The round goes on, then the container is started again."""
        with ThreadPoolExecutor(1) as others:
            healthy: Future[None] | None = None
            for stage, service in plan.items():
                held = self.reach(stage, int(self.stack.state_of("worker-gpu")["Pid"]))
                try:
                    if healthy is not None:
                        healthy.result()
                    before = self.stack.state_of(service)["StartedAt"]
                    engine("kill", "--signal", "KILL", self.stack.container(service))
                finally:
                    let_go(held)
                self.log.append(f"{stage}, {service}")
                logger.info("killed in %s", self.log[-1])
                wait_for(lambda service=service, before=before: self.over(service, before), f"{service} to end", 60)
                engine("start", self.stack.container(service))  # nothing, where the policy `unless-stopped` did it
                healthy = others.submit(self.stack.wait, service, "running" if service.startswith("worker") else "healthy")
        self.finish()

    def over(self, service: str, before: str) -> bool:
        """Whether a container ended; the engine's own policy may have started it again."""
        state = self.stack.state_of(service)
        return not state["Running"] or state["StartedAt"] != before

    def finish(self) -> None:
        """Wait for its end, and retry it where that is not the right one."""

        def completed() -> bool:
            self.retry_if_ended("in the end")
            return self.flow_run().get("state_type") == "COMPLETED"

        wait_for(completed, f"{self.name} to end", SECONDS)

    def retry_if_ended(self, when: str) -> None:
        """Give the command that the message about a crashed or failed round names, once for each restart."""
        state = self.flow_run()
        if state.get("state_type") not in ENDED - {"COMPLETED"}:
            return
        assert self.log, f"{when}: ended although nothing was killed: {state['state']}"
        assert not self.log[-1].endswith("retried"), f"{when}: one retry is not enough: {state['state']}"
        self.log[-1] += f": {state['state_name']}, retried"
        logger.info("%s; %s", self.log[-1], state["state"]["message"])
        self.stack.run("prefect", "--no-prompt", "flow-run", "retry", self.run)
        wait_for(lambda: self.flow_run().get("state_type") not in (*ENDED, None), "the retry to begin", 120)

    # ------------------------------------------------------------------------------------------------ what came of it

    def outcome(self) -> dict[str, Any]:
        """What must not depend on a restart: the bytes of the weights, the verdict, the history; and what `verify` finds."""
        weights = list(self.state.glob("stages/train/*/model/model.safetensors"))
        verdicts = [json.loads(path.read_text()) for path in self.state.glob("stages/decide/*/manifest.json")]
        assert (len(weights), len(verdicts)) == (1, 1), "one training and one verdict"
        facts = ("round", "attempt", "skill", "version", "status", "decision", "champion", "promoted_by")
        history = self.answer("history")["rounds"]
        return {
            "weights": hashlib.sha256(weights[0].read_bytes()).hexdigest(),
            "verdict": {name: verdicts[0][name] for name in ("decision", "reasons", "lost")},
            "history": [{name: each.get(name) for name in facts} for each in history],
            "verified": self.answer("verify")["ok"],
        }

    def answer(self, command: str) -> dict[str, Any]:
        found: dict[str, Any] = self.stack.answer(command, "--config", str(self.config))
        return found


def hold(first: int) -> list[int]:
    """Stop every process beside the first one of a container; their numbers on this machine."""
    held = list(processes_beside(first))
    for pid in held:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    return held


def let_go(held: list[int]) -> None:
    for pid in held:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def processes_beside(first: int) -> Iterator[int]:
    """The processes of a container, without its init, whose number on this machine is `first`."""
    with contextlib.suppress(OSError):
        namespace = os.readlink(f"/proc/{first}/ns/pid")
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and int(entry.name) != first and os.readlink(entry / "ns/pid") == namespace:
                    yield int(entry.name)
