"""The inbox: which files are complete, and which were taken before.

A drop is identified by its content, skill and held-out items, not by its name.

The name gives the skill: SKILL.jsonl, SKILL--anything.jsonl, or SKILL/anything.jsonl; NAME.heldout.jsonl beside NAME.jsonl has its held-out
items.
Two files under `state_dir/inbox` survive a restart: looks.json (size and time of the files at the last check) and taken.jsonl (all files
that were taken, and the state of their rounds).
"""

from __future__ import annotations

import fnmatch
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal

from filelock import FileLock
from pydantic import Field, ValidationError

from data_contracts.digests import file_digest
from data_contracts.errors import ConfigError
from data_contracts.files import write_atomically
from data_contracts.manifests import Record
from flows.config.model import SkillstackConfig
from flows.config.parameters import check_skill
from flows.machine.disk import naming_full_disk
from flows.workspace.drop_address import download, is_url, keep, reading

HELDOUT, DONE = ".heldout.jsonl", ".done"
Outcome = Literal["taken", "started", "ended", "failed"]


class Arrival(Record):
    """A file in the inbox: its address, and what two checks compare."""

    name: str
    address: str
    skill: str
    size: int
    changed: str
    heldout: str = Field("", description="size and time of its file of held-out items; empty: it has none")
    seen: float = Field(0.0, description="when this size and time were first seen (seconds since 1970, this machine's clock)")
    looks: int = Field(1, description="number of checks that found this size and time")
    taken: bool = Field(False, description="whether it was taken with this size and time")

    def same_as(self, other: Arrival) -> bool:
        return (self.size, self.changed, self.heldout) == (other.size, other.changed, other.heldout)


class Taken(Record):
    """One line of taken.jsonl: a drop that was copied into the state directory, and the state of its round."""

    sha256: str
    skill: str
    name: str
    drop: Path
    heldout: Path | None = None
    outcome: Outcome
    detail: str = ""
    tries: int = Field(0, description="number of starts of its round")
    time: datetime

    @property
    def key(self) -> tuple[str, str, str]:
        """What identifies it: the drop's digest, its skill, and the digest of its held-out items, under which they are kept."""
        return self.sha256, self.skill, self.heldout.parent.name if self.heldout else ""


