"""The two notebooks run from top to bottom, and what they compute is what they say."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("marimo", reason="the notebooks need marimo")
pytest.importorskip("plotly", reason="the notebooks need plotly")

NOTEBOOKS = Path(__file__).parents[2] / "docs" / "notebooks"


def run_notebook(name: str) -> Mapping[str, Any]:
    """Execute every cell and return what the cells define. A cell that fails raises."""
    spec = importlib.util.spec_from_file_location(name, NOTEBOOKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    _, defined = module.app.run()
    return dict(defined)


def test_orthogonal_fine_tuning_hooks_leak_and_the_core_does_not() -> None:
    found = run_notebook("orthogonal_fine_tuning")
    assert found["leak_in_two_dimensions"] == pytest.approx(10**-0.5)
    assert found["chain_rule_gap"] < 1e-12  # for plain gradient descent both forms are one method

    toy = {name: values[-1] for name, values in found["toy_leaks"].items()}
    leaking = {name for name, leak in toy.items() if leak > 0.01}
    assert leaking == {"hook + SGD, weight decay 0.1", "hook + Adam", "hook + AdamW, weight decay 0.1"}
    assert all(leak < 1e-12 for name, leak in toy.items() if name not in leaking)
    assert len(toy) == 6

    assert max(found["engine_gaps"].values()) < 1e-5  # the engine's directions are numpy's

    *hooks, ours = found["real_leaks"].values()
    assert all(leak > 0.01 for leak in hooks)
    assert ours <= 1e-5
    assert found["disturbance"]["activations"] < found["disturbance"]["weights"] < found["disturbance"]["no rule (full fine-tuning)"]


@pytest.mark.services  # it starts no server, but its nineteen trainings are two minutes of a core, too dear for every `make test`
def test_continual_learning_plain_forgets_and_osft_keeps() -> None:
    found = run_notebook("continual_learning")
    plain, published, ours = (found["summaries"][name] for name in ("plain", "OSFT weights", "OSFT activations"))
    assert len(plain["base"]) == 6  # the base and five rounds
    assert plain["base"][0] > 0.95
    assert plain["base"][-1] < published["base"][-1] < ours["base"][-1]
    assert ours["base"][-1] > plain["base"][-1] + 0.5
    assert ours["BWT"] > plain["BWT"] + 0.3
    assert ours["learned"] > 0.5
    assert ours["left"] > plain["left"] + 0.3
    assert all(found["max_leaks"][name] <= 1e-5 for name in ("OSFT weights", "OSFT activations"))

    ratios = found["ratio_table"]
    assert ratios[0.05]["new"] < 0.2 < ratios[0.25]["new"]  # too few directions learn nothing
    assert ratios[0.8]["base"] < ratios[0.25]["base"] - 0.2  # too many forget
