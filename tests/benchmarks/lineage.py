"""What a long lineage costs to read: history, tree, champion and verify against the number of rounds, on SQLite.

    python tests/benchmarks/lineage.py --rounds 100 --megabytes 5

Each round has real folders (a checkpoint of the given size, an evaluation of ten suites, a verdict) and is opened, logged, registered and,
but for every fifth, promoted, as the flow does it. Times are seconds of the wall clock (of the processor). Limits: history and verify
under 5 s at 100 rounds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from data_contracts.digests import text_digest
from data_contracts.manifests import CheckpointManifest, Decision, EvalReport, SuiteResult, Verdict, file_ref, write_manifest
from flows.lineage import Lineage, VersionRef

LIMIT_SECONDS = 5.0
SUITES = 10


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
    suites = tuple(
        SuiteResult(
            name=f"suite-{index}",
            category="skill",
            metric="acc",
            higher_is_better=True,
            n=100,
            score=(number + index) % 100 / 100,
            suite_sha256=text_digest(f"suite {index}"),
            seconds=1.0,
        )
        for index in range(SUITES)
    )
    report = EvalReport(model_sha256=manifest.model_sha256, settings={}, settings_sha256=text_digest("settings"), suites=suites)
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
    run = lineage.open_round(number, manifest.skill)
    judged = None if champion is None else verdict
    lineage.log_stage(run, "train", manifest, root / "checkpoint")
    lineage.log_stage(run, "evaluate", report, root / "evaluation")
    if judged is not None:
        lineage.log_stage(run, "decide", judged, root / "verdict")
    version = lineage.register_candidate(
        run, root / "checkpoint", manifest, evaluation=root / "evaluation", report=report, verdict_folder=root / "verdict", verdict=judged
    )
    promoted = champion is None or verdict.decision is Decision.PASS
    if promoted:
        expected = champion.version if champion else None
        lineage.promote(version.version, expected_champion=expected, reason="benchmark", actor="benchmark", verdict=judged)
    lineage.finish_round(run)
    return version if promoted or champion is None else champion


def best_of(times: int, action: Callable[[], object]) -> tuple[float, float]:
    """(wall, processor) seconds of the fastest of a few calls: the machine's other work only ever adds to the first."""
    seconds = []
    for _ in range(times):
        start, used = time.perf_counter(), time.process_time()
        action()
        seconds.append((time.perf_counter() - start, time.process_time() - used))
    return min(seconds)


def measure(rounds: int, megabytes: float, state: Path) -> bool:
    """Grow a lineage and print a row at each size. True if the last row is within the limits."""
    lineage = Lineage(f"sqlite:///{state}/mlflow.db", model_name="benchmark", experiment="benchmark", state_dir=state)
    columns = ("rounds", "record a round, s", "history", "tree", "champion", "verify", "verified MB")
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    champion: VersionRef | None = None
    within = True
    started, since = time.perf_counter(), 0
    for number in range(rounds):
        champion = run_round(lineage, number, megabytes, champion)
        if number + 1 not in {1, 10, 25, 50, 100, 200, 400, rounds}:
            continue
        each = (time.perf_counter() - started) / (number + 1 - since)
        seconds = [best_of(3, action) for action in (lineage.history, lineage.tree, lineage.champion, lineage.verify)]
        checked = lineage.verify()
        if not checked.ok:
            raise SystemExit(f"verify found {checked.findings[0]}")
        within = seconds[0][0] < LIMIT_SECONDS and seconds[3][0] < LIMIT_SECONDS
        print(
            "| "
            + " | ".join(
                [str(number + 1), f"{each:.2f}", *(f"{wall:.2f} ({used:.2f})" for wall, used in seconds), f"{checked.bytes / 1e6:.0f}"]
            )
            + " |"
        )
        started, since = time.perf_counter(), number + 1
    return within


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost of reading a lineage against its number of rounds.")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--megabytes", type=float, default=5.0, help="size of each round's dense weights")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lineage-benchmark-") as folder:
        within = measure(arguments.rounds, arguments.megabytes, Path(folder))
    print(f"history and verify {'within' if within else 'NOT within'} {LIMIT_SECONDS:.0f} s")
    sys.exit(0 if within else 1)


if __name__ == "__main__":
    main()
