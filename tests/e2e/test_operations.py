"""The daily commands on one small lineage: watch, sweep, reevaluate, report, export, one after the other as an operator uses them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.demo.materials import write_drop

pytestmark = pytest.mark.slow

Command = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, workspace_type: Any) -> Any:
    """A workspace whose inbox holds a drop; nothing has run in it."""
    made = workspace_type(tmp_path_factory.mktemp("operations"))
    (made.folder / "inbox").mkdir()
    made.drop.rename(made.folder / "inbox" / "route--2026-11.jsonl")
    made.write_config(inbox={"settle_seconds": 0.5}, train={"learning_rate": 3e-3, "num_epochs": 4})
    return made


@pytest.fixture(scope="module")
def command(place: Any) -> Command:
    def run(*arguments: str, code: int | None = 0) -> dict[str, Any]:
        """A command's JSON. code None: any verdict is fine, an error is not."""
        hidden = {"MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME"}
        environment = {name: value for name, value in os.environ.items() if name not in hidden}
        line = [sys.executable, "-m", "flows.cli.app", *arguments, "--json"]
        done = subprocess.run(line, cwd=place.folder, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode in (0, 2, 3)) if code is None else (done.returncode == code), done.stdout + done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    return run


@pytest.fixture(scope="module")
def watched(command: Command) -> dict[str, Any]:
    return command("watch", "--once")


def finished(place: Any, *stages: str) -> dict[Path, int]:
    found = (path for stage in stages for path in place.folder.glob(f".skillstack/stages/{stage}/*/manifest.json"))
    return {path: path.stat().st_mtime_ns for path in found}


def test_a_drop_in_the_inbox_becomes_a_round_and_is_taken_once(watched: dict[str, Any], command: Command) -> None:
    (entry,) = watched["started"]
    assert (entry["skill"], entry["outcome"]) == ("route", "ended")
    assert command("watch", "--once") == {"started": [], "waiting": [], "refused": [], "busy": False}
    rounds = command("history")["rounds"]
    assert [(each["round"], each["skill"]) for each in rounds] == [(0, None), (1, "route")]


def test_a_sweep_decomposes_once_and_repeats_nothing(watched: dict[str, Any], place: Any, command: Command) -> None:
    drop = str(place.folder / watched["started"][0]["drop"])
    ask = ("sweep", drop, "--skill", "swept", "--ratios", "0.1,0.3", "--scales", "0.5,1", "--no-judge")
    first = command(*ask, code=None)
    assert [(point["setting"]["ratio"], point["scale"]) for point in first["points"]] == [(0.1, 1.0), (0.1, 0.5), (0.3, 1.0), (0.3, 0.5)]
    assert first["choice"]["point"] in (None, *first["points"])
    assert all(point["n"] < 60 for point in first["points"]), "the gate's held-out items are not among the tuning rows"
    before = finished(place, "train", "rescale", "evaluate", "tuning")
    assert command(*ask, code=None)["points"] == first["points"]
    assert finished(place, "train", "rescale", "evaluate", "tuning") == before, "a sweep that comes again repeats nothing"
    scales = command("sweep", drop, "--skill", "swept", "--ratios", "0.1", "--scales", "0.25,0.5,1", "--no-judge", code=None)
    assert len(scales["points"]) == 3
    assert set(finished(place, "train")) == {path for path in before if "train" in path.parts}, "another scale trains nothing"
    assert not list(place.folder.glob(".skillstack/decompositions/whole-*")), "what the ratios cut is gone when they have"
    assert len(command("history")["rounds"]) == 2, "nothing of a sweep is registered before it is judged"


def test_a_sweep_over_rates_and_passes_chooses_nothing_where_nothing_is_learned(
    watched: dict[str, Any], place: Any, command: Command
) -> None:
    """Nothing is learned at a rate of 1e-9: no point is marked, none is judged, and the exit code says so."""
    drop = str(write_drop("ends", place.folder / "ends.jsonl", 0, rows=300))
    rounds = len(command("history")["rounds"])
    found = command("sweep", drop, "--skill", "ends", "--rates", "1e-9,2e-9", "--passes", "1,2", code=2)
    settings = [(point["setting"]["learning_rate"], point["setting"]["passes"]) for point in found["points"]]
    assert settings == [(1e-9, 1), (1e-9, 2), (2e-9, 1), (2e-9, 2)]
    steps = [point["steps"] for point in found["points"]]
    assert steps == [steps[0], 2 * steps[0]] * 2
    assert (found["choice"]["point"], found["outcome"]) == (None, None)
    assert found["choice"]["reason"].startswith("No point learned the skill")
    assert "--passes" in found["choice"]["next"][0]
    assert len(command("history")["rounds"]) == rounds, "a point that taught nothing is not judged"


