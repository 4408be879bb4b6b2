"""`skillstack validate`: the first stage of a round on its own, against the contract, the earlier rounds and the suites."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from data_contracts.errors import ConfigError, DropError
from data_contracts.manifests import DropManifest, Record
from data_contracts.validate import LEFT_BY_REFUSED, validate_drop
from flows.base_model import resolve_base_model
from flows.held_out_text import suite_files
from flows.house import House, open_house
from flows.progress import bar
from flows.renderer import TokenizerRenderer
from flows.settings import SkillstackConfig


class Validation(Record):
    """`manifest` is there when the drop keeps its contract; `report` holds every finding either way."""

    accepted: bool
    error: str | None
    manifest: DropManifest | None
    report: dict[str, Any]
    folder: Path | None


def check_drop(config: SkillstackConfig, drop: Path, skill: str, heldout: Path | None, out: Path | None) -> Validation:
    """Validate a drop as the next round would. Nothing is kept unless `out` names a new folder."""
    if out is not None:
        if out.exists() and any(path.name not in LEFT_BY_REFUSED for path in out.iterdir()):
            raise ConfigError(str(out), "is not empty", "name a new folder, or the one that a refused drop left")
        out.mkdir(parents=True, exist_ok=True)
        return _validate(config, drop, skill, heldout, out, kept=True)
    with tempfile.TemporaryDirectory(prefix="skillstack-") as folder:
        return _validate(config, drop, skill, heldout, Path(folder), kept=False)


def _validate(config: SkillstackConfig, drop: Path, skill: str, heldout: Path | None, folder: Path, *, kept: bool) -> Validation:
    house = open_house(config)
    manifest, problem = None, None
    try:
        with bar(f"validate {skill}") as advance:
            manifest = validate_drop(
                drop,
                folder,
                skill=skill,
                config=config.contract,
                renderer=TokenizerRenderer(_model(house), config.train),
                heldout=heldout,
                earlier=earlier_drops(house),
                suites=suite_files(config.evaluation, config.state_dir),
                progress=lambda done, total: advance(done, total, "bytes"),
            )
    except DropError as error:
        problem = str(error)
    report = folder / "report.json"
    findings = json.loads(report.read_text(encoding="utf-8")) if report.is_file() else {}
    return Validation(accepted=manifest is not None, error=problem, manifest=manifest, report=findings, folder=folder if kept else None)


def earlier_drops(house: House) -> list[Path]:
    """The drops behind the champion, oldest first; none before the first promotion."""
    champion = house.lineage.champion(verify=False)
    chain = house.lineage.ancestry(champion.version) if champion else []
    return [version.drop for version in chain if version.drop is not None]


def _model(house: House) -> Path:
    """The champion's folder, or the base model's before there is one: their tokenizer is the same."""
    champion = house.lineage.champion(verify=False)
    return champion.checkpoint / "model" if champion else resolve_base_model(house.config.base_model, house.models)
