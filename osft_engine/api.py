"""`osft(...)`: one call with the argument names of Training Hub, and a few beyond them.

    from osft_engine import osft
    osft(model_path="base", data_path="june.jsonl", ckpt_output_dir="june", unfreeze_rank_ratio=0.25, learning_rate=1e-3)
    osft(model_path="june/model", data_path="july.jsonl", ckpt_output_dir="july")    # continues: what june learned is protected

Every argument does what it says or is refused before anything is written; none is ignored.
"""

import functools
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from data_contracts.errors import ConfigError, ManifestError, TrainingError
from data_contracts.files import write_atomically
from data_contracts.manifests import MANIFEST_NAME, CheckpointManifest, DropManifest, read_manifest
from data_contracts.model.folder import require_model_folder
from osft_engine.arguments import OsftArguments, describe_argument, errors_name_arguments, read_arguments
from osft_engine.config import LEARNING_RATES, Protect, RankPolicy, TrainConfig
from osft_engine.data.inputs import CLEAN_NAME, engine_row, read_input, write_drop
from osft_engine.run import TrainRun
from osft_engine.scheduler_settings import Scheduler

_ANY_STEPS = 1_000_000  # the schedule is tried before the data is read, so before the number of steps is known

Declaration = TypeVar("Declaration", bound=Callable[..., CheckpointManifest])
PathLike = str | os.PathLike[str]
DEFAULTS = TrainConfig()
"""What a round of skillstack trains with where its config says nothing; `osft` has the same defaults."""


def _answered(declaration: Declaration) -> Declaration:
    """Give a declared signature its behaviour: what was given is checked against it, then trained. help() lists every argument.

    The wrapper sees what was given, which the declared function itself could not tell from its defaults; and it can name the nearest
    argument where a bare function would raise TypeError.
    """
    declared = inspect.signature(declaration)

    @functools.wraps(declaration)
    def call(*args: Any, **kwargs: Any) -> CheckpointManifest:
        return _train(read_arguments(declared, args, kwargs), list(declared.parameters))

    listed = "\n".join(f"    {name}: {describe_argument(name)}" for name in declared.parameters)
    call.__doc__ = f"{inspect.getdoc(declaration)}\n\nArguments:\n{listed}\n"
    return cast(Declaration, call)


@_answered
def osft(
    model_path: PathLike,
    data_path: PathLike,
    ckpt_output_dir: PathLike,
    *,
    parent: PathLike | None = None,
    skill: str | None = None,
    unfreeze_rank_ratio: float = DEFAULTS.unfreeze_rank_ratio,
    protect: Protect = DEFAULTS.protect,
    rank_policy: RankPolicy = DEFAULTS.rank_policy,
    compact: bool = DEFAULTS.compact,
    target_patterns: Sequence[str] = DEFAULTS.target_patterns,
    calibration: PathLike | None = None,
    learning_rate: float = LEARNING_RATES["osft"],
    num_epochs: int | None = DEFAULTS.num_epochs,
    effective_batch_size: int = DEFAULTS.effective_batch_size,
    max_tokens_per_gpu: int = DEFAULTS.max_tokens_per_batch,
    max_seq_len: int = DEFAULTS.max_seq_len,
    gradient_checkpointing: bool = DEFAULTS.gradient_checkpointing,
    lr_scheduler: Scheduler = DEFAULTS.lr_scheduler,
    warmup_steps: int = DEFAULTS.warmup_steps,
    lr_scheduler_kwargs: Mapping[str, bool | int | float | str] = DEFAULTS.lr_scheduler_kwargs,
    beta1: float = DEFAULTS.beta1,
    beta2: float = DEFAULTS.beta2,
    eps: float = DEFAULTS.eps,
    weight_decay: float = DEFAULTS.weight_decay,
    seed: int = DEFAULTS.seed,
    use_liger: bool = False,
    chat_template: str | None = DEFAULTS.chat_template,
    chat_template_kwargs: Mapping[str, Any] = DEFAULTS.chat_template_kwargs,
    unmask_messages: bool = DEFAULTS.unmask,
    use_processed_dataset: bool = False,
    is_pretraining: bool = False,
    block_size: int | None = None,
    document_column_name: str | None = None,
    checkpoint_at_epoch: bool = DEFAULTS.checkpoint_at_epoch,
    save_final_checkpoint: bool = True,
    validation_split: float = DEFAULTS.validation_share,
    save_best_val_loss: bool = DEFAULTS.keep_best,
    nproc_per_node: int | Literal["auto", "gpu"] = 1,
    nnodes: int = 1,
    node_rank: int | None = None,
    rdzv_id: str | int | None = None,
    rdzv_endpoint: str | None = None,
    data_output_dir: PathLike | None = None,
    cache_dir: PathLike | None = None,
    state_url: str | None = DEFAULTS.state_url,
    trust_remote_code: bool = DEFAULTS.trust_remote_code,
) -> CheckpointManifest:
    """Train a model on data and write the checkpoint to `ckpt_output_dir`. Returns the manifest that was written there.

    Where `model_path` is the model/ of an earlier call's `ckpt_output_dir`, that call is the parent: what it learned is protected and its
    buffer is carried on. `parent` names it where the model lies elsewhere. A copy of the folder starts a new lineage.

    A call that was killed goes on when it is made again. With `nnodes` above 1 every machine makes the same call but for `node_rank`, on
    shared folders: each converts the data to the same bytes and moves them into place complete, so that it does not matter which is first.
    None is the same as not given. Raises ConfigError, before anything is written, for an argument that is unknown, wrong or cannot apply;
    DropError for data that cannot be used; another SkillstackError where training cannot go on.
    """
    raise AssertionError("_answered takes the call")


