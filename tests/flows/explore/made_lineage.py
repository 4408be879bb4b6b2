"""A lineage that is cheap to make: real MLflow on SQLite, real manifests and items, no training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from data_contracts.digests import model_digest, model_files, text_digest
from data_contracts.manifests import (
    CheckpointManifest,
    Decision,
    EvalReport,
    LayerCapacity,
    SuiteResult,
    Verdict,
    file_ref,
    write_manifest,
)
from evals.gate.decide import GateEvidence, GatePolicy, decide
from evals.items import load_evaluation, write_items
from flows.base_models.resolve import NANO
from flows.lineage import (
    connect,
    find_version,
    finish_round,
    log_stage,
    open_round,
    promote_version,
    read_ancestry,
    register_candidate,
)
from flows.sweep.frontier import Setting, SweepPoint, SweepTable, choose, table_file

LAYERS = ("model.layers.0.self_attn.q_proj", "model.layers.0.mlp.down_proj")


def write_evaluation(folder: Path, model_sha256: str, right: dict[str, int], n: int = 40) -> EvalReport:
    """Suites in which the first `right` items are right."""
    suites, files = [], {}
    for name, count in right.items():
        score = np.zeros(n)
        score[:count] = 1.0
        ids = [f"{name}-{index}" for index in range(n)]
        rows = pd.DataFrame({"doc_hash": ids, "prompt_hash": ids, "score": score, "gold_logprob": np.nan, "weight": 1.0, "cluster": None})
        rows["prompt"] = [f"question {index} of {name}" for index in range(n)]
        rows["gold"] = [f"answer {index}" for index in range(n)]
        rows["prediction"] = [f"answer {index}" if score[index] else "something else" for index in range(n)]
        rows["reasoning"], rows["cut"] = "", 0
        rows[["choice_logprobs", "margin", "gold_probability"]] = None
        write_items(folder / f"{name}.parquet", rows)
        files[f"items/{name}"] = file_ref(folder, folder / f"{name}.parquet")
        category = "skill" if name in ("alpha", "beta") else "general"
        suites.append(
            SuiteResult(
                name=name, category=category, metric="acc", higher_is_better=True, n=n, score=float(score.mean()),
                suite_sha256=text_digest(name), seconds=0.1,
            )
        )  # fmt: skip
    report = EvalReport(model_sha256=model_sha256, settings={}, settings_sha256="0", suites=tuple(suites), files=files)
    write_manifest(folder, report)
    return report


def write_checkpoint(folder: Path, skill: str | None, free: int | None) -> CheckpointManifest:
    """Nano's own weights under a manifest; `free` directions where capacity was measured."""
    (folder / "model").mkdir(parents=True)
    for name in model_files(NANO):
        (folder / "model" / name).symlink_to(NANO / name)
    layers = {}
    if free is not None:
        shapes = dict(zip(LAYERS, ((160, 160), (160, 416)), strict=True))
        for name, shape in shapes.items():
            trainable = shape[1] // 4
            layers[name] = LayerCapacity(shape=shape, protected=shape[1] - trainable, trainable=trainable, free=free, leak=1e-7)
    method = "base" if skill is None else "full" if free is None else "osft"
    digest = text_digest(f"{folder.name}{model_digest(model_files(NANO))}")
    manifest = CheckpointManifest(skill=skill, method=method, model_sha256=digest, layers=layers)
    write_manifest(folder, manifest)
    (folder / "metrics.jsonl").write_text(
        "".join(
            f'{{"event": "step", "step": {step}, "steps": 5, "loss": {2.0 / step}, "lr": 0.001, "tokens_per_second": 100.0}}\n'
            for step in range(1, 6)
        ),
        encoding="utf-8",
    )
    return manifest


ROUNDS: tuple[tuple[str | None, int | None, Decision | None, dict[str, int]], ...] = (
    (None, None, None, {"general": 40}),
    ("alpha", 100, Decision.PASS, {"general": 40, "alpha": 36}),
    ("beta", 60, Decision.PASS, {"general": 39, "alpha": 34, "beta": 38}),
    ("gamma", None, Decision.BLOCK, {"general": 10, "alpha": 5, "beta": 0}),
)


def judge(candidate: Path, champion: Path, new_skill: str | None) -> Verdict:
    """The gate's own verdict, under margins that 40 items can decide."""
    after, before = load_evaluation(candidate), load_evaluation(champion)
    anchors = {name: before for name in after.suites if name != new_skill}
    policy = GatePolicy(margin_skill=0.4, margin_general=0.4, anchor_budget=0.4, floor=0.5, accept_unmeasured=("safety", "drift"))
    evidence = GateEvidence(after, before, anchors, new_skill, bootstrap=set(after.suites) <= {"general", new_skill})
    return decide(evidence, policy)


def write_lineage(state: Path) -> None:
    """Base, two promoted rounds, and one that was blocked."""
    lineage = connect(f"sqlite:///{state / 'mlflow.db'}", model_name="skillstack", experiment="skillstack", state_dir=state)
    champion: int | None = None
    standing: dict[str, int] = {}
    for number, (skill, free, decision, right) in enumerate(ROUNDS):
        run = open_round(lineage, number, skill, chain=read_ancestry(lineage, champion) if champion is not None else ())
        checkpoint, evaluation, verdict_folder = (state / "stages" / kind / str(number) for kind in ("train", "evaluate", "decide"))
        manifest = write_checkpoint(checkpoint, skill, free)
        if champion is not None:
            manifest = manifest.model_copy(update={"parent_sha256": find_version(lineage, champion).model_sha256})
            write_manifest(checkpoint, manifest)
            log_stage(lineage, run, "train", manifest, checkpoint)
        report = write_evaluation(evaluation, manifest.model_sha256, right)
        log_stage(lineage, run, "evaluate", report, evaluation)
        verdict = None
        if decision is not None:
            before = state / "stages" / "evaluate" / f"{number}-champion"
            write_evaluation(before, find_version(lineage, champion or 1).model_sha256, {name: standing.get(name, 0) for name in right})
            verdict = judge(evaluation, before, skill if skill in right else None)
            assert verdict.decision is decision, verdict.reasons
            write_manifest(verdict_folder, verdict)
            log_stage(lineage, run, "decide", verdict, verdict_folder)
        version = register_candidate(lineage,
            run, checkpoint, manifest, evaluation=evaluation, report=report, verdict=verdict,
            verdict_folder=verdict_folder if verdict else None,
        ).version  # fmt: skip
        if decision in (None, Decision.PASS):
            promote_version(lineage, version, expected_champion=champion, reason="test", actor="test", verdict=verdict)
            champion, standing = version, right
        finish_round(lineage, run)


def write_sweep(state: Path) -> None:
    """Two rates, of which the lower one keeps what was learned before."""

    def point(rate: float, forgetting: float, losses: dict[str, float]) -> SweepPoint:
        setting = Setting(ratio=0.25, learning_rate=rate, passes=4)
        return SweepPoint(
            setting=setting, steps=40, scale=1.0, learned=0.9, gain=0.8, n=60, forgetting=forgetting, losses=losses, model_sha256=""
        )  # fmt: skip

    points = (point(1e-3, 2.4, {"first.tuning": 0.048}), point(1e-4, 0.2, {"first.tuning": 0.004, "general.tuning": -0.001}))
    path = table_file(state, "third", "2026-11")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(SweepTable(skill="third", points=points, choice=choose(points), notes=()).model_dump_json())


def made_lineage(state: Path) -> Path:
    """`write_lineage` into a new state folder, and a sweep."""
    state.mkdir()
    write_lineage(state)
    write_sweep(state)
    return state
