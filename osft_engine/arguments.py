"""What was given to `osft(...)`, checked: each argument on its own, all against one another, and the training settings behind them.

The signature of `osft` (api.py) is the one list of arguments. An argument that is a setting of training has its type, limits, default and
description in TrainConfig; the others have limits and description here and their default in the signature. Nothing here reads or writes a
file.
"""

from __future__ import annotations

import difflib
import inspect
import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from data_contracts.errors import ConfigError, SkillstackError
from osft_engine.config import MisfitError, TrainConfig
from osft_engine.data.inputs import RowKind

# Settings of training that have another name in Training Hub.
_INNER = {
    "max_tokens_per_gpu": "max_tokens_per_batch",
    "unmask_messages": "unmask",
    "validation_split": "validation_share",
    "save_best_val_loss": "keep_best",
}
_OWN = {inner: own for own, inner in _INNER.items()} | {"out_dir": "ckpt_output_dir"}

PathText = Annotated[str, BeforeValidator(lambda value: os.fspath(value) if isinstance(value, os.PathLike) else value), Field(min_length=1)]


class OsftArguments(BaseModel):
    """The arguments of one call. `config` holds those that are settings of training."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)

    config: TrainConfig
    model_path: PathText = Field(description="folder of the model to train; the model/ of an earlier call continues from that call")
    data_path: PathText = Field(description=".jsonl, .json, .parquet, .csv, a dataset's folder or the name of a Hugging Face dataset")
    ckpt_output_dir: PathText = Field(description="folder of the result; its model/ is a dense Hugging Face folder")
    parent: PathText | None = Field(
        description="ckpt_output_dir of the earlier call to continue, whose subspace memory and buffer are carried on; "
        "found beside model_path unless given"
    )
    skill: str | None = Field(
        min_length=1, description="name of what is learned, another one in each call of a lineage; ckpt_output_dir's name unless given"
    )
    calibration: PathText | None = Field(
        description="JSONL of general text that stands for what the base knows; without one the model writes its own"
    )
    use_liger: bool = Field(description="refused: its kernels are not used; logits are made for the tokens that count in the loss")
    use_processed_dataset: bool = Field(description="rows hold input_ids and labels")
    is_pretraining: bool = Field(description="rows hold documents")
    block_size: int | None = Field(ge=2, description="is_pretraining: tokens per piece of a document; max_seq_len unless given")
    document_column_name: str | None = Field(description="is_pretraining: the column that holds the text; 'text' unless given")
    save_final_checkpoint: bool = Field(description="refused when false: the run would leave nothing")
    nproc_per_node: Annotated[int, Field(ge=1)] | Literal["auto", "gpu"] = Field(
        description="processes on this machine; 'auto' and 'gpu' are one per CUDA device, or one where there is none"
    )
    nnodes: int = Field(ge=1, description="machines; they share ckpt_output_dir and data_output_dir")
    node_rank: int | None = Field(ge=0, description="nnodes > 1: number of this machine, from 0")
    rdzv_id: str | int | None = Field(description="nnodes > 1: name of the rendezvous")
    rdzv_endpoint: str | None = Field(description="nnodes > 1: host:port of the rendezvous")
    data_output_dir: PathText | None = Field(description="folder for the converted data; ckpt_output_dir + '.data' unless given")
    cache_dir: PathText | None = Field(description="folder that keeps decompositions and measurements of the base for the next call")

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
        """What subspace memory, buffer and manifest call this round; the memory tells rounds apart by it."""
        return self.skill or Path(self.ckpt_output_dir).resolve().name or "api"

    @property
    def data_dir(self) -> Path:
        return Path(self.data_output_dir or f"{Path(self.ckpt_output_dir)}.data")


def describe_argument(name: str) -> str:
    """What an argument of `osft` is, from the one place that says it."""
    field = OsftArguments.model_fields.get(name) or TrainConfig.model_fields[_INNER.get(name, name)]
    return in_own_names(field.description or "")


def read_arguments(declared: inspect.Signature, positional: tuple[Any, ...], named: Mapping[str, Any]) -> OsftArguments:
    """Check what was given against the signature, on its own and against one another. None is the same as not given.

    Raises ConfigError that names the argument, or the nearest valid one.
    """
    given = {name: value for name, value in _by_name(declared, positional, named).items() if value is not None}
    defaults = {name: each.default for name, each in declared.parameters.items() if each.default is not inspect.Parameter.empty}
    own = {name: value for name, value in (defaults | given).items() if name in OsftArguments.model_fields}
    settings = {_INNER.get(name, name): value for name, value in given.items() if name not in own}
    try:
        found = OsftArguments(config=TrainConfig(), **own)
        # As published, a call trains for the passes that it says, on all rows.
        found = found.model_copy(update={"config": TrainConfig(until_settled=False, **settings)})
    except ValidationError as error:
        raise _refusal(error) from error
    for name, wrong, instead in (*_inapplicable(found), *_inapplicable_processes(found)):
        if wrong:
            raise _inapplicable_error(name, instead)
    if found.block_size is None:
        return found
    return found.model_copy(update={"config": found.config.model_copy(update={"max_seq_len": found.block_size})})


def _by_name(declared: inspect.Signature, positional: tuple[Any, ...], named: Mapping[str, Any]) -> dict[str, Any]:
    for name in named:
        if name not in declared.parameters:
            near = difflib.get_close_matches(name, declared.parameters, n=1, cutoff=0.4)
            raise ConfigError(f"osft({name}=...)", "is not an argument", f"did you mean {near[0]}?" if near else "see help(osft)")
    try:
        return declared.bind_partial(*positional, **named).arguments
    except TypeError as error:  # too many without a name, or one given twice
        raise ConfigError("osft(...)", str(error), "give every argument but the three paths by its name") from error


def _refusal(error: ValidationError) -> ConfigError:
    """The first complaint, about the argument by its own name and value."""
    first = error.errors()[0]
    misfit = first.get("ctx", {}).get("error")
    if isinstance(misfit, MisfitError):
        return _inapplicable_error(_OWN.get(misfit.setting, misfit.setting), in_own_names(misfit.instead))
    message = first["msg"].removeprefix("Value error, ")
    name = _OWN.get(str(first["loc"][0]), str(first["loc"][0]))
    if first["type"] == "missing":
        return ConfigError(f"osft({name}=...)", "is missing", describe_argument(name))
    value = repr(first["input"])
    shown = value if len(value) <= 60 else f"{value[:60]}..."
    return ConfigError(f"osft({name}=...)", f"cannot be {shown}: {message[0].lower()}{message[1:]}", describe_argument(name))


def _inapplicable_error(name: str, instead: str) -> ConfigError:
    return ConfigError(f"osft({name}=...)", "does not apply here", instead)


def _inapplicable(given: OsftArguments) -> list[tuple[str, bool, str]]:
    """(argument, whether it is set and cannot apply, what to do instead)."""
    config, pieces = given.config, given.block_size
    fewer_logits = "leave it out; where the logits are too many, with is_pretraining or unmask_messages, lower max_tokens_per_gpu"
    too_long = pieces is not None and "max_seq_len" in config.model_fields_set and pieces > config.max_seq_len
    no_warmup = config.lr_scheduler == "constant" and "warmup_steps" in config.model_fields_set and config.warmup_steps > 0
    measured = config.protect == "activations" or config.rank_policy == "importance"
    messages = given.row_kind == "messages"
    return [
        ("use_liger", given.use_liger, fewer_logits),
        ("save_final_checkpoint", not given.save_final_checkpoint, "leave it out; remove the folder afterwards if it is not wanted"),
        ("use_processed_dataset", given.use_processed_dataset and given.is_pretraining, "choose it or is_pretraining"),
        ("unmask_messages", config.unmask and not messages, "it belongs to rows with messages"),
        ("chat_template", config.chat_template is not None and not messages, "it belongs to rows with messages"),
        ("chat_template_kwargs", bool(config.chat_template_kwargs) and not messages, "it belongs to rows with messages"),
        ("block_size", pieces is not None and not given.is_pretraining, "use max_seq_len, or set is_pretraining"),
        ("block_size", too_long, "pieces over max_seq_len would all be left out; lower it, or leave max_seq_len out"),
        ("document_column_name", given.document_column_name is not None and not given.is_pretraining, "set is_pretraining"),
        ("warmup_steps", no_warmup, "use lr_scheduler='constant_with_warmup'"),
        ("calibration", given.calibration is not None and not measured, "only protect='activations' and rank_policy='importance' measure"),
    ]


def _inapplicable_processes(given: OsftArguments) -> list[tuple[str, bool, str]]:
    """The same for the arguments about processes and machines."""
    alone, rank = given.nnodes == 1, given.node_rank
    blocked = given.config.protect == "weights_block" and (not alone or given.processes > 1)
    return [
        ("protect", blocked, "weights_block runs in one process; take weights or activations"),
        ("node_rank", rank is not None and alone, "set nnodes above 1"),
        ("node_rank", rank is not None and rank >= given.nnodes, f"machines count from 0, so to {given.nnodes - 1}"),
        ("rdzv_id", given.rdzv_id is not None and alone, "set nnodes above 1"),
        ("rdzv_endpoint", given.rdzv_endpoint is not None and alone, "set nnodes above 1"),
        ("nnodes", not alone and given.rdzv_endpoint is None, "give rdzv_endpoint=host:port too"),
        ("nnodes", not alone and rank is None, "give node_rank too, the number of this machine from 0"),
    ]


@contextmanager
def errors_name_arguments(known: Collection[str]) -> Iterator[None]:
    """Errors from further in name the arguments of `osft`, not the settings behind them."""
    try:
        yield
    except SkillstackError as error:
        name = error.where.removeprefix("train.")
        name = _OWN.get(name, name)
        where = f"osft({name}=...)" if name in known else error.where
        raise type(error)(where, in_own_names(error.what), in_own_names(error.way_out)) from error


def in_own_names(text: str) -> str:
    """A text about settings of training, with the names that `osft` gives them."""
    text = re.sub(r"\btrain\.(?=[a-z])", "", text)
    return re.sub(r"\w+", lambda word: _OWN.get(word[0], word[0]), text)
