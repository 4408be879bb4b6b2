"""Puts the checks together for one drop, in the order in which they conclude."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from data_contracts.checks.balance import LabelBalance
from data_contracts.checks.contamination import Contamination
from data_contracts.checks.duplicates import ExactDuplicates
from data_contracts.checks.language import Languages
from data_contracts.checks.length import Length
from data_contracts.checks.near_duplicates import NearDuplicates
from data_contracts.checks.refusals import Refusals
from data_contracts.checks.shapes import Shapes
from data_contracts.checks.skill_name import SkillName
from data_contracts.checks.template import ChatRenderer, ControlTokens, Template
from data_contracts.checks.turns import Turns
from data_contracts.contract.read import Contract
from data_contracts.matching.boilerplate import Boilerplate
from data_contracts.matching.earlier_drops import EarlierDrop
from data_contracts.matching.heldout_items import HeldoutItem
from data_contracts.privacy.personal_data import PersonalData
from data_contracts.privacy.secrets import Secrets
from data_contracts.rows.findings import Check


class Inspection:
    """Every check for one drop. `exact` and `near` give their keys when the signatures are written."""

    def __init__(
        self,
        contract: Contract,
        skill: str,
        boilerplate: Boilerplate,
        *,
        renderer: ChatRenderer | None,
        earlier: tuple[EarlierDrop, ...],
        items: Sequence[HeldoutItem],
        suites: Collection[str],
        refresh: bool,
        work: Path,
    ) -> None:
        number = contract.options
        self.exact = ExactDuplicates(earlier)
        self.near = NearDuplicates(boilerplate, earlier, work, number["near_duplicate"]["similarity"])
        runs = number["contamination"]
        template = Template(renderer) if renderer is not None else None
        self.checks: tuple[Check, ...] = (
            Turns(),
            *((template,) if template is not None else ()),
            ControlTokens(),
            Secrets(),
            PersonalData(),
            Refusals(),
            Length(template),
            Shapes(),
            Languages(number["language"]["main_share"]),
            LabelBalance(number["label_balance"]["dominant"], number["label_balance"]["rare"]),
            SkillName(skill, earlier, suites, refresh=refresh),
            Contamination(items, boilerplate, int(runs["words"]), int(runs["own_words"])),
            self.exact,
            self.near,
        )
