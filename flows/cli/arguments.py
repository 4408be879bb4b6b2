"""Options that take several values in a row: `--checkpoints base ft1 ft2` is read as the option repeated."""

from __future__ import annotations

from collections.abc import Sequence

SEVERAL = ("--checkpoints", "--suites")


def repeat_options(arguments: Sequence[str], several: Sequence[str] = SEVERAL) -> list[str]:
    """The command line with each further value of such an option given the option's name, up to the next option."""
    spread: list[str] = []
    option, values = "", 0
    for argument in arguments:
        if argument.startswith("-"):
            option, values = (argument, 0) if argument in several else ("", 0)
        elif option:
            values += 1
            if values > 1:
                spread.append(option)
        spread.append(argument)
    return spread
