"""What a command prints: text and tables for a person, or the same values as one JSON object on one line for a program (`--json`)."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from pydantic_core import to_json
from rich.console import Group
from rich.table import Table
from rich.text import Text

from data_contracts.errors import SkillstackError
from data_contracts.logs.lines import json_wanted
from data_contracts.report.render import report_table
from data_contracts.terminal import PlainConsole
from evals.report.scores import change_text, percent, score_text
from flows.machine.progress import show_progress

if TYPE_CHECKING:
    from data_contracts.rows.convert import Conversion
    from evals.gate.plan import RoundPlan
    from flows.cli.validation import Validation
    from flows.config.reference import Setting
    from flows.demo.runner import DemoResult
    from flows.lineage import LedgerEntry, RoundRecord
    from flows.review.replay import Replay
    from flows.round.planning import DropPlan
    from flows.service.doctor import Diagnosis
    from flows.workspace.outcome import RoundOutcome

COLOURS = {"PASS": "bold green", "BLOCK": "bold red", "INCONCLUSIVE": "bold yellow", "ERROR": "bold red"}

Answer = BaseModel | Mapping[str, Any] | Sequence[Any]
Line = str | Text | Table | Group

_out = PlainConsole()
_as_json = False


def choose(as_json: bool) -> None:
    """Decide for the rest of this process. Progress bars go to stderr, so that stdout can be piped either way."""
    global _as_json
    _as_json = as_json
    show_progress(None if as_json or json_wanted() else PlainConsole(stderr=True))


def print_answer(value: Answer, lines: Iterable[Line]) -> None:
    """Print `value` as JSON where that was chosen, else `lines`. NaN, which JSON does not have, becomes null.

    One line per object, so that a program can read the output of a command that goes on (`watch`, `explore`) line by line.
    """
    if _as_json:
        sys.stdout.write(to_json(value, inf_nan_mode="null").decode() + "\n")
        sys.stdout.flush()
        return
    for line in lines:
        _out.print(line, soft_wrap=isinstance(line, str | Text))


def width() -> int:
    """Characters of a line of this terminal; 80 where there is none."""
    return _out.width


def verdict_text(decision: str | None) -> Text:
    return Text(decision or "-", style=COLOURS.get(decision or "", ""))


def show_error(error: SkillstackError) -> None:
    if _as_json:
        print_answer({"error": {"where": error.where, "what": error.what, "way_out": error.way_out}}, ())
    else:
        PlainConsole(stderr=True).print(Text("error: ", style="bold red") + Text(str(error)), soft_wrap=True)


def show_files(paths: Sequence[Path]) -> None:
    lines = [f"wrote {path}" for path in paths]
    print_answer({"written": paths}, [*lines, "next: skillstack doctor, then skillstack round DROP --skill NAME"])


def show_diagnoses(diagnoses: Sequence[Diagnosis]) -> None:
    good, warned, wrong = Text("ok    ", style="green"), Text("look  ", style="yellow"), Text("wrong ", style="bold red")
    marks = ((warned if each.detail.startswith("warning: ") else good) if each.ok else wrong for each in diagnoses)
    lines = (mark + Text(f"{each.check}: {each.detail}") for mark, each in zip(marks, diagnoses, strict=True))
    print_answer({"ok": all(each.ok for each in diagnoses), "checks": diagnoses}, lines)


def show_validation(result: Validation) -> None:
    print_answer(result, _validation_lines(result))


def _validation_lines(result: Validation) -> Iterator[Line]:
    if result.report:
        yield report_table(result.report)
    elif result.error is not None:  # a file that could not be read at all
        yield Text("refused  ", style="bold red") + Text(result.error)
    yield from (f"before training: {note}" for note in result.notes)
    yield f"kept in {result.folder}" if result.folder is not None else "add --out FOLDER to keep report.html and every refused row"


def show_settings(settings: Sequence[Setting]) -> None:
    lines = (Text.assemble((each.key, "bold"), f"  {each.kind}; default {each.default}\n    {each.about}") for each in settings)
    print_answer(settings, lines)


def show_conversion(conversion: Conversion) -> None:
    lines = [f"{rows:,} rows: each {shape}" for shape, rows in conversion.shapes.items()]
    lines += [
        f"{rows:,} rows: {name} left out, which says something about a row and is no part of it"
        for name, rows in conversion.left_out.items()
    ]
    lines += [f"wrote {conversion.out}, {conversion.rows:,} rows; next: skillstack validate {conversion.out} --skill NAME"]
    print_answer(conversion, lines)


def show_outcome(outcome: RoundOutcome) -> None:
    print_answer(outcome, _outcome_lines(outcome))


def _outcome_lines(outcome: RoundOutcome) -> Iterator[Line]:
    table = Table(
        "suite", "category", "items", "champion", "candidate", "change", title=f"round {outcome.round}: {outcome.skill} by {outcome.method}"
    )
    for suite in outcome.suites:
        change = change_text(suite.after - suite.before, suite.category)
        row = (score_text(suite.before, suite.category), score_text(suite.after, suite.category), change)
        table.add_row(suite.suite, suite.category, str(suite.n), *row, style="red" if suite.suite in outcome.lost else None)
    yield table
    yield verdict_text(outcome.decision.value)
    yield from outcome.reasons
    if outcome.since:
        yield f"since then {outcome.since}"
    if outcome.next:
        yield "What to try next:"
    yield from (f"{number}. {step}" for number, step in enumerate(outcome.next, 1))
    yield f"version {outcome.version}; champion is version {outcome.champion}"
    yield f"report: {outcome.report}"


def show_history(records: Sequence[RoundRecord]) -> None:
    print_answer({"rounds": records}, _history_lines(records))


def _history_lines(records: Sequence[RoundRecord]) -> Iterator[Line]:
    """A table for a terminal of 80 columns, and below it the reasons, which need more room."""
    retried = any(record.attempt > 1 for record in records)
    table = Table(caption="* the champion" if any(record.champion for record in records) else None)
    for name, fixed in (("round", True), ("skill", False), ("version", True), ("verdict", True), ("event", False), ("by", False)):
        table.add_column(name, no_wrap=fixed, overflow="fold")
        if name == "round" and retried:
            table.add_column("attempt", no_wrap=True)
    table.add_column("date (UTC)", no_wrap=True)
    for record in records:
        version = "-" if record.version is None else f"{record.version}{' *' * record.champion}"
        date = f"{record.when:%Y-%m-%d}" if record.when else "-"
        number = (str(record.round), *([str(record.attempt)] * retried))
        named = (*number, record.skill or "base", version)
        table.add_row(*named, verdict_text(record.decision), record.event or record.status, record.who or "-", date)
    yield table
    for record in records:
        if record.why:
            attempt = f", attempt {record.attempt}" if record.attempt > 1 else ""
            yield f"round {record.round}{attempt}, {record.skill or 'base'}: {record.why}"


def show_ledger_entry(entry: LedgerEntry) -> None:
    """What was decided, by whom and why, and which version is champion after it."""
    from flows.lineage.registry.history import actor_of

    until = f" until {entry.expires:%Y-%m-%d %H:%M} UTC" if entry.expires else ""
    champion = f"version {entry.champion} is champion" if entry.champion else "there is no champion"
    before = f" (before: version {entry.previous})" if entry.previous not in (None, entry.champion) else ""
    print_answer(entry, [f"{entry.action}: version {entry.version} by {actor_of(entry)}{until}: {entry.reason}; {champion}{before}"])


def show_replay(result: Replay) -> None:
    different = f"DIFFERENT: {result.recomputed_sha256[:12]} instead of {result.stored_sha256[:12]}"
    outcome = "the same, byte for byte" if result.equal else different
    outcome = "DIFFERENT: the answers stored with it are not those of the items" if result.answers is False else outcome
    line = f"round {result.round}, attempt {result.attempt}: {result.decision}, {outcome}"
    print_answer(result.model_dump() | {"equal": result.equal}, [line])


def show_plan(plan: RoundPlan) -> None:
    print_answer(plan, [_plan_table(plan), plan.sentence()])


def show_drop_plan(plan: DropPlan) -> None:
    """The drop's own round, and the round after it, in which its held-out rows are a suite of an earlier skill."""
    lines: list[Line] = [f"{plan.skill}: {plan.heldout:,} held-out rows"]
    if plan.coming is not None:
        lines += ["", "This round:", _plan_table(plan.coming), plan.coming.sentence()]
    lines += ["", f"Later rounds, with {plan.skill} among the skills:", _plan_table(plan.later), plan.later.sentence(), ""]
    print_answer(plan, [*lines, *(f"before training: {note}" for note in plan.notes)])


