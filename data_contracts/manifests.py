"""What one stage hands the next: frozen records with a digest for every file they name, never tensors or live objects.

drop -> DropManifest -> CheckpointManifest -> EvalReport -> Verdict

A manifest is written last, in one atomic step, so a folder that has one is complete.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, ValidationError, model_serializer

from data_contracts.digests import canonical_json, file_digest, text_digest
from data_contracts.errors import ManifestError
from data_contracts.files import write_atomically

SCHEMA_VERSION = 1
MANIFEST_NAME = "manifest.json"


class Record(BaseModel):
    """A frozen value; unknown fields are an error.

    `added` names fields of a later release. One that holds its default is left out of the dump, so that the digest of an older manifest
    stays what it was. `retired` names fields that are no longer written: only a manifest that was read with one dumps it again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    added: ClassVar[frozenset[str]] = frozenset()
    retired: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _without_added_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        for name in self.added:
            if getattr(self, name) == type(self).model_fields[name].get_default(call_default_factory=True):
                values.pop(name, None)
        for name in self.retired - self.model_fields_set:
            values.pop(name, None)
        return values


class FileRef(Record):
    """A file beside (or below) the manifest that names it."""

    path: str = Field(description="relative to the manifest's folder")
    sha256: str
    bytes: int


class Manifest(Record):
    schema_version: int = SCHEMA_VERSION
    files: dict[str, FileRef] = Field(default_factory=dict, description="what the stage wrote, by role")


# ------------------------------------------------------------------------------------------------ validate


class FindingCount(Record):
    """How often one check fired, and what that meant for the drop."""

    check: str
    severity: Literal["error", "drop", "warning"]
    rows: int


class DropManifest(Manifest):
    """A validated drop. Roles in `files`: clean, heldout, sealed, quarantine, signatures, report."""

    added: ClassVar[frozenset[str]] = frozenset({"teaching"})
    kind: Literal["drop"] = "drop"
    skill: str
    teaching: int = Field(1, ge=1, description="1: the skill is new; 2: it was refreshed with this drop, and so on")
    source: str = Field(description="name of the drop as it was given, without its folder")
    source_sha256: str
    contract: str
    contract_version: str
    rows_read: int
    rows_clean: int
    rows_heldout: int
    rows_sealed: int
    rows_quarantined: int
    findings: tuple[FindingCount, ...] = ()


# ------------------------------------------------------------------------------------------------ train


class LayerCapacity(Record):
    """Directions of one weight matrix W (out x in)."""

    shape: tuple[int, int]
    protected: int = Field(description="directions an update may not touch")
    trainable: int = Field(description="directions this round could move")
    free: int = Field(description="directions still free for later rounds, after this one")
    leak: float = Field(description="largest relative leak of the saved update into protected directions")


class TrainingSummary(Record):
    added: ClassVar[frozenset[str]] = frozenset({"batch_layout", "batch_layout_reason", "device", "settled"})

    steps: int
    examples: int
    loss_tokens: int
    dropped_too_long: int
    dropped_without_loss: int = Field(0, description="examples without a token to learn")
    first_loss: float = Field(description="nats per loss token")
    final_loss: float = Field(description="nats per loss token")
    seconds: float
    tokens_per_second: float
    peak_memory_bytes: int
    trainable_parameters: int
    max_leak: float | None = Field(None, description="largest relative leak over the layers; None for full and lora")
    batch_layout: str = Field("", description="packed, padded or single: how examples shared forward passes")
    batch_layout_reason: str = Field("", description="why, as the probe of this model found")
    device: str = Field("", description="torch device that trained")
    settled: bool | None = Field(None, description="whether the loss had stopped falling when training ended; None where it is not known")


class CheckpointManifest(Manifest):
    """A trained candidate: `model/` is a dense Hugging Face folder.

    Roles in `files`: model/<name> for each model file, update, ledger, buffer, metrics (the last four where the method has them).
    """

    kind: Literal["checkpoint"] = "checkpoint"
    skill: str | None = None
    method: str = Field(description="base, full, lora or osft")
    protect: str | None = None
    model_sha256: str = Field(description="digests.model_digest of model/")
    parent_sha256: str | None = Field(None, description="model_sha256 of the champion it was trained from; None for the base")
    drop_sha256: str | None = Field(None, description="sha256 of the clean file it was trained on")
    config: dict[str, Any] = Field(default_factory=dict, description="every setting of the training that ran")
    versions: dict[str, str] = Field(default_factory=dict)
    layers: dict[str, LayerCapacity] = Field(default_factory=dict)
    summary: TrainingSummary | None = None


# ------------------------------------------------------------------------------------------------ evaluate

Category = Literal["skill", "general", "safety", "drift"]


class SuiteResult(Record):
    """One suite on one checkpoint; the items themselves lie in the Parquet file `files["items/<name>"]` of the report."""

    added: ClassVar[frozenset[str]] = frozenset({"doubt", "reproduced", "cut", "set_aside", "drawn_by"})
    retired: ClassVar[frozenset[str]] = frozenset({"mean_gold_logprob"})

    name: str
    category: Category
    metric: str
    higher_is_better: bool
    sealed: bool = Field(False, description="a sealed split is shown in the audit and never given to the gate")
    n: int
    available: int | None = Field(None, description="items the suite has; where it is more than n, more can be evaluated")
    margin: float | None = Field(
        None, description="the suite's own margin (0.02 = 2 points; drift: 0.01 = 1 %): the gate checks it by itself; None: the policy's"
    )
    score: float = Field(description="mean of the per-item scores, by their weights (accuracy in [0, 1]; bits per byte for drift)")
    mean_gold_logprob: float | None = Field(None, description="nats, mean over items; not written since the store has it for each item")
    suite_sha256: str = Field(description="of the items and of everything that decides the prompt")
    seconds: float
    doubt: str = Field("", description="why the suite may measure this model wrongly, as a phrase: the gate then holds; empty: no reason")
    reproduced: float | None = Field(
        None, description="share of a few training rows of this skill that the candidate reproduced word for word; None: not measured"
    )
    cut: int = Field(0, description="items whose context was longer than the model's window, and was cut at its beginning")
    set_aside: int = Field(0, description="items whose answer came after reasoning, which was not compared")
    drawn_by: str = Field("", description="sha256 of the model whose margins drew the items (chances: draws/<name>); empty: equal chances")


