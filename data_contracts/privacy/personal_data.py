"""Personal data by its form: email, phone, payment card, IBAN, US social security number.

Forms alone find too much in real text, so each is confirmed: by its check digits (python-stdnum), by the numbering plan of its
country (phonenumbers), by its separators, or by what stands around it. Full-width digits and digits of other scripts count as digits,
and letters of scripts without spaces may touch what is found.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from data_contracts.privacy.spans import TOUCHING, WORD, Span, Taken, plain_forms, searchable, spans_in_words
from data_contracts.rows.findings import Finding, RowCheck
from data_contracts.rows.records import Row

_EMAIL = re.compile(r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![A-Za-z0-9])")
#: RFC 2606 keeps these for examples. A made-up name there is no person; a real one may have been moved there.
_RESERVED = re.compile(r"(?i:@|\.)(?:example\.(?:com|org|net|edu)|example|test|invalid|localhost)$")
_MADE_UP = re.compile(
    r"(?i)(?:[a-z]|foo|bar|baz|abc|xyz|nobody|someone|somebody|anyone|you|your?[._-]?(?:name|email)|name|user(?:name)?|me|test(?:er|ing)?|demo"
    r"|admin|root|info|contact|support|help|sales|hello|mail|email|noreply|no-reply|sender|recipient|first[._-]?last|first[._]?name"
    r"|j(?:ohn|ane)?[._-]?(?:doe|smith)?|alice|bob|carol|dave|eve)[0-9]{0,4}@"
)
#: `photo@2x.png` is a file.
_FILE = re.compile(r"(?i)\.(?:png|jpe?g|gif|svg|webp|ico|js|ts|css|py|html?|pdf|txt|json|xml|md)$")
_LEFT, _RIGHT = rf"(?<!{WORD})(?<![.+-])", rf"(?!{WORD})(?!-|\.\d)"
_PHONE = re.compile(
    rf"(?<!{WORD})(?<![+-])(?:"
    r"\+[1-9]\d{0,2}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]?\d{2,4}){2,4}"  # +49 30 1234567
    r"|(?<!\.)(?:(?:1[ .-])?\([2-9]\d{2}\)[ .-]?[2-9]\d{2}[ .-]\d{4}"  # (415) 555-2671
    r"|(?:1-)?[2-9]\d{2}-[2-9]\d{2}-\d{4}|(?:1\.)?[2-9]\d{2}\.[2-9]\d{2}\.\d{4}"  # 415-555-2671
    rf"|0\d{{2,4}}[ ]\d{{3,4}}[ ]\d{{3,4}})){_RIGHT}"  # 020 7946 0958
)
#: Numbers as they are written in China, Japan and Korea; the numbering plan decides.
_EAST_ASIAN = re.compile(rf"{_LEFT}(?:0\d{{1,3}}-\d{{3,4}}-\d{{4}}|1[3-9]\d{{9}}|0[789]0\d{{8}}|010\d{{8}}){_RIGHT}")
_EAST_ASIA = ("CN", "JP", "KR")
_TOUCHING = re.compile(f"[{TOUCHING}]")
_CARD = re.compile(rf"{_LEFT}(?:[2-6]\d{{3}}([ -])\d{{4}}\1\d{{4}}\1\d{{1,7}}|3[47]\d{{2}}([ -])\d{{6}}\2\d{{5}}|[2-6]\d{{12,18}}){_RIGHT}")
#: Solid, or in groups of four with a last one of up to four.
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?:[A-Z0-9]{11,30}|(?: [A-Z0-9]{4}){2,7}(?: [A-Z0-9]{1,4})?)(?![A-Za-z0-9])")
_SSN = re.compile(rf"{_LEFT}(?!000|666|9\d\d)\d{{3}}-(?!00)\d{{2}}-(?!0000)\d{{4}}{_RIGHT}")
_DIGITS = re.compile(r"\d[\d() .-]{5,}\d")


def luhn(digits: str) -> bool:
    """ISO/IEC 7812 check digit."""
    from stdnum import luhn as check

    return bool(check.is_valid(digits))


def iban_is_valid(text: str) -> bool:
    """ISO 13616: the form that its country gives it, and mod 97 is 1. National check digits are left to the banks."""
    from stdnum import iban

    return bool(iban.is_valid(text, check_country=False))


def _find_ibans(text: str) -> Iterator[tuple[int, int]]:
    """Spans of valid IBANs. Groups that follow one (`... 3000 THIS WEEK`) are left off until it is valid."""
    for match in _IBAN.finditer(text):
        end = match.end()
        while end - match.start() >= 15:
            if iban_is_valid(text[match.start() : end]):
                yield match.start(), end
                break
            end = text.rfind(" ", match.start(), end)


def _card_is_valid(text: str) -> bool:
    digits = re.sub(r"\D", "", text)
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and luhn(digits)


def find_personal_data(text: str) -> Iterator[Span]:
    """Every piece of personal data in a text."""
    text = plain_forms(text)
    if "@" in text:
        for match in _EMAIL.finditer(text):
            made_up = _RESERVED.search(match.group()) and _MADE_UP.match(match.group())
            if not made_up and not _FILE.search(match.group()):
                yield Span("email address", *match.span())
    if not _DIGITS.search(text):
        return
    taken = Taken(len(text))
    for start, end in _find_ibans(text):
        taken.add(start, end)
        yield Span("IBAN", start, end)
    forms = [("card number", _CARD, _card_is_valid), ("social security number", _SSN, None), ("phone number", _PHONE, _phone_is_valid)]
    if _TOUCHING.search(text):
        forms.append(("phone number", _EAST_ASIAN, _east_asian_is_valid))
    for kind, form, confirmed in forms:
        for match in form.finditer(text):
            if taken.free(*match.span()) and (confirmed is None or confirmed(match.group())):
                taken.add(*match.span())
                yield Span(kind, *match.span())


def _phone_is_valid(text: str) -> bool:
    """An international number has a length that its country's plan allows; American ones with 555-01xx are kept for fiction."""
    digits = re.sub(r"\D", "", text)
    if not 8 <= len(digits) <= 15:
        return False
    american = not text.startswith("+") or digits.startswith("1")
    if american and re.search(r"55501\d\d$", digits):
        return False
    return not text.startswith("+") or _is_possible("+" + digits, None)


@lru_cache(maxsize=4096)
def _is_possible(text: str, region: str | None) -> bool:
    import phonenumbers

    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return False
    return bool(phonenumbers.is_valid_number(number) if region else phonenumbers.is_possible_number(number))


def _east_asian_is_valid(text: str) -> bool:
    return any(_is_possible(text, region) for region in _EAST_ASIA)


class PersonalData(RowCheck):
    """A row with personal data may not be kept for training."""

    def observe_row(self, row: Row) -> Iterator[Finding]:
        for place, text in searchable(row.value):
            for reason in spans_in_words(place, find_personal_data(text)):
                yield Finding("personal_data", row.line, reason)
