"""What is logged to MLflow for a stage, from its manifest: metrics, parameters, data sets, training curve, description. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from data_contracts.escaping import markdown_text
from data_contracts.manifests import CheckpointManifest, DropManifest, EvalReport, Manifest, Verdict

MAX_TEXT = 4000  # the limit for a tag of a run is 8000
_CURVE_POINTS = 300
ROUNDS_VIEW = "mlflow.sharedViewState.rounds"
"""Tag of the experiment: MLflow's pages show this view for `viewStateShareKey=rounds`."""


def legal_name(name: str) -> str:
    """A metric key that MLflow accepts (`acc,none` is not accepted)."""
    return re.sub(r"[^\w\-. :/]", "_", name)


def verdict_note(verdict: Verdict) -> str:
    """The description of a round's run in MLflow: decision, reasons, and all checks."""
    lines = [f"## {verdict.decision.value}"]
    lines += [f"**Lost:** {markdown_text(', '.join(verdict.lost))}", ""] if verdict.lost else []
    lines += [f"- {markdown_text(reason)}" for reason in verdict.reasons]
    lines += ["", "| check | subject | outcome | finding |", "|---|---|---|---|"] if verdict.checks else []
    lines += [
        f"| {check.check} | {markdown_text(check.subject)} | {check.outcome} | {markdown_text(check.sentence)} |"
        for check in verdict.checks
    ]
    note = "\n".join(lines)
    if len(note) <= MAX_TEXT:
        return note
    return note[: MAX_TEXT - 100].rpartition("\n")[0] + "\n\nThe rest is in manifest.json of the nested run `decide`."


def manifest_datasets(manifest: Manifest) -> list[tuple[str, str, str]]:
    """(name, sha256, context) of the data that a stage read."""
    if isinstance(manifest, DropManifest):
        return [(f"{manifest.skill} drop", manifest.source_sha256, "validation")]
    if isinstance(manifest, CheckpointManifest) and manifest.drop_sha256:
        return [(f"{manifest.skill} clean", manifest.drop_sha256, "training")]
    if isinstance(manifest, EvalReport):
        return [(suite.name, suite.suite_sha256, f"evaluation of {suite.name}") for suite in manifest.suites]
    return []


def manifest_metrics(manifest: Manifest) -> dict[str, float]:
    """The metrics of a manifest."""
    if isinstance(manifest, DropManifest):
        rows = ("rows_read", "rows_clean", "rows_heldout", "rows_sealed", "rows_quarantined")
        return {name: float(getattr(manifest, name)) for name in rows}
    if isinstance(manifest, CheckpointManifest) and manifest.summary is not None:
        values = manifest.summary.model_dump()
        free = {"free_directions": float(sum(layer.free for layer in manifest.layers.values()))} if manifest.layers else {}
        return {name: float(value) for name, value in values.items() if isinstance(value, int | float)} | free
    if isinstance(manifest, EvalReport):
        return {f"score/{suite.name}": suite.score for suite in manifest.suites}
    if isinstance(manifest, Verdict):
        return {f"{check.check}/{check.subject}": check.effect for check in manifest.checks if check.effect is not None}
    return {}


def rounds_view(metrics: Iterable[str]) -> str:
    """MLflow's table of runs with the verdict and every suite's score as columns, in the form of MLflow's own shared views.

    The verdict stands first: MLflow itself puts parameters behind all metrics, where a lineage of a few suites has them out of sight.
    """
    scores = sorted(name for name in metrics if name.startswith("score/") and not name.endswith(".sealed"))
    name, verdict = "attributes.`Run Name`", "params.`verdict`"
    columns = [verdict, *(f"metrics.`{score}`" for score in scores)]
    widths = {name: 230, verdict: 130}  # in pixels: `round 12 · tickets · 2026-11` and INCONCLUSIVE in full
    return json.dumps({"selectedColumns": columns, "columnOrder": [name, *columns], "columnWidths": widths})


def _words(manifest: CheckpointManifest) -> dict[str, str]:
    """The text values of a training's summary: batch layout, device and the like."""
    values = manifest.summary.model_dump() if manifest.summary is not None else {}
    return {name: value for name, value in values.items() if isinstance(value, str)}


def manifest_params(manifest: Manifest) -> dict[str, Any]:
    if isinstance(manifest, CheckpointManifest):
        return {
            "method": manifest.method,
            "protect": manifest.protect,
            **_words(manifest),
            **{f"train.{name}": value for name, value in manifest.config.items()},
        }
    if isinstance(manifest, EvalReport):
        return {f"evaluation.{name}": value for name, value in manifest.settings.items()}
    if isinstance(manifest, DropManifest):
        return {"source": manifest.source, "contract": manifest.contract, "contract_version": manifest.contract_version}
    if isinstance(manifest, Verdict):
        return {"decision": manifest.decision.value, "lost": ", ".join(manifest.lost)}
    return {}


def training_curve(folder: Path) -> list[tuple[str, int, float]]:
    """(name, step, value) from the engine's metrics.jsonl, thinned to a few hundred steps, of which the last is always one."""
    path = folder / "metrics.jsonl"
    if not path.is_file():
        return []
    events = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    steps = [event for event in events if event.get("event") == "step"]
    thinned = steps[:: max(1, len(steps) // _CURVE_POINTS)]
    thinned += steps[-1:] if thinned[-1:] != steps[-1:] else []
    names = ("loss", "lr", "tokens_per_second")
    return [(name, int(event["step"]), float(event[name])) for event in thinned for name in names if event.get(name) is not None]


def short_list(values: Sequence[str]) -> str:
    """A JSON list that fits into a tag: values that do not fit are replaced by `...`."""
    kept = list(values)
    while len(text := json.dumps(kept + (["..."] if len(kept) < len(values) else []))) > MAX_TEXT:
        kept.pop()
    return text
