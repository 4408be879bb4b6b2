"""The arguments of `osft(...)`: Training Hub's and a few beyond, checked on their own and against one another, and the config behind them.

Nothing here reads or writes a file.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from data_contracts.errors import ConfigError, SkillstackError
from osft_engine.config import Protect, RankPolicy, Scheduler, SchedulerSettings, TrainConfig
from osft_engine.data.inputs import RowKind

# Arguments that the config behind them knows under another name.
_INNER = {
    "max_tokens_per_gpu": "max_tokens_per_batch",
    "unmask_messages": "unmask",
    "validation_split": "validation_share",
    "save_best_val_loss": "keep_best",
}
_OWN = {inner: own for own, inner in _INNER.items()} | {"out_dir": "ckpt_output_dir"}

PathText = Annotated[str, BeforeValidator(lambda value: os.fspath(value) if isinstance(value, os.PathLike) else value), Field(min_length=1)]


class OsftArguments(BaseModel):
    """What `osft` takes. None is the same as not given."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)

    model_path: PathText = Field(description="folder of the model to train; the model/ of an earlier call continues from that call")
    data_path: PathText = Field(description=".jsonl, .json, .parquet, .csv, a dataset's folder or the name of a Hugging Face dataset")
    ckpt_output_dir: PathText = Field(description="folder of the result; its model/ is a dense Hugging Face folder")
    parent: PathText | None = Field(
        None, description="ckpt_output_dir of the earlier call to continue: its ledger and buffer are carried on; found beside model_path"
    )
    skill: str | None = Field(
        None, min_length=1, description="name of what is learned, its own in each call of a lineage; ckpt_output_dir's unless given"
    )
    unfreeze_rank_ratio: float = Field(0.25, gt=0.0, le=1.0, description="share of directions that may move; 1.0 trains the targets whole")
    protect: Protect = Field("activations", description="which directions are protected")
    rank_policy: RankPolicy = Field("uniform", description="how the directions that may move are spread over the layers")
    compact: bool = Field(False, description="protect='weights': train the small core of a non-square weight, for memory")
    calibration: PathText | None = Field(
        None, description="JSONL of general text that stands for what the base knows; without one the model writes its own"
    )
    effective_batch_size: int = Field(8, ge=1, description="examples in one optimiser step")
    max_tokens_per_gpu: int = Field(2048, ge=1, description="tokens in one forward pass of one process")
    max_seq_len: int = Field(2048, ge=2, description="tokens; longer examples are left out and counted")
    gradient_checkpointing: bool = Field(False, description="recompute activations in the backward pass: less memory, a third more time")
    learning_rate: float = Field(1e-3, gt=0.0, description="peak step size")
    num_epochs: int = Field(1, ge=1, description="passes over the data")
    lr_scheduler: Scheduler = Field("cosine", description="shape of the step size")
    warmup_steps: int = Field(0, ge=0, description="steps of warm-up")
    lr_scheduler_kwargs: SchedulerSettings = Field(
        default_factory=dict, description="further settings of the scheduler, by transformers' names"
    )
    beta1: float = Field(0.9, description="AdamW, first moment, in [0, 1)")
    beta2: float = Field(0.95, description="AdamW, second moment, in [0, 1)")
    eps: float = Field(1e-8, description="AdamW, denominator, above 0")
    weight_decay: float = Field(0.0, description="pulls towards the starting weights, not towards zero; 0 or more")
    seed: int = Field(42, ge=0, description="of everything random")
    use_liger: bool = Field(False, description="refused: its kernels are not used; logits are made for the tokens that count in the loss")
    target_patterns: tuple[str, ...] = Field((), description="regular expressions of the layers to train; none means all linear ones")
    chat_template: str | None = Field(None, min_length=1, description="Jinja chat template that replaces the tokenizer's")
    chat_template_kwargs: dict[str, Any] = Field(
        default_factory=dict, description="variables of the chat template, such as {'enable_thinking': False}"
    )
    unmask_messages: bool = Field(False, description="learn every token, not the assistant's only")
    use_processed_dataset: bool = Field(False, description="rows hold input_ids and labels")
    is_pretraining: bool = Field(False, description="rows hold documents")
    block_size: int | None = Field(None, ge=2, description="is_pretraining: tokens of a piece of a document; max_seq_len unless given")
    document_column_name: str | None = Field(None, description="is_pretraining: the column that holds the text; 'text' unless given")
    checkpoint_at_epoch: bool = Field(False, description="also keep the dense model of every epoch")
    save_final_checkpoint: bool = Field(True, description="refused when false: the run would leave nothing")
    validation_split: float = Field(0.0, ge=0.0, le=0.5, description="share of the data that is only watched")
    save_best_val_loss: bool = Field(False, description="end with the parameters of the lowest validation loss")
    nproc_per_node: Annotated[int, Field(ge=1)] | Literal["auto", "gpu"] = Field(
        1, description="processes on this machine; 'auto' and 'gpu' are one a CUDA device, or one without any"
    )
    nnodes: int = Field(1, ge=1, description="machines; they share ckpt_output_dir and data_output_dir")
    node_rank: int | None = Field(None, ge=0, description="nnodes > 1: number of this machine, from 0")
    rdzv_id: str | int | None = Field(None, description="nnodes > 1: name of the rendezvous")
    rdzv_endpoint: str | None = Field(None, description="nnodes > 1: host:port of the rendezvous")
    data_output_dir: PathText | None = Field(None, description="folder for the converted data; ckpt_output_dir + '.data' unless given")
    cache_dir: PathText | None = Field(None, description="folder that keeps decompositions and base measurements for the next call")
    trust_remote_code: bool = Field(False, description="let the model folder bring its own Python code")

    @property
    def row_kind(self) -> RowKind:
        return "documents" if self.is_pretraining else "processed" if self.use_processed_dataset else "messages"

    @property
    def processes(self) -> int:
        """Processes on this machine, counted."""
        if isinstance(self.nproc_per_node, int):
            return self.nproc_per_node
        import torch

        return max(1, torch.cuda.device_count())

    @property
    def skill_name(self) -> str:
        """What ledger, buffer and manifest call this round; the ledger tells rounds apart by it."""
        return self.skill or Path(self.ckpt_output_dir).resolve().name or "api"

    @property
    def data_dir(self) -> Path:
        return Path(self.data_output_dir or f"{Path(self.ckpt_output_dir)}.data")


