"""skillstack.yaml: one section per topic. An unknown key is an error that names the nearest known one.

base_model: nano          # or a folder, or a Hugging Face id
train: {method: osft}     # osft_engine.config.TrainConfig
...
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from data_contracts.config import ContractConfig
from data_contracts.contract.yaml_lines import require_single_keys
from data_contracts.errors import ConfigError
from evals.config import EvaluationConfig
from evals.gate.policy import GatePolicy
from evals.suites.resolve import resolve_suites
from flows.config.launch import LaunchConfig
from flows.config.service import ServiceConfig
from flows.lineage.storage.signing import SigningConfig
from osft_engine.config import TrainConfig

CONFIG_NAME = "skillstack.yaml"
RENAMED = {
    "launch.kubernetes.claim": "launch.kubernetes.claim_name",
    "launch.kubernetes.deadline_seconds": "launch.kubernetes.active_deadline_seconds",
    "launch.kubernetes.mount": "launch.kubernetes.mount_path",
    "service.heartbeat_seconds": "service.heartbeat_timeout_seconds",
    "sweep.tuning_share": "sweep.tuning_fraction",
    "tracking.live_seconds": "tracking.log_interval_seconds",
    "train.ledger_rank": "train.memory_rank",
    "trainer.silent_seconds": "trainer.hang_timeout_seconds",
}
"""Old key -> new key; the old one is an error that names the new one."""


class TrackingConfig(BaseModel):
    """Names in MLflow. The server's address is the environment variable MLFLOW_TRACKING_URI (default: SQLite under `state_dir`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model_name: str = Field("skillstack", description="registered model; its alias `champion` names the version in use")
    experiment: str = Field("skillstack", description="MLflow experiment with one parent run per round")
    log_interval_seconds: float = Field(5.0, gt=0.0, description="interval at which training metrics go to MLflow (seconds)")


class InboxConfig(BaseModel):
    """Where new drops arrive, and which addresses a drop may have."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: str = Field("inbox", description="folder or fsspec URL (s3://bucket/drops) that `skillstack watch` checks for new drops")
    pattern: str = Field("*.jsonl", description="glob pattern of the names of drops")
    allowed_roots: tuple[str, ...] = Field(
        (), description="folders and URLs that a drop may come from, besides the inbox; empty: every local file and no URL"
    )
    settle_seconds: float = Field(10.0, ge=0.0, description="a file is complete when size and time stayed the same for so long (seconds)")
    done_marker: bool = Field(False, description="use a file only when FILE.done exists beside it")
    deployment: str = Field(
        "", description="Prefect deployment that a new drop starts (FLOW/NAME); empty: the round runs in the watcher's process"
    )


class SweepConfig(BaseModel):
    """How a sweep compares candidates: on a tuning split of its own. Only the chosen candidate is evaluated on the gate's items."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tuning_fraction: float = Field(0.15, gt=0.0, lt=0.5, description="share of the drop's clean rows that a sweep does not train on")
    tuning_items: int = Field(200, ge=20, description="largest number of items per tuning suite")


class TrainerConfig(BaseModel):
    """How the training process is watched. How it trains is the section `train`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hang_timeout_seconds: float = Field(
        3600.0, gt=0.0, description="a training that writes no file for so long is killed; the next try resumes its saved state (seconds)"
    )
    grace_seconds: float = Field(30.0, ge=0.0, description="time between SIGTERM and SIGKILL for the training processes (seconds)")


class SkillstackConfig(BaseModel):
    """Everything a round needs besides the drop."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base_model: str = Field("nano", description="'nano', 'smollm2', a model folder, or a Hugging Face id")
    state_dir: Path = Field(
        Path(".skillstack"),
        description="folder of checkpoints, caches and, unless servers are named, the databases",
    )
    bootstrap: bool = Field(False, description="allow the first round to register the base model as the first champion")
    calibration: Path | None = Field(
        None,
        description="JSONL of general text ({'text'} or {'messages'} rows); its input directions are protected from round 1 on",
    )
    contract: ContractConfig = Field(default_factory=ContractConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)
    gate: GatePolicy = Field(default_factory=GatePolicy)
    tracking: TrackingConfig = Field(default_factory=TrackingConfig)
    signing: SigningConfig = Field(default_factory=SigningConfig)
    inbox: InboxConfig = Field(default_factory=InboxConfig)
    sweep: SweepConfig = Field(default_factory=SweepConfig)
    trainer: TrainerConfig = Field(default_factory=TrainerConfig)
    launch: LaunchConfig = Field(default_factory=LaunchConfig)
    service: ServiceConfig = Field(default_factory=ServiceConfig)


