"""Commands of an auditor: what each round cost the earlier skills, and what differs between two rounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from data_contracts.errors import ConfigError
from evals.report.scores import change_text, percent, score_text
from flows.cli.console import COLOURS, Line, print_answer, width
from flows.cli.options import AsJson, ConfigFile, read_config

if TYPE_CHECKING:
    from evals.audit.forgetting import AuditRound, ForgettingAudit
    from flows.review.audit import AuditResult
    from flows.review.diff import Difference, RoundDiff

_COLUMN = 8
"""Width of a column of scores, `100.0` with its frame."""


def audit(
    checkpoints: Annotated[
        list[str] | None,
        typer.Option("--checkpoints", help="Audit these models (folders or ids, oldest first) instead of the lineage."),
    ] = None,
    suites: Annotated[
        list[str] | None,
        typer.Option(
            "--suites", help="Suites of the config by name, suite files or sets, for --checkpoints; default: all of the config's."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File for the HTML report.")] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Report how much each round made the model forget, over the lineage or any list of checkpoints."""
    settings = read_config(config, as_json)
    from flows.review.audit import audit_checkpoints, audit_lineage

    if suites and not checkpoints:
        raise ConfigError("--suites", "needs --checkpoints", "give both; without them the lineage is audited on the suites of its rounds")
    result = audit_checkpoints(settings, checkpoints, suites or (), out) if checkpoints else audit_lineage(settings, out)
    print_answer(result.audit.model_dump(mode="json") | {"report": result.report}, audit_lines(result, width()))


def audit_lines(result: AuditResult, columns: int) -> Iterator[Line]:
    """The scores as a table that fits `columns` characters, the rounds by number, the summaries, and what could not be compared."""
    audit = result.audit
    shown = _shown_rows(audit, columns)
    yield _score_table(audit, shown)
    if hidden := [key for row, key in enumerate(round_keys(audit.rounds)) if row not in shown]:
        yield Text(f"not shown for lack of width: rounds {', '.join(hidden)}; all are in the report", style="yellow")
    for key, entry in zip(round_keys(audit.rounds), audit.rounds, strict=True):
        yield Text.assemble(f"{key}  {entry.label}: ", (_fate(entry), COLOURS.get(entry.decision.value, "") if entry.decision else ""))
    for name, estimate in audit.transfer:
        if isinstance(estimate, float):
            yield f"{name.replace('_', ' ')}: {percent(estimate)}"
        elif estimate is not None:
            interval = f"{percent(estimate.low)} to {percent(estimate.high)}"
            yield f"{name.replace('_', ' ')}: {percent(estimate.value)} ({audit.interval}: {interval})"
    yield from (Text(gap, style="yellow") for gap in audit.gaps)
    yield f"report: {result.report}"


def round_keys(rounds: Sequence[AuditRound]) -> list[str]:
    """`2` for a round's first attempt, `2.3` for the third one."""
    return [f"{each.number}.{each.attempts}" if each.attempts > 1 else str(each.number) for each in rounds]


def _fate(entry: AuditRound) -> str:
    """The verdict, and what became of the version where the verdict does not say it."""
    said = entry.decision.value if entry.decision else "not judged"
    if entry.rolled_back:
        return f"{said}, rolled back"
    if entry.decision is not None and not entry.in_lineage:
        return f"{said}, not promoted"
    return f"{said}, promoted by a person" if entry.approved and entry.decision and entry.decision.value != "PASS" else said


