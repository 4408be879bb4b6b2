"""What changed between two contracts, and whether rows that were good are refused from now on (a breaking change)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from data_contracts.contract.read import compile_contract
from data_contracts.rows.findings import SEVERITIES, Finding

#: Limits whose larger value refuses more rows, and those whose smaller value does.
_TIGHTER_UP = ("minLength", "minItems", "minimum", "exclusiveMinimum")
_TIGHTER_DOWN = ("maxLength", "maxItems", "maximum", "exclusiveMaximum")


@dataclass(frozen=True)
class ContractChange:
    """One difference; `where` is a path such as chat.messages[].role."""

    where: str
    what: str
    breaking: bool


def contract_changes(old_text: str, new_text: str) -> list[ContractChange]:
    """Every difference that decides about rows, breaking ones first."""
    old, new = compile_contract(old_text, "old contract"), compile_contract(new_text, "new contract")
    found: list[ContractChange] = []
    before, after = _objects(old_text), _objects(new_text)
    for name in before:
        if name not in after:
            found.append(ContractChange(name, "rows of this shape are refused now", True))
        else:
            found += _property_changes(name, before[name], after[name])
    found += [ContractChange(name, "rows of this shape are allowed now", False) for name in after if name not in before]
    for check, severity in new.severity.items():
        was = old.severity[check]
        if severity != was:
            stricter = SEVERITIES.index(severity) < SEVERITIES.index(was) and severity in ("error", "drop")
            found.append(ContractChange(check, f"severity {was} is {severity} now", stricter))
        for option, value in new.options[check].items():
            if value != old.options[check][option]:
                found.append(
                    ContractChange(
                        f"{check}.{option}", f"{old.options[check][option]:g} is {value:g} now", _tightens(check, option, old, new)
                    )
                )
    return sorted(found, key=lambda change: not change.breaking)


def _tightens(check: str, option: str, old: Any, new: Any) -> bool:
    """Whether a changed number refuses rows or drops that were good."""
    if old.severity[check] not in ("error", "drop") and new.severity[check] not in ("error", "drop"):
        return False
    grew = new.options[check][option] > old.options[check][option]
    return grew if option == "least" else not grew


def _objects(text: str) -> dict[str, list[dict[str, Any]]]:
    return {part["name"]: part["properties"] for part in yaml.safe_load(text)["schema"]}


def _property_changes(where: str, before: list[dict[str, Any]], after: list[dict[str, Any]]) -> Iterator[ContractChange]:
    old, new = {part["name"]: part for part in before}, {part["name"]: part for part in after}
    for name, part in old.items():
        if name not in new:
            yield ContractChange(f"{where}.{name}", "is left out of the clean file now", True)
        else:
            yield from _type_changes(f"{where}.{name}", part, new[name])
    for name, part in new.items():
        if name not in old:
            yield ContractChange(
                f"{where}.{name}", "is required now" if part.get("required") else "is allowed now", bool(part.get("required"))
            )


def _type_changes(where: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[ContractChange]:
    if old.get("logicalType") != new.get("logicalType"):
        yield ContractChange(where, f"type {old.get('logicalType')} is {new.get('logicalType')} now", True)
        return
    if bool(old.get("required")) != bool(new.get("required")):
        yield ContractChange(where, "is required now" if new.get("required") else "is optional now", bool(new.get("required")))
    before, after = old.get("logicalTypeOptions") or {}, new.get("logicalTypeOptions") or {}
    for option in sorted({*before, *after}):
        was, now = before.get(option), after.get(option)
        if was != now:
            yield ContractChange(
                f"{where}.{option}",
                f"{'no limit' if was is None else was} is {'no limit' if now is None else now} now",
                _narrows(option, was, now),
            )
    if isinstance(old.get("items"), dict) and isinstance(new.get("items"), dict):
        yield from _type_changes(f"{where}[]", old["items"], new["items"])
    if old.get("properties") or new.get("properties"):
        yield from _property_changes(where, old.get("properties") or [], new.get("properties") or [])


def _narrows(option: str, was: Any, now: Any) -> bool:
    if now is None:
        return False
    if was is None:
        return True
    if option in _TIGHTER_UP:
        return bool(now > was)
    if option in _TIGHTER_DOWN:
        return bool(now < was)
    return True


def change_findings(old_text: str, old_version: str, new_text: str, new_version: str) -> list[Finding]:
    """What a report shows of a changed contract; a breaking change without a new major version is an error."""
    changes = contract_changes(old_text, new_text)
    named = [Finding("contract_change", 0, f"{'breaking: ' if change.breaking else ''}{change.where}: {change.what}") for change in changes]
    major = int(new_version.split(".")[0]) > int(old_version.split(".")[0])
    breaking = [change for change in changes if change.breaking]
    if breaking and not major:
        reason = f"the contract went from {old_version} to {new_version} with a breaking change ({breaking[0].where}: {breaking[0].what})"
        named.append(Finding("contract_version", 0, f"{reason}; raise its major version"))
    elif changes and new_version == old_version:
        named.append(Finding("contract_change", 0, f"the contract changed and its version is still {old_version}; raise it"))
    return named
