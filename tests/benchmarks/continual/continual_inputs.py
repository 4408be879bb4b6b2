"""The continual benchmark's tasks as token ids, so that the machine that trains needs neither a tokenizer nor lm-eval.

    python -P tests/benchmarks/continual/continual_inputs.py --model FOLDER --data ../shared/data --out /tmp/continual

Rows are rendered and items are asked by the project's own code (TextRenderer, the harness's PromptMaker): the context that training saw, a
choice scored with the end of its turn. Writes OUT/inputs.json.gz.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

import evals.suites.sets
from data_contracts.rendering import TextRenderer
from evals.config import SuiteConfig
from evals.harness.prompts import PromptMaker
from evals.scoring.tokens import PlainTokens
from evals.suites.items import Item, load_items
from osft_engine.checkpoint.read import load_model, load_tokenizer
from osft_engine.config import TrainConfig
from osft_engine.data.examples import Example, encode_row
from osft_engine.memory.calibration import generate_examples

# The long order of the O-LoRA paper (its order 4), less imdb and yahoo, which are not in that repository's files.
ORDER = ("mnli", "cb", "wic", "copa", "qqp", "boolq", "rte", "yelp", "amazon", "sst2", "dbpedia", "agnews", "multirc")
# Where rates are tried: tasks that a model of this size learns, so that the choice is not made on noise.
SWEEP = ("agnews", "dbpedia", "sst2", "amazon")
# TRACE's short tasks in TRACE's order. Its answers are scored exactly: greedy decoding gives the answer and the end of the turn, or not.
TRACE = ("FOMC", "Py150", "ScienceQA", "NumGLUE-cm", "NumGLUE-ds")
SEEDS, SWEEP_SEED = (0, 1, 2), 9
ROWS, ITEMS, PIQA_ITEMS, TEXTS, TEXT_TOKENS = 256, 100, 200, 40, 256
LONGEST = 1024  # tokens of a row; only Py150 has longer ones
MMLU_ITEMS = 5  # per subject
SETS = Path(evals.suites.sets.__file__).parent
MOMENT_TOKENS, WIDE_TOKENS, WIDE_LENGTH = 4096, 16384, 512


def shorter_half(lines: Sequence[str], least: int) -> list[str]:
    """The shorter half of the lines, or all of them where that leaves fewer than `least`."""
    half = sorted(lines, key=len)[: (len(lines) + 1) // 2]
    return half if len(half) >= least else list(lines)


def draw(lines: Sequence[str], count: int, seed: int) -> list[str]:
    return [lines[index] for index in sorted(random.Random(seed).sample(range(len(lines)), min(count, len(lines))))]


def read_lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def pack(example: Example) -> dict[str, Any]:
    """An example as JSON: its ids, and a digit per token for whether it counts in the loss."""
    return {"ids": list(example.ids), "learn": "".join("1" if flag else "0" for flag in example.learn)}


class Asker:
    """Makes items to be scored: the tokens of a context and of each of its choices."""

    def __init__(self, tokenizer: Any, renderer: TextRenderer, scratch: Path) -> None:
        assert renderer.start_id is not None
        self.prefix: int = renderer.start_id
        self.maker = PromptMaker(tokenizer, renderer, PlainTokens(tokenizer, add_bos=None, prefix_id=self.prefix), 8192)
        self.tokenizer, self.scratch = tokenizer, scratch

    def suite(self, name: str, lines: Sequence[str], *, chat: bool, open_choices: bool = False) -> list[dict[str, Any]]:
        """Items with choices; of an item with an answer, the answer as its only choice. open_choices: choices are how an answer begins."""
        source = self.scratch / f"{name}.jsonl"
        rows = [json.loads(line) for line in dict.fromkeys(lines)]  # Py150 asks some things twice; PIQA's prompts repeat with other choices
        asked = [row | {"choices": [row["answer"], "?"], "gold": 0} if "answer" in row else row for row in rows]
        source.write_text("".join(json.dumps({k: v for k, v in row.items() if k != "answer"}) + "\n" for row in asked), encoding="utf-8")
        suite = SuiteConfig(name=name, source=str(source), chat=chat, open_choices=open_choices)
        items: list[Item] = load_items(suite)
        prompts = self.maker.make(suite, items)
        return [
            {
                "context": list(prompt.context),
                "choices": [list(choice) for choice in prompt.continuations[: 1 if "answer" in row else None]],
                "gold": item.gold,
            }
            for row, item, prompt in zip(rows, items, prompts, strict=True)
        ]

    def text(self, text: str) -> dict[str, Any]:
        """The beginning of a text, to be scored after the token that stands before documents."""
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"][:TEXT_TOKENS]
        return {"context": [self.prefix], "choices": [ids], "bytes": len(self.tokenizer.decode(ids).encode("utf-8"))}


def task_inputs(task: str, folder: Path, asker: Asker, renderer: TextRenderer) -> dict[str, Any]:
    """Training examples by seed; test items; and for the sweep's tasks rows and items of their own."""
    rows, asked = shorter_half(read_lines(folder / "drop.jsonl"), ROWS), shorter_half(read_lines(folder / "suite.jsonl"), ITEMS)
    test = draw(asked, ITEMS, 7)

    def train(seed: int) -> list[dict[str, Any]]:
        drawn = draw(rows, ROWS, 100 + seed)
        return [
            pack(found)
            for number, line in enumerate(drawn, start=1)
            for found in encode_row(renderer, json.loads(line), f"{task}:{number}", unmask=False, max_tokens=2048)
            if len(found.ids) <= LONGEST
        ]

    made: dict[str, Any] = {"train": {str(seed): train(seed) for seed in SEEDS}, "items": asker.suite(task, test, chat=True)}
    if task in SWEEP:
        rest = [line for line in asked if line not in set(test)]
        made["train"][str(SWEEP_SEED)] = train(SWEEP_SEED)
        made["tuning"] = asker.suite(f"{task}-tuning", draw(rest, ITEMS, 8), chat=True)
    return made


