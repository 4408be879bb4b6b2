"""Personal data: forms, check digits, and what must not be found."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.privacy.personal_data import find_personal_data, iban_is_valid, luhn


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
