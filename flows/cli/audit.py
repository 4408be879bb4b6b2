"""Commands of an auditor: what each round cost the earlier skills."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from data_contracts.errors import ConfigError
from evals.report.scores import percent, score_text
from flows.cli.console import COLOURS, Line, print_answer, width
from flows.cli.options import AsJson, ConfigFile, read_config

if TYPE_CHECKING:
    from evals.audit.forgetting import AuditRound, ForgettingAudit
    from flows.review.audit import AuditResult

_COLUMN = 8
"""Width of a column of scores, `100.0` with its frame."""


def audit(
    checkpoints: Annotated[
        list[str] | None,
        typer.Option("--checkpoints", help="Audit these models (folders or ids, oldest first) instead of the lineage."),
    ] = None,
    suites: Annotated[
        list[str] | None, typer.Option("--suites", help="Suite files or sets for --checkpoints; default: those of the config.")
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
        if estimate is not None:
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


COMMANDS: tuple[Callable[..., None], ...] = (audit,)


def add_audit_commands(app: typer.Typer) -> None:
    for command in COMMANDS:
        app.command()(command)
