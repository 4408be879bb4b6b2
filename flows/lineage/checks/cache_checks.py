"""Compare the cache of item scores with the stored reports: a later round must not read changed scores from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from pyarrow import ArrowException, parquet

from data_contracts.digests import file_digest
from data_contracts.errors import ManifestError
from data_contracts.manifests import EvalReport, read_manifest
from flows.lineage.checks.ledger_rules import Finding
from flows.lineage.storage.connection import Lineage

_WAY_OUT = "delete the file: the items are evaluated again"
Scores = dict[tuple[str, str], tuple[float | None, float | None]]


def check_caches(lineage: Lineage, reports: Mapping[str, Path]) -> Iterator[Finding]:
    """A cache file has the items of one suite, model and setting; a stored report must have the same scores.

    Several reports may have these items with other settings, so one equal report is enough. Items without any report are no finding.
    """
    folder = lineage.state_dir / "items"
    files = sorted(folder.glob("*/*.parquet"))
    if not files:
        return
    known = _items_by_model(reports, {path.parent.name for path in files})
    for path in files:
        seal = path.with_suffix(".sha256")
        if not seal.is_file() or seal.read_text(encoding="utf-8").strip() != file_digest(path):
            yield Finding(where=str(path), problem=f"cached scores do not match their digest file ({_WAY_OUT})")
            continue
        cached = _read(path)
        if cached is None:
            yield Finding(where=str(path), problem=f"cached scores cannot be read ({_WAY_OUT})")
            continue
        same = [scores for scores in known.get(path.parent.name, ()) if cached.keys() >= scores.keys()]
        if same and not any(all(cached[item] == value for item, value in scores.items()) for scores in same):
            problem = f"cached scores differ from all stored reports of this model: they were changed ({_WAY_OUT})"
            yield Finding(where=str(path), problem=problem)


def _items_by_model(reports: Mapping[str, Path], models: set[str]) -> dict[str, list[Scores]]:
    """First 16 digits of a model's digest -> the items of each suite of each of its reports."""
    found: dict[str, list[Scores]] = {}
    for folder in reports.values():
        try:
            report = read_manifest(folder, EvalReport, verify=False)
        except ManifestError:
            continue
        if (model := report.model_sha256[:16]) in models:
            files = (_read(folder / ref.path) for role, ref in report.files.items() if role.startswith("items/"))
            found.setdefault(model, []).extend(scores for scores in files if scores)
    return found


def _read(path: Path) -> Scores | None:
    try:
        table = parquet.ParquetFile(path).read(columns=["doc_hash", "prompt_hash", "score", "gold_logprob"], use_threads=False)
        doc, prompt, score, logprob = (table.column(name).to_pylist() for name in ("doc_hash", "prompt_hash", "score", "gold_logprob"))
    except (ArrowException, OSError, KeyError):
        return None
    return {(a, b): (_number(c), _number(d)) for a, b, c, d in zip(doc, prompt, score, logprob, strict=True)}


def _number(value: float | None) -> float | None:
    """NaN stands for a missing value; it is None here, because NaN is not equal to itself."""
    return None if value is None or value != value else float(value)
