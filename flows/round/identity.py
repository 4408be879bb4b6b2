"""The key of a round, which decides whether two starts are the same round, and the lock that lets only one of them run.

The key is made of contents, not of paths: the drop, the held-out items, the contract, the calibration text, the suites with their data,
and the settings. With changed contents it is another attempt. The champion is not part of it; it is recorded with the round's run.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from data_contracts.digests import file_digest, text_digest, value_digest
from data_contracts.errors import SkillstackError
from evals.config import EvaluationConfig, SuiteConfig
from evals.harness.plan import prefer_local_data
from evals.suites.items import source_files
from flows.config.model import SkillstackConfig

_DEFINITIONS = (".yaml", ".yml", ".py")


def round_key(config: SkillstackConfig, drop: Path, skill: str, heldout: Path | None, scale: float = 1.0, *, refresh: bool = False) -> str:
    """Digest of everything that a round's result depends on, except the champion that it starts from."""
    identity: dict[str, Any] = {
        "skill": skill,
        "drop": _file_or_place(drop),
        "heldout": heldout and _file_or_place(heldout),
        "calibration": config.calibration and _file_or_place(config.calibration),
        "contract": config.contract.model_dump(mode="json") | {"path": config.contract.path and _file_or_place(config.contract.path)},
        "train": config.train.model_dump(mode="json"),
        "evaluation": evaluation_identity(config.evaluation),
        "suites": [suite_identity(suite, config.evaluation) for suite in config.evaluation.suites],
        "skills": _skill_policies(config.evaluation),
        "gate": config.gate.model_dump(mode="json"),
    }
    return value_digest(identity | ({"scale": scale} if scale < 1.0 else {}) | ({"refresh": True} if refresh else {}))


def _skill_policies(config: EvaluationConfig) -> dict[str, Any]:
    """How skills are measured, with further items by their bytes. The key of a config without such items is what it was before them."""
    found: dict[str, Any] = config.model_dump(mode="json", include={"skill", "skills"})
    for skill, policy in (("", found["skill"]), *found["skills"].items()):
        del policy["more_items"]
        if skill in config.more_items:
            policy["more_items"] = _file_or_place(config.more_items[skill])
    return found


def evaluation_identity(config: EvaluationConfig) -> dict[str, Any]:
    """The settings of evaluation without the suites, whose contents are in the key."""
    return config.model_dump(mode="json", exclude={"suites", "skill", "skills", "data_folder"})


def suite_identity(suite: SuiteConfig, config: EvaluationConfig) -> dict[str, Any]:
    """A suite by its settings and the bytes of its files, not by their paths."""
    chosen = prefer_local_data(suite, config)
    named = {"source": _contents(chosen.source), "few_shot_source": _contents(chosen.few_shot_source)}
    data = {split: _contents(path) for split, path in chosen.data.items()}
    return chosen.model_dump(mode="json") | named | {"data": data}


def _contents(source: str) -> object:
    """The digests of a source's files; for a task file of lm-eval also those beside it, which it may include or import."""
    path = Path(source)
    if source.endswith(_DEFINITIONS) and path.is_file():
        beside = sorted(each for each in path.parent.iterdir() if each.suffix in _DEFINITIONS and each.is_file())
        return [path.name, {each.name: file_digest(each) for each in beside}]
    files = source_files(source) if source else []
    return [file_digest(each) for each in files] if files and all(each.is_file() for each in files) else source


def _file_or_place(path: Path) -> str:
    """A file's digest; a file that cannot be read gets a key too, so that the round starts and its failure is recorded."""
    try:
        return file_digest(path)
    except OSError:
        return text_digest(f"unreadable {path.absolute()}")


@contextmanager
def one_start(state_dir: Path, key: str, what: str) -> Iterator[None]:
    """Hold a round's lock. Raises SkillstackError if another process of this state directory runs the round.

    The operating system releases the lock when its holder dies.
    """
    from filelock import FileLock, Timeout

    lock = _lock_file(state_dir, f"round-{key[:16]}")
    owner = lock.with_suffix(".owner")
    try:
        with FileLock(lock, timeout=0):
            owner.write_text(f"process {os.getpid()} on {socket.gethostname()} since {datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
            yield
            owner.unlink(missing_ok=True)
    except Timeout as error:
        by = ""
        with suppress(OSError):
            by = f" ({owner.read_text()})"
        raise SkillstackError(what, f"is running already{by}", "wait for it; the same command then prints its outcome") from error


@contextmanager
def one_first_start(state_dir: Path) -> Iterator[None]:
    """Hold the lock for creating a lineage; a second process waits for the first."""
    from filelock import FileLock

    with FileLock(_lock_file(state_dir, "first-start")):
        yield


def _lock_file(state_dir: Path, name: str) -> Path:
    folder = state_dir / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.lock"
