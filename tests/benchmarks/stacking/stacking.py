"""Learning against forgetting: skills stacked round on round by every method, at several learning rates and seeds.

    python -P tests/benchmarks/stacking/stacking.py --world nano --work /tmp/stacking
    python -P tests/benchmarks/stacking/stacking.py --world smollm2 --data ../shared/data --model FOLDER --work /tmp/stacking-smollm2
    python -P tests/benchmarks/stacking/stacking_page.py --work /tmp/stacking /tmp/stacking-smollm2 --out docs/results

A sequence is one (variant, learning rate, seed): every round trains on the newest skill alone, from the weights that the round before left,
and is scored by the project's own harness on everything. There is no gate here: every round goes on, so that all methods stack equally
deep. Each finished sequence is one line of WORK/results.jsonl; started again, it goes on with what is missing.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))  # python -P leaves it out

import torch
from stacking_worlds import WORLDS, World

from data_contracts.rendering import TextRenderer
from evals.config import EvaluationConfig
from evals.harness.run import evaluate_checkpoint
from osft_engine.checkpoint.read import load_model, load_tokenizer, write_model
from osft_engine.config import TrainConfig
from osft_engine.data.examples import load_examples
from osft_engine.loop.resume import ResumeFolder
from osft_engine.loop.trainer import Trainer
from osft_engine.method.attach import find_targets
from osft_engine.run import TrainRun
from osft_engine.train import train_candidate


@dataclass(frozen=True)
class Variant:
    """memory: whether what earlier rounds learned is handed on. config: added to the world's own. many_steps: its longer schedule."""

    rates: str
    config: dict[str, Any] = field(default_factory=dict)
    memory: bool = True
    many_steps: bool = False


VARIANTS = {
    "full": Variant("full", {"method": "full"}),
    "lora": Variant("lora", {"method": "lora"}),
    "peft osf": Variant("factors"),
    "activations": Variant("activations", {"protect": "activations"}),
    "activations, no memory": Variant("activations", {"protect": "activations"}, memory=False),
    "weights": Variant("factors", {"protect": "weights"}, memory=False),
    "weights + memory": Variant("factors", {"protect": "weights", "protect_written": True}),
    "weights_block": Variant("block", {"protect": "weights_block"}, memory=False),
    # what the defaults are chosen among, beside the method itself
    "activations 0.1": Variant("activations", {"protect": "activations", "unfreeze_rank_ratio": 0.1}),
    "activations 0.5": Variant("activations", {"protect": "activations", "unfreeze_rank_ratio": 0.5}),
    "activations importance": Variant("activations", {"protect": "activations", "rank_policy": "importance"}),
    "activations energy": Variant("activations", {"protect": "activations", "rank_policy": "energy"}),
    "activations, 15 epochs": Variant("activations", {"protect": "activations", "num_epochs": 15}),
    # each method with enough steps for its loss to settle, at low rates: the fair comparison
    "full, many steps": Variant("full steps", {"method": "full"}, many_steps=True),
    "lora, many steps": Variant("lora steps", {"method": "lora"}, many_steps=True),
    "activations, many steps": Variant("activations steps", {"protect": "activations"}, many_steps=True),
}
METHODS = tuple(VARIANTS)[:8]
RATIO = 0.25


def score(model: Path, world: World, cache: Path, out: Path) -> dict[str, float]:
    """Share right of every suite, by the project's harness."""
    config = EvaluationConfig(num_threads=1, max_batch_size=128)
    report = evaluate_checkpoint(model, world.suites, out, config=config, cache_dir=cache)
    return {suite.name: suite.score for suite in report.suites}


def train_ours(world: World, variant: Variant, rate: float, seed: int, skill: str, before: Path | None, out: Path, cache: Path) -> Path:
    """One round by the engine. `before` is the checkpoint folder of the round before. Returns the new model folder."""
    settings = {**world.train, **(world.many_steps if variant.many_steps else {}), "unfreeze_rank_ratio": RATIO, **variant.config}
    run = TrainRun(
        base=before / "model" if before else world.base,
        parent=before if variant.memory else None,
        drop=world.drop(skill, seed),
        calibration=world.calibration,
        skill=skill,
        out_dir=out,
        cache_dir=cache,
        config=TrainConfig(**settings, learning_rate=rate, seed=seed, num_threads=1, save_every_seconds=1e6),
    )
    train_candidate(run)
    return out / "model"


class OsfAttachment:
    """PEFT's OSF as the engine's trainer wants it: PEFT's own factors, gradient hooks and merge."""

    def __init__(self, model: Any) -> None:
        from peft import OSFConfig, get_peft_model

        self.model: Any = get_peft_model(model, OSFConfig(effective_rank=1.0 - RATIO, target_modules=list(find_targets(model))))

    def trainable(self) -> dict[str, torch.nn.Parameter]:
        return {name: value for name, value in self.model.named_parameters() if value.requires_grad}

    def before_step(self) -> None:
        """PEFT's own hooks have projected the gradients."""

    def after_step(self) -> None:
        """PEFT multiplies its factors in every forward pass."""

    def dense_state(self) -> dict[str, torch.Tensor]:
        raise NotImplementedError("not asked for without checkpoint_at_epoch")

    def merge(self) -> Any:
        return self.model.merge_and_unload()


