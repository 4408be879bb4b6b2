"""Secrets are taken out of texts wherever they stand; other words stay."""

from __future__ import annotations

from data_contracts.privacy.masker import Masker


def test_words_that_are_no_secret_stay() -> None:
    mask = Masker({"MY_PASSWORD": "admin", "TOKENIZERS_PARALLELISM": "disabled", "AUTHOR": "somebody"})
    assert mask("admin disabled somebody") == "admin disabled somebody"
    assert mask.count == 0


def test_the_values_of_secret_variables_and_passwords_in_addresses_are_masked() -> None:
    mask = Masker({"MLFLOW_TRACKING_PASSWORD": "pl4nted-word", "STORE": "http://ana:pl4nted-uri@mlflow:5000"})
    assert mask("with pl4nted-word at http://ana:pl4nted-uri@mlflow:5000") == "with [secret] at http://ana:[secret]@mlflow:5000"
    assert mask.count == 2
