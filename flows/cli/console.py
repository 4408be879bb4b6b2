"""What a person reads in the terminal, and the same values as JSON for machines.

`choose` decides once a process: tables and bars on stderr and stdout, or one JSON object on stdout and nothing else.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from rich.table import Table
from rich.text import Text

from data_contracts.errors import SkillstackError
from data_contracts.report.render import report_table
from data_contracts.terminal import PlainConsole
from evals.report.scores import percent, score_text
from flows.machine.progress import show_progress

if TYPE_CHECKING:
    from data_contracts.rows.convert import Conversion
    from evals.gate.plan import RoundPlan
    from flows.cli.validation import Validation
    from flows.config.reference import Setting
    from flows.demo.runner import DemoResult
    from flows.lineage import LedgerEntry, RoundRecord
    from flows.review.audit import AuditResult
    from flows.review.replay import Replay
    from flows.service.doctor import Diagnosis
    from flows.workspace.outcome import RoundOutcome

COLOURS = {"PASS": "bold green", "BLOCK": "bold red", "INCONCLUSIVE": "bold yellow", "ERROR": "bold red"}

_out = PlainConsole()
_as_json = False


def choose(as_json: bool) -> None:
    """Decide for the rest of this process. Progress bars go to stderr, so that stdout can be piped either way."""
    global _as_json
    _as_json = as_json
    show_progress(None if as_json else PlainConsole(stderr=True))


def _answer(value: BaseModel | dict[str, Any] | list[Any]) -> bool:
    """Print JSON if that was chosen; True means that the command is done."""
    if _as_json:
        plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
        sys.stdout.write(json.dumps(plain, indent=2, ensure_ascii=False) + "\n")
    return _as_json


def verdict_text(decision: str | None) -> Text:
    return Text(decision or "-", style=COLOURS.get(decision or "", ""))


def show_error(error: SkillstackError) -> None:
    if not _answer({"error": {"where": error.where, "what": error.what, "way_out": error.way_out}}):
        PlainConsole(stderr=True).print(Text("error: ", style="bold red") + Text(str(error)), soft_wrap=True)


def show_files(paths: Sequence[Path]) -> None:
    if not _answer({"written": [str(path) for path in paths]}):
        for path in paths:
            _out.print(f"wrote {path}")
        _out.print("next: skillstack doctor, then skillstack round DROP --skill NAME")


def show_diagnoses(diagnoses: Sequence[Diagnosis]) -> None:
    if _answer({"ok": all(d.ok for d in diagnoses), "checks": [d.model_dump() for d in diagnoses]}):
        return
    for diagnosis in diagnoses:
        mark = Text("ok    ", style="green") if diagnosis.ok else Text("wrong ", style="bold red")
        _out.print(mark + Text(f"{diagnosis.check}: {diagnosis.detail}"), soft_wrap=True)


def show_validation(result: Validation) -> None:
    if _answer(result):
        return
    if result.report:
        _out.print(report_table(result.report))
    elif result.error is not None:  # a file that could not be read at all
        _out.print(Text("refused  ", style="bold red") + Text(result.error), soft_wrap=True)
    for note in result.notes:
        _out.print(Text(f"before training: {note}"), soft_wrap=True)
    kept = f"kept in {result.folder}" if result.folder is not None else "add --out FOLDER to keep report.html and every refused row"
    _out.print(kept, soft_wrap=True)


def show_settings(settings: Sequence[Setting]) -> None:
    if _answer([setting.model_dump(mode="json") for setting in settings]):
        return
    for setting in settings:
        _out.print(Text.assemble((setting.key, "bold"), f"  {setting.kind}; default {setting.default}"), soft_wrap=True)
        _out.print(Text(f"    {setting.about}"), soft_wrap=True)


def show_conversion(conversion: Conversion) -> None:
    if _answer(conversion):
        return
    for shape, rows in conversion.shapes.items():
        _out.print(Text(f"{rows:,} rows: each {shape}"), soft_wrap=True)
    line = f"wrote {conversion.out}, {conversion.rows:,} rows; next: skillstack validate {conversion.out} --skill NAME"
    _out.print(Text(line), soft_wrap=True)


def show_outcome(outcome: RoundOutcome) -> None:
    if _answer(outcome):
        return
    table = Table(
        "suite", "category", "items", "champion", "candidate", "change", title=f"round {outcome.round}: {outcome.skill} by {outcome.method}"
    )
    for suite in outcome.suites:
        moved = suite.after - suite.before
        change = f"{moved:+.3f} bits per byte" if suite.category == "drift" else f"{100 * moved:+.1f}"
        row = (score_text(suite.before, suite.category), score_text(suite.after, suite.category), change)
        table.add_row(suite.suite, suite.category, str(suite.n), *row, style="red" if suite.suite in outcome.lost else None)
    _out.print(table)
    _out.print(verdict_text(outcome.decision.value), *outcome.reasons, sep="\n", soft_wrap=True)
    for number, step in enumerate(outcome.next, 1):
        _out.print(Text("What to try next:\n" if number == 1 else "") + Text(f"{number}. {step}"), soft_wrap=True)
    _out.print(f"version {outcome.version}; champion is version {outcome.champion}\nreport: {outcome.report}", soft_wrap=True)


def show_history(records: Sequence[RoundRecord]) -> None:
    if _answer({"rounds": [record.model_dump(mode="json") for record in records]}):
        return
    table = Table("round", "skill", "version", "verdict", "event", "who", "when (UTC)", "why")
    for record in records:
        number = f"{record.round}" + (f" (attempt {record.attempt})" if record.attempt > 1 else "")
        version = "-" if record.version is None else f"{record.version}" + (" champion" if record.champion else "")
        when = f"{record.when:%Y-%m-%d %H:%M}" if record.when else "-"
        told = (record.event or record.status, record.who or "-", when, record.why or "")
        table.add_row(number, record.skill or "base", version, verdict_text(record.decision), *told)
    _out.print(table)


def show_audit(result: AuditResult) -> None:
    if _answer({**result.audit.model_dump(mode="json"), "report": str(result.report)}):
        return
    audit = result.audit
    shown = [index for index, suite in enumerate(audit.suites) if not suite.sealed]
    table = Table(
        "after", *(audit.suites[index].name for index in shown), "verdict", title="scores after each round, in % (drift: bits per byte)"
    )
    for entry, row in zip(audit.rounds, audit.matrix, strict=True):
        cells = [score_text(row[index], audit.suites[index].category) for index in shown]
        table.add_row(entry.label or f"round {entry.number}", *cells, verdict_text(entry.decision.value if entry.decision else None))
    _out.print(table)
    for name, estimate in audit.transfer:
        if estimate is not None:
            interval = f"{percent(estimate.low)} to {percent(estimate.high)}"
            _out.print(f"{name.replace('_', ' ')}: {percent(estimate.value)} ({audit.interval}: {interval})", soft_wrap=True)
    for gap in audit.gaps:
        _out.print(Text(gap, style="yellow"), soft_wrap=True)
    _out.print(f"report: {result.report}", soft_wrap=True)


def show_ledger_entry(entry: LedgerEntry) -> None:
    if not _answer(entry):
        _out.print(
            f"{entry.action}: version {entry.champion} is champion (was {entry.previous}), by {entry.actor}: {entry.reason}", soft_wrap=True
        )


def show_replay(result: Replay) -> None:
    if not _answer({**result.model_dump(), "equal": result.equal}):
        same = (
            "the same to the byte" if result.equal else f"DIFFERENT: {result.recomputed_sha256[:12]} instead of {result.stored_sha256[:12]}"
        )
        _out.print(f"round {result.round}, attempt {result.attempt}: {result.decision}, {same}")


def show_plan(plan: RoundPlan) -> None:
    if _answer(plan):
        return
    table = Table(
        "asked of", "suites", "items", "margin", "detectable loss", "chance shown", "items needed", title="in points; items are per suite"
    )
    for each in plan.categories:
        numbers = (percent(each.margin), percent(each.minimum_detectable_effect), f"{each.chance_shown:.0%}", f"{each.items_needed:,}")
        table.add_row(each.subject, str(each.suites), str(each.items), *numbers)
    _out.print(table)
    _out.print(plan.sentence(), soft_wrap=True)


def show_demo(result: DemoResult) -> None:
    """Rounds are columns, so that the table fits a narrow terminal however many skills there are."""
    if _answer(result):
        return
    table = Table("", *(f"round {row.round}\n{row.skill}" for row in result.rows), title="before → after each round, in %")
    table.add_row("method", *(row.method for row in result.rows))
    table.add_row("learned", *(row.learned for row in result.rows), style="bold", end_section=True)
    for name in result.suites:
        cells = [Text(row.changes.get(name, ""), style="red" if name in row.lost else "") for row in result.rows]
        table.add_row(name, *cells)
    table.add_section()
    table.add_row("verdict", *(verdict_text(row.decision.value) for row in result.rows))
    _out.print(table)
    for row in result.rows:
        _out.print(Text(f"round {row.round}, {row.skill} by {row.method}: ") + Text(row.reason), soft_wrap=True)
    _out.print(f"\nreport of the whole lineage: {result.report}", soft_wrap=True)
    for title, command in result.commands.items():
        _out.print(Text(f"{title}: ") + Text(command, style="bold"), soft_wrap=True)
