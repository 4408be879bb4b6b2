"""Rounds without training: the folders that stages leave, in the smallest form that keeps every rule, and a whole round made of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import save_file

from data_contracts.digests import text_digest, value_digest
from data_contracts.manifests import (
    CheckpointManifest,
    Decision,
    DropManifest,
    EvalReport,
    LayerCapacity,
    SuiteResult,
    TrainingSummary,
    Verdict,
    file_ref,
    read_manifest,
    write_manifest,
)
from evals.gate.decide import GateEvidence, GatePolicy, decide
from evals.item_cache import ItemCache
from evals.items import COLUMNS, load_evaluation, write_items
from flows.lineage import (
    Lineage,
    RoundRun,
    VersionRef,
    finish_round,
    log_stage,
    open_round,
    read_ancestry,
    read_history,
    register_candidate,
)
from flows.lineage.storage.describe import legal_name
from flows.lineage.storage.facts import describe_sources
from flows.round.context import Round
from flows.workspace.workspace import round_sources

ITEMS = 400
POLICY: dict[str, Any] = {"accept_unmeasured": ("safety", "drift")}


@dataclass
class RoundFolders:
    """The finished folders of one round, as the stages leave them."""

    checkpoint: Path
    manifest: CheckpointManifest
    evaluation: Path
    report: EvalReport
    verdict_folder: Path
    verdict: Verdict
    drop: Path | None
    sources: dict[str, Path]


def write_folders(
    state_dir: Path,
    name: str,
    *,
    skill: str | None = None,
    parent: str | None = None,
    decision: Decision = Decision.PASS,
    score: float = 0.9,
    bits: tuple[float, float] | None = None,
    free: int | None = None,
) -> RoundFolders:
    """What the stages of a round would leave, in the smallest form that keeps every rule.

    `bits` adds a drift suite with the bits per byte of champion and candidate, `free` two layers with so many directions left.
    """
    root = state_dir / "rounds" / name
    weights = root / "checkpoint" / "model" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    save_file(_weights(name), weights, metadata={"format": "pt"})
    metrics = root / "checkpoint" / "metrics.jsonl"
    metrics.write_text("".join(f'{{"event":"step","step":{step},"loss":{2.0 / step},"lr":0.001}}\n' for step in range(1, 6)))
    manifest = CheckpointManifest(
        skill=skill,
        method="base" if parent is None else "osft",
        model_sha256=text_digest(name),
        parent_sha256=parent,
        drop_sha256=None if parent is None else text_digest("drop " + name),
        config={} if parent is None else {"learning_rate": 0.001 * len(name), "num_epochs": 4},
        versions={"torch": "2.13.0"},
        summary=None if parent is None else _summary(),
        layers={} if free is None else _layers(free),
        files={"model/model.safetensors": file_ref(root / "checkpoint", weights)},
    )
    write_manifest(root / "checkpoint", manifest)
    champion = parent or manifest.model_sha256
    evaluation, verdict = judge_round(
        state_dir, name, manifest.model_sha256, champion, skill=skill, decision=decision, score=score, bits=bits
    )
    drop = None if skill is None else _drop(root / "drop", skill)
    sources = {} if skill is None else _sources(state_dir.parent, skill)
    return RoundFolders(
        root / "checkpoint", manifest, evaluation, read_manifest(evaluation, EvalReport), root / "verdict", verdict, drop, sources
    )


def _weights(name: str) -> dict[str, np.ndarray]:
    """One matrix of the name's own, and a norm that all have."""
    matrix = np.random.default_rng(int(text_digest(name)[:8], 16)).normal(size=(4, 4)).astype(np.float32)
    return {"model.q_proj.weight": matrix, "model.norm.weight": np.ones(4, dtype=np.float32)}


