"""Secrets by the forms of their issuers; talk and code about secrets are none."""

from __future__ import annotations

import pytest

from data_contracts.privacy.secrets import find_secrets


@pytest.mark.parametrize(
    "text",
    [
        "Set password = os.environ['DB_PASSWORD'] first.",
        "The token: a unit of text. The secret: practice.",
        "password: ********",
        "See https://example.com/a:b@c and http://localhost:8080/x",
        "sk-learn is not a key, nor is hf_model or ghp_.",
        "api_key=YOUR_API_KEY",
    ],
)
def test_talk_about_secrets_is_not_a_secret(text: str) -> None:
    assert [span.kind for span in find_secrets(text)] == []


@pytest.mark.parametrize(
    "code",
    [
        "token = tokenizer.convert(x1)",
        "token = tokenizer.convert_tokens_to_ids('<s>1')",
        "token = generateToken123()",
        "secret = config.secret2x",
        "token = tokens12345[i+1]",
        "api_key = os.environ['API_KEY_1']",
        "password=self.password1 or None",
    ],
)
def test_code_that_names_a_secret_is_none(code: str) -> None:
    assert list(find_secrets(code)) == []
