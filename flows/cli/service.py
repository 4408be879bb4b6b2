"""The commands of the operated service: deploy, announce. cli.py adds them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import AsJson, ConfigFile, print_answer, read_config


def deploy(
    file: Annotated[Path | None, typer.Option("--file", help="Deployments of your own; default: those of this release.")] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Put pools, limits, deployments, schedules and automations on the Prefect server that PREFECT_API_URL names."""
    settings = read_config(config, as_json)
    from flows.service.deployments import WEBHOOK, deploy

    done = deploy(settings, config, file)
    lines = [
        f"on {done.server}:",
        f"  pools {', '.join(done.pools)}; limit {done.limit or 'none'}",
        f"  deployments {', '.join(done.deployments)}",
    ]
    lines.append(f"  automations {', '.join(done.automations)}" + ("" if done.webhook else f" (set {WEBHOOK} for messages to people)"))
    if not settings.inbox.deployment:
        lines.append("  set inbox.deployment: continual-round/round, or the watcher runs the rounds itself, without the GPU's slot")
    lines += [f"next, where the GPU is: prefect worker start --type process --pool {name}" for name in done.pools]
    print_answer(as_json, done.model_dump(mode="json"), lines)


def announce(
    drop: Annotated[Path, typer.Argument(help="JSONL file of new training data, at a path that the workers can read.")],
    skill: Annotated[str, typer.Option(help="Name of the skill the drop teaches.")],
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Validate a drop and, where it keeps its contract, tell the server, which starts its round. Exit 1 where it is refused."""
    settings = read_config(config, as_json)
    from data_contracts.digests import file_digest
    from flows.cli.validation import check_drop
    from flows.service.deployments import server_address
    from flows.workspace.server import announce_drop

    server_address()
    result = check_drop(settings, drop, skill, None, None)
    if result.accepted:
        announce_drop(drop.absolute(), skill, file_digest(drop))
    line = f"announced {drop}" if result.accepted else f"refused: {result.error}"
    print_answer(as_json, {"announced": result.accepted, "error": result.error, "drop": str(drop.absolute()), "skill": skill}, [line])
    raise typer.Exit(0 if result.accepted else 1)


COMMANDS: tuple[Callable[..., None], ...] = (deploy, announce)


def add_deploy_commands(app: typer.Typer) -> None:
    for command in COMMANDS:
        app.command()(command)