def _layers(free: int) -> dict[str, LayerCapacity]:
    """A square layer and a wide one; 40 inputs of each were trained, `free` and half of it are left."""
    return {
        "model.layers.0.q_proj": LayerCapacity(shape=(160, 160), protected=120, trainable=40, free=free, leak=1e-7),
        "model.layers.0.down_proj": LayerCapacity(shape=(160, 416), protected=376, trainable=40, free=free // 2, leak=1e-7),
    }


def judge_round(
    state_dir: Path,
    name: str,
    model: str,
    champion: str,
    *,
    skill: str | None,
    decision: Decision,
    score: float = 0.9,
    bits: tuple[float, float] | None = None,
) -> tuple[Path, Verdict]:
    """What the gate says of items that were made for a decision: the folder of the candidate's report, and the verdict, which is kept."""
    stages = state_dir / "stages" / "evaluate"
    was, now = bits or (None, None)
    before = _evaluation(stages / f"{name}-champion", champion, _before(skill, score), was)
    after = _evaluation(stages / f"{name}-candidate", model, _after(_before(skill, score), skill, decision), now)
    anchors = dict.fromkeys(("old", "piqa, 0-shot", *(("prose",) if bits else ())), load_evaluation(before))
    verdict = decide(GateEvidence(load_evaluation(after), load_evaluation(before), anchors, skill), GatePolicy(**POLICY))
    assert skill is None or verdict.decision is decision, verdict.reasons
    write_manifest(state_dir / "rounds" / name / "verdict", verdict)
    return after, verdict


def _drop(folder: Path, skill: str) -> Path:
    """A validated drop: clean and held-out rows."""
    folder.mkdir(parents=True)
    for role in ("clean", "heldout"):
        (folder / f"{role}.jsonl").write_text(f'{{"{role}":"{skill}"}}\n')
    files = {role: file_ref(folder, folder / f"{role}.jsonl") for role in ("clean", "heldout")}
    rows = {f"rows_{name}": 1 for name in ("read", "clean", "heldout", "sealed", "quarantined")}
    about = {"source": f"{skill}.jsonl", "source_sha256": text_digest(skill), "contract": "default", "contract_version": "1"}
    write_manifest(folder, DropManifest(skill=skill, files=files, **about, **rows))
    return folder


def _sources(project: Path, skill: str) -> dict[str, Path]:
    """The user's own files beside the state directory; a drop of its own a round."""
    sources = {"drop": project / f"{skill}.jsonl", "suite piqa": project / "piqa.jsonl", "calibration": project / "calibration.jsonl"}
    for role, path in sources.items():
        path.write_text(f'{{"text": "{role}"}}\n')
    return sources


def _before(skill: str | None, score: float) -> dict[str, list[float]]:
    """Scores of the champion: a skill that was learned, a general suite, and the new skill, which it does not know."""
    scores = {"old": [1.0] * round(score * ITEMS) + [0.0] * (ITEMS - round(score * ITEMS)), "piqa, 0-shot": [1.0, 0.0] * (ITEMS // 2)}
    return scores if skill is None else scores | {skill: [0.0] * ITEMS}


def _after(before: dict[str, list[float]], skill: str | None, decision: Decision) -> dict[str, list[float]]:
    """Scores of a candidate of which the gate says what is wanted."""
    after = {name: list(scores) for name, scores in before.items()}
    if skill is not None:
        after[skill] = [1.0] * ITEMS
    if decision is Decision.BLOCK:
        after["old"] = [0.0] * ITEMS
    if decision is Decision.INCONCLUSIVE:  # as many items won as lost: no loss is proven, and none is ruled out
        after["old"] = after["old"][::-1]
    if decision is Decision.ERROR:
        del after["old"]
    return after


def _prose(bits: float) -> list[float]:
    """Bits per byte of texts, some harder than others, whose mean by bytes is about `bits`."""
    return [bits * (1.0 + 0.2 * np.sin(number)) + 0.002 * np.sin(1000 * bits * number) for number in range(ITEMS)]


def _evaluation(folder: Path, model_sha256: str, scores: dict[str, list[float]], bits: float | None = None) -> Path:
    """A report with its items, as the harness leaves it."""
    suites, files = [], {}
    for name, values in (scores if bits is None else scores | {"prose": _prose(bits)}).items():
        drift = name == "prose"
        weights = [50.0 + number % 100 for number in range(len(values))] if drift else [1.0] * len(values)
        docs = [text_digest(f"{name} {number}") for number in range(len(values))]
        table = {"doc_hash": docs, "prompt_hash": docs, "score": values, "gold_logprob": [-1.0 - 0.5 * (1.0 - value) for value in values]}
        golds = [f"answer {number % 8}" for number in range(len(values))]
        said = [gold if value else "something else" for gold, value in zip(golds, values, strict=True)]
        text = {"prompt": "Say it.", "gold": golds, "prediction": said}
        path = folder / "items" / f"{legal_name(name)}.parquet"
        unused = {"weight": weights, "cluster": None, "reasoning": "", "cut": 0, **dict.fromkeys(COLUMNS[-3:])}
        items = pd.DataFrame(table | unused | text)
        write_items(path, items)
        state = folder.parents[2]
        ItemCache.open(state / "items", model=model_sha256, prompting=name, settings=text_digest("settings")).add(items)
        files[f"items/{name}"] = file_ref(folder, path)
        suites.append(
            SuiteResult(
                name=name,
                category="drift" if drift else "general" if name.startswith("piqa") else "skill",
                metric="bits_per_byte" if drift else "acc,none",
                higher_is_better=not drift,
                n=len(values),
                score=float(np.average(values, weights=weights)),
                suite_sha256=text_digest(name),
                seconds=1.0,
            )
        )
    settings = {"dtype": "float32"}
    write_manifest(
        folder,
        EvalReport(model_sha256=model_sha256, settings=settings, settings_sha256=value_digest(settings), suites=tuple(suites), files=files),
    )
    return folder


def _summary() -> TrainingSummary:
    return TrainingSummary(
        steps=5, examples=10, loss_tokens=100, dropped_too_long=0, first_loss=2.0, final_loss=0.4, seconds=1.0, tokens_per_second=100.0,
        peak_memory_bytes=1, trainable_parameters=1, max_leak=1e-7,
    )  # fmt: skip


def run_round(
    lineage: Lineage,
    name: str,
    number: int,
    *,
    parent: str | None = None,
    decision: Decision = Decision.PASS,
    score: float = 0.9,
    skill: str | None = None,
    **measured: Any,
) -> tuple[RoundRun, VersionRef, RoundFolders]:
    """One whole round up to its registered version. `skill`: where it is not `name`, as in a second attempt; `measured`: bits and free of
    `write_folders`."""
    skill = None if parent is None else skill or name
    folders = write_folders(lineage.state_dir, name, skill=skill, parent=parent, decision=decision, score=score, **measured)
    held = [record.version for record in read_history(lineage) if parent is not None and record.digests.get("model") == parent]
    opened = open_round(lineage, number, skill, key=name, chain=read_ancestry(lineage, held[-1]) if held else ())
    log_stage(lineage, opened, "train", folders.manifest, folders.checkpoint, seconds=1.0)
    log_stage(lineage, opened, "evaluate", folders.report, folders.evaluation)
    judged = None if parent is None else folders.verdict
    if judged is not None:
        log_stage(lineage, opened, "decide", judged, folders.verdict_folder)
    version = register_candidate(
        lineage,
        opened,
        folders.checkpoint,
        folders.manifest,
        evaluation=folders.evaluation,
        report=folders.report,
        verdict_folder=folders.verdict_folder if judged is not None else None,
        verdict=judged,
        drop=folders.drop,
        sources=describe_sources(lineage, folders.sources),
    )
    finish_round(lineage, opened)
    return opened, version, folders


def read_by(round: Round) -> str:
    """The user's files of a round, as the flow describes them before its first stage."""
    return describe_sources(round.lineage, round_sources(round.config, round.drop, round.heldout))