def parse_arguments(arguments: dict[str, Any]) -> OsftArguments:
    """Check every argument on its own and against the others. Raises ConfigError that names it, or the nearest valid one."""
    known = OsftArguments.model_fields
    for name in arguments:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            raise ConfigError(f"osft({name}=...)", "is not an argument", f"did you mean {near[0]}?" if near else "see OsftArguments")
    try:
        given = OsftArguments(**{name: value for name, value in arguments.items() if value is not None})
    except ValidationError as error:
        raise _refusal(error) from error
    for name, wrong, instead in (*_inapplicable(given), *_inapplicable_processes(given)):
        if wrong:
            raise ConfigError(f"osft({name}=...)", "does not apply here", instead)
    train_config(given)
    return given


def train_config(given: OsftArguments) -> TrainConfig:
    """The config behind the arguments. Raises ConfigError that names the argument, not the field."""
    inner = {own: _INNER.get(own, own) for own in OsftArguments.model_fields}
    values = {field: getattr(given, own) for own, field in inner.items() if field in TrainConfig.model_fields}
    if given.block_size is not None:
        values["max_seq_len"] = given.block_size
    try:
        return TrainConfig(**values)
    except ValidationError as error:
        raise _refusal(error) from error


def _refusal(error: ValidationError) -> ConfigError:
    """The first complaint, about the argument by its own name and value."""
    first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:  # a rule about several fields of TrainConfig
        return ConfigError("osft(...)", _own_words(message), "see OsftArguments")
    name = _OWN.get(str(first["loc"][0]), str(first["loc"][0]))
    description = OsftArguments.model_fields[name].description or ""
    if first["type"] == "missing":
        return ConfigError(f"osft({name}=...)", "is missing", description)
    value = repr(first["input"])
    shown = value if len(value) <= 60 else f"{value[:60]}..."
    return ConfigError(f"osft({name}=...)", f"cannot be {shown}: {message[0].lower()}{message[1:]}", description)