def _train(given: OsftArguments, names: Sequence[str]) -> CheckpointManifest:
    """Convert the data and train on it, in this process or in several. names: the arguments of `osft`, for the errors."""
    with errors_name_arguments(names):
        run = plan_run(given)
        from osft_engine.files import full_disk_explained

        column = given.document_column_name or "text"
        rows = (engine_row(place, row, given.row_kind, column) for place, row in read_input(given.data_path))
        with full_disk_explained(run.drop):
            write_drop(rows, run.drop, source=given.data_path, skill=given.skill_name)
        if given.processes == 1 and given.nnodes == 1:
            from osft_engine.train import train_candidate

            return train_candidate(run)
        return _launch(run, given, run.drop / "run.json")


def plan_run(given: OsftArguments) -> TrainRun:
    """The run behind the arguments, checked against what lies on disk. Writes nothing. Raises ConfigError that names the argument."""
    from osft_engine.loop.optim import step_sizes

    step_sizes(given.config, _ANY_STEPS)
    if not (Path(given.model_path) / "config.json").is_file():
        what = f"{given.model_path} has no config.json"
        raise ConfigError("osft(model_path=...)", what, "give the folder of a model; one of the hub is downloaded first")
    require_model_folder(Path(given.model_path))
    if given.calibration is not None and not Path(given.calibration).is_file():
        raise ConfigError(
            "osft(calibration=...)", f"{given.calibration} is not there", "give a JSONL file of general text, or leave it out"
        )
    _require_own_folders(given)
    return TrainRun(
        base=Path(given.model_path),
        parent=find_parent(given),
        drop=given.data_dir,
        calibration=Path(given.calibration) if given.calibration else None,
        skill=given.skill_name,
        out_dir=Path(given.ckpt_output_dir),
        cache_dir=Path(given.cache_dir) if given.cache_dir else None,
        config=given.config,
    )


def _require_own_folders(given: OsftArguments) -> None:
    """Nothing that a call reads, and nothing that somebody else made, may lie where it writes. Raises ConfigError."""
    out, data, source = Path(given.ckpt_output_dir), given.data_dir, Path(given.data_path)
    if (out / "model").resolve() == Path(given.model_path).resolve():
        what = f"{out}/model is the model that is trained, which the result would replace"
        raise ConfigError("osft(ckpt_output_dir=...)", what, "give a new folder")
    if out.resolve() == data.resolve():
        raise ConfigError("osft(data_output_dir=...)", "is ckpt_output_dir", "give another folder, or leave it out")
    for written in (data / CLEAN_NAME, data / MANIFEST_NAME, data / "run.json"):
        if written.exists() and source.exists() and written.samefile(source):
            raise ConfigError("osft(data_output_dir=...)", f"{written} is data_path, which would be replaced", "give another folder")
    if (data / MANIFEST_NAME).exists() and not _is_converted_data(data):
        raise ConfigError("osft(data_output_dir=...)", f"{data} holds the manifest of something else", "give a new folder")


def _is_converted_data(folder: Path) -> bool:
    try:
        return read_manifest(folder, DropManifest, verify=False).contract == "none"
    except ManifestError:
        return False


def find_parent(given: OsftArguments) -> Path | None:
    """Folder of the checkpoint that is continued: `parent`, or the one whose model/ is `model_path`; None where a lineage starts.

    Raises ConfigError where `parent` is no checkpoint, or where it leaves `calibration` nothing to do.
    """
    folder = Path(given.parent) if given.parent else Path(given.model_path).resolve().parent
    if given.parent is None and (Path(given.model_path).resolve().name != "model" or not _claims_checkpoint(folder)):
        return None
    try:
        manifest = read_manifest(folder, CheckpointManifest, verify=False)  # training verifies the files
    except ManifestError as error:
        name = "parent" if given.parent else "model_path"
        raise ConfigError(f"osft({name}=...)", f"{error.where} {error.what}", "give the ckpt_output_dir of an earlier call") from error
    measured = manifest.protect == "activations" and "ledger" in manifest.files
    same_layers = tuple(manifest.config.get("target_patterns", ())) == given.config.target_patterns  # new layers are measured in this call
    if given.calibration is not None and measured and same_layers and given.config.rank_policy != "importance":
        what = f"does not apply here: the subspace memory of {folder} already holds what the base knows"
        raise ConfigError("osft(calibration=...)", what, "leave it out")
    return folder


def _claims_checkpoint(folder: Path) -> bool:
    """Whether a checkpoint's manifest lies there, perhaps a broken one, which must not start a new lineage without an error."""
    try:
        manifest = json.loads((folder / MANIFEST_NAME).read_text(encoding="utf-8"))
    except OSError:
        return False
    except ValueError:
        return True
    return isinstance(manifest, dict) and manifest.get("kind") == "checkpoint"


def _launch(run: TrainRun, given: OsftArguments, file: Path) -> CheckpointManifest:
    """Start the processes with torchrun and wait for them. Raises TrainingError where one fails; its own message is on stderr."""
    write_atomically(file, run.model_dump_json())
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={given.processes}", f"--nnodes={given.nnodes}"]
    if given.nnodes == 1:
        command.append("--standalone")
    else:
        command += [f"--node_rank={given.node_rank}", f"--rdzv_endpoint={given.rdzv_endpoint}", "--rdzv_backend=c10d"]
        command += [] if given.rdzv_id is None else [f"--rdzv_id={given.rdzv_id}"]
    done = subprocess.run([*command, "-m", "osft_engine", str(file)], check=False)
    if done.returncode != 0:
        raise TrainingError(str(run.out_dir), f"the processes ended with exit code {done.returncode}", "see the last lines of their output")
    return read_manifest(run.out_dir, CheckpointManifest)
