"""What every task of a round uses: the config, the lineage, and the folder of finished stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from data_contracts.digests import file_digest
from data_contracts.errors import ManifestError
from data_contracts.manifests import MANIFEST_NAME, EvalReport
from evals.config import ModelUse, SuiteConfig
from evals.harness.reproduction import Taught
from evals.suites.resolve import skill_suites
from flows.config.model import SkillstackConfig
from flows.lineage import Lineage, VersionRef, connect, current_champion, find_version, read_ancestry
from flows.machine.environment import tracking_uri
from flows.workspace.stages import Stage, run_stage
from osft_engine.config import TrainConfig


@dataclass(frozen=True)
class Workspace:
    config: SkillstackConfig
    lineage: Lineage

    @property
    def stages(self) -> Path:
        return self.config.state_dir / "stages"

    @property
    def models(self) -> Path:
        return self.config.state_dir / "models"


def open_workspace(config: SkillstackConfig) -> Workspace:
    """Connect to the lineage: MLFLOW_TRACKING_URI, or SQLite under the state directory."""
    uri = tracking_uri(config.state_dir)
    names = config.tracking
    return Workspace(
        config,
        connect(uri, model_name=names.model_name, experiment=names.experiment, state_dir=config.state_dir, signing=config.signing),
    )


def round_sources(config: SkillstackConfig, drop: Path, heldout: Path | None) -> dict[str, Path]:
    """The user's own files that a round reads, by role, without those of a hub or of lm-eval."""
    own = {f"suite {suite.name}": Path(suite.source) for suite in config.evaluation.suites}
    own |= {f"more items of {skill}": path for skill, path in config.evaluation.more_items.items()}
    named = {"drop": drop, "held-out items": heldout, "calibration": config.calibration, "contract": config.contract.path}
    return {role: path for role, path in {**named, **own}.items() if path is not None and path.is_file()}


def has_lineage(config: SkillstackConfig) -> bool:
    """Whether there is a lineage. Opening a missing one would create it, which a command that only reads must not do."""
    uri = tracking_uri(config.state_dir)
    return not uri.startswith("sqlite:///") or Path(uri.removeprefix("sqlite:///")).is_file()


def champion_chain(workspace: Workspace) -> list[VersionRef]:
    """The champion and its ancestors, the base first; empty before the first promotion. Files are not verified."""
    champion = current_champion(workspace.lineage, verify=False)
    return read_ancestry(workspace.lineage, champion.version) if champion else []


def suites_of_skill(workspace: Workspace, skill: str, drop: Path, *, learned: bool = True) -> list[SuiteConfig]:
    return skill_suites(skill, drop, workspace.config.evaluation, learned=learned)


def evaluate_model(
    workspace: Workspace,
    model: Path,
    model_sha256: str,
    suites: Sequence[SuiteConfig],
    label: str,
    taught: Taught | None = None,
    verify: Callable[[], object] | None = None,
) -> Stage[EvalReport]:
    """Evaluate one model on suites; the report and each suite's items are stages by content and are computed once.

    `taught`: rows that this model was trained on; some of them are evaluated too. `verify` is called before the weights are loaded: scores
    are stored under `model_sha256`, so it raises where the folder holds other weights by now.
    """
    from evals.harness.fill import harness_settings  # imports torch and lm-eval, which would slow down the start of a command
    from evals.harness.plan import evaluation_identity
    from evals.harness.run import evaluate_checkpoint
    from flows.machine.progress import bar

    config, use, cache = workspace.config.evaluation, model_use(workspace.config.train), workspace.config.state_dir / "items"
    inputs = {
        "model": model_sha256,
        "suites": evaluation_identity(suites, config, cache),
        "settings": harness_settings(config, use),
        "taught": None if taught is None else {"skill": taught.skill, "rows": file_digest(taught.rows)},
    }

    def build(folder: Path) -> EvalReport:
        with bar(f"evaluate {label}") as advance:
            return evaluate_checkpoint(
                model,
                suites,
                folder,
                config=config,
                cache_dir=cache,
                use=use,
                taught=taught,
                model_sha256=model_sha256,
                verify=verify,
                progress=advance,
            )

    return run_stage(workspace.stages, "evaluate", inputs, EvalReport, build, code=("evals.harness.run",))


def evaluate_version(workspace: Workspace, version: VersionRef, suites: Sequence[SuiteConfig], label: str) -> Stage[EvalReport]:
    """`evaluate_model` for a registered version, whose files are verified if they are loaded."""
    model = version.checkpoint / "model"
    verify = partial(find_version, workspace.lineage, version.version, verify=True)
    return evaluate_model(workspace, model, version.model_sha256, suites, label, verify=verify)


def model_use(train: TrainConfig) -> ModelUse:
    """A model is evaluated as it is trained: same chat template and variables, same trust_remote_code."""
    return ModelUse(
        chat_template=train.chat_template, chat_template_kwargs=train.chat_template_kwargs, trust_remote_code=train.trust_remote_code
    )


def find_report(workspace: Workspace, digest: str) -> Path:
    """The folder of a stored evaluation by its manifest's digest. Raises ManifestError if there is none."""
    for manifest in sorted((workspace.stages / "evaluate").glob(f"*/{MANIFEST_NAME}")):
        if file_digest(manifest) == digest:
            return manifest.parent
    raise ManifestError(
        f"evaluation {digest[:12]}", f"is not under {workspace.stages / 'evaluate'}", "restore the state directory from backup"
    )


def page_of(workspace: Workspace, version: int) -> Path:
    """Where the page of a version is."""
    return workspace.config.state_dir / "reports" / f"version-{version}.html"
