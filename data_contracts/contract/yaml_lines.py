"""A YAML document that remembers the line of every value, so that an error can point at it."""

from __future__ import annotations

from typing import Any

import yaml

from data_contracts.errors import ConfigError

#: libyaml where PyYAML was built with it, ten times as fast; both are safe loaders.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
WAY_OUT = "data_contracts/contract/contracts/default.yaml shows every field in use"

Path = tuple[str | int, ...]


def require_single_keys(node: yaml.Node | None, source: str) -> None:
    """Raise ConfigError for a key that occurs twice in one mapping: YAML's readers take the last and forget all that the first held."""
    waiting: list[tuple[yaml.Node, str]] = [] if node is None else [(node, "")]
    seen: set[int] = set()
    while waiting:
        here, name = waiting.pop()
        if id(here) in seen:  # an alias
            continue
        seen.add(id(here))
        if isinstance(here, yaml.SequenceNode):
            waiting += [(value, f"{name}[{index}]") for index, value in enumerate(here.value)]
        elif isinstance(here, yaml.MappingNode):
            lines: dict[str, int] = {}
            for key, value in here.value:
                line, path = key.start_mark.line + 1, f"{name}.{key.value}".lstrip(".")
                if (first := lines.setdefault(str(key.value), line)) != line:
                    raise ConfigError(
                        f"{source}:{line}", f"the key {path!r} is on line {first} too", "keep one of the two, with all that belongs to it"
                    )
                waiting.append((value, path))


class YamlTree:
    """`value` is the parsed document. Raises ConfigError where the text is not YAML, or has a key twice."""

    def __init__(self, text: str, source: str) -> None:
        self._source = source
        self._lines: dict[Path, int] = {}
        self._seen: set[int] = set()
        try:
            node = yaml.compose(text, Loader=_Loader)
            self.value: Any = yaml.load(text, Loader=_Loader)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            mark = getattr(error, "problem_mark", None)
            where = f"{source}:{mark.line + 1}" if mark else source
            raise ConfigError(where, f"is not YAML: {getattr(error, 'problem', None) or str(error).splitlines()[0]}", WAY_OUT) from error
        require_single_keys(node, source)
        if node is not None:
            self._note(node, ())

    def _note(self, node: yaml.Node, path: Path) -> None:
        self._lines.setdefault(path, node.start_mark.line + 1)
        if id(node) in self._seen:  # an alias: its first place
            return
        self._seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                self._lines[(*path, str(key.value))] = key.start_mark.line + 1
                self._note(value, (*path, str(key.value)))
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                self._note(value, (*path, index))

    def refuse(self, path: Path, what: str) -> ConfigError:
        """The error for the value at `path`, or for the nearest thing above it that has a line."""
        known = path
        while known and known not in self._lines:
            known = known[:-1]
        name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
        return ConfigError(f"{self._source}:{self._lines.get(known, 1)}", f"{name or 'the contract'} {what}", WAY_OUT)
