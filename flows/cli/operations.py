"""The commands of daily operation: watch, sweep, reevaluate, report, export. cli.py adds them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from data_contracts.errors import ConfigError
from evals.report.scores import score_text
from flows.cli import console
from flows.cli.options import AsJson, ConfigFile, print_answer, read_config

if TYPE_CHECKING:
    from flows.inbox.watch import Watched


def watch(
    once: Annotated[bool, typer.Option("--once", help="Look twice, start what is whole, and stop.")] = False,
    every: Annotated[float, typer.Option(help="Seconds between two looks.", min=1.0)] = 60.0,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Start a round for every new file in the inbox. A file that is still being written is not taken."""
    settings = read_config(config, as_json)
    from flows.inbox.watch import watch as watch_inbox

    while True:
        result = watch_inbox(settings, None if once else 0.0)
        if once or result.started or result.refused:
            print_answer(as_json, result.model_dump(mode="json"), _watched_lines(result))
        if once:
            raise typer.Exit(1 if result.refused or any(entry.outcome == "failed" for entry in result.started) else 0)
        time.sleep(every)


def _watched_lines(result: Watched) -> Iterable[str]:
    yield from (f"{entry.name}: {entry.skill}: {entry.outcome}: {entry.detail}" for entry in result.started)
    yield from (f"{name}: waits until it is whole" for name in result.waiting)
    yield from (f"{refused.name}: refused: {refused.error}" for refused in result.refused)
    if result.busy:
        yield "another look into this inbox is under way, which sees the same files"
    elif not (result.started or result.waiting or result.refused):
        yield "nothing new"


def sweep(
    drop: Annotated[str, typer.Argument(help="JSONL file of new training data, or a URL under one of inbox.allowed_roots.")],
    skill: Annotated[str, typer.Option(help="Name of the skill the drop teaches.")],
    ratios: Annotated[str, typer.Option(help="START:LAST:STEP, a list, or `none`: scales of the round's own update.")] = "0.10:0.40:0.05",
    scales: Annotated[str, typer.Option(help="START:STOP:STEP or a list: shares of each update; cost evaluation only.")] = "1",
    heldout: Annotated[str | None, typer.Option(help="Supplied held-out items instead of rows carved from the drop.")] = None,
    judge: Annotated[bool, typer.Option(help="Have the gate judge the chosen point, as a round.")] = True,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Try several ratios and scales on one decomposition, choose on a tuning split, and let the gate judge the choice once."""
    settings = read_config(config, as_json)
    from flows.config.parameters import check_skill
    from flows.sweep.flow import sweep as run
    from flows.sweep.flow import sweep_lines
    from flows.workspace.drop_address import typed_address

    tried = () if ratios == "none" else parse_range("--ratios", ratios)
    items = typed_address(heldout) if heldout else None
    result = run(typed_address(drop), check_skill(skill), settings, tried, parse_range("--scales", scales), items, judge)
    print_answer(as_json, result.model_dump(mode="json"), sweep_lines(result.skill, result.points, result.choice, result.notes))
    if result.outcome is not None:
        if not as_json:
            console.show_outcome(result.outcome)
        raise typer.Exit(result.outcome.exit_code)


def parse_range(option: str, text: str) -> tuple[float, ...]:
    """`0.1:0.4:0.05` (both ends included) or `0.1,0.2`. Raises ConfigError for anything else, and for values outside (0, 1]."""
    way_out = "write 0.10:0.40:0.05 (start, last, step) or 0.1,0.2"
    try:
        if ":" in text:
            start, last, step = (float(part) for part in text.split(":"))
            if not step > 0.0 or not last >= start or (last - start) / step > 1000:
                raise ConfigError(option, f"{text} is no rising range", way_out)
            values = [round(start + index * step, 6) for index in range(int((last - start) / step + 1e-6) + 1)]
        else:
            values = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(option, f"{text!r} holds something that is no number", way_out) from error
    if not all(0.0 < value <= 1.0 for value in values):
        raise ConfigError(option, f"{text} has values outside (0, 1]", way_out)
    return tuple(dict.fromkeys(values))


def reevaluate(
    suites: Annotated[
        list[str] | None, typer.Option("--suites", help="Suite file, set or lm-eval task besides the config's; repeat it.")
    ] = None,
    versions: Annotated[list[int] | None, typer.Option("--versions", help="Only these versions; repeat it.")] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Run suites over old versions, so that the matrix of the audit has no hole."""
    settings = read_config(config, as_json)
    from flows.review.reevaluate import reevaluate as run

    result = run(settings, tuple(suites or ()), tuple(versions or ()))
    table = Table("version", "round", *result.suites, "note", title="scores in % (drift: bits per byte)")
    for each in result.versions:
        cells = [score_text(each.scores.get(name), category) for name, category in zip(result.suites, result.categories, strict=True)]
        table.add_row(
            str(each.version), f"{each.round} {each.skill or 'base'}", *cells, each.note or ("known" if each.reused else "measured")
        )
    print_answer(as_json, result.model_dump(mode="json"), [table])


def report(
    month: Annotated[str, typer.Option(help="As 2026-11; default: this month.")] = "", config: ConfigFile = None, as_json: AsJson = False
) -> None:
    """The month's report: what each round cost, what was decided and by whom, and whether every file is still there."""
    settings = read_config(config, as_json)
    from flows.config.parameters import check_month
    from flows.review.monthly import monthly_audit

    result = monthly_audit(settings, check_month(month))
    lines = [result.summary.read_text(encoding="utf-8"), f"page: {result.page}"]
    print_answer(as_json, result.model_dump(mode="json"), lines)
    raise typer.Exit(0 if result.verification.ok else 1)


def export(
    version: Annotated[int, typer.Argument(help="Version in the registry.")],
    folder: Annotated[Path, typer.Argument(help="New folder.")],
    form: Annotated[str, typer.Option("--as", help="dense (a model folder) or lora (the update as an adapter on its parent).")] = "dense",
    energy: Annotated[float, typer.Option(help="lora: share of each layer's squared update to keep.", min=0.01, max=1.0)] = 1.0,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Write a version for another runtime, verified first."""
    if form not in ("dense", "lora"):
        raise ConfigError("--as", f"is {form!r}", "dense or lora")
    settings = read_config(config, as_json)
    from flows.review.export import export_version

    result = export_version(settings, version, "lora" if form == "lora" else "dense", folder, energy)
    line = f"version {version} is in {result.folder}"
    if result.base is not None:
        low, high = min(result.ranks.values()), max(result.ranks.values())
        line += f", an adapter for {result.base} (ranks {low} to {high}; left out: {result.relative_error:.2g})"
    print_answer(as_json, result.model_dump(mode="json"), [line])


COMMANDS: tuple[Callable[..., None], ...] = (watch, sweep, reevaluate, report, export)


def add_operation_commands(app: typer.Typer) -> None:
    for command in COMMANDS:
        app.command()(command)
