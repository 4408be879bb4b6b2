"""Every setting of skillstack.yaml with its default and what it does, read from the models: for `skillstack config` and the reference page.

python -m flows.config.reference > docs/reference/config.md
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from data_contracts.errors import ConfigError
from data_contracts.manifests import Record
from flows.config.model import CONFIG_NAME, SkillstackConfig

_NAMES = {type(None): "null", str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path"}


class Setting(Record):
    """`key` as one writes it, `[]` for an entry of a list and `NAME` for a key of one's own."""

    key: str
    kind: str
    default: str
    about: str


def settings() -> list[Setting]:
    """Every setting, in the order of the models."""
    return list(_settings_of(SkillstackConfig, ""))


def explain(key: str) -> list[Setting]:
    """A setting, or every setting of a section. Raises ConfigError where there is none, naming the nearest."""
    known = settings()
    wanted = key.strip().strip(".")
    found = [each for each in known if each.key == wanted or each.key.startswith((f"{wanted}.", f"{wanted}[]."))]
    if not found:
        near = difflib.get_close_matches(wanted, [each.key for each in known], n=1, cutoff=0.0)
        raise ConfigError(f"setting {key}", f"is not in {CONFIG_NAME}", f"the nearest is {near[0]}; `skillstack config` lists them all")
    return found


def _settings_of(model: type[BaseModel], prefix: str) -> Iterator[Setting]:
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        inner, form = _inner(field.annotation)
        if inner is None or form:
            yield Setting(key=key, kind=_kind(field.annotation), default=_default(field), about=field.description or "")
        if inner is not None:
            yield from _settings_of(inner, f"{key}{form}.")


def _inner(annotation: Any) -> tuple[type[BaseModel] | None, str]:
    """(the section that a setting holds, what stands between their names)"""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, ""
    form = {tuple: "[]", list: "[]", dict: ".NAME"}.get(get_origin(annotation), "")
    for part in get_args(annotation):
        inner, _ = _inner(part)
        if inner is not None:
            return inner, form
    return None, ""


def _kind(annotation: Any) -> str:
    origin, parts = get_origin(annotation), [part for part in get_args(annotation) if part is not Ellipsis]
    if origin is Literal:
        return " or ".join(str(part) for part in parts)
    if origin in (tuple, list, set, frozenset):
        return f"list of {_kind(parts[0])}" if parts else "list"
    if origin is dict:
        return f"{_kind(parts[0])} to {_kind(parts[1])}".replace(" or ", ", ")
    if parts and not isinstance(annotation, type):  # a union, or a type with limits
        kinds = [_kind(part) for part in (parts if origin is not None and "Annotated" not in str(annotation)[:20] else parts[:1])]
        return " or ".join(dict.fromkeys(kinds))
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " or ".join(str(part.value) for part in annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    return _NAMES.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel) or (isinstance(value, dict) and any(isinstance(part, BaseModel) for part in value.values())):
        return "the section's own"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, float):
        return f"{value:g}" if "e" not in f"{value:g}" else str(yaml.safe_dump(value)).split("\n")[0]  # 1e-08 is text in YAML
    if isinstance(value, (tuple, list, set, frozenset)):
        return f"[{', '.join(str(part) for part in value)}]"
    return "empty" if value == "" else str(value)


def reference_page() -> str:
    """docs/reference/config.md."""
    lines = [
        "# Every setting of skillstack.yaml",
        "",
        "Made from the models by `python -m flows.config.reference > docs/reference/config.md`; `skillstack config --explain KEY`",
        "prints the same. `[]` stands for an entry of a list, `NAME` for a key of your own.",
    ]
    section = None
    for setting in settings():
        head = setting.key.split(".")[0].removesuffix("[]") if "." in setting.key else "general"
        if head != section:
            section = head
            lines += ["", f"## {section}", "", "| setting | is | default | what it does |", "|---|---|---|---|"]
        cells = (f"`{setting.key}`", setting.kind, f"`{setting.default}`", setting.about)
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(reference_page(), end="")
