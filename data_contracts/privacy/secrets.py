"""Secrets: private keys and the tokens of clouds and hubs, by the forms that their issuers document.

A form is searched only where its fixed part occurs, which keeps the check at microseconds per row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from data_contracts.privacy.spans import Span, searchable, spans_in_words
from data_contracts.rows.findings import Finding, RowCheck
from data_contracts.rows.records import Row

#: (kind, fixed parts of which one must occur, form). A group named `value` narrows what is masked.
_FORMS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    (
        "private key",
        ("PRIVATE KEY",),
        r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----(?:(?!-----END).){0,20000}(?:-----END [A-Z0-9 ]{0,30}-----)?",
    ),
    ("AWS access key", ("AKIA", "ASIA"), r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])"),
    (
        "AWS secret key",
        ("aws", "AWS"),
        r"(?i:aws_?(?:secret_?)?(?:access_?)?(?:secret_?)?key)\W{1,8}(?P<value>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+])",
    ),
    (
        "GitHub token",
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        r"gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255}",
    ),
    ("GitLab token", ("glpat-",), r"glpat-[A-Za-z0-9_-]{20,64}"),
    ("Slack token", ("xox",), r"xox[abeoprs]-[A-Za-z0-9-]{10,250}"),
    ("Slack webhook", ("hooks.slack.com",), r"hooks\.slack\.com/services/T[A-Z0-9]{6,12}/B[A-Z0-9]{6,12}/[A-Za-z0-9]{20,32}"),
    ("Google API key", ("AIza",), r"(?<![A-Za-z0-9])AIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])"),
    ("Google OAuth secret", ("GOCSPX-",), r"GOCSPX-[A-Za-z0-9_-]{28}"),
    ("Hugging Face token", ("hf_",), r"(?<![A-Za-z0-9_])hf_[A-Za-z0-9]{30,60}(?![A-Za-z0-9])"),
    (
        "OpenAI or Anthropic key",
        ("sk-",),
        r"(?<![A-Za-z0-9])sk-(?:(?:proj|svcacct|admin|ant)-[A-Za-z0-9_-]{20,250}|[A-Za-z0-9]{40,64})(?![A-Za-z0-9])",
    ),
    ("Stripe key", ("sk_live_", "rk_live_", "sk_test_"), r"[sr]k_(?:live|test)_[A-Za-z0-9]{20,250}"),
    ("npm token", ("npm_",), r"(?<![A-Za-z0-9_])npm_[A-Za-z0-9]{36}(?![A-Za-z0-9])"),
    ("PyPI token", ("pypi-",), r"pypi-[A-Za-z0-9_-]{50,250}"),
    ("SendGrid key", ("SG.",), r"(?<![A-Za-z0-9])SG\.[A-Za-z0-9_-]{20,24}\.[A-Za-z0-9_-]{40,46}"),
    ("Azure storage key", ("AccountKey=",), r"AccountKey=(?P<value>[A-Za-z0-9+/]{86}==)"),
    ("JSON web token", ("eyJ",), r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{10,2000}\.eyJ[A-Za-z0-9_-]{10,4000}\.[A-Za-z0-9_-]{10,1000}"),
    (
        "password in an address",
        ("://",),
        r"(?<![A-Za-z])[a-z][a-z0-9+.-]{1,20}://[^\s/:@\"'<>]{1,64}:(?P<value>[^\s/:@\"'<>]{3,128})@[A-Za-z0-9]",
    ),
    (
        "password",
        ("passw", "secret", "api_key", "apikey", "token"),
        r"(?i:\b[a-z0-9_]{0,30}(?:password|passwd|secret|api_?key|token)\b)[\"']?\s{0,3}[=:]\s{0,3}[\"']?"
        r"(?!(?:self|this|cls|os|sys|env|process|args|opts|options|config|cfg|settings|request|req|response|res|ctx|session|client|tokenizer"
        r"|model|torch|np|tf|app|data|event|user|auth|crypto|uuid|secrets|random|string)\.[A-Za-z_])"
        r"(?P<value>(?=[^\s\"',;<>(){}\[\]]{0,127}[0-9])(?=[^\s\"',;<>(){}\[\]]{0,127}[A-Za-z])(?>[^\s\"',;<>(){}\[\]]{8,128}))(?![(\[])",
    ),
)
_COMPILED = tuple((kind, re.compile(form, re.DOTALL)) for kind, _, form in _FORMS)
#: (fixed part in lower case, place of its form), by a mark that every one of the group holds and most texts do not; "" where there is none
_PARTS = tuple((part.lower(), place) for place, (_, parts, _) in enumerate(_FORMS) for part in parts)
_MARKS = ("_", "-", "=", "://", "")
_BY_MARK = tuple((mark, tuple(pair for pair in _PARTS if next(m for m in _MARKS if m in pair[0]) == mark)) for mark in _MARKS)


def find_secrets(text: str) -> Iterator[Span]:
    """Every secret in a text, form by form."""
    lower = text.lower()
    for place in sorted({place for mark, parts in _BY_MARK if mark in lower for part, place in parts if part in lower}):
        kind, form = _COMPILED[place]
        for match in form.finditer(text):
            start, end = match.span("value") if "value" in form.groupindex else match.span()
            yield Span(kind, start, end)


class Secrets(RowCheck):
    """A row with a secret teaches the model to repeat it."""

    def observe_row(self, row: Row) -> Iterator[Finding]:
        for place, text in searchable(row.value):
            for reason in spans_in_words(place, find_secrets(text)):
                yield Finding("secret", row.line, reason)
