"""Answers that refuse. A drop full of them teaches the model to refuse; a few in a skill's drop usually got in by mistake."""

from __future__ import annotations

import re
from collections.abc import Iterator

from data_contracts.rows.findings import Finding, RowCheck
from data_contracts.rows.records import Row
from data_contracts.rows.taught import answer_of

_REFUSAL = re.compile(
    r"(?i)\A\W{0,3}(?:(?:i['’]?m|i am|we['’]?re)\s+(?:so |very |really |truly )?(?:sorry|afraid|unable to|not able to)\b[^.\n]{0,60}"
    r"(?:can(?:no|['’])t|cannot|unable|not able|won['’]t|assist|help|provide|fulfil|comply)"
    r"|(?:sorry|apologies|my apologies)\b[^.\n]{0,40}(?:can(?:no|['’])t|cannot|unable|not able|won['’]t)"
    r"|i (?:cannot|can['’]t|can not|won['’]t|will not|must decline to|am unable to|am not able to) "
    r"(?:help|assist|provide|fulfil|comply|answer|do that|create|write|generate|support|engage|discuss)"
    r"|as an? (?:ai|artificial intelligence|large language model|language model)\b)"
)


class Refusals(RowCheck):
    """Looks at how the last answer that is learned begins."""

    def observe_row(self, row: Row) -> Iterator[Finding]:
        if row.shape == "document":
            return
        match = _REFUSAL.match(str(row.messages[answer_of(row.messages)].get("content") or "")[:200])
        if match:
            yield Finding("refusal", row.line, f"the answer refuses: {match.group()[:80]!r}")
