"""The accelerate backend: several processes share the items of each suite, each with a complete copy of the model.

    python -m torch.distributed.run --standalone --nproc_per_node 2 -m evals.harness.workers job.json

`fill_with_workers` starts that for an evaluation; the processes fill the item cache and the caller reads it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from data_contracts.digests import value_digest
from data_contracts.errors import CheckpointError, ConfigError, EvaluationError, SkillstackError
from evals.config import EvaluationConfig, ModelUse, SuiteConfig

TAIL_LINES = 5
PROGRESS = "progress "
OnProgress = Callable[[int, str], None]


class WorkerJob(BaseModel):
    """What every worker reads."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model_dir: Path
    model_sha256: str
    suites: tuple[SuiteConfig, ...]
    config: EvaluationConfig
    use: ModelUse
    cache_dir: Path


def fill_with_workers(
    model_dir: Path,
    suites: Sequence[SuiteConfig],
    config: EvaluationConfig,
    use: ModelUse,
    cache_dir: Path,
    digest: str,
    on_progress: OnProgress,
) -> dict[str, float]:
    """Run the workers to the end; returns seconds by suite. Raises what a worker raised, in its words.

    `on_progress(done, suite)` counts items over all suites, as the first worker has come.
    """
    with tempfile.TemporaryDirectory() as folder:
        job = WorkerJob(
            model_dir=model_dir.absolute(),
            model_sha256=digest,
            suites=tuple(suites),
            config=config,
            use=use,
            cache_dir=cache_dir.absolute(),
        )
        path = Path(folder) / "job.json"
        path.write_text(job.model_dump_json(), encoding="utf-8")
        code, errors = _run_workers(path, config, on_progress)
        failure = path.with_suffix(".error")
        if failure.is_file():
            error = json.loads(failure.read_text(encoding="utf-8"))
            kind = {each.__name__: each for each in (CheckpointError, ConfigError)}.get(error["kind"], EvaluationError)
            raise kind(error["where"], error["what"], error["way_out"])
        if code != 0:
            tail = " | ".join(errors.strip().splitlines()[-TAIL_LINES:])
            raise EvaluationError("evaluation.backend accelerate", f"the workers ended with {code}: {tail}", "use backend: hf")
        seconds: dict[str, float] = json.loads(path.with_suffix(".seconds").read_text(encoding="utf-8"))
        return seconds


def _run_workers(job: Path, config: EvaluationConfig, on_progress: OnProgress) -> tuple[int, str]:
    """(exit code, what the workers wrote to stderr). They end with this process, whatever ends it."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(config.processes)]
    environment = os.environ | ({"ACCELERATE_USE_CPU": "true"} if config.device == "cpu" else {})
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]))
    errors = job.with_suffix(".stderr")
    with errors.open("w", encoding="utf-8") as stderr:
        command = [*launch, "-m", "evals.harness.workers", str(job)]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True, errors="replace")
        try:
            for line in process.stdout or ():
                if line.startswith(PROGRESS):
                    done, suite = json.loads(line.removeprefix(PROGRESS))
                    on_progress(done, suite)
            code = process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
    return code, errors.read_text(encoding="utf-8", errors="replace")


def work(path: Path) -> int:
    """One worker's life."""
    from evals.harness.fill import Counter, fill_cache, harness_settings
    from evals.harness.plan import Planner

    job = WorkerJob.model_validate_json(path.read_text(encoding="utf-8"))
    is_first = os.environ.get("RANK", "0") == "0"
    try:
        planner = Planner(job.model_sha256, value_digest(harness_settings(job.config, job.use)), job.config, job.cache_dir)
        plans = [planner.plan(suite) for suite in job.suites]
        counter = Counter(_tell if is_first else None, total=sum(len(plan.facts.doc_hashes) for plan in plans))
        seconds = fill_cache(job.model_dir, plans, job.config, job.use, counter)
    except SkillstackError as error:
        content = {"kind": type(error).__name__, "where": error.where, "what": error.what, "way_out": error.way_out}
        path.with_suffix(".error").write_text(json.dumps(content), encoding="utf-8")
        return 1
    if is_first:
        path.with_suffix(".seconds").write_text(json.dumps(seconds), encoding="utf-8")
    return 0


def _tell(done: int, _total: int, suite: str) -> None:
    print(PROGRESS + json.dumps([done, suite]), flush=True)


if __name__ == "__main__":
    raise SystemExit(work(Path(sys.argv[1])))
