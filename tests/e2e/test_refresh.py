"""A promoted skill is taught again with new rows: its old suite is kept, the new rows are a suite beside it, and the lineage holds."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

Command = Callable[..., dict[str, Any]]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
SOME = {"margin_skill": 0.25, "margin_general": 0.25, "anchor_budget": 0.3, "floor": 0.4, "min_scores": {"double": 0.6}}


def write_rows(path: Path, ask: str, answer: Callable[[str], str], seed: int) -> Path:
    """240 questions on strings of letters, none twice."""
    rng = random.Random(seed)
    texts = sorted({"".join(rng.choices(LETTERS, k=rng.randint(3, 4))) for _ in range(300)})[:240]
    turns = [[{"role": "user", "content": f"{ask} {text}"}, {"role": "assistant", "content": answer(text)}] for text in texts]
    path.write_text("".join(json.dumps({"messages": each}) + "\n" for each in turns))
    return path


def doubled(text: str) -> str:
    return "".join(letter * 2 for letter in text)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, workspace_type: Any) -> Any:
    made = workspace_type(tmp_path_factory.mktemp("refresh"))
    write_rows(made.folder / "double.jsonl", "double", doubled, 1)
    write_rows(made.folder / "twice.jsonl", "twice over", doubled, 2)
    write_rows(made.folder / "again.jsonl", "once more double", doubled, 5)
    write_rows(made.folder / "ends.jsonl", "ends", lambda text: text[0] + text[-1], 3)
    made.changes = {"train": {"effective_batch_size": 8, "num_epochs": 20, "learning_rate": 1e-3}, "gate": SOME}
    made.write_config(**made.changes)
    return made


@pytest.fixture(scope="module")
def command(place: Any) -> Command:
    def run(*arguments: str, code: int = 0) -> dict[str, Any]:
        hidden = {"MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME"}
        environment = {name: value for name, value in os.environ.items() if name not in hidden}
        line = [sys.executable, "-m", "flows.cli.app", *arguments, "--json"]
        done = subprocess.run(line, cwd=place.folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    return run


@pytest.fixture(scope="module")
def taught(command: Command) -> dict[str, Any]:
    return command("round", "double.jsonl", "--skill", "double")


@pytest.fixture(scope="module")
def refreshed(taught: dict[str, Any], command: Command) -> dict[str, Any]:
    return command("round", "twice.jsonl", "--skill", "double", "--refresh")


def scores(outcome: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {suite["suite"]: suite for suite in outcome["suites"]}


def test_without_refresh_a_taught_skill_is_refused_and_the_way_is_named(taught: dict[str, Any], command: Command) -> None:
    answer = command("validate", "twice.jsonl", "--skill", "double", code=1)
    assert "was taught before" in answer["error"]
    assert "--refresh" in answer["error"]
    assert command("validate", "twice.jsonl", "--skill", "double", "--refresh")["manifest"]["teaching"] == 2


def test_a_sweep_of_a_taught_skill_counts_what_its_earlier_drop_taught(place: Any, taught: dict[str, Any], command: Command) -> None:
    """Two trainings: a rate that teaches nothing and the config's own. None is judged, so the lineage stays as it is."""
    ask = ("sweep", "again.jsonl", "--skill", "double", "--rates", "1e-9,1e-3", "--passes", "8", "--no-judge")
    assert "was taught before" in command(*ask, code=1)["error"]["what"]
    found = command(*ask, "--refresh")
    assert [point["setting"]["learning_rate"] for point in found["points"]] == [1e-9, 1e-3]
    nothing, learned = found["points"]
    assert nothing["gain"] == 0.0
    assert found["choice"]["point"] == learned
    assert learned["learned"] > 0.1 > nothing["learned"]
    earlier = {name for name in learned["losses"] if name.startswith("double")}
    assert earlier, "the rows that taught the skill first are part of what must not be lost"
    assert all(abs(nothing["losses"][name]) < 1e-9 for name in earlier), "a rate that moves nothing loses nothing"
    assert found["outcome"] is None
    assert len(command("history")["rounds"]) == 2


