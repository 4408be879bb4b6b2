"""Secrets and personal data: forms, check digits, what must not be found, and the mask that every report wears."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.config import ContractConfig
from data_contracts.privacy.masking import mask, mask_value, one_line, shown
from data_contracts.privacy.personal_data import find_personal_data, iban_is_valid, luhn
from data_contracts.privacy.secrets import find_secrets
from data_contracts.privacy.spans import spans_in_words
from data_contracts.validate import validate_drop

KEY = "AK" + "IA" + "ABCDEFGHIJ234567"


@given(st.text(alphabet="0123456789", min_size=12, max_size=18))
def test_exactly_one_digit_completes_a_card(body: str) -> None:
    assert sum(luhn(body + digit) for digit in "0123456789") == 1


def test_an_iban_with_two_digits_swapped_is_not_valid() -> None:
    assert iban_is_valid("GB82 WEST 1234 5698 7654 32")
    assert not iban_is_valid("GB82 WEST 1234 5698 7645 32")
    assert not iban_is_valid("GB82 WEST 1234 5698 7654 3")


@pytest.mark.parametrize(
    "text",
    [
        "The war of 1914-1918 and that of 1939-1945.",
        "ISBN 978-3-16-148410-0 or 0-306-40615-2",
        "It costs 1,234,567.89 or 12.5 % more; pi is 3.14159265358979.",
        "Version 10.0.19041.1288 of 2021-10-12, build 20211012.",
        "Write to nobody@example.com or call 555-0123.",
        "10 20 30 40 50 60 70 80 90 100",
        "The order 4111 1111 1111 1112 does not exist.",
        "He scored 100 201 302 and 403 points in 4 games.",
        "x = a@b; @dataclass class C: y@2x.png",
        "Coordinates 40.712776, -74.005974; IP 192.168.100.200",
        "000-12-3456 and 666-12-3456 and 123-00-4567",
    ],
)
def test_numbers_that_are_not_personal_data_are_left_alone(text: str) -> None:
    assert [span.kind for span in find_personal_data(text)] == []


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


@given(st.text(max_size=40), st.text(max_size=40))
def test_what_is_masked_is_gone_and_the_rest_stays(before: str, after: str) -> None:
    text = f"{before} {KEY} {after}"
    masked = mask(text)
    assert KEY not in masked
    assert "[AWS access key]" in masked


def test_masking_reaches_names_lists_and_the_cut_edge() -> None:
    value = {"messages": [{"content": f"a {KEY}"}], KEY: [KEY, 1, None]}
    assert KEY not in json.dumps(mask_value(value))
    assert KEY not in shown("x" * 3990 + f" {KEY} " + "y" * 100)
    assert one_line("a\nb\x1b[31mc") == "a b [31mc"


def test_no_output_shows_a_secret_that_it_refused(good_lines: list[bytes], write_drop: Callable[..., Path], tmp_path: Path) -> None:
    """Wherever it stands: in a turn, an id, a field's name, a broken line, a role, an answer that would become a label."""
    turns = '{"role": "user", "content": "hi there"}, {"role": "assistant", "content": "good day to you"}'
    bad = [
        f'{{"messages": [{{"role": "user", "content": "{KEY}"}}, {{"role": "assistant", "content": "b"}}]}}',
        f'{{"messages": [{turns}], "id": "{KEY}"}}',
        f'{{"messages": [{turns}], "tools": [{{"{KEY}": 1}}]}}',
        f'{{"{KEY}": 1}}',
        f'{{"text": "{KEY}"',
        f'{{"messages": [{{"role": "{KEY}", "content": "a"}}, {{"role": "assistant", "content": "b"}}]}}',
        f'{{"text": "{KEY}", "text": "b"}}',
        f'{{"prompt": "label this", "completion": "{KEY}"}}',
    ]
    config = ContractConfig(max_bad_fraction=1.0, max_dropped_fraction=1.0)
    manifest = validate_drop(write_drop([*good_lines, *bad]), tmp_path / "out", skill="notes", config=config)
    assert manifest.rows_quarantined == len(bad)
    for path in (tmp_path / "out").iterdir():
        assert KEY.encode() not in path.read_bytes(), path.name


@pytest.mark.parametrize(
    ("text", "kind", "held"),
    [
        ("顧客の電話は+49 170 5550123です", "phone number", "+49 170 5550123"),
        ("卡号4111111111111111请退款", "card number", "4111111111111111"),
        ("連絡先max@example.orgまで", "email address", "max@example.org"),
        ("電話は０９０−１２３４−５６７８です", "phone number", "０９０−１２３４−５６７８"),
        ("卡号４１１１ １１１１ １１１１ １１１１请退款", "card number", "４１１１ １１１１ １１１１ １１１１"),
        ("전화는 010-2345-6789로 주세요", "phone number", "010-2345-6789"),
        ("手机13812345678。", "phone number", "13812345678"),
        ("هاتف +٤٩ ١٧٠ ٥٥٥٠١٢٣", "phone number", "+٤٩ ١٧٠ ٥٥٥٠١٢٣"),
        ("tel.+49 30 901820", "phone number", "+49 30 901820"),
        ("to DE89 3704 0044 0532 0130 00 THIS WEEK", "IBAN", "DE89 3704 0044 0532 0130 00"),
        ("to BE68 5390 0754 7034 PAID", "IBAN", "BE68 5390 0754 7034"),
    ],
)
def test_personal_data_is_found_beside_any_script_and_its_place_is_that_of_the_text(text: str, kind: str, held: str) -> None:
    assert [(span.kind, text[span.start : span.end]) for span in find_personal_data(text)] == [(kind, held)]


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


def test_a_row_of_a_thousand_numbers_is_one_finding() -> None:
    reasons = list(spans_in_words("text", find_personal_data(" ".join(f"+49 170 55{number:05d}" for number in range(1000)))))
    assert reasons == ["text holds 1000 times a phone number"]
