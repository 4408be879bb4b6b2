"""An entry of the ledger as text: the bytes that are stored, chained and signed."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime

from flows.lineage.storage.records import FIRST_PRIOR, LedgerEntry

ENTRY = LedgerEntry(
    sequence=0, action="promote", version=1, previous=None, champion=1, actor="zoë", reason="start", time=datetime(2026, 11, 1, tzinfo=UTC),
    model_sha256="a" * 64, manifest_sha256="b" * 64, prior=FIRST_PRIOR,
)  # fmt: skip


def test_the_digest_is_that_of_the_sorted_text_and_of_the_fields_of_the_first_release() -> None:
    first_release = {
        "sequence": 0, "action": "promote", "version": 1, "previous": None, "champion": 1, "actor": "zoë", "reason": "start",
        "time": "2026-11-01T00:00:00Z", "decision": None, "verdict_sha256": None, "model_sha256": "a" * 64, "manifest_sha256": "b" * 64,
        "expires": None, "prior": "0" * 64,
    }  # fmt: skip
    text = json.dumps(first_release, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert ENTRY.text == text
    assert ENTRY.digest == hashlib.sha256(text.encode()).hexdigest()


def test_a_field_of_a_later_release_counts_once_it_is_set() -> None:
    later = ENTRY.model_copy(update={"authenticated": "zoe"})
    assert json.loads(later.text) == json.loads(ENTRY.text) | {"authenticated": "zoe"}
    assert later.digest != ENTRY.digest


def test_a_signature_is_over_the_text_without_it() -> None:
    named = ENTRY.model_copy(update={"key": "SHA256:x"})
    signed = named.model_copy(update={"signature": "c2ln"})
    assert signed.unsigned_text == named.text
    assert signed.text != named.text


def test_a_stored_text_is_read_back_to_the_same_digest() -> None:
    assert LedgerEntry.model_validate_json(ENTRY.text).digest == ENTRY.digest
