"""Further held-out items of a skill that is learned already: added by a command, and checked at every round that uses them.

An item that a row of any round's training gives away would measure memory; it is left out here, and refused in a round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import Field

from data_contracts.config import ContractConfig
from data_contracts.drop.supplied import read_supplied
from data_contracts.errors import DropError, LineageError
from data_contracts.files import write_atomically
from data_contracts.manifests import DropManifest, Record, read_manifest
from data_contracts.matching.heldout_items import HeldoutItem, heldout_item, read_suite
from data_contracts.matching.trained_rows import seen_items
from data_contracts.rows.records import normal_text, row_json
from flows.config.model import SkillstackConfig
from flows.lineage import VersionRef


class AddedItems(Record):
    """What became of a file of items. `config`: the lines that skillstack.yaml still needs; empty where it names the file."""

    skill: str
    file: Path
    given: int
    taken: int
    items: int = Field(description="further items of the skill now, in the file")
    left_out: tuple[str, ...] = Field(description="a sentence per item that was not added")
    config: str


def add_items(config: SkillstackConfig, given: Path, skill: str, chain: Sequence[VersionRef], target: Path) -> AddedItems:
    """Append the items of `given` that no training row gives away to the skill's file of further items.

    `chain`: the champion and its ancestors. `target` is the file where the config names none. Raises LineageError for a skill that was
    never learned, DropError for a file that holds something else than items.
    """
    learned = [version.skill for version in chain if version.skill]
    if skill not in learned:
        way_out = f"skills are {', '.join(dict.fromkeys(learned)) or 'none'}; items of a new skill come with its drop (--heldout)"
        raise LineageError(f"skill {skill!r}", "has not been learned", way_out)
    named = config.evaluation.more_items.get(skill)
    file = named or target
    values = [item.value for item in read_supplied(given, config.contract)]
    items = [heldout_item(str(given), line, value) for line, value in enumerate(values, 1)]
    known = {_question(item) for path in (*_held_out(chain), *([file] if file.is_file() else [])) for item in _read(path, config.contract)}
    twice = {item: "a suite of this lineage has it already" for item in items if _question(item) in known}
    seen = {item: f"{where} gives it away, a row that was trained on" for item, where in seen_items(items, _trained(chain))}
    fresh = [value for item, value in zip(items, values, strict=True) if item not in twice and item not in seen]
    before = file.read_text(encoding="utf-8") if file.is_file() else ""
    before += "\n" if before and not before.endswith("\n") else ""  # an editor may leave the last line open
    if fresh:
        write_atomically(file, before + "".join(row_json(value) + "\n" for value in fresh))
    return AddedItems(
        skill=skill,
        file=file,
        given=len(items),
        taken=len(fresh),
        items=len(before.splitlines()) + len(fresh),
        left_out=tuple(f"item {item.line}: {why}" for item, why in (seen | twice).items()),
        config="" if named else f"evaluation: {{skills: {{{skill}: {{more_items: {file}}}}}}}",
    )


def require_unseen(config: SkillstackConfig, chain: Sequence[VersionRef], heldout: Mapping[str, Path]) -> None:
    """Raise DropError where a row that the champion or an ancestor was trained on gives away one of the config's further items, or one of
    the items that come with a drop (`heldout`: skill -> file)."""
    for skill, path in (*config.evaluation.more_items.items(), *heldout.items()):
        items = _read(path, config.contract)
        found = next(seen_items(items, _trained(chain)), None)
        if found is not None:
            what = f"is an item of {skill} that {found[1]} gives away, a row that was trained on"
            raise DropError(f"{path}:{found[0].line}", what, "take it out: it would measure what the model remembers")


def _read(path: Path, contract: ContractConfig) -> list[HeldoutItem]:
    return read_suite(path, max_line_bytes=contract.max_line_bytes)


def _trained(chain: Sequence[VersionRef]) -> list[Path]:
    return [folder / read_manifest(folder, DropManifest).files["clean"].path for version in chain if (folder := version.drop) is not None]


def _held_out(chain: Sequence[VersionRef]) -> list[Path]:
    drops = [(folder, read_manifest(folder, DropManifest, verify=False)) for version in chain if (folder := version.drop) is not None]
    named = (folder / drop.files[role].path for folder, drop in drops for role in ("heldout", "sealed") if role in drop.files)
    return [path for path in named if path.stat().st_size]


def _question(item: HeldoutItem) -> str:
    return normal_text("\n".join(item.questions))
