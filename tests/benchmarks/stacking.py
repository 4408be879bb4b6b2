"""Learning against forgetting: skills stacked round on round by every method, at several learning rates and seeds.

    python -P tests/benchmarks/stacking.py --world nano --work /tmp/stacking
    python -P tests/benchmarks/stacking.py --world smollm2 --data ../shared/data --model FOLDER --work /tmp/stacking-smollm2
    python -P tests/benchmarks/stacking_page.py --work /tmp/stacking /tmp/stacking-smollm2 --out docs/results

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
import random
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from data_contracts.manifests import DropManifest, file_ref, write_manifest
from data_contracts.rendering import TextRenderer
from evals.config import EvaluationConfig, SuiteConfig
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
class World:
    """A base model, the skills it learns in order, what is scored after every round, and how a round trains."""

    base: Path
    skills: tuple[str, ...]
    drop: Callable[[str, int], Path]  # skill, seed -> folder of a drop
    suites: tuple[SuiteConfig, ...]  # base skills first
    calibration: Path
    train: dict[str, Any]
    many_steps: dict[str, Any]  # the same rows in smaller batches: what training needs to settle
    rates: dict[str, tuple[float, ...]]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Variant:
    """ledger: whether what earlier rounds learned is handed on. config: added to the world's own. many_steps: its longer schedule."""

    rates: str
    config: dict[str, Any] = field(default_factory=dict)
    ledger: bool = True
    many_steps: bool = False


