"""Suites as data: defaults, names, and what a config may not say."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from evals.config import EvaluationConfig, SkillPolicy, SuiteConfig


@pytest.mark.parametrize(
    ("source", "name"),
    [("suites/piqa.jsonl", "piqa"), ("data/agnews/suite.jsonl", "agnews"), ("suite.jsonl", "suite"), ("mmlu_anatomy", "mmlu_anatomy")],
)
def test_a_suite_is_named_after_its_source(source: str, name: str) -> None:
    assert SuiteConfig(source=source).name == name


def test_a_given_name_stays() -> None:
    assert SuiteConfig(name="mine", source="piqa").name == "mine"


@pytest.mark.parametrize(
    "fields",
    [
        {"nmae": "typo"},
        {"name": "with space"},
        {"name": "a/b"},
        {"category": "other"},
        {"items": 0},
        {"margin": -0.1},
        {"metric": "bleu"},
        {"local": {"prompt": "no source"}},
        {"local": {"source": "x.jsonl", "promt": "typo"}},
    ],
)
def test_what_a_suite_may_not_say(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SuiteConfig.model_validate({"source": "piqa", **fields})


def test_every_field_says_what_it_is_and_has_a_default_that_works() -> None:
    for model in (SuiteConfig, SkillPolicy, EvaluationConfig):
        model()
        assert [name for name, field in model.model_fields.items() if not field.description] == []


def test_a_plain_answer_ends_at_the_line_and_a_chat_answer_with_the_turn() -> None:
    assert SuiteConfig(source="x.jsonl").stops == ("\n",)
    assert SuiteConfig(source="x.jsonl", chat=True).stops == ()
    assert SuiteConfig(source="x.jsonl", chat=True, stop=("END",)).stops == ("END",)


def test_one_skill_may_have_its_own_policy() -> None:
    config = EvaluationConfig(skill=SkillPolicy(items=100), skills={"maths": SkillPolicy(answer_pattern=r"#### (\d+)")})
    assert config.policy_for("maths").answer_pattern == r"#### (\d+)"
    assert config.policy_for("poems").items == 100


@pytest.mark.parametrize("setting", ["answer_pattern", "ignore_pattern"])
@pytest.mark.parametrize("owner", [SkillPolicy, SuiteConfig])
def test_a_pattern_that_is_none_is_refused_before_anything_is_trained(owner: type, setting: str) -> None:
    with pytest.raises(ValidationError, match="is no regular expression: missing"):
        owner.model_validate({"source": "a.jsonl"} | {setting: "(a"} if owner is SuiteConfig else {setting: "(a"})
