"""The config and the models that this process shows.

`skillstack explore` sets the config; a page that is opened as a notebook reads the config of its working directory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_contracts.errors import CheckpointError
from flows.base_models.resolve import NANO
from flows.config.model import SkillstackConfig, load_config
from flows.explore.answer import Missing, attempt
from flows.explore.reading import open_for_reading, read_rounds
from flows.explore.registry_file import KnownVersion, read_versions
from flows.lineage.storage.connection import Lineage
from flows.lineage.storage.records import RoundRecord

_config: SkillstackConfig | None = None
_model: Path | None = None


@dataclass(frozen=True)
class Subject:
    """A model folder with a name. memory: the file of its subspace memory, if the lineage has one."""

    label: str
    folder: Path
    memory: Path | None = None


@dataclass(frozen=True)
class Scene:
    """One reading of the lineage. `lineage` and `records` are Missing where there is none."""

    config: SkillstackConfig
    lineage: Lineage | Missing
    records: list[RoundRecord] | Missing

    def subjects(self) -> dict[str, Subject]:
        """Models by label: the given folder, the versions of the lineage (the champion first), the base model, and nano."""
        return _labelled(self.config, [] if isinstance(self.records, Missing) else self.records)


def use(config: SkillstackConfig, model: Path | None = None) -> None:
    """Set the config of this process, and a model folder to show first."""
    global _config, _model
    _config, _model = config, model


def current_config() -> SkillstackConfig:
    return _config if _config is not None else load_config(None)


def look() -> Scene:
    """Read the lineage now; does not raise if it is missing, unreachable or broken."""
    config = current_config()
    lineage = attempt(lambda: open_for_reading(config))
    if isinstance(lineage, Missing):
        return Scene(config, lineage, lineage)
    return Scene(config, lineage, attempt(lambda: read_rounds(lineage)))


def list_subjects() -> dict[str, Subject]:
    """`look().subjects()`, without MLflow where its database is a file that says enough."""
    config = current_config()
    versions = read_versions(config)
    return _labelled(config, versions) if versions else look().subjects()


def _labelled(config: SkillstackConfig, versions: Sequence[RoundRecord | KnownVersion]) -> dict[str, Subject]:
    found = [] if _model is None else [Subject(f"{_model.name} (folder)", _model)]
    found += version_subjects(versions)
    base = base_subject(config)
    if base is not None and not versions:
        found.append(base)
    found.append(Subject("nano (included)", NANO))
    return {subject.label: subject for subject in found}


def version_subjects(records: Sequence[RoundRecord | KnownVersion]) -> list[Subject]:
    """All versions with dense weights: the champion first, then the newest."""
    found = []
    for record in sorted(records, key=lambda each: (each.champion, each.version or 0), reverse=True):
        if record.checkpoint is None or record.collected is not None:
            continue
        mark = ", champion" if record.champion else ""
        memory = record.checkpoint / "ledger.safetensors"  # the engine's file name of the subspace memory
        label = f"version {record.version}: round {record.round} {record.skill or 'base'}{mark}"
        found.append(Subject(label, record.checkpoint / "model", memory if memory.is_file() else None))
    return found


def base_subject(config: SkillstackConfig) -> Subject | None:
    """The config's base model, if it is a folder on this machine: nothing is downloaded or converted for a view."""
    if config.base_model == "nano":
        return None
    folder = config.state_dir / "models" / "smollm2" if config.base_model == "smollm2" else Path(config.base_model)
    return Subject(f"base: {config.base_model}", folder)


def require_model(subject: Subject) -> Subject:
    """Raises CheckpointError if the folder is not (or no longer) that of a model."""
    where = str(subject.folder)
    if not subject.folder.is_dir():
        raise CheckpointError(
            where, "does not exist", "choose another model; `skillstack round` prepares smollm2 and downloads Hugging Face ids"
        )
    if not (subject.folder / "config.json").is_file():
        raise CheckpointError(where, "is not a model folder: no config.json", "give a folder that from_pretrained can load")
    if not any(subject.folder.glob("*.safetensors")):
        raise CheckpointError(where, "has no *.safetensors weights", "convert the model to safetensors; pickled weights are not loaded")
    return subject
