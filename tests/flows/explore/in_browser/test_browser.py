"""The explorer in a real browser: every control of every view moved, every number compared with the engine's own functions.

pytest -m services tests/flows/explore/in_browser/test_browser.py
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from flows.config.model import SkillstackConfig
from flows.explore import geometry, material, scene
from flows.explore.answer import Missing
from flows.explore.updates import GRADIENT, Source, rotated_by_protection
from flows.explore.views import calibration, capacity, cost_views, dynamics, matrix, model_shape, playground, spectrum, sweeps
from flows.explore.views.constraint import constrain

pytestmark = pytest.mark.services


@pytest.fixture
def now(explored: SkillstackConfig) -> scene.Scene:
    """What the page must be showing, read by this process."""
    return scene.look()


def records_of(now: scene.Scene) -> list[Any]:
    assert not isinstance(now.records, Missing)
    return now.records


RIGHT = "\ue014"  # the key arrow right
RATIO = "ratio"


def has_controls(view: Any, *names: str) -> None:
    """The page has these controls and no other: a new one must be moved by a test too."""
    view.wait(lambda: len(view.labels()) >= len(names), "controls")
    labels = view.labels()
    assert len(labels) == len(names), labels
    for name in names:
        assert any(name in label for label in labels), (name, labels)


def test_spectrum(view: Any, now: scene.Scene) -> None:
    view.open("spectrum")
    has_controls(view, "model", "layer", "spectrum of", RATIO)
    subject = next(iter(now.subjects().values()))
    model = material.open_model(subject, None)
    measured = material.measurements(model)
    first = next(iter(model.targets))
    energies = measured.weight_energies(first)
    view.await_sentence(spectrum.cut_energies(energies, 0.25).sentence())
    view.press(RATIO, RIGHT)
    view.await_sentence(spectrum.cut_energies(energies, 0.26).sentence())
    other = list(model.targets)[6]
    view.choose("layer", other)
    view.await_sentence(spectrum.cut_energies(measured.weight_energies(other), 0.26).sentence())
    view.choose("spectrum of", "energies of its inputs")
    view.await_sentence(spectrum.cut_energies(spectrum.input_energies(measured.moment(other)), 0.26).sentence())
    choices = spectrum.policy_choices(
        spectrum.input_energies(measured.moment(other)), now.config.train, other, measured.importance(), measured.moment(other)
    )
    wanted = [value for row in spectrum.choice_rows(choices) for value in row.values()]
    cells = "return [...document.querySelectorAll('.explore-table td')].map(e => e.textContent)"
    view.wait(lambda: view.run(cells) == wanted, f"table {wanted}")  # it comes after the sentence, when the model is loaded
    drawn = "return [...document.querySelectorAll('marimo-plotly')].map(e => e.shadowRoot.textContent).join()"
    view.wait(lambda: all(policy in view.run(drawn) for policy in spectrum.POLICY_COLOURS), "a line for each policy")
    view.choose("model", "nano (included)")
    view.await_sentence(spectrum.cut_energies(energies, 0.25).sentence())  # the same weights: the lineage's are nano's own


def test_constraint(view: Any, now: scene.Scene) -> None:
    view.open("constraint")
    has_controls(view, "model", "update", "layer", "protect", RATIO)
    model = material.open_model(next(iter(now.subjects().values())), None)
    measured, layer = material.measurements(model), next(iter(model.targets))
    rotated = rotated_by_protection(measured, Source(GRADIENT), layer)
    view.await_sentence(constrain(rotated["activations"], "activations", 0.25).sentence())
    for protect in ("weights", "weights_block"):
        view.choose("protect", protect)
        view.await_sentence(constrain(rotated[protect], protect, 0.25).sentence())  # type: ignore[index, arg-type]
    view.press(RATIO, RIGHT)
    view.await_sentence(constrain(rotated["weights_block"], "weights_block", 0.26).sentence())
    other = list(model.targets)[6]
    view.choose("layer", other)
    view.await_sentence(
        constrain(rotated_by_protection(measured, Source(GRADIENT), other)["weights_block"], "weights_block", 0.26).sentence()
    )
    view.choose("update", "update of round 3 · gamma (full, BLOCK)")  # the test's rounds all have nano's weights: nothing changed
    view.wait(lambda: any("Leak before 0.0000" in line for line in view.said()), "update without change")
    view.choose("model", "nano (included)")
    view.await_sentence(constrain(rotated["activations"], "activations", 0.25).sentence())


def test_geometry(view: Any, now: scene.Scene) -> None:
    view.open("geometry")
    has_controls(view, "model", "layer", "largest angle of the turn", "block size", "rank of cut", RATIO)
    model = material.open_model(next(iter(now.subjects().values())), None)
    measured, first = material.measurements(model), next(iter(model.targets))

    def shows(layer: str, angle: float, block: int, rank: int, ratio: float) -> None:
        settings = geometry.Settings(angle, block, rank, ratio)
        found = geometry.changes(measured.layer(layer), settings)
        for line in geometry.sentences(found, settings):
            view.await_sentence(line)
        wanted = [value for row in geometry.geometry_rows(found) for value in row.values()]
        assert view.run("return [...document.querySelectorAll('.explore-table td')].map(e => e.textContent)") == wanted

    shows(first, 30, 32, 16, 0.25)
    view.press("largest angle of the turn", RIGHT)
    shows(first, 35, 32, 16, 0.25)
    view.press("block size", RIGHT)
    shows(first, 35, 64, 16, 0.25)
    view.press("rank of cut", RIGHT)
    shows(first, 35, 64, 17, 0.25)
    view.press(RATIO, RIGHT)
    shows(first, 35, 64, 17, 0.26)
    other = list(model.targets)[6]
    view.choose("layer", other)
    shows(other, 30, 32, 16, 0.25)
    view.choose("model", "nano (included)")
    shows(first, 30, 32, 16, 0.25)


def test_cost(view: Any, now: scene.Scene, tmp_path: Path) -> None:
    view.open("cost")
    has_controls(view, "model", "config.json of another model", "show", "tokens per step", RATIO)
    _, rows = calibration.load_measured()
    reference = model_shape.read_shape(model_shape.known_shapes()["SmolLM2-135M"], "SmolLM2-135M")
    speeds = calibration.without_overhead(calibration.calibrated(reference, rows, min(row.tokens for row in rows)))
    view.choose("model", "SmolLM2-135M")
    view.await_sentence(cost_views.sentence(reference, 0.25, 256, speeds))
    view.press(RATIO, RIGHT)
    view.await_sentence(cost_views.sentence(reference, 0.26, 256, speeds))
    view.press("tokens per step", RIGHT)
    view.await_sentence(cost_views.sentence(reference, 0.26, 512, speeds))
    view.choose("show", "step time")
    view.wait(lambda: view.run("return !!document.querySelector('[aria-label=\"step time over the ratio\"]')"), "figure of step time")
    box = view.run(view.FIND, "config.json of another model").shadow_root.find_element("css selector", "input")
    box.send_keys(str(tmp_path) + "\n")
    view.wait(lambda: any("no config.json" in line for line in view.notices()), "notice of a folder that is no model")
    assert view.run("return document.querySelectorAll('.explore-table').length") >= 1  # the measured table goes on standing there


def test_training(view: Any, now: scene.Scene) -> None:
    view.open("dynamics")
    store, records = now.lineage, records_of(now)
    assert not isinstance(store, Missing)
    view.await_sentence(dynamics.curve_of_round(store, records[3]).sentence())
    assert any("no protected subspace" in line for line in view.notices())
    view.choose("round", dynamics.title_of(records[1]))
    view.await_sentence(dynamics.curve_of_round(store, records[1]).sentence())
    [sweep] = sweeps.read_sweeps(now.config.state_dir)
    assert sweep.table is not None
    view.await_sentence(sweep.sentence())
    tables = "[...document.querySelectorAll('.explore-table')].map(each => each.innerText)"
    table = view.run(f"return {tables}.find(text => text.includes('chosen'))")
    for row in sweeps.sweep_rows(sweep.table):
        assert row["rate"] in table
        assert row["lost"] in table


def test_forgetting(view: Any, now: scene.Scene) -> None:
    view.open("matrix")
    shown = matrix.view_lineage(records_of(now))

    def sentence(row: str, suite: str) -> str:
        index = shown.rows.index(row)
        return matrix.cell_sentence(shown, index, suite, matrix.changed_items(shown, index, suite))

    for line in matrix.summary_sentences(shown):
        view.await_sentence(line)
    last = "round 3 gamma (full)"
    view.await_sentence(sentence(last, "beta"))
    view.choose("suite", "alpha")
    view.await_sentence(sentence(last, "alpha"))
    table = view.run("return [...document.querySelectorAll('.explore-table')][0].innerText")
    assert "question 5 of alpha" in table
    view.choose("round", "round 2 beta (osft)")
    view.await_sentence(sentence("round 2 beta (osft)", "alpha"))
    click_cell(view, shown, last, "general")
    view.await_sentence(sentence(last, "general"))


def click_cell(view: Any, shown: matrix.LineageView, row: str, suite: str) -> None:
    """A real click into the picture: the cell's place comes from the drawn axes."""
    script = """
        const plot = [...document.querySelectorAll('marimo-plotly')].map(e => e.shadowRoot && e.shadowRoot.querySelector('.js-plotly-plot'))
            .find(e => e && e._fullData && e._fullData[0] && e._fullData[0].type === 'heatmap');
        if (!plot) return null;
        plot.scrollIntoView({block: 'center'});
        const box = plot.getBoundingClientRect(), layout = plot._fullLayout;
        return [box.left + layout.xaxis._offset + layout.xaxis.d2p(arguments[0]),
                box.top + layout.yaxis._offset + layout.yaxis.d2p(arguments[1])];
    """
    place = view.wait(lambda: view.run(script, suite, row), "drawn matrix")
    for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
        event = {"type": kind, "x": place[0], "y": place[1], "button": "none" if kind == "mouseMoved" else "left", "clickCount": 1}
        view.driver.execute_cdp_cmd("Input.dispatchMouseEvent", event)
        time.sleep(0.3)  # Plotly tells a click from a drag and a double click by the time between


