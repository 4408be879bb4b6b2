"""Commands of daily operation: watch, sweep, estimate, items, reevaluate, report, export."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from data_contracts.errors import ConfigError, DropError
from evals.numbers import plain
from evals.report.scores import score_text
from flows.cli.console import print_answer, show_outcome
from flows.cli.options import AsJson, ConfigFile, read_config

if TYPE_CHECKING:
    from flows.inbox.watch import Watched


def watch(
    once: Annotated[bool, typer.Option("--once", help="Check twice, start rounds for complete files, and stop.")] = False,
    every: Annotated[float, typer.Option(help="Seconds between two checks.", min=1.0)] = 60.0,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Start a round for every new file in the inbox. Files that are still being written are left for later."""
    settings = read_config(config, as_json)
    from flows.inbox.watch import watch as watch_inbox

    while True:
        result = watch_inbox(settings, None if once else 0.0)
        if once or result.started or result.refused:
            print_answer(result, _watched_lines(result))
        if once:
            raise typer.Exit(1 if result.refused or any(entry.outcome == "failed" for entry in result.started) else 0)
        time.sleep(every)


def _watched_lines(result: Watched) -> Iterable[str]:
    yield from (f"{entry.name}: {entry.skill}: {entry.outcome}: {entry.detail}" for entry in result.started)
    yield from (f"{name}: is still being written" for name in result.waiting)
    yield from (f"{refused.name}: refused: {refused.error}" for refused in result.refused)
    if result.busy:
        yield "another process is checking this inbox now"
    elif not (result.started or result.waiting or result.refused):
        yield "no new file"


def sweep(
    drop: Annotated[str, typer.Argument(help="JSONL file of new training data, or a URL under one of inbox.allowed_roots.")],
    skill: Annotated[str, typer.Option(help="Name of the skill that the drop teaches.")],
    rates: Annotated[str, typer.Option(help="A list such as 3e-4,1e-3: train.learning_rate of each training; default: the config's.")] = "",
    passes: Annotated[str, typer.Option(help="A list such as 4,12: train.num_epochs of each training; default: the config's.")] = "",
    ratios: Annotated[
        str,
        typer.Option(
            help="START:LAST:STEP, a list, or `none` to vary only --scales; default: 0.10:0.40:0.05, or the config's beside --rates."
        ),
    ] = "",
    scales: Annotated[str, typer.Option(help="START:LAST:STEP or a list: factors of each trained update; no training.")] = "1",
    heldout: Annotated[str | None, typer.Option(help="File of held-out items; default: a share of the drop's own rows.")] = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="The skill was promoted before, and is taught again.")] = False,
    judge: Annotated[bool, typer.Option(help="Run the chosen point as a round, decided by the gate.")] = True,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Try several rates, passes, ratios and scales, choose one on a tuning split, and run it as a round. Exit code 2 if none can be."""
    settings = read_config(config, as_json)
    from flows.config.parameters import check_skill
    from flows.sweep.flow import sweep as run
    from flows.sweep.flow import sweep_lines
    from flows.workspace.drop_address import naming_as_typed, typed_address

    by_rate, by_passes = parse_list("--rates", rates), tuple(int(each) for each in parse_list("--passes", passes, whole=True))
    shares = ratios or ("none" if by_rate or by_passes else "0.10:0.40:0.05")
    tried = () if shares == "none" else parse_range("--ratios", shares)
    items = typed_address(heldout) if heldout else None
    with naming_as_typed(drop, heldout):
        address, points = typed_address(drop), parse_range("--scales", scales)
        result = run(address, check_skill(skill), settings, tried, points, items, judge, by_rate, by_passes, refresh)
    print_answer(result, sweep_lines(result.skill, result.points, result.choice, result.notes))
    if result.outcome is not None:
        if not as_json:
            show_outcome(result.outcome)
        raise typer.Exit(result.outcome.exit_code)
    raise typer.Exit(0 if result.choice.point else 2)


def parse_list(option: str, text: str, *, whole: bool = False) -> tuple[float, ...]:
    """`3e-4,1e-3`, empty for nothing. Raises ConfigError for what is no positive number, or no whole one where it has to be."""
    try:
        values = [float(part) for part in text.split(",")] if text else []
    except ValueError as error:
        raise ConfigError(option, f"{text!r} contains something that is not a number", "write a list: 3e-4,1e-3") from error
    for value in values:
        if not 0.0 < value < 1e9 or (whole and value != int(value)):
            raise ConfigError(option, f"{plain(value)} cannot be", f"give positive {'whole ' if whole else ''}numbers")
    return tuple(dict.fromkeys(values))


def parse_range(option: str, text: str) -> tuple[float, ...]:
    """`0.1:0.4:0.05` (both ends included) or `0.1,0.2`. Raises ConfigError for anything else, and for values outside (0, 1]."""
    way_out = "write 0.10:0.40:0.05 (start, last, step) or 0.1,0.2"
    try:
        if ":" in text:
            start, last, step = (float(part) for part in text.split(":"))
            if not step > 0.0 or not last >= start or (last - start) / step > 1000:
                raise ConfigError(option, f"{text} is not an increasing range", way_out)
            values = [round(start + index * step, 6) for index in range(int((last - start) / step + 1e-6) + 1)]
        else:
            values = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(option, f"{text!r} contains something that is not a number", way_out) from error
    if not all(0.0 < value <= 1.0 for value in values):
        raise ConfigError(option, f"{text} has values outside (0, 1]", way_out)
    return tuple(dict.fromkeys(values))


def estimate(
    drop: Annotated[Path, typer.Argument(help="JSONL file of new training data.")],
    skill: Annotated[str, typer.Option(help="Name of the skill that the drop teaches.")],
    heldout: Annotated[Path | None, typer.Option(help="File of held-out items; default: a share of the drop's own rows.")] = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="The skill was promoted before, and is taught again.")] = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Estimate time, memory and disk of a round on this machine, from a training of a few steps and a few items of each suite."""
    settings = read_config(config, as_json)
    from tempfile import TemporaryDirectory

    from flows.cli.validation import check_drop, model_folder
    from flows.review.estimate import estimate_round

    with TemporaryDirectory(prefix="skillstack-") as folder:
        checked = check_drop(settings, drop, skill, heldout, Path(folder) / "drop", refresh=refresh)
        if not checked.accepted:
            raise DropError(str(drop), f"cannot be used: {checked.error}", "see `skillstack validate`")
        result = estimate_round(settings, model_folder(settings), Path(folder) / "drop")
    print_answer(result, result.lines())


