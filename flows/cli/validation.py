"""`skillstack validate`: the first stage of a round on its own, against the contract, the earlier rounds and the suites."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from data_contracts.errors import CheckpointError, ConfigError, DropError
from data_contracts.manifests import DropManifest, Record
from data_contracts.validate import LEFT_BY_REFUSED, validate_drop
from flows.base_models.resolve import find_base_model
from flows.config.model import SkillstackConfig
from flows.lineage import VersionRef, current_champion, judgements
from flows.machine.progress import bar
from flows.round.planning import DropPlan, plan_with_drop, what_is_missing
from flows.text.held_out import suite_files
from flows.text.renderer import TokenizerRenderer
from flows.workspace.workspace import Workspace, champion_chain, has_lineage, open_workspace


class Validation(Record):
    """`manifest` is None for a refused drop; `report` holds every finding in both cases."""

    accepted: bool
    error: str | None
    manifest: DropManifest | None
    report: dict[str, Any]
    folder: Path | None
    notes: tuple[str, ...] = Field((), description="what may keep the gate from deciding, each with what to do")


def check_drop(
    config: SkillstackConfig, drop: Path, skill: str, heldout: Path | None, out: Path | None, *, refresh: bool = False
) -> Validation:
    """Validate a drop as the next round would. Nothing is written unless `out` names a new folder; nothing is downloaded."""
    if out is not None:
        if out.exists() and any(path.name not in LEFT_BY_REFUSED for path in out.iterdir()):
            raise ConfigError(str(out), "is not empty", "name a new folder, or one that holds only the report of a refused drop")
        out.mkdir(parents=True, exist_ok=True)
        return _validate(config, drop, skill, heldout, out, kept=True, refresh=refresh)
    with tempfile.TemporaryDirectory(prefix="skillstack-") as folder:
        return _validate(config, drop, skill, heldout, Path(folder), kept=False, refresh=refresh)


def plan_drop(
    config: SkillstackConfig, drop: Path, skill: str, heldout: Path | None, items: int | None, churn: float | None, *, refresh: bool = False
) -> DropPlan:
    """The gate's plan with the drop's own held-out rows, also before the first round. Raises DropError where the drop is refused."""
    if not skill:
        raise ConfigError("--skill", "is missing", "name the skill that the drop teaches")
    if items is not None:
        raise ConfigError("--items", "cannot stand beside a drop, which has its own numbers", "leave one of the two out")
    checked = check_drop(config, drop, skill, heldout, None, refresh=refresh)
    if checked.manifest is None:
        raise DropError(str(drop), f"cannot be used: {checked.error}", "see `skillstack validate`")
    workspace = open_workspace(config) if has_lineage(config) else None
    chain = champion_chain(workspace) if workspace else []
    return plan_with_drop(config, chain, checked.manifest, churn, _attempt(workspace, chain, skill))


def _validate(
    config: SkillstackConfig, drop: Path, skill: str, heldout: Path | None, folder: Path, *, kept: bool, refresh: bool
) -> Validation:
    workspace = open_workspace(config) if has_lineage(config) else None
    manifest, problem = None, None
    try:
        with bar(f"validate {skill}") as advance, tempfile.TemporaryDirectory(prefix="skillstack-suites-") as written:
            manifest = validate_drop(
                drop,
                folder,
                skill=skill,
                config=config.contract,
                renderer=TokenizerRenderer(_model(config, workspace), config.train),
                heldout=heldout,
                earlier=earlier_drops(workspace) if workspace else [],
                suites=suite_files(config.evaluation, Path(written)),
                suite_names=[suite.name for suite in config.evaluation.suites],
                refresh=refresh,
                progress=lambda done, total: advance(done, total, "bytes"),
            )
    except DropError as error:
        problem = str(error)
    report = folder / "report.json"
    findings = json.loads(report.read_text(encoding="utf-8")) if report.is_file() else {}
    chain = champion_chain(workspace) if workspace else []
    attempt = _attempt(workspace, chain, skill)
    notes = what_is_missing(config, chain, manifest, attempt=attempt) if manifest is not None else ()
    where = folder if kept else None
    return Validation(accepted=manifest is not None, error=problem, manifest=manifest, report=findings, folder=where, notes=notes)


def _attempt(workspace: Workspace | None, chain: Sequence[VersionRef], skill: str) -> int:
    """The number of the judgement that the skill's next round would be: each one before makes the gate stricter."""
    return judgements(workspace.lineage, chain[-1].round + 1, skill) + 1 if workspace is not None and chain else 1


def earlier_drops(workspace: Workspace) -> list[Path]:
    """The drops of the champion and its ancestors, oldest first; none before the first promotion."""
    return [version.drop for version in champion_chain(workspace) if version.drop is not None]


def model_folder(config: SkillstackConfig) -> Path:
    """The folder of the model that the next round starts from. Nothing is downloaded."""
    return _model(config, open_workspace(config) if has_lineage(config) else None)


def _model(config: SkillstackConfig, workspace: Workspace | None) -> Path:
    """The champion's folder, or the base model's before the first promotion: both have the same tokenizer. Nothing is downloaded."""
    champion = current_champion(workspace.lineage, verify=False) if workspace else None
    if champion is not None:
        return champion.checkpoint / "model"
    found = find_base_model(config.base_model, config.state_dir / "models")
    if found is None:
        way_out = "start the round: it prepares the model, then validates the drop before it trains"
        raise CheckpointError(config.base_model, "has not been downloaded or converted yet", way_out)
    return found
