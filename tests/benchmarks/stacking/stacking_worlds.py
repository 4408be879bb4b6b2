"""The two worlds of the stacking benchmark: a base model, its skills, their drops and suites, and the rates of each method."""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_contracts.manifests import DropManifest, file_ref, write_manifest
from evals.config import SuiteConfig


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
