"""Personal data by its form: email, phone, payment card (Luhn), IBAN (mod 97), US social security number.

Forms alone find too much in real text, so each is confirmed: by its check digits, by its separators, or by what stands around it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from data_contracts.checks.spans import Span, searchable
from data_contracts.findings import Finding, RowCheck
from data_contracts.records import Row

KINDS = ("email address", "phone number", "card number", "IBAN", "social security number")

_EMAIL = re.compile(r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![A-Za-z0-9])")
#: RFC 2606 keeps these for examples: nobody can be reached there.
_RESERVED = re.compile(r"(?i:@|\.)(?:example\.(?:com|org|net|edu)|example|test|invalid|localhost)$")
#: `photo@2x.png` is a file.
_FILE = re.compile(r"(?i)\.(?:png|jpe?g|gif|svg|webp|ico|js|ts|css|py|html?|pdf|txt|json|xml|md)$")
_PHONE = re.compile(
    r"(?<![\w.+-])(?:"
    r"\+[1-9]\d{0,2}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]?\d{2,4}){2,4}"  # +49 30 1234567
    r"|(?:1[ .-])?\([2-9]\d{2}\)[ .-]?[2-9]\d{2}[ .-]\d{4}"  # (415) 555-2671
    r"|(?:1-)?[2-9]\d{2}-[2-9]\d{2}-\d{4}|(?:1\.)?[2-9]\d{2}\.[2-9]\d{2}\.\d{4}"  # 415-555-2671
    r"|0\d{2,4}[ ]\d{3,4}[ ]\d{3,4}"  # 020 7946 0958
    r")(?![\w-]|\.\d)"
)
_CARD = re.compile(r"(?<![\w.-])(?:[2-6]\d{3}([ -])\d{4}\1\d{4}\1\d{1,7}|3[47]\d{2}([ -])\d{6}\2\d{5}|[2-6]\d{12,18})(?![\w-]|\.\d)")
_IBAN_START = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?=[ A-Z0-9])")
_SSN = re.compile(r"(?<![\w.-])(?!000|666|9\d\d)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-]|\.\d)")
_DIGITS = re.compile(r"\d[\d() .-]{5,}\d")
#: Length of an IBAN by country (ISO 13616), for the countries that issue most of them.
_IBAN_COUNTRIES = {
    15: "NO",
    16: "BE",
    18: "DK FI NL",
    19: "SI",
    20: "AT EE LT LU",
    21: "CH HR LI LV",
    22: "BG DE GB IE",
    23: "AE IL",
    24: "AD CZ ES RO SA SE SK",
    25: "PT",
    26: "IS TR",
    27: "FR GR IT MC SM",
    28: "CY HU PL",
    29: "BR UA",
    31: "MT",
}
_IBAN_LENGTH = {country: length for length, countries in _IBAN_COUNTRIES.items() for country in countries.split()}


def luhn(digits: str) -> bool:
    """ISO/IEC 7812 check digit."""
    total = sum(int(d) if place % 2 == 0 else (2 * int(d) - 9 if d > "4" else 2 * int(d)) for place, d in enumerate(reversed(digits)))
    return total % 10 == 0


def iban_is_valid(text: str) -> bool:
    """ISO 13616: the length of its country, and mod 97 is 1."""
    packed = text.replace(" ", "")
    if len(packed) != _IBAN_LENGTH.get(packed[:2], -1) or not (packed.isascii() and packed.isalnum()):
        return False
    return int("".join(str(int(char, 36)) for char in packed[4:] + packed[:4])) % 97 == 1


def _find_ibans(text: str) -> Iterator[tuple[int, int]]:
    """Spans of valid IBANs, written solid or in groups of four."""
    for match in _IBAN_START.finditer(text):
        length = _IBAN_LENGTH.get(match.group()[:2], 0)
        end, seen = match.start(), 0
        while seen < length and end < len(text) and (text[end].isalnum() or (text[end] == " " and seen % 4 == 0)):
            seen += text[end] != " "
            end += 1
        whole = end == len(text) or not text[end].isalnum()
        if seen == length > 0 and whole and iban_is_valid(text[match.start() : end]):
            yield match.start(), end


def _card_is_valid(text: str) -> bool:
    digits = re.sub(r"\D", "", text)
    return 13 <= len(digits) <= 19 and luhn(digits) and len(set(digits)) > 1


def find_personal_data(text: str) -> Iterator[Span]:
    """Every piece of personal data in a text."""
    if "@" in text:
        for match in _EMAIL.finditer(text):
            if not _RESERVED.search(match.group()) and not _FILE.search(match.group()):
                yield Span("email address", *match.span())
    if not _DIGITS.search(text):
        return
    taken = list(_find_ibans(text))
    yield from (Span("IBAN", start, end) for start, end in taken)
    for kind, form, confirmed in (
        ("card number", _CARD, _card_is_valid),
        ("social security number", _SSN, None),
        ("phone number", _PHONE, _phone_is_valid),
    ):
        for match in form.finditer(text):
            free = all(match.end() <= start or end <= match.start() for start, end in taken)
            if free and (confirmed is None or confirmed(match.group())):
                taken.append(match.span())
                yield Span(kind, *match.span())


def _phone_is_valid(text: str) -> bool:
    """E.164 allows 15 digits; numbers with the exchange 555-01xx are kept for fiction."""
    digits = re.sub(r"\D", "", text)
    return 8 <= len(digits) <= 15 and not re.search(r"55501\d\d$", digits)


class PersonalData(RowCheck):
    """A row with personal data may not be kept for training."""

    def observe_row(self, row: Row) -> Iterator[Finding]:
        for place, text in searchable(row.value):
            for span in find_personal_data(text):
                yield Finding("personal_data", row.line, f"{place} holds a{'n' if span.kind[0] in 'eI' else ''} {span.kind}")