class EvalReport(Manifest):
    """Every suite on one checkpoint under one setting."""

    kind: Literal["evaluation"] = "evaluation"
    model_sha256: str
    settings: dict[str, Any] = Field(description="harness settings that change scores: backend, dtype, versions, limits")
    settings_sha256: str
    suites: tuple[SuiteResult, ...]

    def suite(self, name: str) -> SuiteResult:
        """The result of one suite. Raises KeyError with the names that exist."""
        for result in self.suites:
            if result.name == name:
                return result
        raise KeyError(f"no suite {name!r}; this report has {[s.name for s in self.suites]}")


# ------------------------------------------------------------------------------------------------ decide


class Decision(str, Enum):
    PASS = "PASS"
    BLOCK = "BLOCK"
    INCONCLUSIVE = "INCONCLUSIVE"
    ERROR = "ERROR"


class CheckOutcome(Record):
    """One check of the gate, with its numbers (differences are candidate minus reference, positive is better)."""

    added: ClassVar[frozenset[str]] = frozenset({"confidence"})

    check: str = Field(
        description="validity, gain, non_inferiority, margin, regression, floor, anchor, drift, anchor_drift, unmeasured, measurement, "
        "drift_warning, early_warning"
    )
    subject: str = Field(description="suite or category")
    outcome: Literal["pass", "block", "inconclusive", "error", "n/a"]
    sentence: str
    n: int | None = None
    effect: float | None = Field(None, description="in the suite's unit; 0.01 is one point of accuracy")
    low: float | None = None
    high: float | None = None
    confidence: float | None = Field(None, description="of the interval from low to high (0.9 = 90 %)")
    p_value: float | None = None
    margin: float | None = None
    minimum_detectable_effect: float | None = None
    items_needed: int | None = None


class Verdict(Manifest):
    """What the gate decided and why; recomputed byte for byte by `gate replay`."""

    added: ClassVar[frozenset[str]] = frozenset({"first_look"})

    kind: Literal["verdict"] = "verdict"
    decision: Decision
    reasons: tuple[str, ...]
    checks: tuple[CheckOutcome, ...]
    lost: tuple[str, ...] = Field((), description="suites with a proven loss or a drop through the floor")
    policy: dict[str, Any]
    candidate_sha256: str
    champion_sha256: str
    inputs: dict[str, str] = Field(default_factory=dict, description="digest of every report the decision read")
    new_skill: str | None = Field(None, description="the skill whose gain was checked; None where nothing new was trained")
    attempts: int = Field(1, description="how often this round was tried; tightens alpha")
    bootstrap: bool = Field(False, description="the owner said that there are no earlier skills to protect")
    first_look: dict[str, int] = Field(default_factory=dict, description="items per suite at the first look, where this is the second")


# ------------------------------------------------------------------------------------------------ on disk

M = TypeVar("M", bound=Manifest)


def file_ref(folder: Path, path: Path) -> FileRef:
    """Digest a file that the manifest of `folder` will name."""
    return FileRef(path=path.relative_to(folder).as_posix(), sha256=file_digest(path), bytes=path.stat().st_size)


def manifest_text(manifest: Manifest) -> str:
    """The bytes on disk: canonical JSON and a newline, so that equal manifests are equal files."""
    return canonical_json(manifest.model_dump(mode="json")) + "\n"


def manifest_digest(manifest: Manifest) -> str:
    return text_digest(manifest_text(manifest))


def write_manifest(folder: Path, manifest: Manifest) -> Path:
    path = folder / MANIFEST_NAME
    write_atomically(path, manifest_text(manifest))
    return path


def read_manifest(folder: Path, kind: type[M], *, verify: bool = True) -> M:
    """Read the manifest of a stage's folder and, where `verify`, recompute the digest of every file it names.

    Raises ManifestError where it is missing, malformed, of another schema version, or a file is missing or changed.
    """
    path = folder / MANIFEST_NAME
    try:
        manifest = kind.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ManifestError(str(path), f"cannot be read: {error.strerror}", "run the stage again") from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise ManifestError(str(path), f"is not a {kind.__name__}: {str(error).splitlines()[0]}", "run the stage again") from error
    if manifest.schema_version != SCHEMA_VERSION:
        what = f"has schema_version {manifest.schema_version}, this release reads {SCHEMA_VERSION}"
        raise ManifestError(str(path), what, "see the upgrade notes")
    if verify:
        verify_files(folder, manifest.files)
    return manifest


def verify_files(folder: Path, files: Mapping[str, FileRef]) -> None:
    """Raise ManifestError for the first file that is missing or whose bytes changed."""
    for role, ref in files.items():
        path = folder / ref.path
        if not path.is_file():
            raise ManifestError(str(path), f"is missing ({role})", "restore it from backup or run the stage again")
        if path.stat().st_size != ref.bytes or file_digest(path) != ref.sha256:
            what = f"has changed since its manifest was written ({role})"
            raise ManifestError(str(path), what, "restore it from backup or run the stage again")
