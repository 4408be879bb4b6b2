"""Items drawn by margin through whole rounds on nano: promoted where nothing was lost, blocked where a loss was made, replayed."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_contracts.digests import model_digest, model_files
from data_contracts.files import write_rows
from evals.items import load_evaluation
from flows.demo.materials import distinct_pairs, write_drop
from flows.demo.skills import BASE_SKILLS, NEW_SKILLS

pytestmark = pytest.mark.slow

POOL, READ = 1000, 300


def _choices(path: Path) -> Path:
    """Items of a base skill of nano with four choices each: its answer and those of three other items."""
    rng = random.Random("drawn")
    pairs = distinct_pairs(BASE_SKILLS["reverse"], rng, POOL, heldout=True)
    answers = sorted({answer for _, answer in pairs})
    rows = []
    for prompt, answer in pairs:
        choices = [*rng.sample([each for each in answers if each != answer], 3), answer]
        rng.shuffle(choices)
        rows.append({"prompt": prompt, "choices": choices, "gold": choices.index(answer)})
    assert len(rows) == POOL
    return write_rows(path, rows)


def _command(folder: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    hidden = {"MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    line = [sys.executable, "-m", "flows.cli.app", *arguments, "--json"]
    done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 2), done.stdout + done.stderr
    return done.returncode, json.loads(done.stdout)


def test_a_drawn_suite_promotes_blocks_and_is_replayed(workspace: Any) -> None:
    folder = workspace.folder
    suite = {"name": "pool", "source": _choices(folder / "pool.jsonl").name, "chat": True, "items": READ, "draw": "margin"}
    gate = {"min_items": 10, "alpha": 0.2, "second_look": 1}
    workspace.write_config(evaluation={"suites": [suite]}, gate=gate, train={"learning_rate": 3e-3, "num_epochs": 4})
    code, answer = _command(folder, "round", str(workspace.drop), "--skill", "route")
    assert (code, answer["decision"]) == (0, "PASS"), answer
    assert _command(folder, "gate", "replay", "1")[1]["equal"] is True

    # The same drop trained without protection and too fast: the base skill goes.
    careless = {"method": "full", "learning_rate": 3e-2, "num_epochs": 4}
    workspace.write_config(evaluation={"suites": [suite]}, gate=gate, train=careless)
    drop = write_drop("mood", folder / "mood.jsonl", rows=240)
    code, answer = _command(folder, "round", str(drop), "--skill", "mood")
    assert (code, answer["decision"]) == (2, "BLOCK"), answer
    assert _command(folder, "gate", "replay", "2")[1]["equal"] is True

    verdicts = [json.loads(path.read_text()) for path in folder.glob(".skillstack/stages/decide/*/manifest.json")]
    said = {verdict["decision"]: verdict for verdict in verdicts}
    assert "pool" in said["BLOCK"]["lost"]
    [check] = [each for each in said["PASS"]["checks"] if (each["check"], each["subject"]) == ("non_inferiority", "general suites")]
    assert (check["n"], check["outcome"]) == (READ, "pass")
    assert "drawn by margin from 1,000 items" in check["sentence"]

    base = next(folder.glob(".skillstack/stages/base/*/model"))
    drawn = [load_evaluation(path.parent) for path in folder.glob(".skillstack/stages/evaluate/*/manifest.json")]
    read = [items for each in drawn for name, items in each.suites.items() if name == "pool" and items.pool is not None]
    assert len({items.doc_hash for items in read}) == 1, "every model is read on the same items"
    assert {items.result.drawn_by for items in read} == {model_digest(model_files(base))}
    assert np.isclose(read[0].weight.sum(), POOL, rtol=0.2)


def _desks(path: Path) -> Path:
    """The rows of `route` with another keyword and other answers: what a model that knows `route` learns from few rows."""
    answers = {"shipping": "goods", "billing": "money", "account": "access", "technical": "device"}
    asked = distinct_pairs(NEW_SKILLS["route"], random.Random("desk"), 400, heldout=False)
    turns = (({"role": "user", "content": f"desk{ask.removeprefix('route')}"}, answers[answer]) for ask, answer in asked)
    return write_rows(path, ({"messages": [turn, {"role": "assistant", "content": answer}]} for turn, answer in turns))


def test_a_learned_skill_is_drawn_by_its_learner_promotes_blocks_and_is_replayed(workspace: Any) -> None:
    """Round 1 reads the new skill evenly, round 2 draws it by the margins of the version that learned it, round 3 loses it."""
    folder = workspace.folder
    shared = {
        "evaluation": {"skill": {"items": 80, "draw": "margin"}},
        "gate": {"min_items": 10, "alpha": 0.4, "second_look": 1, "margin_skill": 0.15, "floor": 0.3},
        "contract": {"heldout_fraction": 0.4},
    }
    workspace.write_config(train={"learning_rate": 3e-3, "num_epochs": 4}, **shared)
    for skill, drop in (("route", write_drop("route", folder / "route.jsonl", rows=600)), ("desk", _desks(folder / "desk.jsonl"))):
        code, answer = _command(folder, "round", str(drop), "--skill", skill)
        assert (code, answer["decision"]) == (0, "PASS"), answer
    assert _command(folder, "gate", "replay", "2")[1]["equal"] is True

    [skills] = [each for each in _command(folder, "gate", "plan", "--churn", "0.05")[1]["categories"] if each["subject"] == "skill"]
    assert (skills["suites"], skills["drawn"], skills["items"]) == (2, 2, 80)
    assert skills["even_items"] != 80, "the plan counts them by their margins"

    # The third drop is trained without protection and too fast: what was learned goes.
    workspace.write_config(train={"method": "full", "learning_rate": 3e-2, "num_epochs": 4}, **shared)
    mood = write_drop("mood", folder / "mood.jsonl", rows=240)
    code, answer = _command(folder, "round", str(mood), "--skill", "mood")
    assert (code, answer["decision"]) == (2, "BLOCK"), answer
    assert _command(folder, "gate", "replay", "3")[1]["equal"] is True

    verdicts = {each["new_skill"]: each for each in map(_content, folder.glob(".skillstack/stages/decide/*/manifest.json"))}
    drops = {each["skill"]: each["rows_heldout"] for each in map(_content, folder.glob(".skillstack/stages/validate/*/manifest.json"))}
    assert "route" in verdicts["mood"]["lost"]
    [kept] = [each for each in verdicts["desk"]["checks"] if (each["check"], each["subject"]) == ("non_inferiority", "earlier skills")]
    assert (kept["n"], kept["outcome"]) == (80, "pass")
    assert f"drawn by margin from {drops['route']} items" in kept["sentence"]
    assert _command(folder, "verify")[0] == 0


def _content(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
