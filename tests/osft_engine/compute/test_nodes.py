"""Two nodes: network namespaces with a cable between them, torchrun's rendezvous over it, gloo. Needs root and `ip`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from osft_engine.run import TrainRun
from osft_engine.train import train_candidate

pytestmark = pytest.mark.slow

MakeRun = Callable[..., TrainRun]
SECONDS = 600.0
ADDRESSES = ("10.213.7.1", "10.213.7.2")
SETTINGS: dict[str, Any] = {
    "protect": "weights", "num_epochs": 4, "learning_rate": 1e-2, "warmup_steps": 0, "num_threads": 1, "save_every_steps": 2,
    "save_every_seconds": 1e6,
}  # fmt: skip


@pytest.fixture
def spaces() -> Iterator[tuple[str, str]]:
    """Two network namespaces that reach each other and nothing else."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("needs root and ip")
    names = (f"skillstack{os.getpid()}a", f"skillstack{os.getpid()}b")
    lines = [f"netns add {name}" for name in names]
    lines.append(f"link add cable netns {names[0]} type veth peer name cable netns {names[1]}")
    for name, address in zip(names, ADDRESSES, strict=True):
        lines += [f"-n {name} addr add {address}/24 dev cable", f"-n {name} link set cable up", f"-n {name} link set lo up"]
    try:
        for line in lines:
            made = subprocess.run(["ip", *line.split()], capture_output=True, text=True, check=False)
            if made.returncode:
                pytest.skip(f"ip {line}: {made.stderr.strip()}")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def start_node(space: str, node: int, run_file: Path) -> subprocess.Popen[str]:
    command = ["ip", "netns", "exec", space, sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    command += ["--node-rank", str(node), "--rdzv-backend", "c10d", "--rdzv-endpoint", f"{ADDRESSES[0]}:29411"]
    # Both namespaces have this machine's name, whose address is none of theirs: who holds the rendezvous is said, and gloo's device too.
    command += ["--rdzv-conf", f"is_host={1 - node}", "--local-addr", ADDRESSES[node], "-m", "osft_engine", str(run_file)]
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "cable", "OMP_NUM_THREADS": "1"}
    log = run_file.with_suffix(f".{node}.log").open("w")
    return subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, text=True, start_new_session=True)


def write_run(run: TrainRun) -> Path:
    path = run.out_dir.with_suffix(".json")
    path.write_text(run.model_dump_json())
    return path


def losses(run: TrainRun) -> list[float]:
    path = run.out_dir / "metrics.jsonl"
    lines = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")] if path.exists() else []
    return [event["loss"] for event in map(json.loads, lines) if event["event"] == "step"]


def end(node: subprocess.Popen[str]) -> None:
    """The node loses its power: torchrun and the trainer, at once."""
    os.killpg(node.pid, signal.SIGKILL)
    for path in Path("/proc").glob("[0-9]*/stat"):  # torchrun's workers are sessions of their own
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == node.pid:
            os.kill(int(path.parent.name), signal.SIGKILL)
    node.wait()


def test_two_nodes_train_what_one_process_trains(make_run: MakeRun, spaces: tuple[str, str]) -> None:
    alone, together = make_run(out="alone", **SETTINGS), make_run(out="together", **SETTINGS)
    file = write_run(together)
    nodes = [start_node(space, node, file) for node, space in enumerate(spaces)]
    train_candidate(alone)
    ends = [node.wait(timeout=SECONDS) for node in nodes]
    assert ends == [0, 0], "\n".join(path.read_text()[-2000:] for path in file.parent.glob("together.*.log"))
    assert losses(together) == pytest.approx(losses(alone), rel=1e-4)


def test_a_lost_node_ends_the_other_and_one_process_goes_on(make_run: MakeRun, spaces: tuple[str, str]) -> None:
    whole, cut = make_run(out="whole", **SETTINGS), make_run(out="cut", **SETTINGS)
    train_candidate(whole)
    file = write_run(cut)
    first, second = (start_node(space, node, file) for node, space in enumerate(spaces))
    pause, limit = threading.Event(), time.monotonic() + SECONDS
    while len(losses(cut)) < 3:
        assert first.poll() is None, file.with_suffix(".0.log").read_text()[-2000:]
        assert time.monotonic() < limit, "no step"
        pause.wait(0.02)
    end(second)
    assert first.wait(timeout=SECONDS) != 0, "a node without its peer fails rather than waits"
    assert len(losses(cut)) < len(losses(whole)), "it ended before the other was lost"
    resumed: list[Any] = []
    train_candidate(cut, on_event=lambda event: resumed.append(event["event"]))
    assert "resumed" in resumed
    assert losses(cut) == pytest.approx(losses(whole), rel=1e-4)
