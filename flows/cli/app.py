"""The command line. Each command reads the config, calls one function of the packages, and prints what it returned.

Exit codes: 0 pass, 2 blocked, 3 inconclusive, 1 any error. With --json the answer is one JSON object on stdout and nothing else.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from data_contracts.errors import ConfigError
from data_contracts.logs.lines import FORMAT, start
from flows.cli import console
from flows.cli.audit import add_audit_commands
from flows.cli.errors import leave, run
from flows.cli.explore import add_explore_command
from flows.cli.lineage import Actor, acting, add_lineage_commands
from flows.cli.operations import add_operation_commands
from flows.cli.options import AsJson, ConfigFile, read_config
from flows.cli.service import add_deploy_commands
from flows.machine.environment import prepare_environment


def show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"skillstack {importlib.metadata.version('skillstack')}")
        raise typer.Exit


app = typer.Typer(name="skillstack", no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)  # fmt: skip


@app.callback()
def skillstack(
    version: Annotated[bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version and stop.")] = False,
    log_format: Annotated[
        Literal["text", "json"],
        typer.Option(envvar=FORMAT, help="Form of what goes to stderr; json: one object per line, no progress bars."),
    ] = "text",
) -> None:
    """Add one skill to a language model each month without losing the ones before, and prove it."""
    if log_format == "json":
        os.environ[FORMAT] = log_format
        start()


gate_app = typer.Typer(help="Check the gate's past decisions, and plan the next one.", no_args_is_help=True)
app.add_typer(gate_app, name="gate")

Reason = Annotated[str, typer.Option(help="Why; kept in the ledger.")]


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Folder for skillstack.yaml, contract.yaml and suites/.")] = Path(),
    base_model: Annotated[str, typer.Option(help="nano, smollm2, a model folder, or a Hugging Face id; decides the suites.")] = "nano",
    as_json: AsJson = False,
) -> None:
    """Write a config file, a data contract, the suites that the model must keep, and calibration text."""
    from flows.cli.init import write_project

    console.choose(as_json)
    console.show_files(write_project(folder, base_model))


@app.command("config")
def show_config(
    explain: Annotated[str, typer.Option(help="A setting or a section, such as train.num_epochs or gate; default: all.")] = "",
    as_json: AsJson = False,
) -> None:
    """List the settings of skillstack.yaml: type, default and meaning."""
    console.choose(as_json)
    from flows.config.reference import explain as explain_setting
    from flows.config.reference import settings as all_settings

    console.show_settings(explain_setting(explain) if explain else all_settings())


@app.command()
def doctor(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Check whether a round can run on this machine, and say what to do about each problem."""
    settings = read_config(config, as_json, writes=False)
    from flows.service.doctor import diagnose

    diagnoses = diagnose(settings)
    console.show_diagnoses(diagnoses)
    raise typer.Exit(0 if all(diagnosis.ok for diagnosis in diagnoses) else 1)


@app.command()
def validate(
    drop: Annotated[Path, typer.Argument(help="JSONL file of new training data.")],
    skill: Annotated[str, typer.Option(help="Name of the skill that the drop teaches; required unless --convert is given.")] = "",
    out: Annotated[Path | None, typer.Option(help="Write the validated drop to this new folder.")] = None,
    heldout: Annotated[Path | None, typer.Option(help="File of held-out items; default: a share of the drop's own rows.")] = None,
    convert: Annotated[
        Path | None,
        typer.Option(help="Only convert a file of another format (ShareGPT, Alpaca, CSV, Parquet, ...) to this new JSONL file."),
    ] = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="The skill was promoted before, and is taught again.")] = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Check a drop against its data contract, line by line. Trains nothing, registers nothing, downloads nothing."""
    if convert is not None:
        from data_contracts.rows.convert import convert_drop

        console.choose(as_json)
        console.show_conversion(convert_drop(drop, convert))
        raise typer.Exit(0)
    settings = read_config(config, as_json, writes=False)
    if not skill:
        raise ConfigError("--skill", "is missing", "name the skill that the drop teaches")
    from flows.cli.validation import check_drop

    result = check_drop(settings, drop, skill, heldout, out, refresh=refresh)
    console.show_validation(result)
    raise typer.Exit(0 if result.accepted else 1)


@app.command("round")
def run_round(
    drop: Annotated[str, typer.Argument(help="JSONL file of new training data, or a URL under one of inbox.allowed_roots.")],
    skill: Annotated[str, typer.Option(help="Name of the skill that the drop teaches.")],
    heldout: Annotated[str | None, typer.Option(help="File of held-out items; default: a share of the drop's own rows.")] = None,
    scale: Annotated[float, typer.Option(help="Multiply the trained update by this number; trains nothing.", min=0.01, max=1.0)] = 1.0,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Teach a promoted skill again with new rows; what it could do before must be kept.")
    ] = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Run one round: validate, train, evaluate, audit, decide, register. After a crash, the same command continues it."""
    settings = read_config(config, as_json)
    from flows.config.parameters import check_skill
    from flows.round.flow import continual_round
    from flows.workspace.drop_address import naming_as_typed, typed_address

    with naming_as_typed(drop, heldout):
        outcome = continual_round(typed_address(drop), check_skill(skill), settings, heldout and typed_address(heldout), scale, refresh)
    console.show_outcome(outcome)
    raise typer.Exit(outcome.exit_code)


