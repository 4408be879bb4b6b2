"""What holds for every page of the explorer in a real browser: names, widths, colours, and nothing written.

pytest -m services tests/flows/explore/in_browser/test_browser_pages.py
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from flows.explore.frame import PAGES

pytestmark = pytest.mark.services
AXE = Path(__file__).parents[3] / "vendor" / "axe-core" / "axe.min.js"


ROUNDS = "return [...document.querySelector('marimo-plotly').shadowRoot.querySelectorAll('.xtick text')].map(e => e.textContent)"


def test_every_control_has_a_name_and_every_view_fits_a_phone(view: Any) -> None:
    view.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 400, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    )
    try:
        for page in PAGES:
            view.open(page.name)
            assert view.run("return document.documentElement.scrollWidth") <= 400, page.name
            wide = "return [...document.querySelectorAll('.explore-table')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
            assert view.run(wide) == 0, f"{page.name}: a table has to be scrolled sideways"
            if page.name == "capacity":  # every round stands below the curves, the last one too
                view.wait(lambda: view.run(ROUNDS) == ["round 1 · alpha", "round 2 · beta"], "names of the rounds")
            tree = view.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
            wanted = {"slider", "spinbutton", "combobox", "textbox", "link", "heading", "img", "table"}
            named = [
                (node["role"]["value"], node.get("name", {}).get("value"))
                for node in tree
                if node.get("role", {}).get("value") in wanted and not node.get("ignored")
            ]
            nameless = [role for role, name in named if not name]
            # The list inside marimo's own refresh control has no name, and no way to give it one.
            assert nameless == (["combobox"] if page.name == "dynamics" else []), (page.name, nameless)
    finally:
        view.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (420, "dark")])
def test_axe_finds_nothing_serious(view: Any, width: int, scheme: str) -> None:
    """axe-core on every view, without the button and the list inside marimo's own refresh control, which it gives no name.

    What is left at moderate: marimo's cells are no landmarks of the page.
    """
    metrics = {"width": width, "height": 1400, "deviceScaleFactor": 1, "mobile": False}
    view.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    view.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    try:
        for page in PAGES:
            view.open(page.name)
            view.driver.execute_script(AXE.read_text(encoding="utf-8"))
            found = view.driver.execute_async_script("axe.run({exclude: [['marimo-refresh']]}).then(arguments[0])")
            assert len(found["passes"]) > 15, page.name
            serious = [each for each in found["violations"] if each["impact"] in ("serious", "critical")]
            assert [(each["id"], each["nodes"][0]["html"]) for each in serious] == [], page.name
    finally:
        view.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        view.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_dark_follows_the_system(view: Any) -> None:
    seen = {}
    for scheme in ("light", "dark"):
        view.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
        view.open("gate")
        seen[scheme] = view.run("return [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]")
    view.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert seen["light"] != seen["dark"]


def test_nothing_was_written(view: Any, lineage_state: Path) -> None:
    """Every view again, with the bytes of the whole state folder before and after."""

    def digest() -> str:
        found = hashlib.sha256()
        for path in sorted(lineage_state.rglob("*")):
            found.update(str(path.relative_to(lineage_state)).encode())
            found.update(path.read_bytes() if path.is_file() else b"")
        return found.hexdigest()

    before = digest()
    for page in PAGES:
        view.open(page.name)
    assert digest() == before
