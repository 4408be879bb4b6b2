"""How many optimiser steps a drop needs: one skill on nano, drops of several sizes, several numbers of steps and rates.

    python -P tests/benchmarks/stacking/schedules.py --work /tmp/schedules --out docs/results/schedules

Batches of 8 examples, the default method. `--until-settled` adds trainings that stop by themselves (`train.until_settled`, for the drop of
100 rows too, which is below its limit); `--seeds 0 1` repeats them, and the 500 steps of fixed passes, with further seeds. Every training
starts from nano itself; what it learned and what it cost the seven base skills is scored by the project's own harness. Each finished
training is one line of WORK/results.jsonl; started again, it goes on with what is missing. Writes the JSONL and a table between the markers
of the page.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))  # python -P leaves it out

import stacking
import torch
from stacking_worlds import World, nano_world

from osft_engine import config as engine_config

BATCH = 8
ROWS = (100, 500, 2000)
STEPS = (60, 125, 250, 500, 1000)
RATES = (1e-3, 5e-4)
SKILLS = ("shift", "route", "date")
DEFAULT_STEPS = 500
BEGIN, END = "<!-- numbers: begin -->", "<!-- numbers: end -->"


def plan(options: argparse.Namespace) -> Iterator[tuple[str, int, int | None, float, int]]:
    """(skill, rows, passes, rate, seed) of every training; a number of steps below a pass is one pass. No passes: until settled."""
    seen = set()
    if options.until_settled:
        for seed in options.seeds:
            for skill in SKILLS:
                for rows in ROWS:
                    yield skill, rows, None, RATES[0], seed
                    if seed:
                        yield skill, rows, max(1, round(DEFAULT_STEPS * BATCH / rows)), RATES[0], seed
        return
    for rate in RATES:
        for skill in SKILLS:
            for rows in ROWS:
                for steps in STEPS:
                    chosen = (skill, rows, max(1, round(steps * BATCH / rows)), rate, 0)
                    if chosen not in seen:
                        seen.add(chosen)
                        yield chosen


def measure(
    options: argparse.Namespace, base: dict[str, float], skill: str, rows: int, passes: int | None, rate: float, seed: int
) -> dict[str, Any]:
    """One training and its scores."""
    world = nano_world(argparse.Namespace(work=options.work, items=100, rows=rows))
    settings = {**world.train, "num_epochs": passes, "effective_batch_size": BATCH}
    folder = options.work / "training"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(options.work / "inputs" / f"{skill}-{seed}", ignore_errors=True)  # the drop of another size
    world = World(**{**world.__dict__, "train": settings})
    began = time.process_time()
    variant = stacking.Variant("activations", {"protect": "activations"})
    model = stacking.train_ours(world, variant, rate, seed, skill, None, folder / "round", folder / "bases")
    trained = time.process_time() - began
    events = [json.loads(line) for line in (folder / "round" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    losses = [event["loss"] for event in events if event["event"] == "step"]
    scores = stacking.score(model, world, folder / "items", folder / "scores")
    kept = [scores[name] - base[name] for name in base if name not in world.skills]
    return {
        "skill": skill,
        "rows": rows,
        "passes": passes,
        "seed": seed,
        "steps": len(losses),
        "learning_rate": rate,
        "last_loss": sum(losses[-10:]) / len(losses[-10:]),
        "learned": scores[skill],
        "base_skills": sum(kept) / len(kept),
        "cpu_seconds": round(trained, 1),
    }


def _key(found: dict[str, Any]) -> tuple[float, int, int | None, int]:
    return found["learning_rate"], found["rows"], found["passes"], found.get("seed", 0)


def write_page(out: Path, found: list[dict[str, Any]], facts: str) -> None:
    """The table between the page's markers: learned and change of the base skills, in points, mean over the skills."""
    lines = [
        facts,
        "",
        "| rows | passes | steps | seed | learning rate | skills | learned, % | base skills, points | last loss |",
        "|" + "---|" * 9,
    ]
    keys = sorted({_key(each) for each in found}, key=lambda key: (-key[0], key[1], key[2] or 1_000, key[3]))
    for rate, rows, passes, seed in keys:
        mine = [each for each in found if _key(each) == (rate, rows, passes, seed)]
        counts = sorted({each["steps"] for each in mine})
        steps = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        learned, kept, loss = (sum(each[name] for each in mine) / len(mine) for name in ("learned", "base_skills", "last_loss"))
        worst = min(each["learned"] for each in mine)
        lines.append(
            f"| {rows} | {passes or 'until settled'} | {steps} | {seed} | {rate:g} | {len(mine)} | {100 * learned:.1f} ({100 * worst:.0f}) "
            f"| {100 * kept:+.1f} | {loss:.3f} |"
        )
    page = out.with_suffix(".md")
    text = page.read_text(encoding="utf-8") if page.exists() else f"# How many steps a drop needs\n\n{BEGIN}\n{END}\n"
    head, _, rest = text.partition(BEGIN)
    page.write_text(f"{head}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    out.with_suffix(".jsonl").write_text("".join(json.dumps(each) + "\n" for each in found), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="path of page and JSONL without ending; none writes no page")
    parser.add_argument("--until-settled", action="store_true", help="measure the trainings that stop by themselves")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    options = parser.parse_args()
    engine_config.FEWEST_WATCHED = 1
    options.work = options.work.absolute()
    options.work.mkdir(parents=True, exist_ok=True)
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    torch.set_num_threads(1)
    results = options.work / "results.jsonl"
    found = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()] if results.exists() else []
    world = nano_world(argparse.Namespace(work=options.work, items=100, rows=100))
    base = stacking.score(world.base, world, options.work / "items", options.work / "base")
    done = {(each["skill"], each["rows"], each["passes"], each["learning_rate"], each.get("seed", 0)) for each in found}
    for chosen in plan(options):
        if chosen in done:
            continue
        found.append(measure(options, base, *chosen))
        with results.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(found[-1]) + "\n")
        print(json.dumps(found[-1]), flush=True)
    if options.out is not None:
        facts = f"`python -P tests/benchmarks/stacking/schedules.py`, torch {torch.__version__}, CPU, one thread; 100 items per suite."
        write_page(options.out, found, facts)


if __name__ == "__main__":
    main()
