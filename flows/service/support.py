"""`skillstack support-bundle`: what somebody who helps needs to see, in one file and without secrets.

Versions, config, environment, what doctor says, the last rounds and ledger entries, and the ends of the newest training logs. No weights,
no drop, no suite. A check that fails is a line of the bundle, because the bundle is made when something is wrong.
"""

from __future__ import annotations

import importlib.metadata
import io
import os
import platform
import tarfile
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from pydantic_core import to_json

from data_contracts.errors import ConfigError
from data_contracts.files import replacing
from data_contracts.manifests import Record
from data_contracts.privacy.masker import MASK, Masker, is_secret
from flows.config.model import SkillstackConfig
from flows.lineage.registry.heads import head_of
from flows.lineage.storage.state import STATE_FILE
from flows.service.doctor import diagnose
from flows.workspace.workspace import has_lineage, open_workspace

LOGS, LOG_BYTES = 5, 64 * 1024
ROUNDS, ENTRIES = 20, 50
_PREFIXES = ("SKILLSTACK_", "PREFECT_", "MLFLOW_", "AWS_", "HF_", "CUDA_", "OMP_", "PG", "TORCH")


class Bundle(Record):
    path: Path
    files: tuple[str, ...]
    masked: int


def write_bundle(config: SkillstackConfig, out: Path, environment: Mapping[str, str] = os.environ) -> Bundle:
    """Write the bundle, a .tar.gz. Raises ConfigError if `out` is there already."""
    if out.exists():
        raise ConfigError(str(out), "is there already", "name a new file")
    mask = Masker(environment)
    contents = {name: mask(_or_error(make)) for name, make in _parts(config, environment).items()}
    contents |= {f"logs/{name}": mask(text) for name, text in _logs(config.state_dir).items()}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, text in sorted(contents.items()):
            data = text.encode()
            entry = tarfile.TarInfo(f"skillstack-support/{name}")
            entry.size, entry.mode = len(data), 0o600
            archive.addfile(entry, io.BytesIO(data))
    with replacing(out) as temporary:
        temporary.write_bytes(packed.getvalue())
    return Bundle(path=out, files=tuple(sorted(contents)), masked=mask.count)


def _parts(config: SkillstackConfig, environment: Mapping[str, str]) -> dict[str, Callable[[], str]]:
    return {
        "versions.json": lambda: _json(_versions()),
        "config.json": lambda: config.model_dump_json(indent=1),
        "environment.json": lambda: _json(_environment(environment)),
        "doctor.json": lambda: _json(diagnose(config)),
        "history.json": lambda: _history(config),
        "state.json": lambda: (config.state_dir / STATE_FILE).read_text(encoding="utf-8"),
        "files.txt": lambda: "\n".join(_largest(config.state_dir)),
    }


def _versions() -> dict[str, object]:
    packages = {each.name: each.version for each in importlib.metadata.distributions()}
    return {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "packages": dict(sorted(packages.items())),
    }


def _environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of the service; of a secret one only that it is set."""
    known = {name: value for name, value in sorted(environment.items()) if name.startswith(_PREFIXES)}
    return {name: MASK if is_secret(name) and value else value for name, value in known.items()}


def _history(config: SkillstackConfig) -> str:
    if not has_lineage(config):
        return "no lineage yet"
    from flows.lineage.registry.history import read_lineage

    records, entries = read_lineage(open_workspace(config).lineage)
    return _json({
        "rounds": records[-ROUNDS:],
        "ledger": {"entries": len(entries), "head": head_of(entries[-1]) if entries else None, "last": entries[-ENTRIES:]},
    })  # fmt: skip


def _logs(state_dir: Path) -> dict[str, str]:
    """The ends of the newest training logs and of their metrics, by stage."""
    found = sorted(state_dir.glob("stages/train/*/train.log"), key=lambda path: path.stat().st_mtime)[-LOGS:]
    names = [path.with_name(name) for path in found for name in ("train.log", "metrics.jsonl")]
    return {f"{path.parent.name}/{path.name}": _tail(path) for path in names if path.exists()}


def _tail(path: Path) -> str:
    with path.open("rb") as stream:
        stream.seek(max(path.stat().st_size - LOG_BYTES, 0))
        return stream.read().decode("utf-8", errors="replace")


def _largest(folder: Path, count: int = 200) -> Iterable[str]:
    """Size and path of the largest files of the state directory."""
    sizes = [(path.stat().st_size, path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return (f"{size:>14} {path}" for size, path in sorted(sizes, reverse=True)[:count])


def _or_error(make: Callable[[], str]) -> str:
    try:
        return make()
    except Exception as error:  # whatever is broken is what the bundle is made for
        return f"{type(error).__name__}: {error}"


def _json(value: object) -> str:
    return to_json(value, indent=1, inf_nan_mode="null").decode()
