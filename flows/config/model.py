"""skillstack.yaml: one file, one section a package; every key is read by code and an unknown one is an error that names the nearest.

base_model: nano          # or a folder, or a Hugging Face id
train: {method: osft}     # osft_engine.config.TrainConfig
...
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from data_contracts.config import ContractConfig
from data_contracts.errors import ConfigError
from evals.config import EvaluationConfig
from evals.gate.policy import GatePolicy
from evals.suites.resolve import resolve_suites
from flows.config.launch import LaunchConfig
from flows.config.service import ServiceConfig
from flows.lineage.storage.signing import SigningConfig
from osft_engine.config import TrainConfig

CONFIG_NAME = "skillstack.yaml"


class TrackingConfig(BaseModel):
    """Names in MLflow. Its address is the environment variable MLFLOW_TRACKING_URI (default: SQLite under `state_dir`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model_name: str = Field("skillstack", description="registered model whose aliases say which version is champion")
    experiment: str = Field("skillstack", description="MLflow experiment that holds one parent run a round")
    live_seconds: float = Field(5.0, gt=0.0, description="how often a running training's numbers go to MLflow (seconds)")


class InboxConfig(BaseModel):
    """Where new drops arrive, and what may be taken."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: str = Field("inbox", description="folder or fsspec URL (s3://bucket/drops) that `skillstack watch` looks into")
    pattern: str = Field("*.jsonl", description="glob of the file names that are drops")
    allowed_roots: tuple[str, ...] = Field(
        (), description="folders and URLs that a drop may come from, besides the inbox; without any, every local file and no URL"
    )
    settle_seconds: float = Field(10.0, ge=0.0, description="a file is whole when size and time stayed the same for so long (seconds)")
    done_marker: bool = Field(False, description="take a file only when FILE.done lies beside it")
    deployment: str = Field(
        "", description="deployment of the flow continual-round that a new drop starts (FLOW/NAME); empty: the round runs in the watcher"
    )


class SweepConfig(BaseModel):
    """How a sweep compares candidates. Its rows are its own: the gate's items judge the chosen one, once."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tuning_share: float = Field(0.15, gt=0.0, lt=0.5, description="share of the drop's clean rows that a sweep keeps from training")
    tuning_items: int = Field(200, ge=20, description="largest number of rows a tuning suite (items)")


class TrainerConfig(BaseModel):
    """How the trainer's process is started and watched. What is trained is the section `train`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    silent_seconds: float = Field(
        3600.0, gt=0.0, description="a trainer that writes nothing for so long is taken for hung and ended; its state resumes (seconds)"
    )
    grace_seconds: float = Field(30.0, ge=0.0, description="between asking the trainer's processes to end and ending them (seconds)")


class SkillstackConfig(BaseModel):
    """Everything a round needs besides the drop."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base_model: str = Field("nano", description="'nano', 'smollm2', a model folder, or a Hugging Face id")
    state_dir: Path = Field(Path(".skillstack"), description="folder of checkpoints, caches and, unless servers are named, both databases")
    bootstrap: bool = Field(False, description="allow the first round to register the base model as champion where the registry has none")
    calibration: Path | None = Field(
        None, description="JSONL of general text ({'text'} or {'messages'} rows) whose inputs round 0 protects"
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

    Relative paths in the file are relative to the file. Raises ConfigError naming file, line, key and the way out.
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
        raise ConfigError(str(path), "is nested too deep to be read", "a config has sections and keys, two or three levels") from error
    if not isinstance(values, dict):
        raise ConfigError(str(path), f"holds {type(values).__name__}, expected sections", "see `skillstack init`")
    return parse_config(values, where=str(path), folder=path.parent, tree=tree)


def _defaults(config: SkillstackConfig) -> SkillstackConfig:
    """The built-in defaults, for a folder without a lineage: one that has a lineage had a config, which another must not replace."""
    if (config.state_dir / "stages").is_dir():
        what = f"is not in {Path.cwd()}, and {config.state_dir} holds a lineage that was made with a config"
        raise ConfigError(CONFIG_NAME, what, "run where the config is, or give --config FILE")
    return config


def parse_config(values: dict[str, Any], *, where: str, folder: Path, tree: yaml.Node | None = None) -> SkillstackConfig:
    """Check values against the models; the first error is reported with its line where the YAML tree is at hand."""
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
    known = _keys_at(error["loc"][:-1])
    nearest = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
    return f"unknown key {location!r}", f"did you mean {nearest[0]!r}?" if nearest else f"known keys here: {', '.join(known)}"


def _keys_at(location: tuple[Any, ...]) -> list[str]:
    model: type[BaseModel] = SkillstackConfig
    for part in location:
        field = model.model_fields.get(str(part))
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return []
        model = field.annotation
    return list(model.model_fields)


def _line_of(node: yaml.Node | None, location: tuple[Any, ...]) -> int | None:
    """Line (from 1) of the key or item that an error's location names, as deep as the file goes."""
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
    """Anchor the paths of a config at the folder of its file."""

    def anchored(path: Path | None) -> Path | None:
        return None if path is None else (folder / path).absolute()

    def anchored_address(address: str) -> str:
        return address if "://" in address else str((folder / address).absolute())

    contract = config.contract.model_copy(update={"path": anchored(config.contract.path)})
    roots = tuple(anchored_address(root) for root in config.inbox.allowed_roots)
    inbox = config.inbox.model_copy(update={"folder": anchored_address(config.inbox.folder), "allowed_roots": roots})
    signing = SigningConfig(
        private_key=anchored(config.signing.private_key),
        public_keys=tuple((folder / path).absolute() for path in config.signing.public_keys),
        head_file=anchored(config.signing.head_file),
    )
    suites = tuple(resolve_suites(config.evaluation.suites, folder.absolute()))
    return config.model_copy(
        update={
            "state_dir": anchored(config.state_dir),
            "calibration": anchored(config.calibration),
            "base_model": str(anchored(Path(config.base_model))) if (folder / config.base_model).is_dir() else config.base_model,
            "contract": contract,
            "inbox": inbox,
            "signing": signing,
            "evaluation": config.evaluation.model_copy(update={"suites": suites}),
        }
    )
