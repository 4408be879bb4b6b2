"""Real containers for the tests of this folder: build, look inside, run.

The engine is whatever SKILLSTACK_CONTAINERS names (`podman` or `docker`); how it works on this machine (runtime, storage, limits) is that
engine's own configuration, e.g. CONTAINERS_CONF and CONTAINERS_STORAGE_CONF. SKILLSTACK_BUILD_OPTIONS is given to every build, for example
`-v` options for certificates or an index of packages; nothing of it is written into a file of the project.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
ENGINE = shlex.split(os.environ.get("SKILLSTACK_CONTAINERS", "podman"))
BUILD_OPTIONS = shlex.split(os.environ.get("SKILLSTACK_BUILD_OPTIONS", ""))
BASE = "docker.io/library/python:3.11.14-slim-bookworm"
IMAGES = ("trainer", "orchestrator", "mlflow")
POLL_SECONDS = 0.5
USER = 10001


def engine(*arguments: str, check: bool = True, given: str | None = None, seconds: float = 3600) -> subprocess.CompletedProcess[str]:
    """Run the engine; a failure names the command and the end of what it said."""
    done = subprocess.run([*ENGINE, *arguments], input=given, capture_output=True, text=True, timeout=seconds, check=False)
    if check and done.returncode:
        raise AssertionError(
            f"{shlex.join([*ENGINE, *arguments])} ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-6000:]}"
        )
    return done


def wait_for(condition: Callable[[], Any], what: str, seconds: float) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"waited {seconds:.0f} s for {what}"
        time.sleep(POLL_SECONDS)
    return found


def is_there(image: str) -> bool:
    return engine("image", "inspect", image, check=False).returncode == 0


def obtain(image: str, make: Callable[[], None]) -> str:
    """The image of this name: as it lies here, else from its registry, else made. Says where it came from."""
    if is_there(image):
        return "present"
    if engine("pull", "--quiet", image, check=False, seconds=1800).returncode == 0:
        return "pulled"
    make()
    return "made"


def build(file: Path, tag: str, *options: str) -> float:
    """Build an image with the repository as its context; the seconds it took."""
    start = time.monotonic()
    engine("build", *BUILD_OPTIONS, *options, "-f", str(file), "-t", tag, str(REPOSITORY))
    return time.monotonic() - start


def base_image(folder: Path) -> str:
    def make() -> None:
        if shutil.which("debootstrap") is None or os.geteuid() != 0:
            raise AssertionError(f"{BASE} is not here, its registry does not answer, and making it needs root and debootstrap")
        command = [str(Path(__file__).parent / "base.sh"), BASE, str(folder)]
        made = subprocess.run(
            command, env=os.environ | {"CONTAINERS_PODMAN": shlex.join(ENGINE)}, capture_output=True, text=True, check=False
        )
        assert made.returncode == 0, made.stdout[-2000:] + made.stderr[-2000:]

    return obtain(BASE, make)


def in_image(image: str, *command: str, options: Sequence[str] = (), check: bool = True) -> subprocess.CompletedProcess[str]:
    return engine("run", "--rm", *options, image, *command, check=check)


def inspect(kind: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(engine(kind, "inspect", name).stdout)[0]
    return found