def test_capacity(view: Any, now: scene.Scene) -> None:
    view.open("capacity")
    has_controls(view, RATIO)
    shown = capacity.view_capacity(records_of(now))
    view.await_sentence(capacity.sentence(shown, 0.25))
    view.press(RATIO, RIGHT)
    view.await_sentence(capacity.sentence(shown, 0.26))


def test_gate(view: Any) -> None:
    view.open("gate")
    has_controls(view, "n: items per suite", "earlier skills", "margin", "churn", "true loss", "Let the gate decide")
    question, loss = {"items": 400, "suites": 5, "margin": 0.02, "churn": 0.05}, 0.02
    moves = {
        "n: items per suite": ("items", 600),
        "earlier skills": ("suites", 6),
        "margin": ("margin", 0.025),
        "churn": ("churn", 0.06),
    }
    for label, (field, value) in moves.items():
        view.press(label, RIGHT)
        question[field] = value
        for line in playground.sentences(playground.Question(**question), loss):  # type: ignore[arg-type]
            view.await_sentence(line)
    view.press("true loss", RIGHT)
    for line in playground.sentences(playground.Question(**question), 0.025):  # type: ignore[arg-type]
        view.await_sentence(line)
    view.run(view.FIND, "Let the gate decide").shadow_root.find_element("css selector", "button").click()
    view.await_sentence(playground.simulate(playground.Question(**question), 0.025, rounds=40).sentence())  # type: ignore[arg-type]