VARIANTS = {
    "full": Variant("full", {"method": "full"}),
    "lora": Variant("lora", {"method": "lora"}),
    "peft osf": Variant("factors"),
    "activations": Variant("activations", {"protect": "activations"}),
    "activations, no ledger": Variant("activations", {"protect": "activations"}, ledger=False),
    "weights": Variant("factors", {"protect": "weights"}, ledger=False),
    "weights + ledger": Variant("factors", {"protect": "weights", "protect_written": True}),
    "weights_block": Variant("block", {"protect": "weights_block"}, ledger=False),
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


def write_drop_folder(folder: Path, skill: str, rows: list[str]) -> Path:
    """A drop as validation would leave it, without a split: the held-out items are the world's own."""
    folder.mkdir(parents=True, exist_ok=True)
    clean = folder / "clean.jsonl"
    clean.write_text("".join(row.rstrip("\n") + "\n" for row in rows), encoding="utf-8")
    counts = {"rows_read": len(rows), "rows_clean": len(rows), "rows_heldout": 0, "rows_sealed": 0, "rows_quarantined": 0}
    facts = {"skill": skill, "source": "benchmark", "source_sha256": "0" * 64, "contract": "chat", "contract_version": "1"}
    write_manifest(folder, DropManifest(files={"clean": file_ref(folder, clean)}, **facts, **counts))
    return folder


def nano_world(options: argparse.Namespace) -> World:
    """Nano: seven base skills, five new ones whose held-out prompts are never trained on."""
    import flows.base_models.nano
    from flows.demo.materials import distinct_pairs, write_base_suites, write_drop
    from flows.demo.skills import NEW_SKILLS

    inputs, items = options.work / "inputs", options.items or 100
    base = write_base_suites(inputs)
    skills = ("shift", "date", "route", "double", "mood")
    paths = dict(base.suites)
    for skill in skills:
        held_out = distinct_pairs(NEW_SKILLS[skill], random.Random(f"stacking {skill}"), items, heldout=True)
        paths[skill] = inputs / f"{skill}.jsonl"
        paths[skill].write_text("".join(json.dumps({"prompt": p, "answer": a}) + "\n" for p, a in held_out), encoding="utf-8")

    def drop(skill: str, seed: int) -> Path:
        source = write_drop(skill, inputs / f"drop-{skill}-{seed}.jsonl", seed, rows=options.rows or 800)
        return write_drop_folder(inputs / f"{skill}-{seed}", skill, source.read_text(encoding="utf-8").splitlines())

    return World(
        base=Path(flows.base_models.nano.__path__[0]),
        skills=skills,
        drop=drop,
        suites=tuple(SuiteConfig(name=n, source=str(p), chat=True, items=items, max_new_tokens=16) for n, p in paths.items()),
        calibration=base.calibration,
        train={"num_epochs": 5, "effective_batch_size": 32, "moment_tokens": 20000},
        many_steps={"effective_batch_size": 8},
        rates={
            "full": (1e-4, 3e-4, 1e-3),
            "lora": (1e-3, 3e-3, 1e-2),
            "factors": (1e-3, 3e-3, 1e-2),
            "block": (1e-4, 3e-4, 1e-3),
            "activations": (1e-3, 2.5e-3, 6e-3),
            "full steps": (1e-5, 3e-5, 1e-4),
            "lora steps": (1e-4, 3e-4, 1e-3),
            "activations steps": (5e-4, 1e-3, 1.5e-3),
        },
        seeds=(0, 1, 2),
    )


def smollm2_world(options: argparse.Namespace) -> World:
    """SmolLM2 and four tasks of the continual-learning benchmark that a model of its size learns; PIQA stands for what it could before.

    Rows, items and calibration text are drawn from the shorter half of each file, so that more of them fit into an hour of CPU.
    """
    inputs, items, rows = options.work / "inputs", options.items or 40, options.rows or 64
    inputs.mkdir(parents=True, exist_ok=True)
    skills = ("agnews", "dbpedia", "sst2", "amazon")

    def sample(source: Path, count: int, seed: int) -> list[str]:
        lines = sorted(source.read_text(encoding="utf-8").splitlines(), key=len)
        lines = lines[: (len(lines) + 1) // 2]
        return [lines[index] for index in sorted(random.Random(seed).sample(range(len(lines)), min(count, len(lines))))]

    def suite(name: str, folder: Path, *, chat: bool) -> SuiteConfig:
        path = inputs / f"{name}.jsonl"
        path.write_text("\n".join(sample(folder / "suite.jsonl", items, 7)) + "\n", encoding="utf-8")
        return SuiteConfig(name=name, source=str(path), chat=chat)

    calibration = inputs / "calibration.jsonl"
    lines = sample(options.data / "cl15" / "boolq" / "drop.jsonl", 60, 7)
    texts = ["\n".join(message["content"] for message in json.loads(line)["messages"]) for line in lines]
    calibration.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")

    def drop(skill: str, seed: int) -> Path:
        drawn = sample(options.data / "cl15" / skill / "drop.jsonl", rows, 100 + seed)
        return write_drop_folder(inputs / f"{skill}-{seed}", skill, drawn)

    return World(
        base=options.model,
        skills=skills,
        drop=drop,
        suites=(
            suite("piqa", options.data / "piqa", chat=False),
            *(suite(skill, options.data / "cl15" / skill, chat=True) for skill in skills),
        ),
        calibration=calibration,
        train={"num_epochs": 1, "effective_batch_size": 4},
        many_steps={"num_epochs": 3, "effective_batch_size": 2},
        rates={
            "full": (3e-5, 1e-4, 3e-4),
            "lora": (3e-4, 1e-3, 3e-3),
            "factors": (1e-4, 3e-4, 1e-3),
            "block": (3e-5, 1e-4, 3e-4),
            "activations": (5e-4, 1e-3, 2e-3),
            "full steps": (2e-5, 5e-5, 1e-4),
            "lora steps": (1e-4, 3e-4, 1e-3),
            "activations steps": (5e-4, 1e-3, 1.5e-3),
        },
        seeds=(0,),
    )


WORLDS = {"nano": nano_world, "smollm2": smollm2_world}


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
        parent=before if variant.ledger else None,
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
        "command": f"python -P tests/benchmarks/stacking.py {' '.join(chosen)}",
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
