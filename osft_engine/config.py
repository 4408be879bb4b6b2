"""The training section of skillstack.yaml: every setting of a run, with its unit and a default that works."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from data_contracts.errors import ConfigError
from data_contracts.rendering.baked import check_variables
from osft_engine.scheduler_settings import Scheduler, numbers, refuse_metric_followers

Patterns = TypeVar("Patterns", tuple[str, ...], dict[str, float])
Method = Literal["osft", "full", "lora"]
Protect = Literal["activations", "weights", "weights_block"]
RankPolicy = Literal["uniform", "importance", "energy"]


# On nano 500 steps of 8 examples learn a skill whatever the size of its drop, 250 most of it, 60 nothing (docs/results/schedules.md).
STEPS_TO_LEARN = 500
MOST_PASSES = 40

# Where training goes on until the loss of rows that are not trained on has settled (until_settled). Fewer such rows say too little.
MOST_STEPS, MOST_PASSES_UNTIL_SETTLED = 6, 60  # in STEPS_TO_LEARN
WATCHED_SHARE, FEWEST_WATCHED, WATCH_EVERY, PATIENCE, LEAST_GAIN = 0.1, 20, 50, 4, 0.002
# A look reads all of them. Of 200,000 rows a tenth would be seventeen times the work of the 50 steps between two looks (400 rows forward
# and backward); 500 rows are some 0.4 of it.
MOST_WATCHED = 500

# The rate that moves the weights by a comparable amount differs by a factor of thirty between the methods: an OSFT core is a rotated,
# restricted copy of a weight, a LoRA factor starts at zero, and full fine-tuning is not restricted.
LEARNING_RATES: dict[str, float] = {"osft": 1e-3, "lora": 3e-4, "full": 3e-5}
_BY_METHOD = ", ".join(f"{method} {rate:g}" for method, rate in LEARNING_RATES.items())


class MisfitError(ValueError):
    """A setting that cannot apply beside the others: which one, and what to do instead."""

    def __init__(self, setting: str, instead: str) -> None:
        self.setting, self.instead = setting, instead
        super().__init__(f"{setting} does not apply here: {instead}")


class TrainConfig(BaseModel):
    """How a candidate is trained."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    method: Method = Field("osft", description="osft, full (fine-tuning of every parameter) or lora (PEFT, merged at the end)")
    protect: Protect = Field(
        "activations",
        description="directions that an osft update leaves unchanged. weights: the weights' leading singular directions, OSFT as published "
        "(arXiv:2504.07097); weights_block: the formula printed in that paper; activations: leading directions of the layers' inputs on "
        "everything learned so far, as GPM (arXiv:2103.09762) and Adam-NSCL (arXiv:2103.07113)",
    )
    unfreeze_rank_ratio: float = Field(
        0.25, gt=0.0, le=1.0, description="share of the directions of each weight that may change, in (0, 1]"
    )
    rank_policy: RankPolicy = Field(
        "uniform",
        description="how trainable directions are spread over the layers. uniform: the same share in each; importance: fewer where a "
        "layer's output resembles its input (arXiv:2504.07097, measured by linear CKA); energy: as many as energy_share leaves",
    )
    rank_overrides: dict[str, float] = Field(
        default_factory=dict, description="regular expression of target names -> its own unfreeze_rank_ratio, in (0, 1]"
    )
    importance_minimum: float = Field(
        0.1, ge=0.0, lt=1.0, description="rank_policy importance: smallest share of a layer's directions that is protected"
    )
    energy_share: float = Field(0.99, gt=0.0, lt=1.0, description="rank_policy energy: share of a layer's input energy that is protected")
    protect_written: bool = Field(False, description="protect weights only: also protect the directions that earlier rounds' updates used")
    written_share: float = Field(
        0.9, gt=0.0, le=1.0, description="protect_written: share of an update's squared norm whose directions are protected later"
    )
    target_patterns: tuple[str, ...] = Field(
        (),
        description="regular expressions, searched in module names, of the layers to train; empty: all linear layers of the decoder blocks",
    )
    train_other: tuple[str, ...] = Field(
        (), description="regular expressions of parameters outside the targets that osft trains without restriction (embeddings, norms)"
    )
    compact: bool = Field(False, description="protect weights only: train the small core of a non-square weight, to save memory")
    execution: Literal["auto", "dense", "side"] = Field(
        "auto",
        description="osft: dense keeps the updated weight, side computes the update beside the frozen weight; auto takes the cheaper one, "
        "or side where dense would need more than half of the device's memory",
    )
    lora_rank: int = Field(16, ge=1, description="rank of the LoRA baseline")
    lora_alpha: float | None = Field(None, gt=0.0, description="LoRA alpha, the scale times the rank; none means twice the rank")

    learning_rate: float | None = Field(None, gt=0.0, description=f"peak step size; none means {_BY_METHOD}")
    num_epochs: int | None = Field(
        None,
        ge=1,
        description="passes over the drop; none: until the loss has settled (until_settled), else as many whole passes as make 500 "
        "optimiser steps, at most 40",
    )
    until_settled: bool = Field(
        True,
        description="osft without num_epochs, on drops of at least 200 examples: hold a tenth of them, at most 500, out of training, take "
        "their loss every 50 steps, from step 500 on stop when four in a row bring less than 0.002 nats per token (at rates below 1e-3 "
        "both numbers grow as the rate falls) and end with the parameters of the best; at most as many whole "
        "passes over the drop's own rows as make 3000 steps, and at most 60 (replayed rows and general text come on top)",
    )
    effective_batch_size: int = Field(8, ge=1, description="examples per optimiser step, over all forward passes and processes")
    max_tokens_per_batch: int = Field(2048, ge=1, description="tokens per forward pass of one process, padding included")
    max_seq_len: int = Field(
        2048, ge=2, description="longest example in tokens; longer ones, and those longer than the model's window, are left out and counted"
    )
    batch_layout: Literal["auto", "packed", "padded", "single"] = Field(
        "auto",
        description="packed: examples end to end in one row; padded: one row per example; single: one example per pass; auto: packed on a "
        "GPU, padded on a CPU, or the next layout in which a probe shows that the model keeps examples apart",
    )
    optimizer: Literal["adamw", "muon"] = Field(
        "adamw", description="adamw, or muon for matrices (with its own momentum) and AdamW for the rest"
    )
    lr_scheduler: Annotated[Scheduler, BeforeValidator(refuse_metric_followers)] = Field(
        "cosine", description="shape of the step size after warm-up"
    )
    lr_scheduler_kwargs: Annotated[dict[str, bool | int | float | str], AfterValidator(numbers)] = Field(
        default_factory=dict,
        description="further settings of the scheduler, by transformers' names (num_cycles, min_lr_rate, num_decay_steps, decay_type)",
    )
    warmup_steps: int = Field(5, ge=0, description="optimiser steps of linear warm-up, in every lr_scheduler but constant")
    weight_decay: float = Field(
        0.0,
        ge=0.0,
        description="decoupled weight decay: towards the starting weights in osft's targets, towards zero in train_other, full and lora",
    )
    beta1: float = Field(0.9, ge=0.0, lt=1.0, description="AdamW, decay of the first moment")
    beta2: float = Field(0.95, ge=0.0, lt=1.0, description="AdamW, decay of the second moment")
    eps: float = Field(1e-8, gt=0.0, description="AdamW, added to the denominator")
    max_grad_norm: float = Field(1.0, ge=0.0, description="the gradient is scaled down to at most this L2 norm; 0 does not clip")
    gradient_checkpointing: bool = Field(
        False, description="recompute activations in the backward pass: less memory, about a third more time"
    )
    unmask: bool = Field(False, description="count every token in the loss, not only the assistant's answers")
    chat_template: str | None = Field(
        None,
        min_length=1,
        description="Jinja chat template that replaces the tokenizer's, in every stage of the round and in the saved model",
    )
    chat_template_kwargs: dict[str, Any] = Field(
        default_factory=dict,
        description="variables of the chat template (enable_thinking: false), in every stage of the round and in the saved model",
    )

    replay_share: float = Field(
        0.0, ge=0.0, lt=1.0, description="share of the training examples drawn from the buffer of earlier rounds; `init` writes 0.25"
    )
    calibration_share: float = Field(
        0.0, ge=0.0, lt=1.0, description="share of the training examples drawn from the general text that `calibration` names"
    )
    keep_general: float = Field(
        0.0,
        ge=0.0,
        description="osft, protect activations: how heavily the change of the model's answers to general text counts beside the drop's "
        "loss: an estimate of it, in nats per token, is multiplied by this; 0 does not count it; `init` writes 10 for nano",
    )
    buffer_size: int = Field(512, ge=0, description="examples of earlier rounds that are kept in the lineage, for any number of rounds")
    moment_tokens: int = Field(4096, ge=1, description="tokens per round whose layer inputs are measured for the subspace memory")
    memory_rank: int = Field(
        2048,
        ge=1,
        description="largest number of directions that the subspace memory keeps per layer. Of a wider layer it knows the others' mean "
        "energy only: protect activations then takes its free directions from those without knowing which have less",
    )

    validation_share: float = Field(
        0.0, ge=0.0, le=0.5, description="share of the training data that is not trained on and whose loss is reported"
    )
    validate_every_steps: int = Field(0, ge=0, description="steps between two validations; 0 is one per epoch")
    keep_best: bool = Field(False, description="end with the parameters of the lowest validation loss")
    early_stop_patience: int = Field(
        0, ge=0, description="number of validations without a new best loss after which training stops; 0 never stops early"
    )
    early_stop_gain: float = Field(
        0.0, ge=0.0, description="a new best loss counts for early_stop_patience where it is lower by more than this (nats per token)"
    )
    early_stop_after: int = Field(
        0,
        ge=0,
        description="optimiser steps that are made before a validation counts for keep_best and early_stop_patience; fewer where every "
        "step of a pass had a loss below 1e-5 nats per token: nothing is left to learn then",
    )
    checkpoint_at_epoch: bool = Field(False, description="also write the dense model after each epoch, under out_dir/epochs")

    seed: int = Field(0, ge=0, description="seed of the data order, the buffer and every random start")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="type of the frozen weights and activations; auto is float32 on a CPU, bfloat16 on a GPU"
    )
    quantize: Literal["none", "nf4"] = Field(
        "none",
        description="nf4 holds the frozen base in 4 bits while training (extra `quantize`); needs protect activations and one process",
    )
    device: str = Field("auto", description="torch device; auto is cuda where there is one, else cpu")
    num_threads: int = Field(0, ge=0, description="CPU threads of torch; 0 keeps torch's own number")
    save_every_seconds: float = Field(
        60.0,
        ge=0.0,
        description="seconds between two saves of the training state; where a save takes more than a twentieth of them, twenty times as "
        "long as it takes, but no more than 1800 for that; 0 saves after every step",
    )
    save_every_steps: int = Field(0, ge=0, description="steps between two saves of the training state; 0 saves by time only")
    state_url: str | None = Field(
        None,
        min_length=1,
        description="fsspec URL of a folder (s3://bucket/states) to which the training state is copied whenever it is saved, and from "
        "which a machine without it goes on; none keeps it in out_dir alone",
    )
    log_every_steps: int = Field(1, ge=1, description="steps between two lines of metrics.jsonl")
    trust_remote_code: bool = Field(False, description="run Python code that the model folder contains")

    @field_validator("target_patterns", "train_other", "rank_overrides")
    @classmethod
    def _compiles(cls, patterns: Patterns) -> Patterns:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
        return patterns

    @field_validator("chat_template_kwargs")
    @classmethod
    def _are_variables(cls, variables: dict[str, Any]) -> dict[str, Any]:
        try:
            check_variables(variables)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return variables

    @field_validator("rank_overrides")
    @classmethod
    def _are_shares(cls, overrides: dict[str, float]) -> dict[str, float]:
        for pattern, ratio in overrides.items():
            if not 0.0 < ratio <= 1.0:
                raise ValueError(f"{pattern!r} has the ratio {ratio}, which is not in (0, 1]")
        return overrides

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.rank_policy == "energy" and self.protect != "activations":
            raise MisfitError("rank_policy", "energy measures layer inputs and needs protect to be activations")
        for name in ("compact", "protect_written"):
            if getattr(self, name) and self.protect != "weights":
                raise MisfitError(name, "set protect to weights")
        for name in ("keep_best", "early_stop_patience", "early_stop_gain", "early_stop_after"):
            if getattr(self, name) and not self.validation_share:
                raise MisfitError(name, "set validation_share above 0")
        if self.replay_share + self.calibration_share >= 1.0:
            raise MisfitError("calibration_share", "with replay_share it must leave a part of the training examples to the drop")
        if self.quantize != "none" and (self.method != "osft" or self.protect != "activations" or self.train_other):
            raise MisfitError("quantize", "a 4-bit base stays frozen, which needs method osft, protect activations and no train_other")
        if self.keep_general and self.method == "osft" and self.protect != "activations":
            raise MisfitError("keep_general", "set protect to activations, or it to 0")
        if self.checkpoint_at_epoch and self.method == "lora":
            raise MisfitError("checkpoint_at_epoch", "an adapter is merged once, at the end; use method osft or full")
        return self

    def passes(self, examples: int) -> int:
        """Passes over so many examples: the number that is given, or what makes about STEPS_TO_LEARN steps."""
        steps = math.ceil(examples / self.effective_batch_size)
        return self.num_epochs or min(MOST_PASSES, math.ceil(STEPS_TO_LEARN / max(steps, 1)))

    def watched(self, examples: int, rows: int | None = None) -> TrainConfig:
        """The settings for a drop of so many examples, of so many rows: those of `until_settled` where it applies, else as they are.

        A row is watched or trained on as a whole: a few long documents, of many examples each, leave none to watch.
        """
        left_open = self.until_settled and self.method == "osft" and self.num_epochs is None and not self.validation_share
        share = min(WATCHED_SHARE, MOST_WATCHED / max(1, examples))
        if not left_open or WATCHED_SHARE * examples < FEWEST_WATCHED or round(share * (rows or examples)) == 0:
            return self
        steps = math.ceil((examples - round(share * examples)) / self.effective_batch_size)
        passes = min(MOST_PASSES_UNTIL_SETTLED, math.ceil(MOST_STEPS * STEPS_TO_LEARN / steps))
        # Smaller steps need more of them, to learn and to show that the loss has settled.
        slower = max(1.0, LEARNING_RATES["osft"] / self.peak_learning_rate)
        # The loss of rows that are not trained on may rise, from too much certainty, long before their answers stop getting better.
        after = min(round(slower * STEPS_TO_LEARN), steps * passes)
        watch = {"validation_share": share, "validate_every_steps": WATCH_EVERY, "keep_best": True}
        stop = {"early_stop_patience": math.ceil(slower * PATIENCE), "early_stop_gain": LEAST_GAIN, "early_stop_after": after}
        return self.model_copy(update={"num_epochs": passes, **watch, **stop})

    def most_steps(self, examples: int, *, earlier: bool = False) -> tuple[int, bool]:
        """(optimiser steps of a training on a drop of so many examples, whether it may stop earlier). earlier: there are skills whose
        rows are replayed. General text is taken to be as much as is asked for."""
        config = self.watched(examples)
        kept, replayed = examples - round(config.validation_share * examples), self.replay_share if earlier and self.buffer_size else 0.0
        passed = kept / (1.0 - replayed - self.calibration_share)
        per_pass = kept + min(self.buffer_size, round(replayed * passed)) + round(self.calibration_share * passed)
        return config.passes(per_pass) * math.ceil(per_pass / config.effective_batch_size), config.early_stop_patience > 0

    @property
    def peak_learning_rate(self) -> float:
        """The step size that is used: the one given, or the method's own."""
        return self.learning_rate if self.learning_rate is not None else LEARNING_RATES[self.method]
