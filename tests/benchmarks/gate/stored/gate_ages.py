"""Do the base's margins still say which items flip after many rounds? On the stored rounds of thirteen tasks, PIQA.

    python tests/benchmarks/gate/stored/gate_ages.py
    python tests/benchmarks/gate/stored/gate_ages.py --measure MODEL DATA  # the margins anew: SmolLM2-135M-Instruct, the folder with piqa/

The benchmark of thirteen tasks asked 200 PIQA items after every round and kept which were right. Their margins on the base are in
gate-ages.json; by them 80 of the 200 are drawn. An item that is read with r times the chance of an even draw adds, where it flips, 1 / r
times the variance that it would add there; the mean over the flips is the variance of the draw as a share of an even one. A round is
compared with the one before it on the same machine, so the first round counts only where the base was asked there. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2] / "continual"))

import numpy as np
from continual_figures import from_hex
from numpy.typing import NDArray

from evals.drawing import inclusion_chances, item_sizes

ITEMS, READ = 199, 80
NOT_ASKED = 87
"""The place, among PIQA's items as they are drawn, of the one that half of the stored rounds did not ask."""
AGES: Mapping[str, range] = {"1": range(1, 2), "2 to 4": range(2, 5), "5 to 13": range(5, 14)}
METHODS: Mapping[str, Callable[[str], bool]] = {
    "what was learned is protected": lambda method: method.startswith(("activations", "weights", "peft osf")),
    "other methods": lambda method: not method.startswith(("activations", "weights", "peft osf")),
}


def measured(model: Path, data: Path) -> list[float]:
    """Log-probability of the right choice less that of the other, per item (nats): positive where the base is right."""
    import tempfile

    from continual_inputs import PIQA_ITEMS, Asker, TextRenderer, TrainConfig, draw, load_model, load_tokenizer, read_lines

    from evals.scoring.scorer import ContinuationScorer

    tokenizer = load_tokenizer(model, TrainConfig(seed=0))
    with tempfile.TemporaryDirectory() as folder:
        asker = Asker(tokenizer, TextRenderer(tokenizer), Path(folder))
        lines = draw(read_lines(data / "piqa" / "suite.jsonl"), PIQA_ITEMS, 7)
        items = asker.suite("piqa", [line for place, line in enumerate(lines) if place != NOT_ASKED], chat=False)
    scorer = ContinuationScorer(load_model(model, TrainConfig(seed=0)).eval(), max_length=8192, max_tokens=1024, max_rows=32)
    scored = iter(scorer.score([(item["context"], choice) for item in items for choice in item["choices"]]))
    found = []
    for item in items:
        logprobs = [next(scored).logprob for _ in item["choices"]]
        found.append(round(logprobs[item["gold"]] - max(each for place, each in enumerate(logprobs) if place != item["gold"]), 4))
    return found


def ratios(
    lines: Sequence[Mapping[str, Any]], margin: NDArray[np.float64], taken: Callable[[str], bool]
) -> dict[str, tuple[list[float], list[float]]]:
    """Age -> (share of the items that flipped in each round, 1 / r of each item that flipped)."""
    relative = inclusion_chances(item_sizes(margin), READ) / (READ / ITEMS)
    sequences: dict[tuple[str, str], dict[int, NDArray[np.float64]]] = defaultdict(dict)
    for line in lines:
        if line["kind"] == "main" and line.get("piqa") and taken(line["method"]):
            sequences[line["job"], line.get("device", "")][line["round"]] = np.array(from_hex(line["piqa"], ITEMS))
    base = np.array(from_hex(next(line["piqa"] for line in lines if line["kind"] == "base"), ITEMS))
    if not ((margin > 0) == (base == 1.0)).all():
        raise AssertionError("the margins are not those of the base that the benchmark asked")
    found: dict[str, tuple[list[float], list[float]]] = {age: ([], []) for age in AGES}
    for rounds in sequences.values():
        before = base
        for number in sorted(rounds):
            [age] = [name for name, numbers in AGES.items() if number in numbers]
            flipped = rounds[number] != before
            found[age][0].append(float(flipped.mean()))
            found[age][1].extend((1.0 / relative[flipped]).tolist())
            before = rounds[number]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--continual", type=Path, default=Path("docs/results/continual.jsonl"))
    parser.add_argument("--margins", type=Path, default=Path("docs/results/gate-ages.json"))
    parser.add_argument("--measure", type=Path, nargs=2, metavar=("MODEL", "DATA"))
    options = parser.parse_args()
    if options.measure:
        options.margins.write_text(json.dumps(measured(*options.measure)) + "\n", encoding="utf-8")
    margin = np.array(json.loads(options.margins.read_text(encoding="utf-8")))
    lines = [json.loads(line) for line in options.continual.read_text(encoding="utf-8").splitlines()]
    print("| rounds of | round | rounds | churn | flips | variance of the draw, even = 1 |\n|---|---|---|---|---|---|")
    for name, taken in METHODS.items():
        for age, (churn, ratio) in ratios(lines, margin, taken).items():
            error = np.std(ratio, ddof=1) / np.sqrt(len(ratio))
            print(f"| {name} | {age} | {len(churn)} | {np.mean(churn):.1%} | {len(ratio)} | {np.mean(ratio):.2f} ± {error:.2f} |")


if __name__ == "__main__":
    main()
