"""The continual benchmark: thirteen tasks in a row on SmolLM2-135M by every method, each at its own best rate.

    python -P tests/benchmarks/continual/continual_inputs.py --model FOLDER --data ../shared/data --out /tmp/continual
    python tests/benchmarks/continual/continual.py --model FOLDER --inputs /tmp/continual/inputs.json.gz --out /tmp/continual/rounds.jsonl
    python tests/benchmarks/continual/continual_page.py --rounds /tmp/continual/rounds.jsonl --out docs/results

A sequence is one (method, rate, seed). Several run at once, each in a process of its own; every finished round is a line of OUT at once.
Rates are tried first, on four tasks with rows and items of their own; a method's long sequences begin when its rates are known. Started
again on the same OUT, finished sequences are left out; a sequence that was cut off begins anew, and its earlier lines count no more.
"""

from __future__ import annotations

import argparse
import gzip
import json
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import MethodType
from typing import Any

os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # asking for a GPU must not open it: it is opened after the fork

import torch
from continual_methods import METHODS, Lineage, gram_svd
from continual_scores import Judge

from osft_engine.data.examples import Example

ORDER = ("mnli", "cb", "wic", "copa", "qqp", "boolq", "rte", "yelp", "amazon", "sst2", "dbpedia", "agnews", "multirc")
# The paper's orders 5 and 6, less the same two tasks, and TRACE's short tasks in TRACE's order.
ORDERS = {
    "order 5": ("multirc", "boolq", "wic", "mnli", "cb", "copa", "qqp", "rte", "sst2", "dbpedia", "agnews", "yelp", "amazon"),
    "order 6": ("yelp", "amazon", "mnli", "cb", "copa", "qqp", "rte", "sst2", "dbpedia", "agnews", "multirc", "boolq", "wic"),
    "trace": ("FOMC", "Py150", "ScienceQA", "NumGLUE-cm", "NumGLUE-ds"),
}
LONG = ("main", *ORDERS)
SWEEP, SWEEP_SEED = ("agnews", "dbpedia", "sst2", "amazon"), 9
FIRST = ("full", "activations", "lora", "weights + written", "full + replay", "weights", "peft osf")
FOUR = ("full", "activations", "lora", "weights + written")
LATER = ("o-lora", "oft")
OTHER_SCHEDULES = ("full, six passes", "activations, six passes", "full, weight decay 0.1", "lora on the MLP")  # by the sweep's tasks only


@dataclass(frozen=True)
class Job:
    """kind: sweep (one of a method's rates), main (the long sequence), a name of ORDERS, single (each task alone), together (all tasks at
    once), base (the base model's scores), trace base (likewise on TRACE's tasks), general base (on no task)."""

    kind: str
    method: str = "full"
    place: int = -1  # of the rate among the method's; -1: the best
    seed: int = 0
    tasks: tuple[str, ...] = ORDER

    @property
    def key(self) -> str:
        return f"{self.kind}-{self.method}-{self.place}-{self.seed}-{'-'.join(self.tasks[:1])}".replace(" ", "")


def plan() -> list[Job]:
    """Every job, what matters most first: cut off, what is there still compares all methods."""
    jobs = [Job("base")]
    jobs += [Job("sweep", name, place, SWEEP_SEED, SWEEP) for name in FIRST for place in range(3)]
    jobs += [Job("main", name) for name in FIRST]
    jobs += [Job("main", name, seed=1) for name in FOUR]
    jobs += [Job("single", tasks=ORDER[start::4]) for start in range(4)] + [Job("together")]
    jobs += [Job("main", "full + replay", seed=1)]
    jobs += [Job("sweep", name, place, SWEEP_SEED, SWEEP) for name in LATER for place in range(3)]
    jobs += [Job("main", name) for name in LATER]
    jobs += [Job("main", name, seed=2) for name in FOUR]
    jobs += [Job("main", "activations + text", seed=seed) for seed in range(3)] + [
        Job("trace base", tasks=ORDERS["trace"]),
        Job("general base", tasks=()),
    ]
    jobs += [Job(kind, name, tasks=tasks) for kind, tasks in ORDERS.items() for name in ("activations", "full", "full + replay")]
    jobs += [Job("main", name, seed=1) for name in ("weights", "peft osf", *LATER)]
    jobs += [Job("sweep", name, place, SWEEP_SEED, SWEEP) for name in OTHER_SCHEDULES for place in range(3)]
    jobs += [Job("trace", "activations + text", seed=seed, tasks=ORDERS["trace"]) for seed in range(3)]
    return jobs + [
        Job(kind, name, seed=seed, tasks=tasks) for kind, tasks in ORDERS.items() for seed in (1, 2) for name in ("activations", "full")
    ]


