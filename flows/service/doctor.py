"""`skillstack doctor`: can a round run on this machine? Each check reports what it found and, if it fails, what to do.

It writes and downloads nothing, except a probe file in a remote artifact store, which is deleted again.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from data_contracts.devices import choose_device
from data_contracts.digests import model_files
from data_contracts.errors import CheckpointError, SkillstackError
from data_contracts.manifests import Record
from evals.numbers import duration, plain
from flows.base_models.resolve import find_base_model
from flows.config.model import SkillstackConfig
from flows.lineage import current_champion
from flows.lineage.storage.state import describe_place
from flows.review.estimate import past_errors, past_lines, read_estimates
from flows.round.planning import unmeasured_categories, without_calibration
from flows.service import doctor_services as services
from flows.text.facts import Fact
from flows.text.model_facts import model_facts_within
from flows.text.template_facts import text_facts
from flows.workspace.workspace import has_lineage, open_workspace

FREE_BYTES_PER_WEIGHT_BYTE = 4
"""A round writes a dense copy, its resume state and the subspace memory: at most four times the size of the base model."""

MODEL_SECONDS = 120.0
"""Time that doctor waits for a model to load; a larger model is checked by the first stage of a round."""

PINNED = ("torch", "transformers", "prefect", "mlflow", "lm_eval", "fastapi", "sqlalchemy")


class Diagnosis(Record):
    check: str
    ok: bool
    detail: str


def diagnose(config: SkillstackConfig) -> tuple[Diagnosis, ...]:
    """Run all checks; a failed one does not stop the others."""
    checks: tuple[tuple[str, Callable[[SkillstackConfig], str]], ...] = (
        ("versions", _versions),
        ("state directory", _state_directory),
        ("base model", _base_model),
        ("text", _text),
        ("model", _model),
        ("suites", _suites),
        ("calibration", _calibration),
        ("inbox", _inbox),
        ("estimate", _estimate),
        ("device", _device),
        ("launcher", services.launcher),
        ("MLflow", _mlflow),
        ("artifact store", services.artifact_store),
        ("Prefect", services.prefect_server),
    )
    if os.environ.get("PREFECT_API_URL"):
        checks += (
            ("clocks", services.clocks),
            ("work pools", services.pools_and_workers),
            ("GPU slots", services.gpu_limit),
            ("deployments", services.deployments),
            ("crashed rounds", services.zombie_rule),
        )
    return tuple(_run(name, check, config) for name, check in checks)


def _run(name: str, check: Callable[[SkillstackConfig], str], config: SkillstackConfig) -> Diagnosis:
    try:
        return Diagnosis(check=name, ok=True, detail=check(config))
    except SkillstackError as error:
        return Diagnosis(check=name, ok=False, detail=str(error))
    except OSError as error:
        return Diagnosis(check=name, ok=False, detail=f"{error.filename or name}: {error.strerror or error}")


def _versions(_: SkillstackConfig) -> str:
    found = [f"{package} {importlib.metadata.version(package)}" for package in PINNED]
    return f"Python {sys.version_info.major}.{sys.version_info.minor}, " + ", ".join(found)


def _state_directory(config: SkillstackConfig) -> str:
    folder = config.state_dir
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise SkillstackError(str(there), "cannot be written to", "make it writable, or set state_dir to another folder")
    free = shutil.disk_usage(there).free
    need = FREE_BYTES_PER_WEIGHT_BYTE * sum(path.stat().st_size for path in _weights(_usable(config)))
    if free < need:
        what = f"has {free / 1e9:.1f} GB free, a round needs about {need / 1e9:.1f} GB"
        raise SkillstackError(str(folder), what, "free space or set state_dir to another disk")
    place = describe_place(folder)
    return f"{folder}: {free / 1e9:.1f} GB free" + (f"; {place}" if place else "")


def _estimate(config: SkillstackConfig) -> str:
    """The newest estimate of a round on this machine, and how far off the newest one was whose round has ended."""
    estimates = read_estimates(config.state_dir)
    if not estimates:
        return "none yet: `skillstack estimate DROP --skill NAME` says what a round will cost on this machine"
    newest = estimates[-1]
    most = "at most " if newest.may_stop else ""
    cost = f"{most}{duration(newest.train_seconds)} of training, {newest.memory_bytes / 1e9:.1f} GB of memory"
    errors = past_errors(open_workspace(config), estimates) if has_lineage(config) else ()
    return "; ".join([f"the last one, of {newest.skill}: {cost}, {plain(newest.disk_bytes / 1e9, 2)} GB of disk", *past_lines(errors[-1:])])


def _device(config: SkillstackConfig) -> str:
    """The devices for training and evaluation, and why: a GPU that is not used without notice costs hours."""
    from evals.harness.fill import evaluation_device, sees_cuda

    training, evaluation = choose_device(config.train.device, sees_cuda), evaluation_device(config.evaluation)
    if training == evaluation:
        return f"{training.device}: {training.reason}"
    return f"training on {training.device} ({training.reason}); evaluation on {evaluation.device} ({evaluation.reason})"


def _local(config: SkillstackConfig) -> Path | None:
    return find_base_model(config.base_model, config.state_dir / "models")


def _usable(config: SkillstackConfig) -> Path | None:
    """The base model's folder, None if it is unusable: only the check `base model` reports this."""
    try:
        return _local(config)
    except CheckpointError:
        return None


