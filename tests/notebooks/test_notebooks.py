"""The notebooks run from top to bottom, and what they compute is what they say."""

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


@pytest.mark.services  # it starts no server; its fourteen trainings are a minute of a core
def test_rotations_keep_the_geometry_and_constrained_updates_keep_the_skills() -> None:
    found = run_notebook("rotations")
    assert found["plane_gap"] < 1e-12
    assert found["cayley_plane_gap"] < 1e-12
    assert found["orthogonality_gap"] < 1e-12
    coarse, middle, fine = found["exponential_gaps"].values()
    assert coarse / middle == pytest.approx(1000, rel=0.5)  # equal to second order
    assert middle / fine == pytest.approx(1000, rel=0.5)
    factors = found["reach_of_factors"]
    assert [each["connected"] for each in factors.values()] == [2 / 16, 4 / 16, 8 / 16, 1.0]
    assert all(each["gap"] < 1e-12 for each in factors.values())

    turned, low, inside = found["kept"].values()
    assert max(turned["singular values"], turned["norms"], turned["energy"]) < 1e-12
    assert min(low["singular values"], inside["singular values"]) > 1e-3
    assert inside["old outputs"] < 0.3 * min(low["old outputs"], turned["old outputs"])

    moved, scores, best = found["weights_moved"], found["scores"], found["best"]
    assert moved["OFT"]["singular values"] < 1e-5 < 1e-3 < moved["LoRA"]["singular values"]
    assert moved["OSFT 0.25"]["old outputs"] < moved["OFT"]["old outputs"]
    for method, rates in scores.items():
        assert len(rates) >= 3
        if not method.startswith("OSFT"):  # a worse rate for OSFT would only weaken what is said of it
            assert best[method] not in (min(rates), max(rates)), f"{method}: its best rate is at the end of what was tried"
        assert rates[best[method]]["new"][0] > 0.3, f"{method} learned nothing"
    kept = {method: rates[best[method]]["old"] for method, rates in scores.items()}
    assert kept["OSFT 0.25"][1] > max(kept["LoRA"][2], kept["OFT"][2]), "beyond the items' chance"


@pytest.mark.parametrize("name", ["orthogonal_fine_tuning", "continual_learning", "rotations"])
def test_a_notebook_loads_no_script_of_another_host(name: str) -> None:
    """marimo's charts load MathJax from the web unless the page holds an inert script of that address: the one that explore serves."""
    from flows.explore.serve import _MATHJAX

    text = (NOTEBOOKS / f"{name}.py").read_text(encoding="utf-8")
    assert 'html_head_file="offline.html"' in text
    head = (NOTEBOOKS / "offline.html").read_text(encoding="utf-8")
    assert f'<script type="text/plain" data-status="ready" src="{_MATHJAX}"></script>' in head
