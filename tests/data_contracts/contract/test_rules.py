"""The packaged contract and the table of rules say the same."""

from __future__ import annotations

from data_contracts.contract.read import load_contract
from data_contracts.contract.rules import RULES


def test_the_packaged_contract_says_what_the_code_does_by_default() -> None:
    contract = load_contract()
    assert contract.severity == {name: rule.severity for name, rule in RULES.items()}
    assert contract.options == {name: {key: option.default for key, option in rule.options.items()} for name, rule in RULES.items()}
    assert set(contract.rows) == {"chat", "completion", "document"}
