"""The checks that a contract can name: what each requires, what a finding means by default, and its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from data_contracts.rows.findings import Severity


@dataclass(frozen=True)
class Option:
    """A number of a check, with the range that makes sense."""

    default: float
    low: float
    high: float
    about: str


@dataclass(frozen=True)
class Rule:
    severity: Severity
    about: str
    options: Mapping[str, Option] = field(default_factory=dict)


RULES: Mapping[str, Rule] = {
    "encoding": Rule("error", "a line is UTF-8 without NUL"),
    "json": Rule("error", "a line is one JSON object: no key twice, no NaN, not too long or deep"),
    "schema": Rule("error", "a row has the fields and types of one of the contract's objects"),
    "turns": Rule("error", "roles follow one another as a chat template expects; the last turn is the assistant's"),
    "empty_turn": Rule("error", "no turn is empty or white space"),
    "template": Rule("error", "the model's chat template renders the row, and its answer with it"),
    "template_change": Rule("warning", "the model's chat template leaves no earlier turn out"),
    "skill_name": Rule("error", "the skill's name is usable and no earlier round has it"),
    "row_count": Rule(
        "error", "enough rows, and not too many", {"least": Option(10, 1, 1e12, "rows"), "most": Option(1e12, 1, 1e12, "rows")}
    ),
    "contract_version": Rule("error", "a change of the contract that refuses rows that were good raises its major version"),
    "contract_change": Rule("warning", "what changed in the contract since the last round"),
    "secret": Rule("drop", "no private keys, tokens or passwords"),
    "personal_data": Rule("drop", "no email addresses, phone, card, IBAN or social security numbers"),
    "control_token": Rule("drop", "no turn holds the marks of a chat template"),
    "exact_duplicate": Rule("drop", "no row twice in the drop"),
    "near_duplicate": Rule(
        "drop",
        "no row nearly twice in the drop",
        {"similarity": Option(0.5, 0.3, 1.0, "share of runs of two words in common, template and shared lines set aside")},
    ),
    "seen_before": Rule("drop", "no row that an earlier round had, exactly or nearly"),
    "contamination": Rule(
        "drop",
        "no row that gives away a held-out item of a suite",
        {"words": Option(13, 8, 50, "length of a shared run, in words"), "own_words": Option(9, 1, 50, "of them not part of a template")},
    ),
    "heldout_overlap": Rule("drop", "no training row that gives away a row held out from this drop"),
    "too_long": Rule("warning", "rows that training will cut"),
    "unknown_field": Rule("warning", "fields that are not in the contract; they are left out of the clean file"),
    "contrary_answer": Rule("warning", "no two rows with nearly the same question and different labels"),
    "refusal": Rule("warning", "answers that refuse"),
    "language": Rule("warning", "one main language", {"main_share": Option(0.9, 0.0, 1.0, "share of rows in the main language")}),
    "label_balance": Rule(
        "warning",
        "labels neither dominant nor rare",
        {
            "dominant": Option(0.8, 0.0, 1.0, "share of the commonest label"),
            "rare": Option(0.01, 0.0, 1.0, "share below which a label is rare"),
        },
    ),
    "mixed_shapes": Rule("warning", "one shape of rows"),
    "heldout_size": Rule("warning", "the held-out share is the configured one"),
}


def default_options() -> dict[str, dict[str, float]]:
    """check -> its numbers."""
    return {name: {key: option.default for key, option in rule.options.items()} for name, rule in RULES.items()}
