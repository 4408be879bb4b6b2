"""Training in the trainer's container alone, and over two nodes: containers with a network between them, torchrun's rendezvous, gloo."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from data_contracts.validate import validate_drop
from flows.base_models.resolve import NANO
from flows.config.model import SkillstackConfig
from flows.demo.materials import write_drop
from flows.text.renderer import TokenizerRenderer
from osft_engine.run import TrainRun

NETWORK = "skillstack-test-nodes"
SECONDS = 900.0
MOUNT = Path("/state")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a shared volume would hold: the base model and a validated drop, owned by the containers' user."""
    folder = tmp_path_factory.mktemp("shared")
    drop = write_drop("route", folder / "route.jsonl", rows=160)
    config = train_config()
    validate_drop(drop, folder / "drop", skill="route", config=config.contract, renderer=TokenizerRenderer(NANO, config.train))
    shutil.copytree(NANO, folder / "base")
    own(folder)
    return folder


def own(folder: Path) -> None:
    folder.chmod(0o755)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, 10001, 10001)


def train_config() -> SkillstackConfig:
    train = {
        "num_epochs": 2, "effective_batch_size": 16, "num_threads": 1, "protect": "weights", "learning_rate": 1e-3,
        "save_every_steps": 2, "save_every_seconds": 1e6,
    }  # fmt: skip
    return SkillstackConfig.model_validate({"train": train})


def write_run(shared: Path, name: str) -> Path:
    """A run file whose paths are those inside; gives its path inside."""
    run = TrainRun(base=MOUNT / "base", drop=MOUNT / "drop", skill="route", out_dir=MOUNT / name, config=train_config().train)
    (shared / f"{name}.json").write_text(run.model_dump_json())
    own(shared)
    return MOUNT / f"{name}.json"


def steps(shared: Path, name: str) -> list[float]:
    path = shared / name / "metrics.jsonl"
    lines = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")] if path.exists() else []
    return [event["loss"] for event in map(json.loads, lines) if event["event"] == "step"]


@pytest.fixture(scope="module")
def alone(containers: Any, images: dict[str, str], shared: Path, measured: dict[str, str]) -> list[float]:
    """The losses of one process in one container without any network."""
    run = write_run(shared, "alone")
    options = ["--network", "none", "-v", f"{shared}:{MOUNT}"]
    containers.in_image(images["trainer"], "python", "-m", "osft_engine", str(run), options=options)
    found = steps(shared, "alone")
    measured["one container"] = f"{len(found)} steps, loss {found[0]:.4f} to {found[-1]:.4f}"
    return found


@pytest.fixture
def network(containers: Any) -> Iterator[str]:
    containers.engine("network", "create", NETWORK)
    yield NETWORK
    for node in (0, 1):
        containers.engine("rm", "-f", f"{NETWORK}-{node}", check=False)
    containers.engine("network", "rm", NETWORK, check=False)


def start_node(containers: Any, image: str, shared: Path, run: Path, node: int) -> str:
    name = f"{NETWORK}-{node}"
    torchrun = ["torchrun", "--nnodes", "2", "--nproc-per-node", "1", "--node-rank", str(node), "--rdzv-backend", "c10d"]
    torchrun += ["--rdzv-endpoint", f"{NETWORK}-0:29400", "-m", "osft_engine", str(run)]
    containers.engine("run", "-d", "--name", name, "--hostname", name, "--network", NETWORK, "-v", f"{shared}:{MOUNT}", image, *torchrun)
    return name


def ended(containers: Any, name: str) -> int:
    """Wait for the end of a node; its exit code."""
    containers.wait_for(lambda: not containers.inspect("container", name)["State"]["Running"], f"{name} to end", SECONDS)
    return int(containers.inspect("container", name)["State"]["ExitCode"])


def log(containers: Any, name: str) -> str:
    done = containers.engine("logs", name, check=False)
    return str(done.stdout + done.stderr)[-3000:]


def test_one_container_without_a_network_trains_a_candidate(shared: Path, alone: list[float]) -> None:
    assert len(alone) > 4
    assert (shared / "alone/manifest.json").exists()
    assert {path.stat().st_uid for path in (shared / "alone").rglob("*")} == {10001}


def test_two_nodes_train_what_one_process_trains(
    containers: Any, images: dict[str, str], shared: Path, alone: list[float], network: str, measured: dict[str, str]
) -> None:
    run = write_run(shared, "together")
    nodes = [start_node(containers, images["trainer"], shared, run, node) for node in (0, 1)]
    assert [ended(containers, node) for node in nodes] == [0, 0], "\n".join(log(containers, node) for node in nodes)
    found = steps(shared, "together")
    assert found == pytest.approx(alone, rel=1e-4)
    gap = max(abs(one - other) / one for one, other in zip(alone, found, strict=True))
    measured["two nodes"] = f"{len(found)} steps, largest relative difference of a loss {gap:.1e}"


def test_a_killed_node_ends_the_other_and_one_process_goes_on(
    containers: Any, images: dict[str, str], shared: Path, alone: list[float], network: str, measured: dict[str, str]
) -> None:
    run = write_run(shared, "cut")
    first, second = (start_node(containers, images["trainer"], shared, run, node) for node in (0, 1))
    containers.wait_for(lambda: len(steps(shared, "cut")) >= 5, "five steps", SECONDS)
    containers.engine("kill", "--signal", "KILL", second)
    assert ended(containers, first) != 0, "a node without its peer fails rather than waits"
    done = len(steps(shared, "cut"))
    assert done < len(alone), "it ended before the kill"
    containers.in_image(
        images["trainer"], "python", "-m", "osft_engine", str(run), options=["--network", "none", "-v", f"{shared}:{MOUNT}"]
    )
    events = [json.loads(line)["event"] for line in (shared / "cut/metrics.jsonl").read_text().splitlines()]
    assert "resumed" in events, "it began again"
    assert steps(shared, "cut") == pytest.approx(alone, rel=1e-4)
    measured["one node killed"] = f"after step {done} of {len(alone)}; one process resumed and ended with the same losses"
