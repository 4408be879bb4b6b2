"""Stages by content: with the same inputs and the same code, the finished folder of an earlier run is verified and used.

A stage writes to `<key>.partial`, which is renamed when its manifest is complete. So a killed stage is never mistaken for a finished one,
and a stage that can resume (training) finds its earlier state.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from filelock import FileLock

from data_contracts.digests import file_digest, value_digest
from data_contracts.errors import LineageError, ManifestError
from data_contracts.manifests import MANIFEST_NAME, Manifest, manifest_digest, read_manifest
from flows.lineage.storage.collected import COLLECTED_FILE
from flows.workspace.code_digest import code_digest

M = TypeVar("M", bound=Manifest)

KEY_LENGTH = 16
"""Hex digits of a stage key in the name of its folder: 64 bits."""


@dataclass(frozen=True)
class Stage(Generic[M]):
    """A finished stage: its folder, its manifest, whether an earlier run had already done the work, and the digest of the code for it."""

    folder: Path
    manifest: M
    reused: bool
    code: str | None = None

    @property
    def digest(self) -> str:
        return manifest_digest(self.manifest)


def run_stage(
    store: Path, name: str, inputs: Mapping[str, Any], kind: type[M], build: Callable[[Path], object], *, code: tuple[str, ...]
) -> Stage[M]:
    """The finished stage for these inputs; `build` runs only if there is no verified result.

    `inputs` is JSON with everything that the result depends on (digests, configuration); `code` names the modules of the stage: their
    source and that of all their imports is part of the key.
    A result whose files do not match its manifest is renamed to `<key>.damaged-<n>` and built again; one whose weights gc has deleted
    raises LineageError.
    """
    source = code_digest(*code)
    key = value_digest({"stage": name, "inputs": dict(inputs), "code": source})[:KEY_LENGTH]
    folder = store / name / key
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if (folder / MANIFEST_NAME).exists():
            try:
                return Stage(folder, read_manifest(folder, kind), reused=True, code=source)
            except ManifestError as error:
                if (folder / COLLECTED_FILE).exists():  # honest, and the only place of a registered version's update
                    way_out = "skillstack rebuild VERSION (`skillstack history` lists the versions), then the command again"
                    raise LineageError(str(folder), "the weights of this version were deleted by gc", way_out) from error
                _set_aside(folder)
        partial = folder.with_suffix(".partial")
        partial.mkdir(exist_ok=True)
        build(partial)
        os.replace(partial, folder)
    return Stage(folder, read_manifest(folder, kind, verify=False), reused=False, code=source)


def discard_partial(folder: Path) -> None:
    """Empty a partial folder before a stage that cannot resume starts again in it."""
    shutil.rmtree(folder)
    folder.mkdir()


def _set_aside(folder: Path) -> None:
    number = 1
    while (target := folder.with_suffix(f".damaged-{number}")).exists():
        number += 1
    os.replace(folder, target)


def digest_or_none(path: Path | None) -> str | None:
    """The digest of a file, for a stage's inputs; the path itself if it is not a file."""
    return None if path is None else file_digest(path) if path.is_file() else str(path)
