"""Drops taught to nano one after another by the engine alone, without a gate: what each setting learns, and what it costs what was there.

    python -P tests/e2e/three_drops.py WORK/drops && cd WORK && skillstack init .
    skillstack validate drops/desks.jsonl --skill desks --out desks        # and the others
    python -P tests/benchmarks/rounds/drops_in_a_row.py --work WORK --name default --skills desks queries
    python -P tests/benchmarks/rounds/drops_in_a_row.py --work WORK --name replay --skills desks queries --train '{"replay_share": 0.25}'

Settings apply to every skill after those that `--after NAME` has taught already. Scores are of greedy answers by plain transformers, exact
match, on the validated drops' held-out rows and the base suites, with bits per byte of prose; one line of WORK/results.jsonl for each
training.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from flows.base_models.resolve import NANO
from osft_engine.config import TrainConfig
from osft_engine.run import TrainRun
from osft_engine.train import train_candidate

BASE = ("copy", "reverse", "sort", "upper", "add", "larger", "topic")
BATCH = 64


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """(question, answer) of held-out conversations or of a suite."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if "messages" in rows[0]:
        return [(row["messages"][0]["content"], row["messages"][-1]["content"]) for row in rows]
    return [(row["prompt"], row["answer"]) for row in rows]


@torch.no_grad()
def share_right(model: Any, tokenizer: Any, pairs: Sequence[tuple[str, str]]) -> float:
    """Share of questions, in %, whose greedy answer is the right one."""
    tokenizer.padding_side = "left"
    limit = max(len(tokenizer(answer)["input_ids"]) for _, answer in pairs) + 4
    right = 0
    for start in range(0, len(pairs), BATCH):
        part = pairs[start : start + BATCH]
        turns = [[{"role": "user", "content": question}] for question, _ in part]
        texts = [tokenizer.apply_chat_template(each, tokenize=False, add_generation_prompt=True) for each in turns]
        inputs = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False, return_token_type_ids=False)
        answers = model.generate(**inputs, max_new_tokens=limit, do_sample=False)[:, inputs["input_ids"].shape[1] :]
        said = tokenizer.batch_decode(answers, skip_special_tokens=True)
        right += sum(given.strip() == answer.strip() for given, (_, answer) in zip(said, part, strict=True))
    return round(100 * right / len(pairs), 1)


@torch.no_grad()
def bits_per_byte(model: Any, tokenizer: Any, texts: Sequence[str]) -> float:
    """Of plain text after an end token, as the round measures it."""
    bits = 0.0
    for text in texts:
        ids = torch.tensor([[tokenizer.eos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]])
        logits = torch.log_softmax(model(ids).logits[0, :-1].float(), -1)
        bits -= float(logits.gather(1, ids[0, 1:, None]).sum()) / math.log(2)
    return bits / sum(len(text.encode()) for text in texts)


def score(folder: Path, suites: Mapping[str, Path], prose: Path) -> dict[str, float]:
    """Suite -> share right in %, and bits per byte of prose."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder).eval()
    texts = [json.loads(line)["text"] for line in prose.read_text(encoding="utf-8").splitlines()]
    found = {name: share_right(model, tokenizer, read_pairs(path)) for name, path in suites.items()}
    return found | {"prose": round(bits_per_byte(model, tokenizer, texts), 5)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder with skillstack init's suites and the validated drops by skill")
    parser.add_argument("--name", required=True, help="of this sequence")
    parser.add_argument("--skills", nargs="+", required=True, help="validated drops, in the order of teaching")
    parser.add_argument("--after", nargs=2, metavar=("NAME", "SKILL"), help="begin with what another sequence had after a skill")
    parser.add_argument("--train", type=json.loads, default={}, help="settings of train as JSON, beside moment_tokens 20000")
    options = parser.parse_args()
    torch.set_num_threads(1)
    work = options.work.absolute()
    suites = {name: work / "suites" / f"{name}.jsonl" for name in BASE}
    suites |= {path.parent.name: path for path in sorted(work.glob("*/heldout.jsonl"))}
    parent: Path | None = work / "rounds" / "-".join(options.after) if options.after else None
    for skill in options.skills:
        began, out = time.monotonic(), work / "rounds" / f"{options.name}-{skill}"
        config = TrainConfig.model_validate({"moment_tokens": 20000, "num_threads": 1} | options.train)
        run = TrainRun(
            base=parent / "model" if parent else NANO, parent=parent, drop=work / skill, calibration=work / "suites" / "calibration.jsonl",
            skill=skill, out_dir=out, config=config,
        )  # fmt: skip
        summary = train_candidate(run).summary
        assert summary is not None
        found = {"name": options.name, "skill": skill, "train": options.train, "steps": summary.steps, "loss": round(summary.final_loss, 4)}
        line = found | {"scores": score(out / "model", suites, work / "suites" / "prose.jsonl"), "seconds": round(time.monotonic() - began)}
        with (work / "results.jsonl").open("a", encoding="utf-8") as results:
            results.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)
        parent = out


if __name__ == "__main__":
    main()
