"""`skillstack explore`: open the eight views in a browser."""

from __future__ import annotations

import importlib.util
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from data_contracts.errors import ConfigError
from flows.cli.options import AsJson, ConfigFile

_NEEDED = ("marimo", "plotly", "zmq")


def explore(
    model: Annotated[Path | None, typer.Option(help="Model folder to show first; default: the lineage's champion, else nano.")] = None,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 chooses a free one.", min=0, max=65535)] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the address in the default browser.")] = True,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show spectra, constraints, geometry, costs, trainings, forgetting, capacity and the gate of your own lineage. Writes nothing."""
    require_extra()
    from flows.cli import console
    from flows.config.model import load_config
    from flows.explore import scene
    from flows.explore.serve import address_of, listen, new_token, serve

    console.choose(as_json)
    scene.use(load_config(config), None if model is None else model.expanduser().absolute())
    token = new_token()
    sock = listen(port)
    address = address_of(sock, token)
    note = "Only this machine can open it, and only with this token. Ctrl-C stops it."
    console.print_answer({"address": address}, [f"The explorer is at {address}", note])
    if browser and not as_json:
        webbrowser.open(address)
    serve(sock, token)


def require_extra() -> None:
    """Raises ConfigError where the packages of the extra are not installed."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError("skillstack explore", f"needs {', '.join(missing)}", "install the extra: pip install 'skillstack[explore]'")


def add_explore_command(app: typer.Typer) -> None:
    app.command()(explore)
