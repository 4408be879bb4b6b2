"""Where something sensitive stands in a text, and how it is put in words."""

from __future__ import annotations

from data_contracts.privacy.personal_data import find_personal_data
from data_contracts.privacy.spans import spans_in_words


def test_a_row_of_a_thousand_numbers_is_one_finding() -> None:
    reasons = list(spans_in_words("text", find_personal_data(" ".join(f"+49 170 55{number:05d}" for number in range(1000)))))
    assert reasons == ["text holds 1000 times a phone number"]
