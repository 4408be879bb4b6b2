"""Do items flip where the champion's margin is small? Reads two evaluations of the same suites and keeps what that needs.

    python -P tests/benchmarks/gate/stored/gate_margins.py CHAMPION_EVALUATION CANDIDATE_EVALUATION --out docs/results/gate-margins.jsonl

One row per multiple-choice item: suite, margin (nats between the champion's best and second choice), champion's and candidate's score.
`tests/benchmarks/gate/gate_drawn.py` simulates from it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evals.gate.pairing import reference_order
from evals.items import Evaluation, load_evaluation


def margins(champion: Evaluation, candidate: Evaluation) -> Iterator[dict[str, Any]]:
    """The rows of all general suites whose items have choices."""
    for name, items in candidate.suites.items():
        reference = champion.suites[name]
        if items.category != "general" or not all(reference.choice_logprobs):
            continue
        for mine, theirs in enumerate(reference_order(items, reference)):
            best, second = sorted(reference.choice_logprobs[theirs] or (), reverse=True)[:2]
            scores = {"champion": float(reference.score[theirs]), "candidate": float(items.score[mine])}
            yield {"suite": name, "margin": round(best - second, 4), **scores}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("champion", type=Path)
    parser.add_argument("candidate", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    rows = margins(load_evaluation(options.champion), load_evaluation(options.candidate))
    options.out.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