def chosen(jobs: Sequence[Job], beginnings: Sequence[str] | None) -> list[Job]:
    """The jobs whose key begins with one of these, in their order; all jobs where none are named."""
    if not beginnings:
        return list(jobs)
    found = [job for start in beginnings for job in jobs if job.key.startswith(start)]
    return list(dict.fromkeys(found))


def unpack(rows: Sequence[dict[str, Any]], origin: str) -> list[Example]:
    return [Example(tuple(row["ids"]), tuple(digit == "1" for digit in row["learn"]), f"{origin}:{at}") for at, row in enumerate(rows)]


# ---------------------------------------------------------------------------------------------- work


class Worker:
    """Runs jobs one after another. Everything it needs was read before it was forked off."""

    def __init__(self, options: argparse.Namespace, inputs: dict[str, Any], deadline: float) -> None:
        self.options, self.inputs, self.deadline = options, inputs, deadline
        self.judge = Judge(inputs, options.items)
        self.calibration = {name: unpack(inputs[name], name) for name in ("calibration", "wide calibration")}
        self.claims = options.out.with_suffix(".claims")

    def run(self, number: int) -> None:
        """Until nothing is left to claim, or time is up."""
        torch.set_num_threads(1)
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  # a dozen training bars over one another; what fails is written to OUT
        self.device = torch.device(self.options.device)
        if self.device.type == "cuda":
            torch.linalg.svd = gram_svd
        while time.time() < self.deadline:
            job = self.claim()
            if job is None:
                return
            if job == "wait":
                time.sleep(0.2)  # another process is at the sweep that this one waits for
                continue
            try:
                self.work(job, number)
            except Exception:
                self.write({"kind": "failed", "job": job.key, "error": traceback.format_exc()[-1500:]})
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def claim(self) -> Any:
        """The first job that nobody has and whose rate is known; "wait" where only rates are missing; None where nothing is left."""
        done = finished(self.lines())
        waiting = False
        for job in self.options.jobs:
            if job.key in done or (self.claims / job.key).exists():
                continue
            if self.rate(job) is None:
                waiting = True
                continue
            try:
                os.close(os.open(self.claims / job.key, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                continue
            return job
        return "wait" if waiting else None

    def lines(self) -> list[dict[str, Any]]:
        return read_rounds(self.options.out)

    def rate(self, job: Job) -> float | None:
        """The job's learning rate; None while the sweep that decides it is not over."""
        if job.place >= 0:
            return METHODS[job.method].rates[job.place]
        return 0.0 if job.kind.endswith("base") else best_rate(self.lines(), METHODS[job.method].rate_of or job.method)

    def work(self, job: Job, number: int) -> None:
        rate = self.rate(job)
        assert rate is not None
        model = self.build()
        if job.kind.endswith("base"):
            return self.write({"kind": job.kind, "job": job.key, "last": True} | self.facts() | self.judge.score(model, job.tasks))
        order, lineage = list(job.tasks), self.lineage(model, job, rate)
        rounds = [order] if job.kind == "together" else [[task] for task in order]
        for at, tasks in enumerate(rounds, start=1):
            if time.time() > self.deadline:
                return None
            if job.kind == "single" and at > 1:
                lineage = self.lineage(self.build(), job, rate)
            rows = [row for task in tasks for row in unpack(self.inputs["tasks"][task]["train"][str(job.seed)], task)[: self.options.rows]]
            facts = lineage.learn("+".join(tasks) if len(tasks) == 1 else "all", rows)
            began = time.perf_counter()
            seen = order[: at + 1] if job.kind in LONG else order[:at] if job.kind == "sweep" else tasks
            kind = "tuning" if job.kind == "sweep" else "items"
            facts |= self.judge.score(lineage.model, seen, kind=kind, general=job.kind in (*LONG, "together"))
            facts["seconds"]["score"] = round(time.perf_counter() - began, 1)
            place = {"round": at, "task": tasks[0] if len(tasks) == 1 else "all", "last": at == len(rounds)}
            about = {"kind": job.kind, "job": job.key, "method": job.method, "rate": rate, "seed": job.seed}
            run = {"device": self.card(), "workers": self.options.workers, "date": f"{datetime.now(UTC):%Y-%m-%d}", "worker": number}
            self.write(about | place | facts | run | {"at": round(time.time() - self.options.started, 1)})
        return None

    def lineage(self, model: Any, job: Job, rate: float) -> Lineage:
        method = METHODS[job.method]
        return Lineage(model, method, rate, job.seed, self.calibration[method.calibration])

    def card(self) -> str:
        return torch.cuda.get_device_name() if self.device.type == "cuda" else "CPU"

    def facts(self) -> dict[str, Any]:
        """What the page says of the run, and what it needs to read the lines."""
        judge = self.judge
        counts = {name: {kind: len(items) for kind, items in task.items()} for name, task in judge.tasks.items()}
        sizes = {name: [text["bytes"] for text in texts] for name, texts in judge.texts.items()}
        versions = {"torch": torch.__version__} | {package: version(package) for package in ("transformers", "peft")}
        about = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "device": self.card(), "workers": self.options.workers, "versions": versions}
        return about | {"items": counts, "bytes": sizes} | {f"{name}_items": len(items) for name, items in judge.general.items()}

    def build(self) -> Any:
        """The base model, fresh. Its norms run as torch's one fused kernel: the same formula, a sixth of the launches."""
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(self.options.model, dtype=torch.float32, attn_implementation="sdpa").to(self.device)
        for module in model.modules():
            if type(module).__name__ == "LlamaRMSNorm":
                module.forward = MethodType(fused_norm, module)
        return model

    def write(self, line: dict[str, Any]) -> None:
        """One line in one write, so that lines of several processes never mix."""
        handle = os.open(self.options.out, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, (json.dumps(line) + "\n").encode("utf-8"))
        os.close(handle)
        if "round" in line or line["kind"] not in LONG:
            print(
                f"{line.get('at', 0):6.1f} {line['job']} {line.get('round', '')} {line.get('seconds', '')} {line.get('error', '')}",
                flush=True,
            )


def fused_norm(self: Any, hidden_states: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.rms_norm(hidden_states, (hidden_states.shape[-1],), self.weight, self.variance_epsilon)


def read_rounds(path: Path) -> list[dict[str, Any]]:
    """Every whole line; the last one may be half written."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def finished(lines: Sequence[dict[str, Any]]) -> set[str]:
    return {line["job"] for line in lines if line.get("last") or line["kind"] == "failed"}


def count(bits: str) -> int:
    return int(bits, 16).bit_count() if bits else 0


def best_rate(lines: Sequence[dict[str, Any]], method: str) -> float | None:
    """The rate with the most right answers over all tasks of the sweep at its end; the lower of equals. None while a rate is missing."""
    ended = finished(lines)
    if any(Job("sweep", method, place, SWEEP_SEED, SWEEP).key not in ended for place in range(3)):
        return None
    last = [line for line in lines if line["kind"] == "sweep" and line["method"] == method and line["last"]]
    ranked = sorted(last, key=lambda line: (-sum(map(count, line["scores"].values())), line["rate"]))
    return float(ranked[0]["rate"]) if ranked else METHODS[method].rates[1]


def forks_see_the_gpu() -> bool:
    """Whether a forked process can open the GPU: not where something that was imported has opened it already."""
    probe = multiprocessing.get_context("fork").Process(target=lambda: torch.zeros(1).cuda())
    probe.start()
    probe.join(60.0)
    return probe.exitcode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder of SmolLM2-135M-Instruct")
    parser.add_argument("--inputs", type=Path, required=True, help="what continual_inputs.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="JSONL of finished rounds")
    parser.add_argument("--workers", type=int, default=1, help="sequences at once")
    parser.add_argument("--minutes", type=float, default=20_000, help="time for everything; a round that has begun then is lost")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rows", type=int, help="rows of a drop (a rehearsal)")
    parser.add_argument("--items", type=int, help="items of a suite (a rehearsal)")
    parser.add_argument("--only", nargs="+", help="jobs whose key begins so, in this order")
    options = parser.parse_args()
    options.started = time.time()
    deadline = options.started + 60.0 * options.minutes
    options.jobs = chosen(plan(), options.only)
    inputs = json.loads(gzip.decompress(options.inputs.read_bytes()))
    import peft  # noqa: F401  # read once, before the workers are forked off
    import transformers.models.llama.modeling_llama  # noqa: F401

    worker = Worker(options, inputs, deadline)
    worker.claims.mkdir(parents=True, exist_ok=True)
    for claim in worker.claims.iterdir():
        claim.unlink()
    context = multiprocessing.get_context("fork" if options.device == "cpu" or forks_see_the_gpu() else "spawn")
    processes = [context.Process(target=worker.run, args=(number,)) for number in range(options.workers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(max(0.0, deadline + 1.0 - time.time()))
        if process.is_alive():
            process.kill()
    print(f"{len(read_rounds(options.out))} lines after {time.time() - options.started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
