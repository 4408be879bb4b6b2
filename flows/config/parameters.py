"""Types of the flows' parameters, the same for a call in Python, the form of a deployment and an API request.

For a deployment `config` is the path of skillstack.yaml; in Python it may also be the config itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, WithJsonSchema

from data_contracts.errors import ConfigError
from data_contracts.skill_names import EXPECTED, is_skill_name
from flows.config.model import SkillstackConfig, load_config
from flows.machine.environment import prepare_environment


def check_skill(name: str) -> str:
    """A skill's name is also a folder and a suite, so it must not contain path separators and the like. Raises ConfigError."""
    if not is_skill_name(name):
        raise ConfigError(f"skill {name!r}", "is not a valid name of a skill", f"use {EXPECTED}")
    return name


PREVIOUS = "previous"


def check_month(month: str) -> str:
    """'', 'previous' or a month as 2026-11. Raises ConfigError."""
    if month not in ("", PREVIOUS) and not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", month):
        raise ConfigError(f"month {month!r}", "is not a month", f"write it as 2026-11, or {PREVIOUS}")
    return month


def month_meant(month: str, now: datetime | None = None) -> str:
    """The month that a parameter means, as 2026-11: '' is the current one, 'previous' the last that has ended, both in UTC as the ledger's
    times are."""
    today = (now or datetime.now(UTC)).astimezone(UTC)
    if month == PREVIOUS:
        today = today.replace(day=1) - timedelta(days=1)
    return f"{today:%Y-%m}" if month in ("", PREVIOUS) else month


def this_month() -> str:
    return month_meant("")


def _skill(name: str) -> str:
    try:
        return check_skill(name)
    except ConfigError as error:
        raise ValueError(str(error)) from error


def _config(value: object) -> object:
    """Load the config of a path, and set the environment that MLflow reads."""
    if value is None or isinstance(value, (str, Path)):
        config = load_config(Path(value) if value else None)
        prepare_environment(config.state_dir)
        return config
    return value


ConfigParameter = Annotated[
    SkillstackConfig,
    BeforeValidator(_config),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string"}, {"type": "null"}],
            "title": "config",
            "description": "path of skillstack.yaml on the worker; null: the one in its working directory",
        }
    ),
]
SkillName = Annotated[str, AfterValidator(_skill), Field(description="name of the skill that the drop teaches")]
DropAddress = Annotated[Path | str, Field(description="JSONL file, or an fsspec URL under one of inbox.allowed_roots")]
Heldout = Annotated[Path | str | None, Field(description="file of held-out items; null: a share of the drop's own rows")]
Scale = Annotated[float, Field(gt=0.0, le=1.0, description="factor of the trained update; 1: the update as trained")]
Refresh = Annotated[bool, Field(description="teach a promoted skill again: its old suites are kept as what must not be lost")]
Version = Annotated[int, Field(ge=1, description="version in the registry")]
Person = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), Field(description="who decides")]
Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1), Field(description="why; recorded in the ledger")]


def named(what: str) -> Callable[[], str]:
    """For `flow_run_name`: what the flow does, the skill or version, and the month, as in `round · agnews · 2026-11`."""

    def name_of_run() -> str:
        from prefect.runtime import flow_run

        parameters = flow_run.parameters or {}
        parts = [what, parameters.get("skill"), parameters.get("version") and f"version {parameters['version']}"]
        return " · ".join([*(str(part) for part in parts if part), month_meant(parameters.get("month") or "")])

    return name_of_run