def _shown_rows(audit: ForgettingAudit, columns: int) -> list[int]:
    """The rounds that fit: the base and the newest ones."""
    names = max((len(suite.name) for suite in audit.suites if not suite.sealed), default=5)
    room = max(2, (columns - min(names, _NAME) - 4) // _COLUMN)
    rows = list(range(len(audit.rounds)))
    return rows if len(rows) <= room else [0, *rows[-(room - 1) :]]


_NAME = 24


def _score_table(audit: ForgettingAudit, rows: Sequence[int]) -> Table:
    """Suites as rows and rounds as columns: a lineage has more suites than a terminal has columns."""
    keys = round_keys(audit.rounds)
    table = Table(title="scores after each round, in % (drift: bits per byte)")
    table.add_column("suite", overflow="fold", max_width=_NAME)
    for row in rows:
        table.add_column(keys[row], justify="right", no_wrap=True, min_width=_COLUMN - 3)
    for index, suite in enumerate(audit.suites):
        if not suite.sealed:
            table.add_row(suite.name, *(score_text(audit.matrix[row][index], suite.category) for row in rows))
    return table


Round = Annotated[str, typer.Argument(metavar="ROUND", help="Number of a round, such as 3, or 3.2 for its second attempt.")]


def diff(one: Round, other: Round, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Compare two rounds: data, settings, code, scores, and weights by layer. Loads no model."""
    settings = read_config(config, as_json)
    from flows.review.diff import diff_rounds
    from flows.workspace.workspace import open_workspace

    found = diff_rounds(open_workspace(settings), one, other)
    print_answer(found, diff_lines(found))


def diff_lines(found: RoundDiff) -> Iterator[Line]:
    """A table of the values that differ, the scores, and the tensors that moved most."""
    names = [f"round {each.round}" + (f".{each.attempt}" if each.attempt > 1 else "") for each in (found.one, found.other)]
    table = Table("", *names, title="what differs")
    for column in table.columns:
        column.overflow = "fold"
    facts = [
        (record.skill or "base", record.method or "-", str(record.version), record.decision or "-") for record in (found.one, found.other)
    ]
    for name, *values in zip(("skill", "method", "version", "verdict"), *facts, strict=True):
        table.add_row(name, *values)
    for section in ("data", "config", "code"):
        table.add_section()
        differences: Sequence[Difference] = getattr(found, section)
        for each in differences:
            table.add_row(each.name, _short(each.one), _short(each.other))
        table.add_row(f"{section}: {found.same[section]} the same", "", "", style="dim")
    yield table
    if found.scores:
        yield _scores_of(found, names)
    yield from _weight_lines(found)
    yield from (Text(note, style="yellow") for note in found.notes)


def _short(value: str | None) -> str:
    """A value in a cell: a digest in its first 12 digits."""
    if value is None:
        return "-"
    return value[:12] if len(value) == 64 and value.isalnum() else value


def _scores_of(found: RoundDiff, names: Sequence[str]) -> Table:
    table = Table("suite", *names, "change", "worse", "better", title="scores in % (drift: bits per byte)")
    for each in found.scores:
        scores = [score_text(value, each.category) for value in (each.one, each.other)]
        if each.change is None:
            table.add_row(each.suite, *scores, "-", "-", "-")
            continue
        clear = each.change.low > 0.0 or each.change.high < 0.0
        change = f"{change_text(each.change.value, each.category).split()[0]}{' *' * clear}"
        table.add_row(each.suite, *scores, change, str(each.worse), str(each.better))
    table.caption = "* more than noise explains: the 90 % interval of the paired change excludes 0"
    return table


_LAYERS = 12


def _weight_lines(found: RoundDiff) -> Iterator[Line]:
    moved = [each for each in found.weights if each.relative_change > 0.0]
    if not found.weights:
        return
    table = Table("layer", "change", "free directions", title="weights: norm of the difference over that of the first, in %")
    table.columns[0].overflow = "fold"
    for each in moved[:_LAYERS]:
        free = " → ".join("-" if count is None else str(count) for count in each.free)
        table.add_row(each.layer, percent(each.relative_change), "-" if each.free == (None, None) else free)
    yield table
    more = f"{len(moved) - _LAYERS} more moved less than these; " if len(moved) > _LAYERS else ""
    yield f"{more}{len(found.weights) - len(moved)} of {len(found.weights)} tensors are the same in both"


COMMANDS: tuple[Callable[..., None], ...] = (audit, diff)


def add_audit_commands(app: typer.Typer) -> None:
    for command in COMMANDS:
        app.command()(command)