@app.command()
def history(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """List every round with its verdict, version and reason."""
    settings = read_config(config, as_json)
    from flows.lineage import read_history
    from flows.workspace.workspace import open_workspace

    console.show_history(read_history(open_workspace(settings).lineage))


@app.command()
def rollback(
    reason: Reason,
    to: Annotated[int | None, typer.Option(help="Version to return to; default: the previous champion.")] = None,
    actor: Actor = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Verify an earlier champion's files and make it the champion again."""
    settings = read_config(config, as_json)
    from flows.review.decisions import rollback as roll_back
    from flows.workspace.workspace import open_workspace

    console.show_ledger_entry(roll_back(settings, reason, acting(open_workspace(settings).lineage, actor), to))


@gate_app.command("replay")
def gate_replay(
    number: Annotated[int, typer.Argument(metavar="ROUND")],
    attempt: Annotated[int | None, typer.Option(help="Attempt at the round; default: the newest with a verdict.", min=1)] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Recompute a past verdict from the stored items; exit code 1 if it differs by a single byte."""
    settings = read_config(config, as_json)
    from flows.review.replay import replay_round
    from flows.workspace.workspace import open_workspace

    result = replay_round(open_workspace(settings), number, attempt)
    console.show_replay(result)
    raise typer.Exit(0 if result.equal else 1)


@gate_app.command("plan")
def gate_plan(
    drop: Annotated[Path | None, typer.Argument(help="Plan with this drop's own held-out rows too; default: the suites alone.")] = None,
    skill: Annotated[str, typer.Option(help="Name of the skill that the drop teaches; required with DROP.")] = "",
    heldout: Annotated[Path | None, typer.Option(help="File of held-out items; default: a share of the drop's own rows.")] = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="The skill was promoted before, and is taught again.")] = False,
    items: Annotated[int | None, typer.Option(help="Items per suite; default: the number that each suite has.", min=2)] = None,
    churn: Annotated[float | None, typer.Option(help="Share of items that flip by chance; default: measured, else 0.05.")] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Before training: the chance that a round without any loss passes, and how many items each margin needs."""
    settings = read_config(config, as_json, writes=drop is None)
    if drop is not None:
        from flows.cli.validation import plan_drop

        console.show_drop_plan(plan_drop(settings, drop, skill, heldout, items, churn, refresh=refresh))
        return
    if skill or heldout or refresh:
        raise ConfigError("DROP", "is missing", "name the drop to plan with: skillstack gate plan DROP --skill NAME")
    from flows.round.planning import plan_next_round

    console.show_plan(plan_next_round(settings, items, churn))


@app.command()
def demo(
    model: Annotated[str, typer.Option(help="nano (seconds per round) or smollm2 (a real model, minutes per round).")] = "nano",
    folder: Annotated[Path, typer.Option(help="Folder for the demo's drops, models and databases.")] = Path(".skillstack/demo"),
    as_json: AsJson = False,
) -> None:
    """Run four rounds on a small model that is included: three are promoted, the fourth is blocked, with the reasons."""
    console.choose(as_json)
    from flows.demo.story import story_folder

    home = story_folder(model, folder)
    prepare_environment(home / "state")
    from flows.demo.runner import run_demo

    result = run_demo(model, home)
    console.show_demo(result)
    raise typer.Exit(0 if result.as_expected else 1)


add_audit_commands(app)
add_lineage_commands(app)
add_operation_commands(app)
add_deploy_commands(app)
add_explore_command(app)


def main() -> None:
    """Entry point: one line for every expected error, exit code 1 for all of them."""
    leave(lambda: run(app, sys.argv[1:]))


if __name__ == "__main__":
    main()
