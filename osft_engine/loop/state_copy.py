"""A copy of a run's training state under an fsspec URL (s3://bucket/states), so that another machine goes on where this one was lost.

    <URL>/<digest of the run>/      the files of out_dir/.resume, each replaced when it is written there

fsspec comes with torch; a protocol beyond the local ones needs its own package (s3fs, gcsfs), and secrets are that package's own affair.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from data_contracts.errors import ConfigError

CLAIM = "run.json"
"""The first file of a state, and the last to be restored."""


class StateCopy:
    """The copy of one run's state. Raises ConfigError where the URL cannot be used; a later failure of it is a warning, once."""

    def __init__(self, url: str, digest: str) -> None:
        import fsspec

        self._url, self._warned = url, False
        try:
            self._system, root = fsspec.core.url_to_fs(url)
        except Exception as error:  # fsspec's systems raise errors of their own types, without a common base
            raise _refusal(url, error) from error
        self._root = f"{root.rstrip('/')}/{digest}"

    def restore(self, folder: Path) -> bool:
        """Bring the files into a folder, where there is a state of this run. Raises ConfigError where the URL cannot be read."""
        try:
            if not self._system.exists(f"{self._root}/{CLAIM}"):
                return False
            names = sorted({self._name(path) for path in self._system.ls(self._root, detail=False)} - {CLAIM})
            folder.mkdir(parents=True, exist_ok=True)
            for name in [*(name for name in names if not name.endswith(".part")), CLAIM]:
                self._system.get_file(f"{self._root}/{name}", str(folder / f"{name}.part"))
                (folder / f"{name}.part").replace(folder / name)
        except Exception as error:
            raise _refusal(self._url, error) from error
        return True

    def claim(self, path: Path) -> None:
        """Copy the first file, by which a URL that cannot be written is found before any work. Raises ConfigError."""
        try:
            self._store(path)
        except Exception as error:
            raise _refusal(self._url, error) from error

    def store(self, path: Path) -> None:
        """Replace the copy of a file of the state. Where that fails, the copy before it stays."""
        try:
            self._store(path)
        except Exception as error:
            if not self._warned:
                what = f"{type(error).__name__}: {_line(error)}"
                print(f"warning: {self._url} could not be written ({what}); the state on this machine is up to date", file=sys.stderr)
            self._warned = True

    def remove(self) -> None:
        """The run is done: its copy is of no more use. What cannot be removed stays."""
        try:
            self._system.rm(self._root, recursive=True)
        except Exception as error:
            print(f"warning: {self._url} still holds the state of a finished run ({_line(error)})", file=sys.stderr)

    def _store(self, path: Path) -> None:
        target = f"{self._root}/{path.name}"
        self._system.makedirs(self._root, exist_ok=True)
        self._system.put_file(str(path), f"{target}.part")
        self._system.mv(f"{target}.part", target)  # a reader finds the new file or the one before it

    @staticmethod
    def _name(path: Any) -> str:
        return str(path).rstrip("/").rpartition("/")[2]


def _refusal(url: str, error: Exception) -> ConfigError:
    what = f"{url!r} cannot be used: {_line(error)}"
    return ConfigError("train.state_url", what, "give an fsspec URL that this machine can read and write, or leave it out")


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
