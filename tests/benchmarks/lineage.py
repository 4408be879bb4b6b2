"""What a long lineage costs to read: history, tree, champion, audit and verify against the number of rounds.

    python tests/benchmarks/lineage.py --rounds 100 --megabytes 5 [--tracking-uri postgresql://... | --postgres]

Each round has real folders (a checkpoint of the given size, evaluations of champion and candidate on eleven suites with their items and the
cache of scores, the verdict that the gate gives on them) and is opened, logged, registered and, but for every fifth, which loses an earlier
skill, promoted, as the flow does it. Times are seconds of the wall clock (of the processor). Limits: history, audit and verify under 5 s at
100 rounds. With --postgres a database is started for the run (infra/services.py).
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from data_contracts.digests import text_digest, value_digest
from data_contracts.manifests import CheckpointManifest, Decision, EvalReport, SuiteResult, Verdict, file_ref, write_manifest
from evals.gate.decide import GateEvidence, decide
from evals.gate.policy import GatePolicy
from evals.item_cache import ItemCache
from evals.items import COLUMNS, load_evaluation, write_items
from flows.config.model import SkillstackConfig, parse_config
from flows.lineage import (
    Lineage,
    VersionRef,
    connect,
    current_champion,
    finish_round,
    log_stage,
    open_round,
    promote_version,
    read_ancestry,
    read_history,
    read_tree,
    register_candidate,
    verify_lineage,
)
from flows.review.audit import audit_lineage

LIMIT_SECONDS = 5.0
GENERAL, ITEMS = 9, 100
EARLIER = "earlier"
"""A skill that every round is asked about."""
POLICY = GatePolicy(accept_unmeasured=("safety", "drift"), margin_general=0.1, margin_skill=0.1, margin_safety=0.1)


def scores_of(skill: str | None, learned: bool, lost: bool) -> dict[str, list[float]]:
    """Suite -> score of each item: general suites and an earlier skill with 80 % right answers, and the round's own skill."""
    scores = {
        name: [float(random.Random(f"{name} {item}").random() < 0.8) for item in range(ITEMS)] for name in (EARLIER, *general_suites())
    }
    if lost:
        scores[EARLIER] = [0.0] * ITEMS
    return scores if skill is None else scores | {skill: [float(learned)] * ITEMS}


def general_suites() -> list[str]:
    return [f"general-{index}" for index in range(GENERAL)]


def write_evaluation(state: Path, name: str, model_sha256: str, scores: dict[str, list[float]]) -> tuple[Path, EvalReport]:
    """A finished evaluation under `stages`, and its items in the cache of scores."""
    folder = state / "stages" / "evaluate" / name
    suites, files = [], {}
    for suite, values in scores.items():
        hashes = [text_digest(f"{suite} {item}") for item in range(ITEMS)]
        numbers = {"score": values, "gold_logprob": [value - 1.5 for value in values], "weight": 1.0, "cluster": None, "cut": 0}
        gold = [f"answer {item % 8}" for item in range(ITEMS)]
        said = [right if value else "something else" for right, value in zip(gold, values, strict=True)]
        text = {"prompt": "Say it.", "gold": gold, "prediction": said, "reasoning": "", **dict.fromkeys(COLUMNS[-3:])}
        items = pd.DataFrame({"doc_hash": hashes, "prompt_hash": hashes, **numbers, **text})
        path = folder / "items" / f"{suite}.parquet"
        write_items(path, items)
        ItemCache.open(state / "items", model=model_sha256, prompting=suite, settings=text_digest("settings")).add(items)
        files[f"items/{suite}"] = file_ref(folder, path)
        suites.append(
            SuiteResult(
                name=suite,
                category="general" if suite in general_suites() else "skill",
                metric="acc",
                higher_is_better=True,
                n=ITEMS,
                score=sum(values) / ITEMS,
                suite_sha256=text_digest(f"suite {suite}"),
                seconds=1.0,
            )
        )
    settings = {"dtype": "float32"}
    report = EvalReport(
        model_sha256=model_sha256, settings=settings, settings_sha256=value_digest(settings), suites=tuple(suites), files=files
    )
    write_manifest(folder, report)
    return folder, report


def judge(folder: Path, champion: VersionRef, skill: str, before: Path, after: Path) -> Verdict:
    """What the gate says of the two evaluations; the base's and the champion's own are those of the registry."""
    registered = load_evaluation(champion.evaluation) if champion.evaluation is not None else None
    evidence = GateEvidence(
        candidate=load_evaluation(after),
        champion=load_evaluation(before),
        anchors=dict.fromkeys((EARLIER, *general_suites()), load_evaluation(before)),
        new_skill=skill,
        registered=dict.fromkeys((EARLIER, *general_suites()), registered) if registered is not None else {},
    )
    verdict = decide(evidence, POLICY)
    write_manifest(folder, verdict)
    return verdict


def write_checkpoint(folder: Path, number: int, megabytes: float, parent: str | None) -> CheckpointManifest:
    weights = folder / "model" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(text_digest(str(number)).encode() * int(megabytes * 1e6 / 64))
    manifest = CheckpointManifest(
        skill=None if parent is None else f"skill-{number}",
        method="base" if parent is None else "osft",
        model_sha256=text_digest(f"model {number}"),
        parent_sha256=parent,
        files={"model/model.safetensors": file_ref(folder, weights)},
    )
    write_manifest(folder, manifest)
    return manifest


def run_round(lineage: Lineage, number: int, megabytes: float, champion: VersionRef | None) -> VersionRef:
    """One round as the flow records it; gives the champion after it."""
    state, root = lineage.state_dir, lineage.state_dir / "rounds" / str(number)
    manifest = write_checkpoint(root / "checkpoint", number, megabytes, champion.model_sha256 if champion else None)
    after, report = write_evaluation(state, f"{number}-candidate", manifest.model_sha256, scores_of(manifest.skill, True, number % 5 == 4))
    run = open_round(lineage, number, manifest.skill, chain=read_ancestry(lineage, champion.version) if champion else ())
    verdict = None
    log_stage(lineage, run, "train", manifest, root / "checkpoint")
    log_stage(lineage, run, "evaluate", report, after)
    if champion is not None and manifest.skill is not None:
        before, _ = write_evaluation(state, f"{number}-champion", champion.model_sha256, scores_of(manifest.skill, False, False))
        verdict = judge(root / "verdict", champion, manifest.skill, before, after)
        wanted = Decision.BLOCK if number % 5 == 4 else Decision.PASS
        assert verdict.decision is wanted, verdict.reasons
        log_stage(lineage, run, "decide", verdict, root / "verdict")
    version = register_candidate(
        lineage,
        run,
        root / "checkpoint",
        manifest,
        evaluation=after,
        report=report,
        verdict_folder=root / "verdict" if verdict is not None else None,
        verdict=verdict,
    )
    promoted = verdict is None or verdict.decision is Decision.PASS
    if promoted:
        expected = champion.version if champion else None
        promote_version(lineage, version.version, expected_champion=expected, reason="benchmark", actor="benchmark", verdict=verdict)
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
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "infra"))
    from local_postgres import Postgres

    server = Postgres(("mlflow",))
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
        actions: tuple[Callable[[], object], ...] = (
            lambda: read_history(lineage),
            lambda: read_tree(lineage),
            lambda: current_champion(lineage),
            lambda: audit_lineage(config),
            lambda: verify_lineage(lineage),
        )
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
