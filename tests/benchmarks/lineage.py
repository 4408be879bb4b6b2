"""What a long lineage costs to read: history, tree, champion, audit and verify against the number of rounds.

    python tests/benchmarks/lineage.py --rounds 100 --megabytes 5 [--tracking-uri postgresql://... | --postgres]

Each round has real folders (a checkpoint of the given size, an evaluation of ten suites with their items, a verdict) and is opened, logged,
registered and, but for every fifth, promoted, as the flow does it. Times are seconds of the wall clock (of the processor). Limits: history,
audit and verify under 5 s at 100 rounds. With --postgres a database is started for the run (infra/services.py).
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.lineage import connect, finish_round, log_stage, open_round, promote_version, read_ancestry, register_candidate, verify_lineage

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # before this folder, whose evals.py has the name of a package

import pandas as pd

from data_contracts.digests import text_digest
from data_contracts.manifests import CheckpointManifest, Decision, EvalReport, SuiteResult, Verdict, file_ref, write_manifest
from evals.items import write_items
from flows.config.model import SkillstackConfig, parse_config
from flows.lineage import Lineage, VersionRef
from flows.review.audit import audit_lineage

LIMIT_SECONDS = 5.0
SUITES, ITEMS = 10, 100


def write_evaluation(folder: Path, number: int, model_sha256: str) -> EvalReport:
    """Ten suites of a hundred items; a few answers flip from round to round."""
    suites, files = [], {}
    for index in range(SUITES):
        rng, name = random.Random(f"{number} {index}"), f"suite-{index}"
        path = folder / "items" / f"{name}.parquet"
        hashes = [text_digest(f"{index} {item}") for item in range(ITEMS)]
        scores = [float(rng.random() < 0.8) for _ in hashes]
        columns = {"doc_hash": hashes, "prompt_hash": hashes, "score": scores, "gold_logprob": [-rng.random() for _ in hashes]}
        text = {name: [f"{name} {item}" for item in range(ITEMS)] for name in ("prompt", "gold", "prediction")}
        write_items(path, pd.DataFrame({**columns, "weight": 1.0, "cluster": None, **text}))
        files[f"items/{name}"] = file_ref(folder, path)
        suites.append(
            SuiteResult(
                name=name,
                category="general",
                metric="acc",
                higher_is_better=True,
                n=ITEMS,
                score=sum(scores) / ITEMS,
                suite_sha256=text_digest(f"suite {index}"),
                seconds=1.0,
            )
        )
    return EvalReport(model_sha256=model_sha256, settings={}, settings_sha256=text_digest("settings"), suites=tuple(suites), files=files)


def write_round(state: Path, number: int, megabytes: float, parent: str | None) -> tuple[Path, CheckpointManifest, EvalReport, Verdict]:
    root = state / "rounds" / str(number)
    weights = root / "checkpoint" / "model" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(text_digest(str(number)).encode() * int(megabytes * 1e6 / 64))
    manifest = CheckpointManifest(
        skill=None if parent is None else f"skill-{number}",
        method="base" if parent is None else "osft",
        model_sha256=text_digest(f"model {number}"),
        parent_sha256=parent,
        files={"model/model.safetensors": file_ref(root / "checkpoint", weights)},
    )
    report = write_evaluation(root / "evaluation", number, manifest.model_sha256)
    decision = Decision.BLOCK if number % 5 == 4 else Decision.PASS
    verdict = Verdict(
        decision=decision,
        reasons=("benchmark",),
        checks=(),
        policy={},
        candidate_sha256=manifest.model_sha256,
        champion_sha256=parent or manifest.model_sha256,
    )
    for name, stage in (("checkpoint", manifest), ("evaluation", report), ("verdict", verdict)):
        write_manifest(root / name, stage)
    return root, manifest, report, verdict


def run_round(lineage: Lineage, number: int, megabytes: float, champion: VersionRef | None) -> VersionRef:
    """One round as the flow records it; gives the champion after it."""
    root, manifest, report, verdict = write_round(lineage.state_dir, number, megabytes, champion.model_sha256 if champion else None)
    run = open_round(lineage, number, manifest.skill, chain=read_ancestry(lineage, champion.version) if champion else ())
    judged = None if champion is None else verdict
    log_stage(lineage, run, "train", manifest, root / "checkpoint")
    log_stage(lineage, run, "evaluate", report, root / "evaluation")
    if judged is not None:
        log_stage(lineage, run, "decide", judged, root / "verdict")
    version = register_candidate(
        lineage,
        run,
        root / "checkpoint",
        manifest,
        evaluation=root / "evaluation",
        report=report,
        verdict_folder=root / "verdict",
        verdict=judged,
    )
    promoted = champion is None or verdict.decision is Decision.PASS
    if promoted:
        expected = champion.version if champion else None
        promote_version(lineage, version.version, expected_champion=expected, reason="benchmark", actor="benchmark", verdict=judged)
    finish_round(lineage, run)
    return version if promoted or champion is None else champion


def best_of(times: int, action: Callable[[], object]) -> tuple[float, float]:
    """(wall, processor) seconds of the fastest of a few calls: the machine's other work only ever adds to the first."""
    seconds = []
    for _ in range(times):
        start, used = time.perf_counter(), time.process_time()
        action()
        seconds.append((time.perf_counter() - start, time.process_time() - used))
    return min(seconds)