def _plan_table(plan: RoundPlan) -> Table:
    table = Table(
        "subject", "suites", "items", "margin", "detectable loss", "chance shown", "items needed",
        title="in points; items are per suite, at the first look → at the second",
    )  # fmt: skip
    for each in plan.categories:
        two = each.second_look_items > each.items
        items = f"{each.items:,} → {each.second_look_items:,}" if two else f"{each.items:,}"
        chance = f"{each.chance_first:.0%} → {each.chance_shown:.0%}" if two else f"{each.chance_shown:.0%}"
        numbers = (percent(each.margin), percent(each.minimum_detectable_effect), chance, f"{each.items_needed:,}")
        table.add_row(each.subject, str(each.suites), items, *numbers)
    return table


def show_demo(result: DemoResult) -> None:
    print_answer(result, _demo_lines(result))


def _demo_lines(result: DemoResult) -> Iterator[Line]:
    """Rounds are columns, so that the table fits a narrow terminal however many skills there are."""
    table = Table("", *(f"round {row.round}\n{row.skill}" for row in result.rows), title="before → after each round, in %")
    table.add_row("method", *(row.method for row in result.rows))
    table.add_row("learned", *(row.learned for row in result.rows), style="bold", end_section=True)
    for name in result.suites:
        cells = [Text(row.changes.get(name, ""), style="red" if name in row.lost else "") for row in result.rows]
        table.add_row(name, *cells)
    table.add_section()
    table.add_row("verdict", *(verdict_text(row.decision.value) for row in result.rows))
    yield table
    yield from (f"round {row.round}, {row.skill} by {row.method}: {row.reason}" for row in result.rows)
    yield f"\nreport of all rounds: {result.report}"
    yield from (Text(f"{title}: ") + Text(command, style="bold") for title, command in result.commands.items())