def test_a_share_of_the_rounds_own_update_is_chosen_and_judged(watched: dict[str, Any], place: Any, command: Command) -> None:
    """Without ratios nothing is trained twice: the update is the round's own, and the judged round is the chosen share of it."""
    drop = str(write_drop("mood", place.folder / "mood.jsonl", 0, rows=400))
    expected = command("estimate", drop, "--skill", "mood")
    assert expected["past"] == []
    found = command("sweep", drop, "--skill", "mood", "--ratios", "none", "--scales", "0.5,1", code=None)
    assert [point["scale"] for point in found["points"]] == [1.0, 0.5]
    assert any("measured on training rows" in note for note in found["notes"]), found["notes"]
    scale = found["choice"]["point"]["scale"]
    record = command("history")["rounds"][-1]
    assert (record["skill"], record["version"]) == ("mood", found["outcome"]["version"])
    assert record["decision"] == found["outcome"]["decision"]
    manifests = [json.loads(path.read_text()) for path in finished(place, "train")]
    [made] = [each for each in manifests if each["skill"] == "mood"]
    assert (expected["estimate"]["rows"], expected["estimate"]["steps"]) == (made["summary"]["examples"], made["summary"]["steps"])
    measured = (made["summary"]["peak_memory_bytes"], sum(each["bytes"] for each in made["files"].values()))
    guessed = (expected["estimate"]["memory_bytes"], expected["estimate"]["disk_bytes"])
    assert guessed == pytest.approx(measured, rel=0.3)
    [checked] = [each for each in command("doctor", code=None)["checks"] if each["check"] == "estimate"]
    assert ", mood: time " in checked["detail"]
    trained = finished(place, "train")
    again = command("round", drop, "--skill", "mood", "--scale", str(scale), code=None)
    assert again["version"] == record["version"], "the same share of the same update is the same round"
    assert finished(place, "train") == trained, "a scale trains nothing"


def test_an_old_version_is_measured_on_a_new_suite_and_the_matrix_has_no_hole(
    watched: dict[str, Any], place: Any, command: Command
) -> None:
    suite = place.folder / "later.jsonl"
    suite.write_text("".join((place.folder / "suites" / "copy.jsonl").read_text().splitlines(keepends=True)[:40]))
    done = command("reevaluate", "--suites", str(suite))
    assert all("later" in each["scores"] for each in done["versions"])
    audit = command("audit")
    column = [index for index, each in enumerate(audit["suites"]) if each["name"] == "later"]
    assert all(row[column[0]] is not None for row in audit["matrix"])
    assert command("verify")["ok"]


def test_the_months_report_is_kept_with_the_ledger(watched: dict[str, Any], place: Any, command: Command) -> None:
    done = command("report")
    assert Path(done["page"]).is_file()
    assert "bootstrap" in Path(done["summary"]).read_text()
    kept = list(place.folder.glob(".skillstack/artifacts/*/artifacts/reports/audit-*"))
    assert {path.suffix for path in kept} == {".html", ".md"}


def test_a_version_is_exported_dense_and_as_an_adapter(watched: dict[str, Any], place: Any, command: Command) -> None:
    dense = command("export", "2", str(place.folder / "dense"))
    assert (Path(dense["folder"]) / "config.json").is_file()
    adapter = command("export", "2", str(place.folder / "lora"), "--as", "lora")
    assert (place.folder / "lora" / "adapter_model.safetensors").is_file()
    assert adapter["relative_error"] < 1e-6
    alone = command("export", "2", str(place.folder / "step"), "--as", "lora", "--since", "parent")
    assert alone["relative_error"] < 1e-6
    assert "no update" in command("export", "1", str(place.folder / "none"), "--as", "lora", code=1)["error"]["what"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("round", "s3://elsewhere/x.jsonl", "--skill", "x"), "outside the allowed roots"),
        (("round", "x.jsonl", "--skill", "../x"), "is not a valid name of a skill"),
        (("sweep", "x.jsonl", "--skill", "x", "--ratios", "0.4:0.1:0.1"), "not an increasing range"),
        (("report", "--month", "2026-13"), "is not a month"),
        (("reevaluate", "--versions", "99"), "is not in the registry"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_the_champion_stays(
    watched: dict[str, Any], command: Command, arguments: tuple[str, ...], words: str
) -> None:
    before = command("history")["rounds"]
    assert words in command(*arguments, code=1)["error"]["what"]
    assert command("history")["rounds"] == before
