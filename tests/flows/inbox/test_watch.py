"""One look into the inbox: whatever is wrong with one drop, the others get their rounds, and nothing is tried without end.

The round is a stand-in that fails as it is told to; the inbox and its memory are real.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from data_contracts.errors import DropError
from flows.config.model import SkillstackConfig, parse_config
from flows.inbox import watch as watching
from flows.inbox.box import Inbox
from flows.inbox.watch import MAX_TRIES, Watched


class Rounds:
    """Stands for the flow of a round: raises what a skill is to raise, and remembers what was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.raises: dict[str, BaseException] = {}

    def __call__(self, drop: Path, skill: str, *_: Any) -> Any:
        self.asked.append(skill)
        if skill in self.raises:
            raise self.raises[skill]

        class Outcome:
            decision, version = type("Decision", (), {"value": "PASS"}), 2

        return Outcome


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> Rounds:
    made = Rounds()
    monkeypatch.setattr(watching, "continual_round", made)
    return made


@pytest.fixture
def config(tmp_path: Path) -> SkillstackConfig:
    (tmp_path / "inbox").mkdir()
    return parse_config({"state_dir": "state", "inbox": {"settle_seconds": 0.0}}, where="test", folder=tmp_path)


Look = Callable[[], Watched]


@pytest.fixture
def look(config: SkillstackConfig) -> Look:
    """The flow's own function, without a Prefect server. Two looks, as one run makes."""

    def twice() -> Watched:
        Inbox(config).look()
        return watching.watch.fn(config, 0.0)

    return twice


def put(config: SkillstackConfig, name: str) -> None:
    (Path(config.inbox.folder) / name).write_text(f'{{"text": "{name}"}}\n')


def outcomes(config: SkillstackConfig) -> dict[str, str]:
    return {entry.skill: entry.outcome for entry in Inbox(config).entries().values()}


def test_an_error_of_any_kind_ends_its_own_drop_only(config: SkillstackConfig, rounds: Rounds, look: Look) -> None:
    rounds.raises = {"a": RecursionError("too deep"), "b": DropError("b.jsonl", "is no drop")}
    for name in ("a.jsonl", "b.jsonl", "c.jsonl"):
        put(config, name)
    seen = look()
    assert outcomes(config) == {"a": "failed", "b": "failed", "c": "ended"}
    assert next(entry.detail for entry in seen.started) == "RecursionError: too deep"
    look()
    assert rounds.asked == ["a", "b", "c"], "what failed is not tried again by itself"


def test_what_may_pass_is_tried_after_what_is_new_and_not_for_ever(config: SkillstackConfig, rounds: Rounds, look: Look) -> None:
    rounds.raises = {"a": ConnectionError("the server is away")}
    put(config, "a.jsonl")
    look()
    look()
    assert outcomes(config) == {"a": "taken"}
    rounds.asked.clear()
    put(config, "b.jsonl")
    look()
    assert rounds.asked == ["b", "a"]
    for _ in range(MAX_TRIES):
        seen = look()
    assert outcomes(config)["a"] == "failed"
    assert rounds.asked.count("a") + 2 == MAX_TRIES
    assert not seen.started


def test_a_drop_that_kills_its_watcher_is_not_begun_for_ever(config: SkillstackConfig, rounds: Rounds, look: Look) -> None:
    rounds.raises = {"a": SystemExit(137)}  # stands for a kill: nothing after it runs
    put(config, "a.jsonl")
    put(config, "b.jsonl")
    for _ in range(MAX_TRIES):
        with pytest.raises(SystemExit):
            look()
    (failed,) = [entry for entry in look().started if entry.skill == "a"]
    assert (failed.outcome, failed.tries) == ("failed", MAX_TRIES)
    assert "skillstack round" in failed.detail
    assert outcomes(config)["b"] == "ended"


def test_a_file_that_cannot_be_taken_does_not_keep_the_others_waiting(
    config: SkillstackConfig, rounds: Rounds, look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = Inbox.take

    def refuse(inbox: Inbox, arrival: Any) -> Any:
        if arrival.skill == "a":
            raise UnicodeError("a name that no text can hold")
        return take(inbox, arrival)

    monkeypatch.setattr(Inbox, "take", refuse)
    put(config, "a.jsonl")
    put(config, "b.jsonl")
    seen = look()
    assert [each.error for each in seen.refused] == ["UnicodeError: a name that no text can hold"]
    assert rounds.asked == ["b"]


def test_a_second_look_at_the_same_time_leaves_the_inbox_to_the_first(config: SkillstackConfig, rounds: Rounds) -> None:
    """The deployments `monthly` and `inbox` meet on the first of the month: no failure, and nobody is told of one."""
    put(config, "a.jsonl")
    held, done = threading.Event(), threading.Event()
    path = Inbox(config).lock.lock_file

    def first() -> None:
        with FileLock(path):
            held.set()
            done.wait(60)

    thread = threading.Thread(target=first)
    thread.start()
    try:
        assert held.wait(60)
        assert watching.watch.fn(config, 0.0) == Watched(started=(), waiting=(), refused=(), busy=True)
    finally:
        done.set()
        thread.join()
    assert rounds.asked == []
