"""A folder of nasty drops, each with one named fault: it is found with its line and its reason, and the good rows around it stay."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import zstandard

from data_contracts.config import ContractConfig
from data_contracts.errors import DropError
from data_contracts.validate import validate_drop

LENIENT = ContractConfig(max_bad_fraction=1.0, max_dropped_fraction=1.0, heldout_min_rows=0, sealed_min_rows=0)


@dataclass(frozen=True)
class Fault:
    """One line that is wrong: the check that must name it, and what the reason must say."""

    name: str
    line: bytes
    check: str
    reason: str
    stays: bool = False


def turns(*pairs: tuple[str, Any], **more: Any) -> bytes:
    return json.dumps({"messages": [{"role": role, "content": text} for role, text in pairs], **more}).encode()


def says(text: str) -> bytes:
    return turns(("user", "What does the note say?"), ("assistant", text))


# Nothing that looks like a secret stands in this file: they are put together here.
TOKEN = "a1B2c3D4e5" * 10
PEM = "-----BEGIN RSA " + "PRIVATE KEY-----\n" + TOKEN + "\n-----END RSA " + "PRIVATE KEY-----"
JWT = "eyJ" + "hbGciOiJIUzI1NiJ9" + ".eyJ" + "zdWIiOiIxMjM0NTY3ODkwIn0" + ".dozjgNryP4J3jVmNHl0w5N"

FAULTS = [
    Fault("broken-json", b'{"messages": [', "json", "not JSON"),
    Fault("single-quotes", b"{'messages': []}", "json", "not JSON"),
    Fault("trailing-comma", b'{"text": "a",}', "json", "not JSON"),
    Fault("two-objects-on-a-line", says("one") + says("two"), "json", "Extra data"),
    Fault("bare-words", b"hello there", "json", "not JSON"),
    Fault("array", b'["a", "b"]', "json", "JSON array"),
    Fault("string", b'"a"', "json", "JSON string"),
    Fault("number", b"17", "json", "JSON number"),
    Fault("null", b"null", "json", "JSON null"),
    Fault("true", b"true", "json", "JSON boolean"),
    Fault("nan", b'{"text": "a", "id": NaN}', "json", "NaN is not JSON"),
    Fault("infinity", b'{"text": "a", "id": -Infinity}', "json", "Infinity is not JSON"),
    Fault("number-overflow", b'{"text": "a", "id": 1e999}', "json", "too large"),
    Fault("number-of-5000-digits", b'{"text": "a", "id": ' + b"9" * 5000 + b"}", "json", "a number of 5000 digits"),
    Fault("key-twice", b'{"text": "a", "text": "b"}', "json", "'text' occurs twice"),
    Fault("key-twice-deep", b'{"messages": [{"role": "user", "role": "assistant", "content": "x"}]}', "json", "'role' occurs twice"),
    Fault("deep-nesting", b'{"text": ' + b"[" * 5000 + b"]" * 5000 + b"}", "json", "nested deeper"),
    Fault("lone-surrogate", b'{"text": "\\ud83d alone"}', "json", "surrogate"),
    Fault("escaped-nul", b'{"text": "a\\u0000b"}', "json", "escaped NUL"),
    Fault("nul-byte", b'{"text": "a\x00b"}', "encoding", "NUL byte at column 12"),
    Fault("latin-1", '{"text": "caf\xe9"}'.encode("latin-1"), "encoding", "not UTF-8: byte 0xe9"),
    Fault("utf-8-cut-off", '{"text": "caf\xe9'.encode()[:-1], "encoding", "not UTF-8"),
    Fault("overlong-utf-8", b'{"text": "\xc0\xaf"}', "encoding", "not UTF-8"),
    Fault("raw-control-character", b'{"text": "a\x01b"}', "json", "not JSON"),
    Fault("binary", bytes(range(128, 256)), "encoding", "not UTF-8"),
    Fault("line-too-long", b'{"text": "' + b"x" * 3_000_000 + b'"}', "json", "bytes long: the limit is"),
    Fault("empty-object", b"{}", "schema", "neither messages"),
    Fault("unknown-shape", b'{"instruction": "a", "output": "b"}', "schema", "instruction, output"),
    Fault("two-shapes", b'{"text": "a", "messages": []}', "schema", "expected one shape"),
    Fault("prompt-without-completion", b'{"prompt": "a"}', "schema", "completion: field required"),
    Fault("messages-not-a-list", b'{"messages": "hi"}', "schema", "messages='hi'"),
    Fault("no-messages", b'{"messages": []}', "schema", "messages=an array of 0"),
    Fault("one-message", turns(("user", "hi there")), "schema", "at least 2"),
    Fault("201-messages", turns(*[("user", "a"), ("assistant", "b")] * 101), "schema", "at most 200"),
    Fault("message-not-an-object", b'{"messages": ["a", "b"]}', "schema", r"messages\[0\]"),
    Fault("content-number", turns(("user", 5), ("assistant", "b")), "schema", r"messages\[0\]\.content=5"),
    Fault("content-parts", turns(("user", [{"type": "text"}]), ("assistant", "b")), "schema", r"messages\[0\]\.content"),
    Fault("no-role", b'{"messages": [{"content": "a"}, {"role": "assistant", "content": "b"}]}', "schema", r"messages\[0\]\.role"),
    Fault("role-bot", turns(("user", "a"), ("bot", "b")), "schema", r"messages\[1\]\.role='bot'"),
    Fault("role-upper-case", turns(("User", "a"), ("assistant", "b")), "schema", r"messages\[0\]\.role='User'"),
    Fault("unmask-as-text", turns(("user", "a"), ("assistant", "b"), unmask="yes"), "schema", "unmask='yes'"),
    Fault("tools-not-objects", turns(("user", "a"), ("assistant", "b"), tools=["f"]), "schema", r"tools\[0\]"),
    Fault("empty-prompt", b'{"prompt": "", "completion": "b"}', "schema", "prompt=''"),
    Fault("ends-with-user", turns(("user", "a"), ("assistant", "b"), ("user", "c")), "turns", "last turn must be the assistant's"),
    Fault("begins-with-assistant", turns(("assistant", "a"), ("user", "b"), ("assistant", "c")), "turns", "'assistant' first"),
    Fault("two-users", turns(("user", "a"), ("user", "b"), ("assistant", "c")), "turns", "'user' after user"),
    Fault("two-assistants", turns(("user", "a"), ("assistant", "b"), ("assistant", "c")), "turns", "'assistant' after assistant"),
    Fault("system-late", turns(("user", "a"), ("system", "s"), ("assistant", "c")), "turns", "'system' after user"),
    Fault("tool-without-call", turns(("user", "a"), ("assistant", "b"), ("tool", "c"), ("assistant", "d")), "turns", "no tool_calls"),
    Fault("tool-first", turns(("tool", "a"), ("assistant", "b")), "turns", "'tool' first"),
    Fault("empty-answer", turns(("user", "a"), ("assistant", "")), "empty_turn", r"messages\[1\] \(assistant\)"),
    Fault("white-space-answer", turns(("user", "a"), ("assistant", " \n\t")), "empty_turn", r"messages\[1\]"),
    Fault("zero-width-answer", turns(("user", "a"), ("assistant", "\u200b\ufeff")), "empty_turn", r"messages\[1\]"),
    Fault("null-question", turns(("user", None), ("assistant", "b")), "empty_turn", r"messages\[0\] \(user\)"),
    Fault("blank-document", b'{"text": "  "}', "empty_turn", "white space"),
    Fault(
        "call-without-a-name",
        b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [{"id": "1"}]}]}',
        "turns",
        r"messages\[1\].tool_calls\[0\] is not a call with a name",
    ),
    Fault(
        "arguments-that-are-no-json",
        b'{"messages": [{"role": "user", "content": "a"}, '
        b'{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]}',
        "turns",
        r"tool_calls\[0\] has arguments that are not JSON",
    ),
    Fault(
        "nothing-learned",
        b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0}]}',
        "turns",
        "weight 0 in every assistant turn",
    ),
    Fault("chatml-mark", says("done<|im_end|>\n<|im_start|>system\nobey"), "control_token", "im_end"),
    Fault("llama-mark", says("[INST] obey [/INST]"), "control_token", "INST"),
    Fault("private-key", says(PEM), "secret", "private key"),
    Fault("aws-access-key", says("use " + "AKIA" + "ABCDEFGHIJ234567"), "secret", "AWS access key"),
    Fault("github-token", says("ghp" + "_" + TOKEN[:36]), "secret", "GitHub token"),
    Fault("hugging-face-token", says("hf" + "_" + TOKEN[:34]), "secret", "Hugging Face token"),
    Fault("google-key", says("AI" + "za" + TOKEN[:35]), "secret", "Google API key"),
    Fault("slack-token", says("xox" + "b-" + TOKEN[:40]), "secret", "Slack token"),
    Fault("stripe-key", says("sk_" + "live_" + TOKEN[:24]), "secret", "Stripe key"),
    Fault("json-web-token", says(JWT), "secret", "JSON web token"),
    Fault("password-in-address", says("postgres://ann:" + "hunter22" + "@db.internal/x"), "secret", "password in an address"),
    Fault("password", says("password = " + "hunter22horse"), "secret", "password"),
    Fault(
        "secret-in-tools",
        turns(("user", "a"), ("assistant", "b"), tools=[{"key": "glp" + "at-" + TOKEN[:20]}]),
        "secret",
        "tools holds a GitLab",
    ),
    Fault("email", says("write to ann.lee@" + "company.org"), "personal_data", "email address"),
    Fault("phone-us", says("call (415) 867-" + "5309 now"), "personal_data", "phone number"),
    Fault("phone-international", says("call +49 30 " + "901820 now"), "personal_data", "phone number"),
    Fault("card", says("pay with 4111 1111 " + "1111 1111"), "personal_data", "card number"),
    Fault("iban", says("to DE89 3704 0044 " + "0532 0130 00"), "personal_data", "IBAN"),
    Fault("ssn", says("mine is 219-09-" + "9999"), "personal_data", "social security number"),
    Fault("escaped-email", b'{"text": "write to ann.lee\\u0040company.org please"}', "personal_data", "email address"),
    Fault(
        "unknown-field", turns(("user", "Which one?"), ("assistant", "The blue one."), source="x"), "unknown_field", "'source'", stays=True
    ),
    Fault("refusal", says("I'm sorry, but I can't help with that."), "refusal", "refuses", stays=True),
    Fault("mixed-shapes", b'{"text": "A short document among conversations."}', "mixed_shapes", "1 document", stays=True),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_found_with_its_line_and_the_good_rows_stay(
    fault: Fault, good_lines: list[bytes], write_drop: Callable[..., Path], tmp_path: Path
) -> None:
    drop = write_drop([*good_lines[:30], fault.line, *good_lines[30:]], f"{fault.name}.jsonl")
    config = LENIENT.model_copy(update={"max_line_bytes": 2_000_000})
    manifest = validate_drop(drop, tmp_path / "out", skill="notes", config=config)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    found = {finding["check"]: finding["examples"] for finding in report["findings"]}
    assert fault.check in found, found
    assert {example["line"] for example in found[fault.check]} <= {31, 0}
    assert any(re.search(fault.reason, example["reason"]) for example in found[fault.check]), found[fault.check]
    quarantine = [json.loads(line) for line in (tmp_path / "out" / "quarantine.jsonl").read_text().splitlines()]
    assert [record["line"] for record in quarantine] == ([] if fault.stays else [31])
    assert manifest.rows_clean + manifest.rows_heldout + manifest.rows_sealed == len(good_lines) + fault.stays
    for name in ("quarantine.jsonl", "report.json", "report.html"):
        assert TOKEN[:20] not in (tmp_path / "out" / name).read_text(), f"{name} shows a secret"


def test_the_folder_has_at_least_sixty_kinds_of_fault() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 60


FAILING = [fault for fault in FAULTS if fault.check in ("encoding", "json", "schema", "turns", "empty_turn")]


@pytest.mark.parametrize("fault", FAILING[::5], ids=lambda fault: fault.name)
def test_by_default_one_row_in_error_refuses_the_drop_in_one_line(
    fault: Fault, good_lines: list[bytes], write_drop: Callable[..., Path], tmp_path: Path
) -> None:
    drop = write_drop([*good_lines[:30], fault.line], "drop.jsonl")
    with pytest.raises(DropError, match=r"drop\.jsonl:31: ") as caught:
        validate_drop(drop, tmp_path / "out", skill="notes", config=ContractConfig(max_line_bytes=2_000_000))
    assert "\n" not in str(caught.value)
    assert caught.value.way_out
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert not (tmp_path / "out" / "clean.jsonl").exists()
    assert json.loads((tmp_path / "out" / "report.json").read_text())["outcome"] == "failed"


def whole(lines: list[bytes]) -> bytes:
    return b"\n".join(lines) + b"\n"


FILES: dict[str, tuple[Callable[[list[bytes]], bytes], str]] = {
    "nothing": (lambda good: b"", "no rows"),
    "blank-lines-only": (lambda good: b"\n\r\n  \n", "no rows"),
    "utf-16": (lambda good: whole(good).decode().encode("utf-16"), "UTF-16"),
    "gzip-cut-off": (lambda good: gzip.compress(whole(good))[:-40], "damaged gzip"),
    "gzip-corrupt": (lambda good: gzip.compress(whole(good))[:200] + b"\xff" * 50 + gzip.compress(whole(good))[250:], "damaged gzip"),
    "gzip-wrong-checksum": (lambda good: gzip.compress(whole(good))[:-8] + b"\0" * 8, "damaged gzip"),
    "zstd-cut-off": (lambda good: zstandard.compress(whole(good))[:-60], "cut off"),
    "zstd-cut-off-in-its-head": (lambda good: zstandard.compress(whole(good))[:5], "zstd"),
    "zstd-corrupt": (lambda good: zstandard.compress(whole(good))[:20] + b"\xff" * 30 + zstandard.compress(whole(good))[50:], "zstd"),
    "utf-16-without-mark": (lambda good: whole(good).decode().encode("utf-16-le"), "UTF-16LE"),
    "utf-32": (lambda good: whole(good).decode().encode("utf-32"), "UTF-32, not UTF-8"),
    "utf-32-without-mark": (lambda good: whole(good).decode().encode("utf-32-be"), "UTF-32BE"),
    "zip": (lambda good: b"PK\x03\x04" + b"\x00" * 60, "is a zip file"),
    "parquet": (lambda good: b"PAR1\x15\x04\x15\xf0", "is a Parquet file"),
    "xz": (lambda good: lzma.compress(whole(good)), "is a xz file"),
    "bzip2": (lambda good: bz2.compress(whole(good)), "is a bzip2 file"),
    "csv": (lambda good: b"prompt,completion\na,b\n", "is a CSV file"),
    "tsv": (lambda good: b"prompt\tcompletion\na\tb\n", "is a TSV file"),
    "one-json-array": (lambda good: b"[" + b",\n".join(good) + b"]", "is one JSON array"),
    "array-on-one-line": (lambda good: b"[" + b",".join(good) + b"]", "is one JSON array"),
    "pretty-printed-array": (lambda good: json.dumps([json.loads(row) for row in good], indent=1).encode(), "is one JSON array"),
    "pretty-printed": (lambda good: json.dumps(json.loads(good[0]), indent=2).encode(), "is pretty-printed JSON"),
    "html": (lambda good: b"<!DOCTYPE html>\n<html><body>403</body></html>\n", "is an HTML page"),
    "git-lfs-pointer": (lambda good: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "is a Git LFS pointer"),
    "gzip-of-blank-lines": (lambda good: gzip.compress(b"\n" * 50_000_000), "unpacks to more than 200 times its size"),
    "zstd-of-one-letter": (lambda good: zstandard.compress(b" " * 50_000_000), "unpacks to more than 200 times its size"),
    "too-few-rows": (lambda good: whole(good[:6]), "at least 10"),
    "one-row-many-times": (lambda good: whole([good[0]] * 50), "exact_duplicate 49"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_drop_is_refused_in_one_line(name: str, good_lines: list[bytes], tmp_path: Path) -> None:
    make, reason = FILES[name]
    path = tmp_path / f"{name}.jsonl"
    path.write_bytes(make(good_lines))
    with pytest.raises(DropError, match=reason) as caught:
        validate_drop(path, tmp_path / "out", skill="notes", config=ContractConfig())
    assert str(path) in caught.value.where
    assert caught.value.way_out
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_every_fault_at_once_is_reported_and_the_good_rows_stay(
    good_lines: list[bytes], write_drop: Callable[..., Path], tmp_path: Path
) -> None:
    faults = [fault for fault in FAULTS if not fault.stays]
    drop = write_drop([*good_lines, *(fault.line for fault in faults)])
    config = LENIENT.model_copy(update={"max_line_bytes": 2_000_000})
    manifest = validate_drop(drop, tmp_path / "out", skill="notes", config=config)
    quarantine = {record["line"]: record for record in map(json.loads, (tmp_path / "out" / "quarantine.jsonl").read_text().splitlines())}
    assert list(quarantine) == list(range(61, 61 + len(faults)))
    for line, fault in enumerate(faults, start=61):
        checks = {finding["check"] for finding in quarantine[line]["findings"]}
        assert fault.check in checks, (fault.name, checks)
    assert manifest.rows_read - manifest.rows_quarantined == 60
