"""What a command line that fails says: one line (where, what, the way out), or one JSON object where --json was asked for; exit code 1.

click's own code for a wrong option is 2, which here means blocked.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import Any

import typer
from typer.exceptions import TyperException

from data_contracts.errors import SkillstackError
from data_contracts.full_disk import WHAT, is_full_disk
from flows.cli import console
from flows.cli.arguments import repeat_options
from flows.machine.extras import missing_extra

FAILED = 1


def run(app: typer.Typer, arguments: Sequence[str]) -> int:
    """Run one command line and give its exit code."""
    console.choose("--json" in arguments)  # a wrong option is refused before its command can choose
    try:
        return int(app(args=repeat_options(arguments), prog_name="skillstack", standalone_mode=False) or 0)
    except TyperException as error:
        return _failed(usage_error(error))
    except SkillstackError as error:
        return _failed(error)
    except typer.Abort:
        return FAILED
    except Exception as error:
        return _failed(_expected(error))


def usage_error(error: TyperException) -> SkillstackError | None:
    """A command line that means nothing, in one line; None where the help, which was just shown, says it all."""
    message = " ".join(error.format_message().split())
    if not message:
        return None
    context: Any = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "skillstack"
    return SkillstackError(command, message[0].lower() + message[1:].rstrip("."), f"see {command} --help")


def is_from_prefect(error: Exception) -> bool:
    """Whether Prefect itself failed, rather than the code it ran: its own exceptions, and its embedded server that does not start."""
    return type(error).__module__.startswith("prefect") or "Prefect API server" in str(error)


def _expected(error: Exception) -> SkillstackError:
    """One line for what the surroundings did; a fault of this program keeps its traceback, on stderr, for whoever mends it."""
    if is_full_disk(error):
        return SkillstackError("state directory", WHAT, "free space or set state_dir to another disk, then run the same command again")
    if is_from_prefect(error):
        what = " ".join(str(error).split())[:200]
        return SkillstackError("Prefect", what, "run `skillstack doctor`: is its server well, and is there space on the disk?")
    if isinstance(error, OSError):
        where = str(error.filename) if error.filename else "operating system"
        return SkillstackError(where, error.strerror or str(error), "correct it, then run the same command again")
    if (refusal := missing_extra(error)) is not None:
        return refusal
    traceback.print_exc()
    return SkillstackError("skillstack", f"{type(error).__name__}: {error}", "a fault of the program: report it with the lines above")


def _failed(error: SkillstackError | None) -> int:
    if error is not None:
        console.show_error(error)
    return FAILED