def items(
    file: Annotated[Path, typer.Argument(help="JSONL file of held-out items.")],
    skill: Annotated[str, typer.Option(help="A skill that was learned already.")],
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Add held-out items to a learned skill, without those that a training row gives away."""
    settings = read_config(config, as_json)
    from flows.text.added_items import add_items
    from flows.workspace.workspace import champion_chain, open_workspace

    target = (config.parent if config else Path()).absolute() / "suites" / f"{skill}.more.jsonl"
    result = add_items(settings, file, skill, champion_chain(open_workspace(settings)), target)
    lines = [f"left out, {reason}" for reason in result.left_out]
    lines.append(f"{result.taken} of {result.given} items added: {result.file} has {result.items}")
    if result.config and result.items:
        lines.append(f"write this into skillstack.yaml, or no round measures them: {result.config}")
    print_answer(result, lines)
    raise typer.Exit(0 if result.taken or not result.given else 1)


def reevaluate(
    suites: Annotated[
        list[str] | None, typer.Option("--suites", help="Suite file, set or lm-eval task in addition to the config's.")
    ] = None,
    versions: Annotated[list[int] | None, typer.Option("--versions", help="Only these versions; default: all.")] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate old versions on new suites, so that the audit's matrix is complete."""
    settings = read_config(config, as_json)
    from flows.review.reevaluate import reevaluate as run

    result = run(settings, tuple(suites or ()), tuple(versions or ()))
    table = Table("version", "round", *result.suites, "note", title="scores in % (drift: bits per byte)")
    for each in result.versions:
        cells = [score_text(each.scores.get(name), category) for name, category in zip(result.suites, result.categories, strict=True)]
        table.add_row(
            str(each.version), f"{each.round} {each.skill or 'base'}", *cells, each.note or ("from cache" if each.reused else "evaluated")
        )
    print_answer(result, [table])


def report(
    month: Annotated[str, typer.Option(help="Such as 2026-11, or previous; default: this month.")] = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Write the monthly report: forgetting per round, decisions and who made them, and whether all files are intact."""
    settings = read_config(config, as_json)
    from flows.config.parameters import check_month
    from flows.review.monthly import monthly_audit

    result = monthly_audit(settings, check_month(month))
    lines = [result.summary.read_text(encoding="utf-8"), f"page: {result.page}"]
    print_answer(result, lines)
    raise typer.Exit(0 if result.verification.ok else 1)


def export(
    version: Annotated[int, typer.Argument(help="Version in the registry.")],
    folder: Annotated[Path, typer.Argument(help="New folder.")],
    form: Annotated[
        Literal["dense", "lora"], typer.Option("--as", help="dense: a model folder; lora: its updates as an adapter.")
    ] = "dense",
    energy: Annotated[
        float,
        typer.Option(help="With lora: share of the squared singular values to keep per layer.", min=0.01, max=1.0),
    ] = 1.0,
    since: Annotated[
        Literal["base", "parent"],
        typer.Option(help="With lora: every round since the base model, or this round alone, for its parent version."),
    ] = "base",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Verify a version and write it for another runtime."""
    settings = read_config(config, as_json)
    from flows.review.export import export_version

    result = export_version(settings, version, form, folder, energy, since)
    line = f"version {version} is in {result.folder}"
    if result.base is not None:
        low, high = min(result.ranks.values()), max(result.ranks.values())
        line += f", an adapter for {result.base} (ranks {low} to {high}; relative error {plain(result.relative_error or 0.0, 2)})"
    print_answer(result, [line])


COMMANDS: tuple[Callable[..., None], ...] = (watch, sweep, estimate, items, reevaluate, report, export)


def add_operation_commands(app: typer.Typer) -> None:
    for command in COMMANDS:
        app.command()(command)
