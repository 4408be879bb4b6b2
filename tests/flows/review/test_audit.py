"""Checkpoints that others trained: nano, and a copy of it that was damaged, on a suite that the config knows."""

from __future__ import annotations

import html
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from flows.base_models.resolve import NANO
from flows.cli.app import app
from flows.config.model import load_config
from flows.demo.materials import write_base_suites
from flows.review.audit import suites_named

ITEMS = 12


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config that asks the suite `copy` through the chat template, and the damaged model."""
    folder = tmp_path_factory.mktemp("project")
    suite = write_base_suites(folder / "suites").suites["copy"]
    suite.write_text("".join(suite.read_text().splitlines(keepends=True)[:ITEMS]))
    how = {"name": "copying", "source": f"suites/{suite.name}", "chat": True, "max_new_tokens": 16}
    config = {"state_dir": "state", "evaluation": {"num_threads": 1, "suites": [how]}}
    (folder / "skillstack.yaml").write_text(json.dumps(config))
    shutil.copytree(NANO, folder / "damaged")
    for path in (folder / "damaged").glob("*.safetensors"):
        tensors = load_file(path)
        noise = torch.Generator().manual_seed(0)
        tensors = {
            name: each + 2.0 * each.std() * torch.randn(each.shape, generator=noise) if each.ndim == 2 else each
            for name, each in tensors.items()
        }
        save_file(tensors, path, metadata={"format": "pt"})
    return folder


@pytest.fixture
def audit(project: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(project)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def run(*arguments: str) -> dict[str, Any]:
        result = CliRunner().invoke(
            app, ["audit", *arguments, "--config", str(project / "skillstack.yaml"), "--json"], catch_exceptions=False
        )
        answer: dict[str, Any] = json.loads(result.stdout)
        return answer

    return run


def test_a_suite_file_that_the_config_names_is_asked_as_the_config_says(audit: Any, project: Path) -> None:
    """Asked without the chat template, nano scores 0 % on the skill that it knows best, and every loss is invisible."""
    found = audit("--checkpoints", "nano", "--checkpoints", "damaged", "--suites", "suites/copy.jsonl", "--out", "page.html")
    assert [suite["name"] for suite in found["suites"]] == ["copying"]
    (nano,), (damaged,) = found["matrix"]
    assert nano == 1.0
    assert damaged < 0.5
    by_name = audit("--checkpoints", "nano", "--checkpoints", "damaged", "--suites", "copying", "--out", "page.html")
    assert by_name["matrix"] == found["matrix"]


def test_its_page_is_that_of_a_lineage(audit: Any, project: Path) -> None:
    found = audit("--checkpoints", "nano", "--checkpoints", "damaged", "--out", "page.html")
    page = html.unescape((project / "page.html").read_text())
    rows = [line for line in page.splitlines() if 'data-label="verdict"' in line]
    assert len(rows) == 2
    assert "nano" in rows[0]
    assert "– base" in rows[0]
    assert "damaged" in rows[1]
    assert "base" not in rows[1], "only the first is what the others are measured against"
    assert "lost, more than noise explains" in page
    layer = "model.layers.0.self_attn.q_proj"
    one, other = (load_file(next(folder.glob("*.safetensors")))[f"{layer}.weight"].double() for folder in (NANO, project / "damaged"))
    moved = {each["layer"]: each["relative_change"] for each in found["rounds"][1]["weights"]}
    assert moved[layer] == pytest.approx(float((other - one).norm() / one.norm()), rel=1e-6)
    assert f'<th scope="row">{layer}</th>' in page


def test_a_source_that_the_config_does_not_name_is_taken_as_it_is(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    shutil.copyfile("suites/copy.jsonl", "other.jsonl")
    config = load_config(project / "skillstack.yaml")
    named = suites_named(config, ["other.jsonl", "copying", "suites/copy.jsonl"])
    assert [(suite.name, suite.chat) for suite in named] == [("other", False), ("copying", True)]
