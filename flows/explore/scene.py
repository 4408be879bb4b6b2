"""What is explored in this process: the config, and the models that can be looked at.

`skillstack explore` sets the config; a page that is opened as a notebook reads the one of its own folder.
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
from flows.lineage.storage.connection import Lineage
from flows.lineage.storage.records import RoundRecord

_config: SkillstackConfig | None = None
_model: Path | None = None


@dataclass(frozen=True)
class Subject:
    """A model folder under a name. ledger: what the layers read so far, where the lineage measured it."""

    label: str
    folder: Path
    ledger: Path | None = None


@dataclass(frozen=True)
class Scene:
    """One reading of the lineage. `lineage` and `records` are Missing where there is none."""

    config: SkillstackConfig
    lineage: Lineage | Missing
    records: list[RoundRecord] | Missing

    def subjects(self) -> dict[str, Subject]:
        """Models by label: the folder that was asked for, the versions of the lineage (the champion first), the base, and nano."""
        found = [] if _model is None else [Subject(f"{_model.name} (folder)", _model)]
        found += [] if isinstance(self.records, Missing) else version_subjects(self.records)
        base = base_subject(self.config)
        if base is not None and (isinstance(self.records, Missing) or not self.records):
            found.append(base)
        found.append(Subject("nano (embedded)", NANO))
        return {subject.label: subject for subject in found}


def use(config: SkillstackConfig, model: Path | None = None) -> None:
    """Choose what this process explores: a config, and a model folder to look at first."""
    global _config, _model
    _config, _model = config, model


def current_config() -> SkillstackConfig:
    return _config if _config is not None else load_config(None)


def look() -> Scene:
    """Read the lineage now; never raises for one that is missing, away or broken."""
    config = current_config()
    lineage = attempt(lambda: open_for_reading(config))
    if isinstance(lineage, Missing):
        return Scene(config, lineage, lineage)
    return Scene(config, lineage, attempt(lambda: read_rounds(lineage)))


def version_subjects(records: Sequence[RoundRecord]) -> list[Subject]:
    """Every version whose dense weights are there: the champion, then the newest."""
    found = []
    for record in sorted(records, key=lambda each: (each.champion, each.version or 0), reverse=True):
        if record.checkpoint is None or record.collected is not None:
            continue
        mark = ", champion" if record.champion else ""
        ledger = record.checkpoint / "ledger.safetensors"
        label = f"version {record.version}: round {record.round} {record.skill or 'base'}{mark}"
        found.append(Subject(label, record.checkpoint / "model", ledger if ledger.is_file() else None))
    return found


def base_subject(config: SkillstackConfig) -> Subject | None:
    """The config's base model, where it is a folder on this machine already: nothing is fetched or converted to look at it."""
    if config.base_model == "nano":
        return None
    folder = config.state_dir / "models" / "smollm2" if config.base_model == "smollm2" else Path(config.base_model)
    return Subject(f"base: {config.base_model}", folder)


def require_model(subject: Subject) -> Subject:
    """Raises CheckpointError where the folder is not a model's (now)."""
    where = str(subject.folder)
    if not subject.folder.is_dir():
        raise CheckpointError(where, "is not there", "choose another model; `skillstack round` prepares smollm2 and downloads ids")
    if not (subject.folder / "config.json").is_file():
        raise CheckpointError(where, "is not a model folder: no config.json", "give a folder that from_pretrained can load")
    if not any(subject.folder.glob("*.safetensors")):
        raise CheckpointError(where, "has no *.safetensors weights", "convert the model to safetensors; pickled weights are never loaded")
    return subject
