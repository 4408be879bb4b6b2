"""The files behind an lm-eval task of one's own: what its YAML includes, the Python beside it, and the data that it names.

A score is kept under the digest of all of them, so that an edited include, function or data file never meets an old one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from data_contracts.digests import file_digest, value_digest
from data_contracts.errors import EvaluationError


class _TaskLoader(yaml.SafeLoader):
    """Reads `!function utils.f` and other tags of lm-eval as the text after the tag."""


def _untagged(loader: yaml.SafeLoader, _suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    return loader.construct_sequence(node, deep=True) if isinstance(node, yaml.SequenceNode) else node.value


_TaskLoader.add_multi_constructor("!", _untagged)


def definition_digest(task: Path) -> str:
    """Digest of every file behind a task's YAML, by name and content. Raises EvaluationError where the YAML cannot be read."""
    return value_digest(sorted([path.name, file_digest(path)] for path in task_files(task)))


def task_files(task: Path) -> list[Path]:
    """The YAML, what it includes, the Python modules of their folders, and the files and folders of data that they name."""
    found: dict[Path, None] = {}
    waiting = [task.absolute()]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found[path] = None
        content = _read(path)
        for place in sorted(path.parent.glob("*.py")):
            found.setdefault(place)
        named = [each for text in _texts(content) for each in _named_files(text, path.parent)]
        waiting += [each for each in named if each.suffix in (".yaml", ".yml") and each not in found]
        for each in named:
            if each.suffix not in (".yaml", ".yml"):
                found.setdefault(each)
    return list(found)


def _read(path: Path) -> Any:
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_TaskLoader)  # a safe loader that ignores tags
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        what = f"cannot be read: {' '.join(str(error).split())[:200]}"
        raise EvaluationError(str(path), what, "check the lm-eval task's YAML, and what it includes") from error


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)


def _named_files(text: str, folder: Path) -> list[Path]:
    """What a text names if it is a path: a file, the files that a pattern matches, all files of a folder; beside the YAML or from here."""
    if not text or len(text) > 1000 or "\n" in text or "{{" in text or text in (".", "..", "/"):
        return []
    found: set[Path] = set()
    for root in dict.fromkeys((folder, Path.cwd())):
        path = root / text
        try:
            if path.is_file():
                found.add(path.absolute())
            elif path.is_dir() and any(sign in text for sign in "/\\"):
                found |= {each.absolute() for each in path.rglob("*") if each.is_file()}
            elif "*" in text and path.parent.is_dir():
                found |= {each.absolute() for each in path.parent.glob(path.name) if each.is_file()}
        except (OSError, ValueError, NotImplementedError):  # a text that no path can be
            continue
    return sorted(found)