def load_config(path: Path | None) -> SkillstackConfig:
    """Read a config file; without a path, `skillstack.yaml` here if there is one, else the defaults.

    Relative paths are relative to the file's folder. Raises ConfigError with file, line, key and what to do.
    """
    if path is None:
        path = Path(CONFIG_NAME)
        if not path.exists():
            return _defaults(SkillstackConfig())
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}", "give --config FILE or run `skillstack init`") from error
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), "is not UTF-8 text", "save it as UTF-8") from error
    try:
        tree = yaml.compose(text)
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(str(path), "is not YAML: " + " ".join(str(error).split()), "correct the file") from error
    except RecursionError as error:
        raise ConfigError(str(path), "is nested too deeply", "a config has sections and keys, two or three levels") from error
    if not isinstance(values, dict):
        raise ConfigError(str(path), f"contains a {type(values).__name__}, expected sections", "see the file that `skillstack init` writes")
    require_single_keys(tree, str(path))
    return parse_config(values, where=str(path), folder=path.parent, tree=tree)


def _defaults(config: SkillstackConfig) -> SkillstackConfig:
    """The built-in defaults, unless the folder has a lineage: that was made with a config, and other settings must not continue it."""
    if (config.state_dir / "stages").is_dir():
        what = f"is not in {Path.cwd()}, although {config.state_dir} holds a lineage that was made with a config"
        raise ConfigError(CONFIG_NAME, what, "run the command in the config's folder, or give --config FILE")
    return config


def parse_config(values: dict[str, Any], *, where: str, folder: Path, tree: yaml.Node | None = None) -> SkillstackConfig:
    """Check values against the models; the first error is reported, with its line if the YAML tree is given."""
    try:
        config = SkillstackConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        line = _line_of(tree, first["loc"])
        raise ConfigError(f"{where}:{line}" if line else where, *_explain(first)) from error
    return _absolute(config, folder)


def _explain(error: Any) -> tuple[str, str]:
    """(what, way out) for one pydantic error."""
    location = ".".join(str(part) for part in error["loc"])
    if error["type"] != "extra_forbidden":
        return f"{location}={error['input']!r}: {error['msg']}", "correct the value"
    if location in RENAMED:
        return f"key {location!r} has a new name", f"write {RENAMED[location]!r}"
    known = _keys_at(error["loc"][:-1])
    meant = nearest_key(str(error["loc"][-1]), ".".join(map(str, error["loc"][:-1])), known)
    return f"unknown key {location!r}", f"did you mean {meant!r}?" if meant else f"known keys here: {', '.join(known)}"


def nearest_key(name: str, section: str, known: Sequence[str]) -> str:
    """The key of a section (empty: the top level) that a misspelt one may mean, empty if none is near; of an old name, the new one."""
    before = f"{section}." if section else ""
    old = {key.removeprefix(before): new for key, new in RENAMED.items() if key.rpartition(".")[0] == section}
    near = difflib.get_close_matches(name, [*known, *old], n=1)
    return "" if not near else old[near[0]].removeprefix(before) if near[0] in old else near[0]


def _keys_at(location: tuple[Any, ...]) -> list[str]:
    model: type[BaseModel] = SkillstackConfig
    for part in location:
        field = model.model_fields.get(str(part))
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return []
        model = field.annotation
    return list(model.model_fields)


def _line_of(node: yaml.Node | None, location: tuple[Any, ...]) -> int | None:
    """Line (from 1) of the key or item at an error's location, or of the innermost part of it that the file has."""
    line = None
    for part in location:
        if isinstance(node, yaml.MappingNode):
            pairs = {key.value: (key, value) for key, value in node.value}
            if str(part) not in pairs:
                break
            key, node = pairs[str(part)]
            line = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _absolute(config: SkillstackConfig, folder: Path) -> SkillstackConfig:
    """Make the paths of a config absolute: they are relative to the folder of its file."""

    def anchored(path: Path | None) -> Path | None:
        return None if path is None else (folder / path).absolute()

    def anchored_address(address: str) -> str:
        return address if "://" in address else str((folder / address).absolute())

    contract = config.contract.model_copy(update={"path": anchored(config.contract.path)})
    roots = tuple(anchored_address(root) for root in config.inbox.allowed_roots)
    inbox = config.inbox.model_copy(update={"folder": anchored_address(config.inbox.folder), "allowed_roots": roots})
    signing = config.signing.model_copy(
        update={
            "private_key": anchored(config.signing.private_key),
            "public_keys": tuple((folder / path).absolute() for path in config.signing.public_keys),
            "head_file": anchored(config.signing.head_file),
        }
    )
    suites = tuple(resolve_suites(config.evaluation.suites, folder.absolute()))
    skills = {
        skill: policy.model_copy(update={"more_items": anchored(policy.more_items)}) for skill, policy in config.evaluation.skills.items()
    }
    data = config.evaluation.data_folder and str((folder / config.evaluation.data_folder).absolute())
    return config.model_copy(
        update={
            "state_dir": anchored(config.state_dir),
            "calibration": anchored(config.calibration),
            "base_model": str(anchored(Path(config.base_model))) if (folder / config.base_model).is_dir() else config.base_model,
            "contract": contract,
            "inbox": inbox,
            "signing": signing,
            "evaluation": config.evaluation.model_copy(update={"suites": suites, "skills": skills, "data_folder": data}),
        }
    )
