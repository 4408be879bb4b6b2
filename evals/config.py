"""What is measured and how: the `evaluation` section of skillstack.yaml."""

from __future__ import annotations

import re
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from data_contracts.manifests import Category
from data_contracts.rows.jsonl import is_jsonl
from evals.gate.policy import GatePolicy


def _compiles(pattern: str) -> str:
    """Raises ValueError where a pattern is no regular expression: found before a round trains, not when its answers are scored."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from error
    return pattern


Pattern = Annotated[str, AfterValidator(_compiles)]
Metric = Literal["auto", "acc", "acc_norm", "exact_match", "bits_per_byte"]
Backend = Literal["hf", "accelerate", "vllm"]
Draw = Literal["even", "margin"]

__all__ = ["Backend", "EvaluationConfig", "GatePolicy", "Metric", "ModelUse", "SkillPolicy", "SuiteConfig"]

SUITE_NAME = r"^([A-Za-z0-9][A-Za-z0-9._-]*)?$"


class SuiteConfig(BaseModel):
    """One suite as data.

    Rows of a local JSONL file are {"prompt", "choices", "gold"}, {"prompt", "answer"}, {"text"} or chat {"messages"}.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field("", pattern=SUITE_NAME, description="key of the suite in every report; empty: taken from the source")
    category: Category = Field("general", description="skill, general, safety or drift; the gate pools suites by it")
    source: str = Field(
        "general-small", description="path of a .jsonl file (or a pattern of such), suite set (name or .yaml), lm-eval task (name or .yaml)"
    )
    data: dict[str, str] = Field(
        {}, description="for an lm-eval task: its splits as local JSONL files, {split: path}, instead of the hub's"
    )
    local: dict[str, Any] = Field(
        {}, description="fields that replace these where evaluation.data_folder has the file that local.source names"
    )
    metric: Metric = Field("auto", description="auto: acc for rows with choices, exact_match for answers, bits_per_byte for texts")
    task_metric: str = Field(
        "", description="for an lm-eval task: its metric that is the score, as 'acc' or 'exact_match,strict-match'; empty: its first"
    )
    higher_is_better: bool | None = Field(None, description="direction of the metric; null: what the metric or the lm-eval task implies")
    chat: bool = Field(False, description="true: prompts go through the model's chat template; false: plain text")
    items: int | None = Field(
        None, ge=1, description="largest number of items to evaluate; null: all. A larger number keeps the items of a smaller one"
    )
    draw: Draw = Field(
        "even",
        description="which `items` are read: even, each with the same chance; margin, those near the border between right and wrong more "
        "often, each counted by its chance (suites with choices; the base is read once on all items of the suite)",
    )
    pool: str = Field("", description="set by the round: the evaluation whose margins draw the items")
    margin: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="loss on this suite that must be ruled out, by itself (0.02 = 2 points; drift: 0.01 = 1 %); null: the policy's",
    )
    sealed: bool = Field(False, description="true: shown in the audit, never given to the gate")
    where: str = Field("", description="Jinja expression over a row; rows for which it is false are not in the suite; empty: every row")
    prompt: str = Field("{{ prompt }}", description="Jinja template of the question, over a row")
    choices: tuple[str, ...] = Field((), description="closed set of answers for every row; empty: the row's own choices")
    open_choices: bool = Field(
        False, description="true: choices are how an answer begins, scored without its end; false: they are complete answers"
    )
    gold: str = Field(
        "",
        description="Jinja template of the right answer, over a row: a text is a choice, an integer the index of one; "
        "empty: the row's gold or answer",
    )
    cluster: str = Field("", description="Jinja template of what items share (a passage); empty: items are independent")
    separator: str = Field(" ", description="text between a plain prompt and its answer; chat prompts need none")
    few_shot: int | None = Field(None, ge=0, description="worked examples before each question; null: none, or as the lm-eval task has it")
    few_shot_source: str = Field(
        "", description="JSONL file whose first rows are the worked examples; empty: the suite's own first, then not evaluated"
    )
    answer_pattern: Pattern = Field(
        "",
        description="regular expression; its last match (the group that took part, if any) is the answer, in gold and output alike",
    )
    ignore_pattern: Pattern = Field(
        "",
        description="regular expression; what it matches in an answer does not count, in gold and output alike (',': 70,000 is 70000)",
    )
    ignore_case: bool = Field(False, description="exact_match compares without case")
    score_reasoning: bool = Field(
        False, description="true: exact_match compares the reasoning too; false: the text after it, in gold answer and output"
    )
    max_new_tokens: int | None = Field(
        None, ge=1, description="longest generated answer, tokens; a longer gold raises it; null: 64, or as the lm-eval task has it"
    )
    stop: tuple[str, ...] | None = Field(
        None, description="texts that end a generated answer, beside the end of a chat turn; null: none for chat, a line break for plain"
    )
    duplicates: Literal["error", "drop"] = Field("error", description="what to do about two equal items in one suite")

    @model_validator(mode="before")
    @classmethod
    def _name_from_source(cls, values: object) -> object:
        if isinstance(values, dict) and not values.get("name") and values.get("source"):
            path = PurePath(str(values["source"]))
            stem = path.parent.name if path.stem in ("suite", "heldout") and path.parent.name else path.stem
            return {**values, "name": stem}
        return values

    @model_validator(mode="after")
    def _texts_have_no_margin(self) -> Self:
        if self.draw == "margin" and (self.category == "drift" or self.metric in ("exact_match", "bits_per_byte")):
            raise ValueError(f"{self.name}: draw: margin needs items with choices; leave it out for texts and generated answers")
        return self

    @model_validator(mode="after")
    def _local_names_fields(self) -> Self:
        unknown = sorted(set(self.local) - set(type(self).model_fields))
        if self.local and (unknown or "source" not in self.local):
            raise ValueError(f"local needs a source, and takes fields of a suite; unknown: {unknown}")
        return self

    @property
    def is_file(self) -> bool:
        """Whether the source is a local JSONL file."""
        return is_jsonl(self.source)

    @property
    def draws(self) -> bool:
        """Whether items are drawn by margin, where the suite has more of them than are read."""
        return self.draw == "margin" and self.items is not None and not self.sealed

    @property
    def shots(self) -> int:
        return self.few_shot or 0

    @property
    def generation_limit(self) -> int:
        return self.max_new_tokens or 64

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts that end a generated answer."""
        if self.stop is not None:
            return self.stop
        return () if self.chat else ("\n",)


class SkillPolicy(BaseModel):
    """How the held-out split of a drop becomes a suite."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: Metric = Field(
        "auto", description="auto: multiple choice where the answers come from a small closed set, exact match otherwise"
    )
    max_classes: int = Field(20, ge=2, description="largest closed set of answers that becomes multiple choice")
    items: int | None = Field(None, ge=1, description="largest number of held-out items to evaluate; null: all")
    draw: Draw = Field(
        "even", description="as for a suite, in the rounds after the one that learns the skill; for answers from a small closed set"
    )
    more_items: Path | None = Field(
        None,
        description="in evaluation.skills: JSONL of further held-out items of a skill that is learned already, the suite `<skill>.more`; "
        "`skillstack items` writes it",
    )
    margin: float | None = Field(
        None, gt=0, lt=1, description="loss on the skill that later rounds must rule out, by itself (0.02 = 2 points); null: the policy's"
    )
    answer_pattern: Pattern = Field("", description="regular expression that finds the answer in gold and output; empty: all of the text")
    ignore_pattern: Pattern = Field(
        "", description="regular expression; what it matches in an answer does not count, in gold and output alike"
    )
    ignore_case: bool = Field(False, description="exact match compares without case")
    score_reasoning: bool = Field(
        False, description="true: exact match compares the reasoning too; false: the text after it, in gold answer and output"
    )
    max_new_tokens: int = Field(64, ge=1, description="longest generated answer, tokens; a longer gold raises it")


