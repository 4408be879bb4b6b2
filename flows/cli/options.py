"""What all commands share: the options --config and --json, loading the config, and options with several values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from flows.cli import console
from flows.config.model import SkillstackConfig, load_config
from flows.machine.environment import prepare_environment

ConfigFile = Annotated[
    Path | None, typer.Option("--config", "-c", help="Config file; default: ./skillstack.yaml, else the built-in defaults.")
]
SEVERAL = ("--checkpoints", "--suites", "--versions")
"""Options that take several values: `--checkpoints base ft1 ft2`, or the option repeated."""
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on one line and nothing else.")]


def read_config(path: Path | None, as_json: bool, *, writes: bool = True) -> SkillstackConfig:
    """Load the config and set the environment that Prefect and MLflow read when they are imported."""
    console.choose(as_json)  # first, so that an error in the config is printed in the chosen form
    config = load_config(path)
    prepare_environment(config.state_dir, writes=writes)
    return config


def repeat_options(arguments: Sequence[str], several: Sequence[str] = SEVERAL) -> list[str]:
    """Repeat such an option before each further value, up to the next option: Typer reads lists in that form only."""
    repeated: list[str] = []
    option, values = "", 0
    for argument in arguments:
        if argument.startswith("-"):
            option, values = (argument, 0) if argument in several else ("", 0)
        elif option:
            values += 1
            if values > 1:
                repeated.append(option)
        repeated.append(argument)
    return repeated
