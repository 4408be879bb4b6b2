"""What nearly every test of the gate needs: a policy for evidence that leaves categories out, and the checks of one subject."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from data_contracts.manifests import CheckOutcome, Verdict
from evals.gate.policy import GatePolicy


@pytest.fixture(scope="session")
def asked() -> Callable[..., GatePolicy]:
    """The default policy for evidence that leaves categories out on purpose; keyword arguments change its fields."""

    def policy(**fields: object) -> GatePolicy:
        return GatePolicy.model_validate({"accept_unmeasured": ("general", "safety", "drift"), **fields})

    return policy


@pytest.fixture(scope="session")
def checks_of() -> Callable[[Verdict, str, str], list[CheckOutcome]]:
    """(verdict, check, subject) -> the outcomes of that check on that subject."""

    def chosen(verdict: Verdict, check: str, subject: str) -> list[CheckOutcome]:
        return [each for each in verdict.checks if each.check == check and each.subject == subject]

    return chosen
