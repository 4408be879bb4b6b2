"""Names and reasons are people's: whatever they hold, every command and page shows it as text, and goes on working."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from data_contracts.escaping import markdown_text, visible
from data_contracts.manifests import Decision
from data_contracts.terminal import PlainConsole
from flows.cli.app import app
from flows.lineage import current_champion
from flows.lineage.storage.describe import verdict_note

HOSTILE = (
    "closes [/b] what nobody opened",
    "[red]red[/red] [link=https://evil.test]click[/link]",
    ":smile: :warning:",
    "<script>alert(1)</script> <img src=x onerror=alert(1)>",
    "a | b | c\n| d | e |\n\n# Heading",
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b2J",
    "right\u202eto left",
    "snake_case _em_ __strong__ a*b*c",
    "[click](javascript:alert(1)) `code` **bold** ~~gone~~ ![x](y)",
)


@pytest.fixture
def command(grown: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    config = tmp_path / "skillstack.yaml"
    config.write_text(f"state_dir: {grown.state_dir}\ntracking: {{model_name: tiny, experiment: rounds}}\n")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{grown.state_dir}/mlflow.db")
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.setattr("flows.cli.console._out.width", 1000)
    return lambda name, *arguments: CliRunner().invoke(app, [name, "--config", str(config), *arguments], catch_exceptions=False)


def test_every_command_shows_hostile_reasons_as_text(command, grown, register):
    version = register(grown, "held", 3, parent=current_champion(grown).model_sha256, decision=Decision.INCONCLUSIVE)[1].version
    everything = ""
    for reason in HOSTILE:
        shown = [command("reject", str(version), "--reviewer", f"ann {reason}", "--reason", reason).stdout, command("history").stdout]
        for printed in shown:
            assert first_line(reason) in printed
        everything += "".join(shown)
    tree = command("lineage").stdout
    assert all(first_line(reason) in tree for reason in HOSTILE)
    everything += tree + command("verify").stdout
    assert "\x1b" not in everything
    assert "\u202e" not in everything


def first_line(text: str) -> str:
    """What the terminal shows of it: control characters as what they are."""
    return visible(text.split("\n")[0]).strip()


@pytest.mark.parametrize("text", HOSTILE)
def test_the_console_takes_no_text_for_markup(text, capsys):
    console = PlainConsole()
    assert isinstance(console, Console)
    console.print(text, soft_wrap=True)
    assert capsys.readouterr().out.rstrip("\n") == visible(text)


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_shows_the_text_itself(text):
    """By another renderer than ours: CommonMark with tables and strikethrough, raw HTML allowed."""
    from markdown_it import MarkdownIt

    renderer = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    flat = " ".join(visible(text).split())
    assert renderer.render(markdown_text(text)) == f"<p>{html.escape(flat, quote=True)}</p>\n"
    table = renderer.render(f"| a | b |\n|---|---|\n| {markdown_text(text)} | end |\n")
    assert (table.count("<td>"), f"<td>{html.escape(flat, quote=True)}</td>" in table) == (2, True)


@pytest.mark.parametrize("start", ["# no heading", "- no item", "+ no item", "1. no list", "12) no list", "> no quote", "=== no rule"])
def test_markdown_begins_no_block(start):
    from markdown_it import MarkdownIt

    assert MarkdownIt("commonmark").render(markdown_text(start)) == f"<p>{html.escape(start)}</p>\n"


def test_the_note_of_a_verdict_holds_no_raw_html(grown, register):
    _, _, folders = register(grown, "odd", 3, parent=current_champion(grown).model_sha256)
    odd = folders.verdict.model_copy(update={"reasons": HOSTILE, "lost": HOSTILE[:4]})
    note = verdict_note(odd)
    assert "<script>" not in note
    assert "\x1b" not in note
