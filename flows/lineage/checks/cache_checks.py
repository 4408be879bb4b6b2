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
Item = tuple[str, str]
Score = tuple[float | None, float | None]


def check_caches(lineage: Lineage, reports: Mapping[str, Path]) -> Iterator[Finding]:
    """Every cached item of a model must have the scores that some stored report of that model has for it, in whatever suite.

    Several reports may have an item, with other settings: one equal score is enough. Items without any report are no finding.
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
        scores = known.get(path.parent.name, {})
        changed = sum(item in scores and score not in scores[item] for item, score in cached.items())
        if changed:
            what = f"{changed} of {len(cached)} cached scores differ from all stored reports of this model: they were changed"
            yield Finding(where=str(path), problem=f"{what} ({_WAY_OUT})")


def _items_by_model(reports: Mapping[str, Path], models: set[str]) -> dict[str, dict[Item, set[Score]]]:
    """First 16 digits of a model's digest -> every item of its reports with the scores that they have for it."""
    found: dict[str, dict[Item, set[Score]]] = {}
    for folder in reports.values():
        try:
            report = read_manifest(folder, EvalReport, verify=False)
        except ManifestError:
            continue
        if (model := report.model_sha256[:16]) not in models:
            continue
        for ref in report.files.values():  # the items of each suite, and those of training rows that were asked back
            for item, score in (_read(folder / ref.path) or {}).items():
                found.setdefault(model, {}).setdefault(item, set()).add(score)
    return found


def _read(path: Path) -> dict[Item, Score] | None:
    try:
        table = parquet.ParquetFile(path).read(columns=["doc_hash", "prompt_hash", "score", "gold_logprob"], use_threads=False)
        doc, prompt, score, logprob = (table.column(name).to_pylist() for name in ("doc_hash", "prompt_hash", "score", "gold_logprob"))
    except (ArrowException, OSError, KeyError):
        return None
    return {(a, b): (_number(c), _number(d)) for a, b, c, d in zip(doc, prompt, score, logprob, strict=True)}


def _number(value: float | None) -> float | None:
    """NaN stands for a missing value; it is None here, because NaN is not equal to itself."""
    return None if value is None or value != value else float(value)