def wide_calibration(folder: Path, measured: set[str], asker: Asker, renderer: TextRenderer) -> list[Example]:
    """Maths and code beside the model's own words: rows of GSM8K and Py150 that are not among the texts measured."""
    found: list[Example] = []
    for name in ("gsm8k", "trace/Py150"):
        rest = [line for line in read_lines(folder / name / "drop.jsonl") if line not in measured]
        random.Random(11).shuffle(rest)
        tokens = 0
        for line in rest:
            text = "\n".join(turn["content"] for turn in json.loads(line)["messages"])
            ids = [asker.prefix, *asker.tokenizer(text, add_special_tokens=False)["input_ids"]][:WIDE_LENGTH]
            found.append(Example(tuple(ids), (True,) * len(ids), name))
            tokens += len(ids)
            if tokens >= (WIDE_TOKENS - MOMENT_TOKENS) // 2:
                break
    return found


def behaviour(data: Path, asker: Asker) -> dict[str, Any]:
    """XSTest as the project's own safety suites ask it, by how an answer begins, and the project's instructions with one right answer."""
    safety = yaml.safe_load((SETS / "safety.yaml").read_text(encoding="utf-8"))["suites"]
    prompts = [json.loads(line) for line in read_lines(data / "xstest" / "prompts.jsonl")]
    found = {}
    for suite in safety:
        asked = [row["prompt"] for row in prompts if row["safe"] == (suite["where"] == "safe")]
        rows = [json.dumps({"prompt": prompt, "choices": suite["choices"], "gold": int(suite["gold"])}) for prompt in asked]
        found[suite["name"]] = asker.suite(suite["name"], rows, chat=True, open_choices=True)
    return found | {"instructions": asker.suite("instructions", read_lines(SETS / "exact-instructions.jsonl"), chat=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder of SmolLM2-135M-Instruct (python -m flows.base_models.smollm2)")
    parser.add_argument("--data", type=Path, required=True, help="folder that holds cl15, piqa, gsm8k and trace")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    scratch = options.out / "suites"
    scratch.mkdir(parents=True, exist_ok=True)
    config = TrainConfig(seed=0)
    tokenizer = load_tokenizer(options.model, config)
    renderer = TextRenderer(tokenizer)
    asker = Asker(tokenizer, renderer, scratch)
    made: dict[str, Any] = {task: task_inputs(task, options.data / "cl15" / task, asker, renderer) for task in ORDER}
    made |= {task: task_inputs(task, options.data / "trace" / task, asker, renderer) for task in TRACE}
    drawn = {json.loads(line)["prompt"]: line for line in reversed(draw(read_lines(options.data / "piqa" / "suite.jsonl"), PIQA_ITEMS, 7))}
    piqa = asker.suite("piqa", list(reversed(drawn.values())), chat=False)  # a goal that is asked twice, with other choices, counts once
    subjects = sorted((options.data / "mmlu").glob("*.jsonl"))
    mmlu = asker.suite("mmlu", [line for each in subjects for line in draw(read_lines(each), MMLU_ITEMS, 7)], chat=False)
    measured = {
        name: draw(read_lines(options.data / folder / "drop.jsonl"), TEXTS, 7)
        for name, folder in (("gsm8k", "gsm8k"), ("py150", "trace/Py150"))
    }
    turns = {name: [json.loads(line)["messages"] for line in lines] for name, lines in measured.items()}
    texts = {name: [asker.text("\n".join(turn["content"] for turn in each)) for each in found] for name, found in turns.items()}
    print("the model writes what stands for round 0 in the subspace memory: the product's own way where no calibration text is given")
    calibration = generate_examples(load_model(options.model, config), renderer, tokens=MOMENT_TOKENS, length=128, seed=0)
    wide = [*calibration, *wide_calibration(options.data, {line for each in measured.values() for line in each}, asker, renderer)]
    inputs = {"tasks": made, "piqa": piqa, "mmlu": mmlu, "texts": texts} | behaviour(options.data, asker)
    inputs |= {"calibration": [pack(each) for each in calibration], "wide calibration": [pack(each) for each in wide]}
    inputs["torch"] = torch.__version__
    (options.out / "inputs.json.gz").write_bytes(gzip.compress(json.dumps(inputs).encode("utf-8")))
    for task in made:
        lengths = [len(each["ids"]) for each in made[task]["train"]["0"]]
        print(f"{task:10s} {len(lengths)} rows, {sum(lengths) / len(lengths):.0f} tokens, at most {max(lengths)}")


if __name__ == "__main__":
    main()