def _weights(folder: Path | None) -> Iterator[Path]:
    names = model_files(folder) if folder is not None else {}
    return (folder / name for name in names if folder is not None and name.endswith(".safetensors"))


def _base_model(config: SkillstackConfig) -> str:
    folder = _local(config)
    if folder is None:
        return f"{config.base_model} is not on this machine yet: the first round downloads or converts it"
    size = sum(path.stat().st_size for path in _weights(folder))
    return f"{config.base_model}: {size / 1e6:.0f} MB of safetensors"


def _text(config: SkillstackConfig) -> str:
    folder = _usable(config)
    return _listed(text_facts(folder, config.train)) if folder is not None else _not_yet(config)


def _model(config: SkillstackConfig) -> str:
    """The model that the next round starts from."""
    champion = current_champion(open_workspace(config).lineage, verify=False) if has_lineage(config) else None
    folder = champion.checkpoint / "model" if champion is not None else _usable(config)
    if folder is None:
        return _not_yet(config)
    whose = f"version {champion.version}" if champion is not None else config.base_model
    found = model_facts_within(folder, config.train, MODEL_SECONDS)
    if found is None:
        return f"{whose} did not load within {MODEL_SECONDS:.0f} s: the first stage of a round checks it"
    return f"{whose}: {_listed(found)}"


def _not_yet(config: SkillstackConfig) -> str:
    return f"{config.base_model} is not on this machine yet, or not usable: the first round checks it"


def _listed(facts: Iterable[Fact]) -> str:
    return "; ".join(f"{fact.name}: {fact.value}" for fact in facts)


def _suites(config: SkillstackConfig) -> str:
    suites = config.evaluation.suites
    missing = [suite.source for suite in suites if suite.is_file and not Path(suite.source).is_file()]
    if missing:
        raise SkillstackError(
            "evaluation.suites", f"no such file: {', '.join(missing)}", "correct the paths (they are relative to the config file)"
        )
    if missing := unmeasured_categories(config, first_round=True):
        raise SkillstackError("evaluation.suites", *missing[0].removeprefix("evaluation.suites ").rstrip(".").split(": ", 1))
    return f"{len(suites)} suites, all files exist"


def _calibration(config: SkillstackConfig) -> str:
    if config.calibration is not None and not config.calibration.is_file():
        raise SkillstackError(
            str(config.calibration), "does not exist", "correct `calibration`, or run `skillstack init` in another folder"
        )
    return " ".join(f"warning: {note}" for note in without_calibration(config)) or f"{config.calibration}"


def _inbox(config: SkillstackConfig) -> str:
    folder = config.inbox.folder
    if "://" in folder or Path(folder).is_dir():
        return f"{folder}: {config.inbox.pattern}"
    if config.inbox.deployment:
        raise SkillstackError(f"inbox.folder {folder}", "does not exist", "create it, or correct inbox.folder")
    return f"{folder} does not exist; only `skillstack watch` needs it"


def _mlflow(config: SkillstackConfig) -> str:
    way_out = "the first round registers the base model" if config.bootstrap else "set bootstrap: true for a first round"
    if not has_lineage(config):
        return f"no lineage yet; {way_out}"
    lineage = open_workspace(config).lineage
    champion = current_champion(lineage)
    if champion is None:
        return f"{lineage.where}: no champion yet; {way_out}"
    return f"{lineage.where}: champion is version {champion.version} (round {champion.round}), its files verified"
