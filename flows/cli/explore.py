"""`skillstack explore`: open the seven views in a browser."""

from __future__ import annotations

import importlib.util
import json
import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from data_contracts.errors import ConfigError

_NEEDED = ("marimo", "plotly", "zmq")


def explore(
    model: Annotated[Path | None, typer.Option(help="A model folder to look at first; default: the lineage's champion, else nano.")] = None,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.", min=0, max=65535)] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the address in the default browser.")] = True,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Config file; default: skillstack.yaml here, else the built-in defaults.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object with the address, then serve.")] = False,
) -> None:
    """Look at spectra, constraints, costs, trainings, forgetting, capacity and the gate, on your own model and lineage. Writes nothing."""
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
    if as_json:
        sys.stdout.write(json.dumps({"address": address}) + "\n")
    else:
        sys.stdout.write(f"The explorer is at {address}\nOnly this machine can reach it, and only with this token. Ctrl-C ends it.\n")
    sys.stdout.flush()
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