def _inapplicable(given: OsftArguments) -> list[tuple[str, bool, str]]:
    """(argument, whether it is set and cannot apply, what to do instead)."""
    fewer_logits = "leave it out; where the logits are too many, with is_pretraining or unmask_messages, lower max_tokens_per_gpu"
    too_long = given.block_size is not None and "max_seq_len" in given.model_fields_set and given.block_size > given.max_seq_len
    measured = given.protect == "activations" or given.rank_policy == "importance"
    return [
        ("use_liger", given.use_liger, fewer_logits),
        ("save_final_checkpoint", not given.save_final_checkpoint, "leave it out; remove the folder afterwards if it is not wanted"),
        ("use_processed_dataset", given.use_processed_dataset and given.is_pretraining, "choose it or is_pretraining"),
        ("unmask_messages", given.unmask_messages and given.row_kind != "messages", "it belongs to rows with messages"),
        ("chat_template", given.chat_template is not None and given.row_kind != "messages", "it belongs to rows with messages"),
        ("chat_template_kwargs", bool(given.chat_template_kwargs) and given.row_kind != "messages", "it belongs to rows with messages"),
        ("block_size", given.block_size is not None and not given.is_pretraining, "use max_seq_len, or set is_pretraining"),
        ("block_size", too_long, "pieces over max_seq_len would all be left out; lower it, or leave max_seq_len out"),
        ("document_column_name", given.document_column_name is not None and not given.is_pretraining, "set is_pretraining"),
        ("save_best_val_loss", given.save_best_val_loss and not given.validation_split, "set validation_split above 0"),
        ("warmup_steps", given.warmup_steps > 0 and given.lr_scheduler == "constant", "use lr_scheduler='constant_with_warmup'"),
        ("compact", given.compact and given.protect != "weights", "set protect='weights'"),
        ("rank_policy", given.rank_policy == "energy" and given.protect != "activations", "energy needs protect='activations'"),
        ("calibration", given.calibration is not None and not measured, "only protect='activations' and rank_policy='importance' measure"),
    ]


def _inapplicable_processes(given: OsftArguments) -> list[tuple[str, bool, str]]:
    """The same for the arguments about processes and machines."""
    alone, rank = given.nnodes == 1, given.node_rank
    together = not alone or given.processes > 1
    return [
        ("protect", given.protect == "weights_block" and together, "weights_block runs in one process; take weights or activations"),
        ("node_rank", rank is not None and alone, "set nnodes above 1"),
        ("node_rank", rank is not None and rank >= given.nnodes, f"machines count from 0, so to {given.nnodes - 1}"),
        ("rdzv_id", given.rdzv_id is not None and alone, "set nnodes above 1"),
        ("rdzv_endpoint", given.rdzv_endpoint is not None and alone, "set nnodes above 1"),
        ("nnodes", not alone and given.rdzv_endpoint is None, "give rdzv_endpoint=host:port too"),
        ("nnodes", not alone and rank is None, "give node_rank too, the number of this machine from 0"),
    ]


@contextmanager
def in_own_words() -> Iterator[None]:
    """Errors from further in name the arguments of `osft`, not the fields behind them."""
    try:
        yield
    except SkillstackError as error:
        name = error.where.removeprefix("train.")
        name = _OWN.get(name, name)
        where = f"osft({name}=...)" if name in OsftArguments.model_fields else error.where
        raise type(error)(where, _own_words(error.what), _own_words(error.way_out)) from error


def _own_words(text: str) -> str:
    text = re.sub(r"\btrain\.(?=[a-z])", "", text)
    return re.sub(r"\w+", lambda word: _OWN.get(word[0], word[0]), text)