@contextmanager
def database(uri: str | None, postgres: bool, state: Path) -> Iterator[str]:
    """The tracking URI to measure on."""
    if not postgres:
        yield uri or f"sqlite:///{state}/mlflow.db"
        return
    place = Path(__file__).parents[2] / "infra" / "services.py"
    spec = importlib.util.spec_from_file_location("services", place)
    assert spec is not None
    assert spec.loader is not None
    services = importlib.util.module_from_spec(spec)
    sys.modules["services"] = services
    spec.loader.exec_module(services)
    server = services.Postgres(("mlflow",))
    try:
        os.environ["PGPASSWORD"] = server.password
        yield server.url("mlflow")
    finally:
        server.close()


def measure(rounds: int, megabytes: float, state: Path, uri: str) -> bool:
    """Grow a lineage and print a row at each size. True if the last row is within the limits."""
    os.environ["MLFLOW_TRACKING_URI"] = uri
    names = {"model_name": "benchmark", "experiment": "benchmark"}
    config: SkillstackConfig = parse_config({"state_dir": str(state), "tracking": names}, where="benchmark", folder=state)
    lineage = connect(uri, **names, state_dir=state)
    columns = ("rounds", "record a round, s", "history", "tree", "champion", "audit", "verify", "verified MB")
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns), flush=True)
    champion: VersionRef | None = None
    within = True
    started, since = time.perf_counter(), 0
    for number in range(rounds):
        champion = run_round(lineage, number, megabytes, champion)
        if number + 1 not in {1, 10, 25, 50, 100, 200, 400, rounds}:
            continue
        each = (time.perf_counter() - started) / (number + 1 - since)
        actions = (lineage.history, lineage.tree, lineage.champion, lambda: audit_lineage(config), lineage.verify)
        seconds = [best_of(3, action) for action in actions]
        checked = verify_lineage(lineage)
        if not checked.ok:
            raise SystemExit(f"verify found {checked.findings[0]}")
        within = all(seconds[index][0] < LIMIT_SECONDS for index in (0, 3, 4))
        cells = [f"{wall:.2f} ({used:.2f})" for wall, used in seconds]
        print("| " + " | ".join([str(number + 1), f"{each:.2f}", *cells, f"{checked.bytes / 1e6:.0f}"]) + " |", flush=True)
        started, since = time.perf_counter(), number + 1
    return within


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost of reading a lineage against its number of rounds.")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--megabytes", type=float, default=5.0, help="size of each round's dense weights")
    parser.add_argument("--tracking-uri", help="an empty MLflow database or server; default: SQLite in a temporary folder")
    parser.add_argument("--postgres", action="store_true", help="start a PostgreSQL for the run")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="lineage-benchmark-") as folder,
        database(arguments.tracking_uri, arguments.postgres, Path(folder)) as uri,
    ):
        within = measure(arguments.rounds, arguments.megabytes, Path(folder), uri)
    print(f"history, audit and verify {'within' if within else 'NOT within'} {LIMIT_SECONDS:.0f} s")
    sys.exit(0 if within else 1)


if __name__ == "__main__":
    main()