class ModelUse(BaseModel):
    """How a model is loaded and prompted: the settings of training that evaluation has to use too."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    chat_template: str | None = Field(None, description="Jinja chat template that replaces the tokenizer's")
    chat_template_kwargs: dict[str, Any] = Field({}, description="variables of the chat template, as enable_thinking")
    trust_remote_code: bool = Field(False, description="run the model's own Python files")


class EvaluationConfig(BaseModel):
    """The `evaluation` section of skillstack.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    suites: tuple[SuiteConfig, ...] = Field(
        (), description="general, safety and drift suites; those of learned skills are added by the round"
    )
    skill: SkillPolicy = Field(SkillPolicy(), description="how every skill's held-out split is scored")
    skills: dict[str, SkillPolicy] = Field({}, description="the same for single skills, by name")
    backend: Backend = Field("hf", description="hf: in this process; accelerate: data-parallel processes; vllm: where vLLM is installed")
    processes: int = Field(2, ge=1, description="worker processes of the accelerate backend")
    device: str = Field("auto", description="auto: cuda where there is one, else cpu; or cpu, cuda, cuda:0, mps")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field("auto", description="auto: float32 on CPU, bfloat16 on an accelerator")
    max_tokens_per_batch: int | None = Field(
        None, ge=16, description="tokens, padding included, in one pass; null: 2048 on CPU, 32768 else"
    )
    max_batch_size: int = Field(64, ge=1, description="sequences in one pass")
    max_length: int | None = Field(None, ge=8, description="longest sequence in tokens; null: the model's own limit")
    num_threads: int | None = Field(None, ge=1, description="CPU threads; null: as torch decides")
    seed: int = Field(1234, description="seed of every random generator of the harness")
    data_folder: str = Field(
        "", description="folder of local data files that suite sets name; empty: $SKILLSTACK_DATA, else lm-eval's own data"
    )

    @field_validator("skill")
    @classmethod
    def _is_of_no_skill(cls, policy: SkillPolicy) -> SkillPolicy:
        if policy.more_items is not None:
            raise ValueError("more_items belongs to one skill: write it under evaluation.skills")
        return policy

    @property
    def more_items(self) -> dict[str, Path]:
        """Skill -> file of further held-out items."""
        return {skill: policy.more_items for skill, policy in self.skills.items() if policy.more_items is not None}

    def policy_for(self, skill: str) -> SkillPolicy:
        return self.skills.get(skill, self.skill)
