"""Commands of the service: deploy and announce on a Prefect server, metrics for Prometheus, and the file for whoever helps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.console import print_answer
from flows.cli.options import AsJson, ConfigFile, read_config


def deploy(
    file: Annotated[Path | None, typer.Option("--file", help="Your own prefect.yaml; default: the one that is included.")] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Create work pools, limits, deployments, schedules and automations on the Prefect server of PREFECT_API_URL."""
    settings = read_config(config, as_json)
    from flows.service.deployments import WEBHOOK, deploy

    done = deploy(settings, config, file)
    lines = [
        f"on {done.server}:",
        f"  pools {', '.join(done.pools)}; limit {done.limit or 'none'}",
        f"  deployments {', '.join(done.deployments)}",
    ]
    lines.append(f"  automations {', '.join(done.automations)}" + ("" if done.webhook else f" (set {WEBHOOK} to get messages)"))
    if not settings.inbox.deployment:
        lines.append("  set inbox.deployment: continual-round/round; else the watcher runs rounds itself, outside the GPU limit")
    for name in done.pools:
        where = "on the machine with the GPU" if name == settings.service.gpu_pool else "on any machine with the state directory"
        lines.append(f"next, {where}: prefect worker start --type process --pool {name}")
    print_answer(done, lines)


def announce(
    drop: Annotated[Path, typer.Argument(help="JSONL file of new training data, at a path that the workers can read.")],
    skill: Annotated[str, typer.Option(help="Name of the skill that the drop teaches.")],
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Validate a drop and send an event to the server, which starts its round. Exit code 1 if the drop is refused."""
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
    print_answer({"announced": result.accepted, "error": result.error, "drop": drop.absolute(), "skill": skill}, [line])
    raise typer.Exit(0 if result.accepted else 1)


def support_bundle(
    out: Annotated[Path, typer.Argument(help="New file, a .tar.gz.")] = Path("skillstack-support.tar.gz"),
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Pack what somebody who helps needs: versions, config, doctor, last rounds and ledger entries, ends of logs; secrets masked."""
    settings = read_config(config, as_json, writes=False)
    from flows.service.support import write_bundle

    done = write_bundle(settings, out)
    print_answer(done, [f"wrote {done.path}: {len(done.files)} files, {done.masked} secrets masked", "read it before you send it"])


def metrics(
    out: Annotated[
        Path | None, typer.Option(help="Write to this file, NAME.prom in the folder of node_exporter's textfile collector; default: print.")
    ] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Write the lineage as Prometheus metrics: rounds by verdict, last promotion, versions that wait, capacity, the newest round's cost."""
    settings = read_config(config, as_json, writes=False)
    from flows.review.metrics import write_metrics

    done = write_metrics(settings, out)
    print_answer(done, [done.text.rstrip()] if out is None else [f"wrote {out}: {len(done.samples)} numbers"])


COMMANDS: tuple[Callable[..., None], ...] = (deploy, announce, support_bundle, metrics)


def add_deploy_commands(app: typer.Typer) -> None:
    for command in COMMANDS:
        app.command()(command)