class Inbox:
    """One inbox folder or URL, and the two files with its state."""

    def __init__(self, config: SkillstackConfig) -> None:
        self._config, self._inbox = config, config.inbox
        self._memory = config.state_dir / "inbox"
        self._memory.mkdir(parents=True, exist_ok=True)
        self.lock = FileLock(self._memory / "watch.lock", timeout=0)

    # ------------------------------------------------------------------------------------------------ files in the inbox

    def look(self) -> list[Arrival]:
        """The files that are in the inbox now; stored for the next check. Raises ConfigError if the inbox cannot be read."""
        before = self._last_look()
        now = time.time()
        found = []
        for arrival in self._list():
            known = before.get(arrival.address)
            same = known is not None and known.same_as(arrival) and known.seen <= now  # after a clock went back, start again
            if same and known is not None:
                arrival = arrival.model_copy(update={"seen": known.seen, "looks": known.looks + 1, "taken": known.taken})
            else:
                arrival = arrival.model_copy(update={"seen": now})
            found.append(arrival)
        self._write_look(found)
        return [each for each in found if not each.taken]

    def _write_look(self, arrivals: Iterable[Arrival]) -> None:
        write_atomically(self._memory / "looks.json", json.dumps([each.model_dump() for each in arrivals], indent=1))

    def settled(self, arrivals: list[Arrival]) -> list[Arrival]:
        """The complete ones: unchanged for `settle_seconds` over two checks and, with `done_marker`, with a marker file."""
        now = time.time()
        return [each for each in arrivals if each.looks > 1 and now - each.seen >= self._inbox.settle_seconds and self._is_done(each)]

    def _last_look(self) -> dict[str, Arrival]:
        path = self._memory / "looks.json"
        try:
            return {each["address"]: Arrival.model_validate(each) for each in json.loads(path.read_bytes())}
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return {}  # no check yet, or an unreadable file: this is the first check

    def _list(self) -> list[Arrival]:
        files = self._files()
        found = []
        for path, info in sorted(files.items()):
            relative = PurePosixPath(path)
            if not fnmatch.fnmatch(relative.name, self._inbox.pattern) or relative.name.endswith(HELDOUT) or relative.name.startswith("."):
                continue
            skill = relative.parts[0] if len(relative.parts) == 2 else relative.name.partition("--")[0].partition(".")[0]
            size, changed = _size_and_time(info)
            beside = files.get(path.removesuffix(".jsonl") + HELDOUT)
            items = " ".join(map(str, _size_and_time(beside))) if beside else ""
            found.append(Arrival(name=relative.name, address=info["address"], skill=skill, size=size, changed=changed, heldout=items))
        return found

    def _files(self) -> dict[str, dict[str, Any]]:
        """Path in the inbox (at most one folder deep) -> the file system's information, and the address."""
        folder = self._inbox.folder
        with self._reading():
            system, root = self._open()
            if not system.isdir(root):
                if is_url(folder):
                    return {}  # an object store has no empty folders
                raise ConfigError(f"inbox.folder {folder}", "does not exist", "create it, or correct inbox.folder")
            found = system.find(root, maxdepth=2, detail=True)
        answer = {}
        for path, info in found.items():
            if info.get("type") == "file" and not info.get("islink"):
                relative = path.removeprefix(root).lstrip("/")
                answer[relative] = {**info, "address": system.unstrip_protocol(path) if is_url(folder) else path}
        return answer

    def _open(self) -> tuple[Any, str]:
        import fsspec

        folder = self._inbox.folder
        try:
            system, root = fsspec.core.url_to_fs(folder)
        except ValueError as error:
            raise ConfigError(
                f"inbox.folder {folder}", f"no reader is installed for this kind of URL: {error}", "correct inbox.folder"
            ) from error
        system.invalidate_cache()
        return system, str(root).rstrip("/")

    def _reading(self) -> AbstractContextManager[None]:
        return reading(f"inbox.folder {self._inbox.folder}", "check the address and the credentials", ConfigError)

    def _is_done(self, arrival: Arrival) -> bool:
        if not self._inbox.done_marker:
            return True
        with self._reading():
            return bool(self._open()[0].exists(arrival.address + DONE))

    # ------------------------------------------------------------------------------------------------ files that were taken

    def take(self, arrival: Arrival) -> Taken | None:
        """Copy a complete file into the state directory and record it; None if it was taken before or changed meanwhile.

        Raises ConfigError if the name gives no valid skill.
        """
        skill = check_skill(arrival.skill)
        drops = self._config.state_dir / "drops"
        drops.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=drops, prefix=".take-") as scratch:
            copy = Path(scratch) / arrival.name
            self._copy(arrival.address, copy)
            if copy.stat().st_size != arrival.size:
                return None  # it grew while it was read; the next check handles it
            digest = file_digest(copy)
            items = self._heldout(arrival, Path(scratch))
            if (str(items.stat().st_size) if items else "") != arrival.heldout.partition(" ")[0]:
                return None  # the same for its held-out items
            heldout = keep(self._config, items) if items else None
            entry = Taken(
                sha256=digest, skill=skill, name=arrival.name, drop=copy, heldout=heldout, outcome="taken", time=datetime.now(UTC)
            )  # fmt: skip
            if entry.key in self.entries():
                self._mark_taken(arrival)
                return None
            entry = entry.model_copy(update={"drop": keep(self._config, copy)})
        self._remember(entry)
        self._mark_taken(arrival)
        return entry

    def _mark_taken(self, arrival: Arrival) -> None:
        """Mark it, so that the next check need not read it again. What counts is taken.jsonl, by content."""
        looks = self._last_look()
        self._write_look((looks | {arrival.address: arrival.model_copy(update={"taken": True})}).values())

    def entries(self) -> Mapping[tuple[str, str, str], Taken]:
        """The newest line of each file that was taken."""
        path = self._memory / "taken.jsonl"
        lines = path.read_bytes().split(b"\n") if path.is_file() else []
        read = [entry for entry in map(_entry_of, lines) if entry is not None]
        return {entry.key: entry for entry in read}

    def record(self, entry: Taken, outcome: Outcome, detail: str) -> Taken:
        self._remember(changed := entry.model_copy(update={"outcome": outcome, "detail": detail, "time": datetime.now(UTC)}))
        return changed

    def begin(self, entry: Taken) -> Taken:
        """Record a start of its round before it starts: a drop that kills the watcher must not be tried forever."""
        return self.record(entry.model_copy(update={"tries": entry.tries + 1}), "taken", "begun")

    def _remember(self, entry: Taken) -> None:
        with (self._memory / "taken.jsonl").open("a+b") as stream:
            if stream.tell() and not _ends_a_line(stream):
                stream.write(b"\n")  # an interrupted write must not damage this line
            stream.write(entry.model_dump_json().encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())

    def _heldout(self, arrival: Arrival, scratch: Path) -> Path | None:
        address = arrival.address.removesuffix(".jsonl") + HELDOUT
        with self._reading():
            if not self._open()[0].exists(address):
                return None
        self._copy(address, scratch / PurePosixPath(address).name)
        return scratch / PurePosixPath(address).name

    def _copy(self, address: str, target: Path) -> None:
        with reading(address, "copy it to the inbox again"), naming_full_disk(self._config.state_dir), target.open("wb") as copy:
            if is_url(address):
                download(self._config, address, copy)
                return
            if not Path(address).resolve().is_relative_to(Path(self._inbox.folder).resolve()):
                raise ConfigError(address, "has become a link to outside the inbox", "copy the file itself into the inbox")
            with open(address, "rb") as source:
                shutil.copyfileobj(source, copy)


def _size_and_time(info: Mapping[str, Any]) -> tuple[int, str]:
    """Of a file of any file system, as far as it tells them."""
    return int(info.get("size") or 0), str(info.get("mtime") or info.get("LastModified") or info.get("ETag") or info.get("created") or "")


def _entry_of(line: bytes) -> Taken | None:
    """None for an incomplete line: the lines before it count, or its drop is found in the inbox again."""
    try:
        return Taken.model_validate_json(line)
    except ValidationError:
        return None


def _ends_a_line(stream: BinaryIO) -> bool:
    stream.seek(-1, os.SEEK_END)
    return stream.read(1) == b"\n"