def train_peft_osf(world: World, rate: float, seed: int, skill: str, before: Path | None, out: Path) -> Path:
    """The same round by PEFT's OSF: the same examples, steps, optimiser and schedule."""
    base = before / "model" if before else world.base
    config = TrainConfig(**world.train, learning_rate=rate, seed=seed, num_threads=1, save_every_seconds=1e6)
    torch.manual_seed(seed)
    model, tokenizer = load_model(base, config), load_tokenizer(base, config)
    examples = load_examples(world.drop(skill, seed) / "clean.jsonl", TextRenderer(tokenizer), max_tokens=config.max_seq_len)
    attachment = OsfAttachment(model)
    resume = ResumeFolder(out, "benchmark", {})
    Trainer(attachment, examples.examples, config, resume=resume, emit=lambda event: None).run()
    write_model(attachment.merge(), base, out / "model", config)
    shutil.rmtree(resume.folder)
    return out / "model"


def stack(world: World, name: str, rate: float, seed: int, work: Path) -> dict[str, Any]:
    """One sequence: the scores of every suite before the first round and after each. What it wrote on disk is removed."""
    variant, folder = VARIANTS[name], work / "sequence"
    shutil.rmtree(folder, ignore_errors=True)
    rows = [score(world.base, world, work / "items", folder / "base")]
    started, before = time.process_time(), None
    for number, skill in enumerate(world.skills, start=1):
        out = folder / f"round-{number}"
        if name == "peft osf":
            model = train_peft_osf(world, rate, seed, skill, before, out)
        else:
            model = train_ours(world, variant, rate, seed, skill, before, out, folder / "bases")
        rows.append(score(model, world, folder / "items", folder / f"scores-{number}"))
        before = out
    shutil.rmtree(folder)
    facts = {"variant": name, "learning_rate": rate, "seed": seed, "skills": world.skills, "rows": rows}
    return facts | {"cpu_seconds": round(time.process_time() - started, 1)}


def plan(world: World, names: list[str], places: list[int]) -> Iterator[tuple[str, float, int]]:
    """Every sequence, the middle rates and first seeds of all variants first: cut off, what is there still compares."""
    for seed in world.seeds:
        for place in places:
            for name in names:
                yield name, world.rates[VARIANTS[name].rates][place], seed


def write_facts(options: argparse.Namespace) -> None:
    """What the page says about the run beside its numbers."""
    chosen = [f"--world {options.world}"] + [f"--{name} {value}" for name in ("rows", "items") if (value := getattr(options, name))]
    facts = {
        "world": options.world,
        "command": f"python -P tests/benchmarks/stacking/stacking.py {' '.join(chosen)}",
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, CPU, one thread" if not torch.cuda.is_available() else torch.cuda.get_device_name(),
        "versions": f"torch {torch.__version__}, transformers {version('transformers')}, peft {version('peft')}",
    }
    (options.work / "facts.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", choices=sorted(WORLDS), required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", type=Path, help="folder of SmolLM2 (world smollm2)")
    parser.add_argument("--data", type=Path, help="folder that holds cl15 and piqa (world smollm2)")
    parser.add_argument("--variants", nargs="+", default=list(METHODS), choices=list(VARIANTS))
    parser.add_argument("--places", nargs="+", type=int, default=[1, 0, 2], help="which of a variant's rates, in what order")
    parser.add_argument("--rows", type=int, help="rows of a drop; by default 800 on nano, 64 on smollm2")
    parser.add_argument("--items", type=int, help="held-out items of a suite; by default 100 on nano, 40 on smollm2")
    options = parser.parse_args()
    options.work = options.work.absolute()
    options.work.mkdir(parents=True, exist_ok=True)
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    torch.set_num_threads(1)
    world = WORLDS[options.world](options)
    write_facts(options)
    results = options.work / "results.jsonl"
    done = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()] if results.exists() else []
    finished = {(each["variant"], each["learning_rate"], each["seed"]) for each in done}
    for name, rate, seed in plan(world, options.variants, options.places):
        if (name, rate, seed) in finished:
            continue
        found = stack(world, name, rate, seed, options.work)
        with results.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(found) + "\n")
        last = found["rows"][-1]
        print(f"{name:24s} {rate:8g} seed {seed}  mean {sum(last.values()) / len(last):.3f}  {found['cpu_seconds']:.0f} s CPU", flush=True)


if __name__ == "__main__":
    main()
