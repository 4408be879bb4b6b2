"""What the commands share: the options that every one takes, its config, and its answer for a person or a machine."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from data_contracts.digests import canonical_json
from data_contracts.terminal import PlainConsole
from flows.cli import console
from flows.config.model import SkillstackConfig, load_config
from flows.machine.environment import prepare_environment

ConfigFile = Annotated[
    Path | None, typer.Option("--config", "-c", help="Config file; default: skillstack.yaml here, else the built-in defaults.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


def read_config(path: Path | None, as_json: bool, *, writes: bool = True) -> SkillstackConfig:
    """Load the config and set the environment that Prefect and MLflow read when they are imported."""
    console.choose(as_json)  # first, so that a wrong config is told in the form that was asked for
    config = load_config(path)
    prepare_environment(config.state_dir, writes=writes)
    return config


def print_answer(as_json: bool, value: dict[str, Any], lines: Iterable[str | Table]) -> None:
    """The JSON object, or the same for a person."""
    if as_json:
        sys.stdout.write(canonical_json(value) + "\n")
        return
    for line in lines:
        PlainConsole().print(line, soft_wrap=True)
