"""What differs between two rounds: data, settings, code, scores, and weights by layer, from what the lineage stores.

    skillstack diff 3 5

No model is loaded. Weights are read tensor by tensor from the two safetensors folders.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from data_contracts.errors import CheckpointError, LineageError
from data_contracts.manifests import CheckpointManifest, DropManifest, EvalReport, Record, Verdict, read_manifest
from evals.audit.compare import SuiteDifference, compare_evaluations
from evals.audit.weights import measure_weight_drift
from evals.items import Evaluation, load_evaluation
from flows.lineage import RoundRecord, read_history
from flows.lineage.checks.verification import registered_versions
from flows.lineage.storage.facts import read_sources
from flows.lineage.storage.records import RegisteredVersion
from flows.lineage.storage.tracking import stage_codes
from flows.workspace.workspace import Workspace

_CODE_SETTINGS = ("versions.", "scorer", "rules")
"""Recorded among the settings, but decided by the installed packages."""


class Difference(Record):
    """One value that is not the same in both rounds; None where a round has none."""

    name: str
    one: str | None
    other: str | None


class LayerDifference(Record):
    """One tensor of both models: how far it is from one to the other, and its free directions in both rounds."""

    layer: str
    relative_change: float = Field(description="Frobenius norm of the difference over that of the first round's tensor")
    free: tuple[int | None, int | None] = Field(description="directions still free after each round; None where it was not trained")


class RoundDiff(Record):
    """Two rounds compared. `same` counts the values that do not differ, by section."""

    one: RoundRecord
    other: RoundRecord
    data: tuple[Difference, ...]
    config: tuple[Difference, ...]
    code: tuple[Difference, ...]
    same: dict[str, int]
    scores: tuple[SuiteDifference, ...]
    weights: tuple[LayerDifference, ...] = Field(description="largest change first")
    notes: tuple[str, ...] = Field(description="what could not be compared, and why")


def diff_rounds(workspace: Workspace, one: str, other: str) -> RoundDiff:
    """Compare two rounds, each given as `3`, or `3.2` for its second attempt. Raises LineageError for a round without a version."""
    records = read_history(workspace.lineage)
    pair = find_round(records, one), find_round(records, other)
    versions = registered_versions(workspace.lineage)
    sides = [_Side(workspace, record, versions) for record in pair]
    scores, gaps = _scores(sides)
    weights, notes = _weights(sides)
    sections = {name: _differences(*(getattr(side, name) for side in sides)) for name in ("data", "config", "code")}
    return RoundDiff(
        one=pair[0],
        other=pair[1],
        data=sections["data"][0],
        config=sections["config"][0],
        code=sections["code"][0],
        same={name: equal for name, (_, equal) in sections.items()},
        scores=scores,
        weights=weights,
        notes=(*gaps, *notes),
    )


def find_round(records: Sequence[RoundRecord], name: str) -> RoundRecord:
    """The attempt that a name means: of several attempts the one that became champion, else the newest with a version."""
    given = re.fullmatch(r"(\d+)(?:\.(\d+))?", name)
    registered = [record for record in records if record.version is not None and record.checkpoint is not None]
    known = ", ".join(f"{record.round}.{record.attempt}" if record.attempt > 1 else str(record.round) for record in registered)
    if given is None:
        raise LineageError(f"round {name}", "is not the number of a round", "write 3, or 3.2 for the second attempt at round 3")
    number, attempt = int(given[1]), int(given[2]) if given[2] else None
    found = [record for record in registered if record.round == number and attempt in (None, record.attempt)]
    if not found:
        raise LineageError(f"round {name}", "has no version", f"rounds with a version: {known or 'none'}")
    return sorted(found, key=lambda record: (record.champion, record.was_champion, record.version or 0))[-1]


class _Side:
    """What the lineage stores about one of the two rounds, as flat values by name."""

    def __init__(self, workspace: Workspace, record: RoundRecord, versions: Mapping[int, RegisteredVersion]) -> None:
        assert record.version is not None
        assert record.checkpoint is not None
        self.record = record
        self.checkpoint = read_manifest(record.checkpoint, CheckpointManifest, verify=False)
        self._drop = read_manifest(record.drop, DropManifest, verify=False) if record.drop else None
        self._report = read_manifest(record.evaluation, EvalReport, verify=False) if record.evaluation else None
        self._verdict = read_manifest(record.verdict, Verdict, verify=False) if record.verdict else None
        self._sources = read_sources(workspace.lineage, versions[record.version].fact("sources"))
        self._codes = stage_codes(workspace.lineage, record.run_id)

    @property
    def label(self) -> str:
        return f"round {self.record.round}" + (f".{self.record.attempt}" if self.record.attempt > 1 else "")

    @property
    def model(self) -> Path:
        assert self.record.checkpoint is not None
        return self.record.checkpoint / "model"

    @property
    def data(self) -> dict[str, str]:
        """The drop with its rows and contract, and the digest of every file that the round read."""
        values: dict[str, Any] = {}
        if self._drop is not None:
            named = self._drop.model_dump(include={"source", "source_sha256", "contract", "contract_version"})
            values |= {"drop": named["source"], "drop sha256": named["source_sha256"], "contract": named["contract"]}
            values |= {"contract version": named["contract_version"]}
            values |= {
                f"rows {name}": getattr(self._drop, f"rows_{name}") for name in ("read", "clean", "heldout", "sealed", "quarantined")
            }
            values |= {
                f"{role} rows sha256": ref.sha256 for role, ref in self._drop.files.items() if role in ("clean", "heldout", "sealed")
            }
        values |= {f"{role} sha256": sha256 for role, (_, sha256) in self._sources.items() if role != "drop"}
        return {name: str(value) for name, value in values.items()}

    @property
    def config(self) -> dict[str, str]:
        return {name: value for name, value in self._settings.items() if not _is_code(name)}

    @property
    def code(self) -> dict[str, str]:
        """Versions of the packages, of the scorer and of the gate's rules, and the digest of each stage's source."""
        values = {name: value for name, value in self._settings.items() if _is_code(name)}
        values |= {f"train.versions.{name}": version for name, version in self.checkpoint.versions.items()}
        return values | {f"source of {stage}": digest for stage, digest in self._codes.items()}

    @property
    def _settings(self) -> dict[str, str]:
        values = _flat("train", {name: value for name, value in self.checkpoint.config.items() if name != "run_sha256"})
        values |= _flat("evaluation", self._report.settings) if self._report else {}
        return values | (_flat("gate", self._verdict.policy) if self._verdict else {})

    @property
    def evaluations(self) -> list[Evaluation]:
        return [load_evaluation(folder) for folder in (self.record.evaluation, self.record.reevaluation) if folder is not None]


def _is_code(name: str) -> bool:
    return name.partition(".")[2].startswith(_CODE_SETTINGS)


def _flat(prefix: str, values: Mapping[str, Any]) -> dict[str, str]:
    """Nested settings by their dotted names, as text."""
    found: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(f"{prefix}.{name}", value)
        else:
            found[f"{prefix}.{name}"] = str(value)
    return found


def _differences(one: Mapping[str, str], other: Mapping[str, str]) -> tuple[tuple[Difference, ...], int]:
    """The values that differ, and the number of those that do not, without settings of what only one round did: the base is not trained."""
    names = [name for name in dict.fromkeys((*one, *other)) if not _only_one_did(name, one, other)]
    found = [Difference(name=name, one=one.get(name), other=other.get(name)) for name in names if one.get(name) != other.get(name)]
    return tuple(found), len(names) - len(found)


def _only_one_did(name: str, one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    group, dot, _ = name.partition(".")
    return bool(dot) and not all(any(each.startswith(group + ".") for each in side) for side in (one, other))


def _scores(sides: Sequence[_Side]) -> tuple[tuple[SuiteDifference, ...], tuple[str, ...]]:
    missing = tuple(f"{side.label} has no evaluation, so there are no scores to compare." for side in sides if not side.evaluations)
    return ((), missing) if missing else compare_evaluations(sides[0].evaluations, sides[1].evaluations, (sides[0].label, sides[1].label))


def _weights(sides: Sequence[_Side]) -> tuple[tuple[LayerDifference, ...], tuple[str, ...]]:
    gone = [side for side in sides if side.record.collected is not None]
    if gone:
        way_out = "bring them back with `skillstack rebuild {}`"
        return (), tuple(f"The weights of {side.label} were deleted by gc: {way_out.format(side.record.version)}." for side in gone)
    if sides[0].checkpoint.model_sha256 == sides[1].checkpoint.model_sha256:
        return (), ("Both rounds have the same model.",)
    try:
        drift = measure_weight_drift(sides[0].model, sides[1].model, vectors=True)
    except CheckpointError as error:
        return (), (f"The weights cannot be compared: {error}.",)
    capacities = [side.checkpoint.layers for side in sides]
    free = {each.layer: [layers[each.layer].free if each.layer in layers else None for layers in capacities] for each in drift}
    found = [
        LayerDifference(layer=each.layer, relative_change=each.relative_change, free=(free[each.layer][0], free[each.layer][1]))
        for each in drift
    ]
    return tuple(sorted(found, key=lambda each: (-each.relative_change, each.layer))), ()