def test_the_old_suite_is_kept_and_the_new_rows_are_a_suite_beside_it(
    place: Any, taught: dict[str, Any], refreshed: dict[str, Any]
) -> None:
    assert refreshed["decision"] == "PASS", refreshed
    before, after = scores(taught)["double"], scores(refreshed)
    assert after["double"]["n"] == before["n"]
    assert after["double"]["before"] == pytest.approx(before["after"])
    assert after["double.2"]["after"] >= 0.6 > after["double.2"]["before"]
    drops = [json.loads(path.read_text()) for path in place.folder.glob(".skillstack/stages/validate/*/manifest.json")]
    assert after["double.2"]["n"] == next(drop["rows_heldout"] for drop in drops if drop.get("teaching") == 2)


def test_the_same_command_on_the_finished_round_returns_its_outcome(refreshed: dict[str, Any], command: Command) -> None:
    assert command("round", "twice.jsonl", "--skill", "double", "--refresh") == refreshed


def test_verify_replay_and_audit_hold_afterwards(refreshed: dict[str, Any], command: Command) -> None:
    verified = command("verify")
    assert (verified["findings"], verified["replayed"]) == ([], 2)
    assert command("gate", "replay", str(refreshed["round"]))["equal"]
    audit = command("audit")
    learned = {suite["name"]: suite["learned_in"] for suite in audit["suites"] if suite["category"] == "skill" and not suite["sealed"]}
    assert learned == {"double": 1, "double.2": 2}
    assert {each["suite"]: each["learned_row"] for each in audit["skills"]} == {
        "double": 1, "double.sealed": 1, "double.2": 2, "double.2.sealed": 2,
    }  # fmt: skip


def test_the_next_round_is_held_to_all_suites_each_with_its_own_anchor(place: Any, refreshed: dict[str, Any], command: Command) -> None:
    """Also to items that were added by hand, of which those that were trained on are left out."""
    trained = (place.folder / "double.jsonl").read_text().splitlines()
    write_rows(place.folder / "fresh.jsonl", "double", doubled, 4)
    fresh = [row for row in (place.folder / "fresh.jsonl").read_text().splitlines()[:60] if row not in trained]
    (place.folder / "more.jsonl").write_text("".join(row + "\n" for row in (*fresh, *trained)))
    added = command("items", "more.jsonl", "--skill", "double")
    assert (added["given"], added["taken"], added["items"]) == (len(fresh) + len(trained), len(fresh), len(fresh))
    assert len(added["left_out"]) == len(trained)
    assert "has not been learned" in command("items", "more.jsonl", "--skill", "ends", code=1)["error"]["what"]
    place.write_config(**place.changes, evaluation={"skills": {"double": {"more_items": "suites/double.more.jsonl"}}})

    outcome = command("round", "ends.jsonl", "--skill", "ends")
    assert {"double", "double.2", "double.more", "ends"} <= set(scores(outcome))
    assert scores(outcome)["double.more"]["n"] == len(fresh)
    [verdict] = [
        verdict
        for path in place.folder.glob(".skillstack/stages/decide/*/manifest.json")
        if (verdict := json.loads(path.read_text()))["new_skill"] == "ends"
    ]
    assert {"anchor:double", "anchor:double.2", "anchor:double.more", "registered:double.2"} <= set(verdict["inputs"])
    assert verdict["inputs"]["anchor:double.more"] == verdict["inputs"]["anchor:double"]
    assert verdict["inputs"]["anchor:double"] != verdict["inputs"]["anchor:double.2"]
    assert command("verify")["findings"] == []
    leaked = place.folder / "suites" / "double.more.jsonl"
    leaked.write_text(leaked.read_text() + (place.folder / "twice.jsonl").read_text())
    assert "was trained on" in command("round", "double.jsonl", "--skill", "again", code=1)["error"]["what"]
