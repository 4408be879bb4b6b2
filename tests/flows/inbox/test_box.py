"""The inbox: only whole files are taken, each once, whatever is restarted in between, and nothing leads out of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from data_contracts.errors import ConfigError
from flows.config.model import SkillstackConfig, parse_config
from flows.inbox.box import Inbox

OpenInbox = Callable[..., Inbox]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "inbox").mkdir()
    return tmp_path / "inbox"


@pytest.fixture
def open_inbox(tmp_path: Path) -> OpenInbox:
    def opened(**changes: object) -> Inbox:
        return Inbox(config(tmp_path, **changes))

    return opened


def config(home: Path, **changes: object) -> SkillstackConfig:
    inbox = {"folder": "inbox", "settle_seconds": 0.0, **changes}
    return parse_config({"state_dir": "state", "inbox": inbox}, where="test", folder=home)


def put(folder: Path, name: str, text: str = '{"text": "a"}\n') -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def taken(inbox: Inbox) -> list[tuple[str, str]]:
    """Two looks, then everything that is whole is taken: (skill, content)."""
    inbox.look()
    found = [inbox.take(arrival) for arrival in inbox.settled(inbox.look())]
    return [(entry.skill, entry.drop.read_text()) for entry in found if entry is not None]


def heldout_of_the_one_taken(inbox: Inbox) -> str:
    """One more look, at which one drop is whole: what its held-out items are."""
    (entry,) = (inbox.take(arrival) for arrival in inbox.settled(inbox.look()))
    assert entry is not None
    assert entry.heldout is not None
    return entry.heldout.read_text()


def test_the_name_says_the_skill(folder: Path, open_inbox: OpenInbox) -> None:
    put(folder, "route.jsonl", "1\n")
    put(folder, "date--2026-11.jsonl", "2\n")
    put(folder, "shift/anything.jsonl", "3\n")
    put(folder, "notes.txt")
    put(folder, ".hidden.jsonl")
    assert sorted(taken(open_inbox())) == [("date", "2\n"), ("route", "1\n"), ("shift", "3\n")]


def test_a_file_is_taken_at_the_second_look_and_not_while_it_grows(folder: Path, open_inbox: OpenInbox) -> None:
    path, inbox = put(folder, "route.jsonl", "a\n"), open_inbox()
    assert inbox.settled(inbox.look()) == [], "one look cannot know"
    with path.open("a") as stream:
        stream.write("b\n")
    assert inbox.settled(inbox.look()) == [], "it has grown since"
    assert [arrival.name for arrival in inbox.settled(inbox.look())] == ["route.jsonl"]


def test_a_file_that_changed_without_growing_begins_anew(folder: Path, open_inbox: OpenInbox) -> None:
    path, inbox = put(folder, "route.jsonl", "a\n"), open_inbox()
    inbox.look()
    os.utime(path, ns=(1, 1))
    assert inbox.settled(inbox.look()) == []


def test_it_must_stay_unchanged_for_the_settle_time(folder: Path, open_inbox: OpenInbox) -> None:
    put(folder, "route.jsonl")
    inbox = open_inbox(settle_seconds=3600.0)
    inbox.look()
    assert inbox.settled(inbox.look()) == []


def test_the_marker_is_waited_for(folder: Path, open_inbox: OpenInbox) -> None:
    put(folder, "route.jsonl")
    inbox = open_inbox(done_marker=True)
    assert taken(inbox) == []
    put(folder, "route.jsonl.done", "")
    assert [skill for skill, _ in taken(inbox)] == ["route"]


def test_taken_files_are_known_by_content_over_restarts_and_names(folder: Path, open_inbox: OpenInbox) -> None:
    put(folder, "route.jsonl", "same\n")
    assert len(taken(open_inbox())) == 1
    assert taken(open_inbox()) == [], "a restart must not take it again"
    put(folder, "route--again.jsonl", "same\n")
    assert taken(open_inbox()) == [], "the same rows under another name are the same drop"
    put(folder, "route.jsonl", "new rows\n")
    assert taken(open_inbox()) == [("route", "new rows\n")]


def test_the_same_content_is_another_drop_for_another_skill(folder: Path, open_inbox: OpenInbox) -> None:
    put(folder, "route.jsonl", "same\n")
    put(folder, "date.jsonl", "same\n")
    assert sorted(skill for skill, _ in taken(open_inbox())) == ["date", "route"]


def test_heldout_items_come_along_and_are_no_drop(folder: Path, open_inbox: OpenInbox) -> None:
    put(folder, "route.jsonl", "1\n")
    put(folder, "route.heldout.jsonl", "2\n")
    inbox = open_inbox()
    inbox.look()
    assert heldout_of_the_one_taken(inbox) == "2\n"


def test_held_out_items_that_still_grow_are_waited_for(folder: Path, open_inbox: OpenInbox) -> None:
    put(folder, "route.jsonl", "1\n")
    items, inbox = put(folder, "route.heldout.jsonl", "2\n"), open_inbox()
    inbox.look()
    items.write_text("2\n3\n")
    assert inbox.settled(inbox.look()) == []
    assert heldout_of_the_one_taken(inbox) == "2\n3\n"


def test_held_out_items_that_grow_between_look_and_copy_are_waited_for(folder: Path, open_inbox: OpenInbox) -> None:
    put(folder, "route.jsonl", "1\n")
    items, inbox = put(folder, "route.heldout.jsonl", "2\n"), open_inbox()
    inbox.look()
    whole = inbox.settled(inbox.look())
    items.write_text("2\n3\n")
    assert [inbox.take(arrival) for arrival in whole] == [None]


def test_a_drop_with_corrected_or_later_held_out_items_is_another(folder: Path, open_inbox: OpenInbox) -> None:
    put(folder, "route.jsonl", "1\n")
    inbox = open_inbox()
    assert taken(inbox) == [("route", "1\n")]
    for text in ("2\n", "3\n"):
        put(folder, "route.heldout.jsonl", text)
        assert taken(inbox) == [("route", "1\n")]
        assert taken(inbox) == []
    assert taken(open_inbox()) == [], "nor after a restart"


def test_what_became_of_a_drop_survives_a_line_cut_off(folder: Path, open_inbox: OpenInbox, tmp_path: Path) -> None:
    put(folder, "route.jsonl")
    inbox = open_inbox()
    inbox.look()
    (entry,) = (inbox.take(arrival) for arrival in inbox.settled(inbox.look()))
    assert entry is not None
    inbox.record(entry, "ended", "PASS: version 2")
    with (tmp_path / "state" / "inbox" / "taken.jsonl").open("a") as stream:
        stream.write('{"sha256": "half a li')
    assert [(each.outcome, each.detail) for each in open_inbox().entries().values()] == [("ended", "PASS: version 2")]


def test_a_line_cut_off_takes_no_other_line_along(folder: Path, open_inbox: OpenInbox, tmp_path: Path) -> None:
    put(folder, "route.jsonl", "1\n")
    assert len(taken(open_inbox())) == 1
    memory = tmp_path / "state" / "inbox" / "taken.jsonl"
    memory.write_bytes(memory.read_bytes() + b'{"sha256": "half a li')
    put(folder, "date.jsonl", "2\n")
    assert taken(open_inbox()) == [("date", "2\n")]
    assert {entry.skill for entry in open_inbox().entries().values()} == {"route", "date"}
    assert taken(open_inbox()) == []


@pytest.mark.parametrize("rest", [b"", b"[{", b"null", b'[{"address": "x"}]', b"\xff"])
def test_a_memory_of_looks_that_cannot_be_read_is_begun_anew(folder: Path, open_inbox: OpenInbox, tmp_path: Path, rest: bytes) -> None:
    put(folder, "route.jsonl")
    open_inbox().look()
    (tmp_path / "state" / "inbox" / "looks.json").write_bytes(rest)
    assert [skill for skill, _ in taken(open_inbox())] == ["route"]


def test_a_file_that_became_a_link_since_the_look_is_not_followed(folder: Path, open_inbox: OpenInbox, tmp_path: Path) -> None:
    secret, path, inbox = put(tmp_path, "secret.jsonl", "12\n"), put(folder, "route.jsonl", "1\n\n"), open_inbox()
    inbox.look()
    (arrival,) = inbox.settled(inbox.look())
    path.unlink()
    path.symlink_to(secret)
    with pytest.raises(ConfigError, match="link to outside the inbox"):
        inbox.take(arrival)


@pytest.mark.parametrize("name", ["_x.jsonl", "a b.jsonl", "-x.jsonl", "x.sealed/drop.jsonl"])
def test_a_name_that_is_no_skill_is_refused_and_nothing_is_kept(name: str, folder: Path, open_inbox: OpenInbox, tmp_path: Path) -> None:
    put(folder, name)
    inbox = open_inbox()
    inbox.look()
    (arrival,) = inbox.settled(inbox.look())
    with pytest.raises(ConfigError, match="is not a valid name of a skill"):
        inbox.take(arrival)
    assert not list((tmp_path / "state").glob("drops/*/*"))


def test_a_link_in_the_inbox_is_not_followed(folder: Path, open_inbox: OpenInbox, tmp_path: Path) -> None:
    secret = put(tmp_path, "secret.jsonl", "secret\n")
    (folder / "route.jsonl").symlink_to(secret)
    (folder / "away").symlink_to(tmp_path)
    assert taken(open_inbox()) == []


def test_a_missing_inbox_is_named(open_inbox: OpenInbox) -> None:
    with pytest.raises(ConfigError, match=r"inbox\.folder .*inbox: does not exist"):
        open_inbox().look()


def test_an_address_without_a_reader_is_named(open_inbox: OpenInbox) -> None:
    with pytest.raises(ConfigError, match="no reader is installed for this kind of URL"):
        open_inbox(folder="nowhere://bucket/drops").look()


def test_any_fsspec_url_is_an_inbox(open_inbox: OpenInbox) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/drops/route.jsonl", b"from afar\n")
    try:
        inbox = open_inbox(folder="memory://drops")
        assert taken(inbox) == [("route", "from afar\n")]
        assert taken(inbox) == []
    finally:
        memory.rm("/drops", recursive=True)


def test_looks_are_plain_json(folder: Path, open_inbox: OpenInbox, tmp_path: Path) -> None:
    put(folder, "route.jsonl")
    open_inbox().look()
    (look,) = json.loads((tmp_path / "state" / "inbox" / "looks.json").read_text())
    assert (look["name"], look["skill"], look["looks"], look["taken"]) == ("route.jsonl", "route", 1, False)


def test_a_store_that_is_away_is_one_line_whatever_its_reader_raises(open_inbox: OpenInbox, monkeypatch: pytest.MonkeyPatch) -> None:
    class EndpointError(Exception):
        """As botocore's: of no kind that Python knows."""

    def away(*_: object, **__: object) -> None:
        raise EndpointError("Could not connect to the endpoint\nand more")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "isdir", away)
    with pytest.raises(ConfigError, match=r"cannot be read: Could not connect to the endpoint \(") as told:
        open_inbox(folder="memory://drops").look()
    assert told.value.where == "inbox.folder memory://drops"
