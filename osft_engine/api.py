"""`osft(...)`: one call with the argument names of Training Hub.

    from osft_engine import osft
    osft(model_path="base", data_path="drop.jsonl", ckpt_output_dir="out", unfreeze_rank_ratio=0.25, learning_rate=1e-3)

Every argument does what it says or is refused; none is ignored.
"""

from __future__ import annotations

import difflib
import subprocess
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from data_contracts.errors import ConfigError, TrainingError
from data_contracts.manifests import CheckpointManifest, read_manifest, write_atomically
from osft_engine.config import Protect, Scheduler, TrainConfig
from osft_engine.inputs import RowKind, engine_row, read_input, write_drop
from osft_engine.run import TrainRun


class OsftArguments(BaseModel):
    """What `osft` takes."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model_path: str = Field(description="folder of the model to train")
    data_path: str = Field(description=".jsonl, .json, .parquet, .csv or the name of a Hugging Face dataset")
    ckpt_output_dir: str = Field(description="folder of the result; its model/ is a dense Hugging Face folder")
    unfreeze_rank_ratio: float = Field(0.25, gt=0.0, le=1.0, description="share of directions that may move; 1.0 trains the targets whole")
    protect: Protect = Field("activations", description="which directions are protected")
    effective_batch_size: int = Field(8, ge=1, description="examples in one optimiser step")
    max_tokens_per_gpu: int = Field(2048, ge=1, description="tokens in one forward pass of one process")
    max_seq_len: int = Field(2048, ge=2, description="tokens; longer examples are left out and counted")
    learning_rate: float = Field(1e-3, gt=0.0, description="peak step size")
    num_epochs: int = Field(1, ge=1, description="passes over the data")
    lr_scheduler: Scheduler = Field("cosine", description="shape of the step size")
    warmup_steps: int = Field(0, ge=0, description="steps of linear warm-up")
    lr_scheduler_kwargs: dict[str, float] = Field(default_factory=dict, description="further settings of the scheduler")
    beta1: float = Field(0.9, description="AdamW, first moment")
    beta2: float = Field(0.95, description="AdamW, second moment")
    eps: float = Field(1e-8, description="AdamW, denominator")
    weight_decay: float = Field(0.0, description="pulls towards the starting weights")
    seed: int = Field(42, ge=0, description="of everything random")
    use_liger: bool = Field(False, description="refused: logits are only made where the loss looks, which is what its fused loss saves")
    target_patterns: list[str] | None = Field(None, description="regular expressions of the layers to train; none means all linear ones")
    unmask_messages: bool = Field(False, description="learn every token, not the assistant's only")
    use_processed_dataset: bool = Field(False, description="rows hold input_ids and labels")
    is_pretraining: bool = Field(False, description="rows hold documents")
    block_size: int | None = Field(None, ge=2, description="is_pretraining: tokens of a piece of a document")
    document_column_name: str | None = Field(None, description="is_pretraining: the column that holds the text; 'text' unless given")
    checkpoint_at_epoch: bool = Field(False, description="also keep the dense model of every epoch")
    save_final_checkpoint: bool = Field(True, description="refused when false: the run would leave nothing")
    validation_split: float = Field(0.0, ge=0.0, le=0.5, description="share of the data that is only watched")
    save_best_val_loss: bool = Field(False, description="end with the parameters of the lowest validation loss")
    nproc_per_node: int = Field(1, ge=1, description="processes on this machine")
    nnodes: int = Field(1, ge=1, description="machines")
    node_rank: int | None = Field(None, ge=0, description="nnodes > 1: number of this machine")
    rdzv_id: str | None = Field(None, description="nnodes > 1: name of the rendezvous")
    rdzv_endpoint: str | None = Field(None, description="nnodes > 1: host:port of the rendezvous")
    data_output_dir: str | None = Field(None, description="folder for the converted data; ckpt_output_dir + '.data' unless given")
    trust_remote_code: bool = Field(False, description="let the model folder bring its own Python code")

    @property
    def row_kind(self) -> RowKind:
        return "documents" if self.is_pretraining else "processed" if self.use_processed_dataset else "messages"


def osft(**arguments: Any) -> CheckpointManifest:
    """Train and write `ckpt_output_dir`; see OsftArguments. Raises ConfigError for an argument that is unknown or cannot apply."""
    given = parse_arguments(arguments)
    out_dir = Path(given.ckpt_output_dir)
    data = Path(given.data_output_dir or f"{given.ckpt_output_dir}.data")
    column = given.document_column_name or "text"
    rows = (engine_row(place, row, given.row_kind, column) for place, row in read_input(given.data_path))
    run = TrainRun(
        base=Path(given.model_path),
        drop=write_drop(rows, data, source=given.data_path),
        skill="api",
        out_dir=out_dir,
        config=_config(given),
    )
    if given.nproc_per_node == 1 and given.nnodes == 1:
        from osft_engine.train import train_candidate

        return train_candidate(run)
    return _launch(run, given, data / "run.json")


def parse_arguments(arguments: dict[str, Any]) -> OsftArguments:
    """Check every argument on its own and against the others. Raises ConfigError that names the nearest valid one."""
    known = OsftArguments.model_fields
    for name in arguments:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            raise ConfigError(f"osft({name}=...)", "is not an argument", f"did you mean {near[0]}?" if near else "see OsftArguments")
    try:
        given = OsftArguments(**arguments)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"osft({first['loc'][0]}=...)", first["msg"], known[str(first["loc"][0])].description or "") from error
    for name, wrong, instead in _inapplicable(given):
        if wrong:
            raise ConfigError(f"osft({name}=...)", "does not apply here", instead)
    return given


def _inapplicable(given: OsftArguments) -> list[tuple[str, bool, str]]:
    """(argument, whether it is set and cannot apply, what to do instead)."""
    alone = given.nnodes == 1
    return [
        ("use_liger", given.use_liger, "leave it out; the loss already avoids full logits"),
        ("save_final_checkpoint", not given.save_final_checkpoint, "leave it out; remove the folder afterwards if it is not wanted"),
        ("use_processed_dataset", given.use_processed_dataset and given.is_pretraining, "choose it or is_pretraining"),
        ("unmask_messages", given.unmask_messages and given.row_kind != "messages", "it belongs to rows with messages"),
        ("block_size", given.block_size is not None and not given.is_pretraining, "use max_seq_len, or set is_pretraining"),
        ("document_column_name", given.document_column_name is not None and not given.is_pretraining, "set is_pretraining"),
        ("save_best_val_loss", given.save_best_val_loss and not given.validation_split, "set validation_split above 0"),
        ("node_rank", given.node_rank is not None and alone, "set nnodes above 1"),
        ("rdzv_id", given.rdzv_id is not None and alone, "set nnodes above 1"),
        ("rdzv_endpoint", given.rdzv_endpoint is not None and alone, "set nnodes above 1"),
        ("nnodes", not alone and given.rdzv_endpoint is None, "give rdzv_endpoint=host:port too"),
    ]


def _config(given: OsftArguments) -> TrainConfig:
    same = OsftArguments.model_fields.keys() & TrainConfig.model_fields.keys() - {"target_patterns"}
    values = given.model_dump(include=set(same)) | {
        "max_tokens_per_batch": given.max_tokens_per_gpu,
        "target_patterns": tuple(given.target_patterns or ()),
        "unmask": given.unmask_messages,
        "validation_share": given.validation_split,
        "keep_best": given.save_best_val_loss,
    }
    if given.block_size is not None:
        values["max_seq_len"] = given.block_size
    return TrainConfig(**values)


def _launch(run: TrainRun, given: OsftArguments, file: Path) -> CheckpointManifest:
    """Start the processes with torchrun and wait for them. Raises TrainingError where one fails; its own message is on stderr."""
    write_atomically(file, run.model_dump_json())
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={given.nproc_per_node}", f"--nnodes={given.nnodes}"]
    if given.nnodes == 1:
        command.append("--standalone")
    else:
        command += [f"--node_rank={given.node_rank or 0}", f"--rdzv_endpoint={given.rdzv_endpoint}", "--rdzv_backend=c10d"]
        command += [f"--rdzv_id={given.rdzv_id}"] if given.rdzv_id else []
    done = subprocess.run([*command, "-m", "osft_engine", str(file)], check=False)
    if done.returncode != 0:
        raise TrainingError(str(run.out_dir), f"the processes ended with exit code {done.returncode}", "see the last lines of their output")
    return read_manifest(run.out_dir, CheckpointManifest)
