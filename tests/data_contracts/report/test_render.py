"""The report: one page that holds everything it needs, a table for the terminal, and the shell command."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from data_contracts.__main__ import main
from data_contracts.config import ContractConfig
from data_contracts.report.render import left_out, report_markdown, report_page, report_table
from data_contracts.validate import validate_drop


@pytest.fixture
def drop(good_lines: list[bytes], write_drop: Callable[..., Path]) -> Path:
    strange = b'{"<script>alert(1)</script>": 1}'
    return write_drop([*good_lines, *good_lines[:3], strange])


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_page_needs_nothing_else_and_runs_nothing_from_the_drop(drop: Path, tmp_path: Path) -> None:
    assert main([str(drop), "--skill", "notes", "--out", str(tmp_path / "out"), "--max-bad-fraction", "0.5"]) == 0
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    page = _Page()
    page.feed(text)
    assert page.tags.count("svg") >= 3
    assert page.links == []
    assert "script" not in page.tags
    assert "&lt;script&gt;alert(1)" in text
    assert "prefers-color-scheme: dark" in text
    assert len(text) < 100_000
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report_page(report) == text


def test_markdown_names_every_finding_and_leaves_no_mark_of_the_drop_in_force(drop: Path, tmp_path: Path) -> None:
    assert main([str(drop), "--skill", "notes", "--out", str(tmp_path / "out")]) == 1
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    report["findings"][0]["examples"][0]["reason"] = "a | cell, <b>bold</b>, [a](http://x) and `code`"
    text = report_markdown(report)
    assert text.startswith("# drop.jsonl for skill notes: failed")
    assert report["source_sha256"] in text
    table = [line for line in text.splitlines() if line.startswith("| ")]
    named = [line.split(" | ")[0][2:] for line in table[1:]]
    assert sorted(named) == [found["check"] for found in report["findings"]]
    assert named[0] == "schema", "what refuses the drop comes first"
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 5 for line in table)
    assert "<b>" not in text
    assert r"\[a\](http" in text


def test_the_first_line_says_the_share_that_was_left_out_and_pairs_are_shown(
    chat: Callable[[str, str], str], prose: Callable[[int, int], str], write_drop: Callable[..., Path], tmp_path: Path
) -> None:
    rows = [chat(prose(seed, 40), "fine") for seed in range(60)]
    copies = [chat(f"{prose(seed, 40)} indeed", "fine") for seed in range(20)]
    validate_drop(write_drop([*rows, *copies]), tmp_path / "out", skill="notes", config=ContractConfig())
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert left_out(report) == "20 of 80 rows left out (25.0 %)"
    console = Console(width=300, record=True, file=io.StringIO())
    console.print(report_table(report))
    said = console.export_text()
    assert "passed, 20 of 80 rows left out (25.0 %)" in said.split("\n")[0]
    assert f"line 61: {prose(0, 40)}"[:80] in said
    assert f"line 1: {prose(0, 40)}"[:80] in said
    assert "20 of 80 rows left out" in report_markdown(report).split("\n")[0]
    assert "20 of 80 rows left out" in (tmp_path / "out" / "report.html").read_text()
