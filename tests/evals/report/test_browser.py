"""The pages in a real browser: nothing logged, nothing cut off, readable contrast in light and dark, and a filter that filters.

pytest -m services tests/evals/report/test_browser.py
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_contracts.manifests import Decision, LayerCapacity
from evals.audit.forgetting import RoundEvaluation, audit_forgetting
from evals.gate.decide import GateEvidence, GatePolicy, decide
from evals.report.render import render_lineage, render_round


def asked(**fields: object) -> GatePolicy:
    """The default policy for evidence that leaves categories out on purpose."""
    return GatePolicy.model_validate({"accept_unmeasured": ("general", "safety", "drift"), **fields})


BROWSER = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
DRIVER = shutil.which("chromedriver")

pytestmark = [
    pytest.mark.services,
    pytest.mark.skipif(BROWSER is None or DRIVER is None, reason="needs chromium and chromedriver on the PATH"),
]

# For each piece of text: its colour against the nearest opaque background (WCAG 2.2 contrast ratio).
CONTRAST = """
const parse = (value) => {
  const canvas = parse.canvas || (parse.canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true}));
  canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = value; canvas.fillRect(0, 0, 1, 1);
  return Array.from(canvas.getImageData(0, 0, 1, 1).data);
};
const light = (c) => { const l = c.slice(0, 3).map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
  return 0.2126 * l[0] + 0.7152 * l[1] + 0.0722 * l[2]; };
const poor = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode, element = node.parentElement;
  if (!node.textContent.trim() || element.closest("script, style, .sr, .skip, [hidden]") || !element.checkVisibility()) continue;
  let behind = element, back = [0, 0, 0, 0];
  while (behind && back[3] < 255) { back = parse(getComputedStyle(behind).backgroundColor); behind = behind.parentElement; }
  const style = getComputedStyle(element);
  const front = parse(element.closest("svg") ? style.fill : style.color);
  let opacity = 1;
  for (let up = element; up; up = up.parentElement) opacity *= Number(getComputedStyle(up).opacity);
  const mixed = front.map((v, i) => v * opacity + back[i] * (1 - opacity));
  const [a, b] = [light(mixed), light(back)].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  if (ratio < 4.5) poor.push(node.textContent.trim().slice(0, 40) + " " + ratio.toFixed(2));
}
return poor;
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    driver.execute_cdp_cmd("Network.enable", {})
    driver.execute_cdp_cmd(
        "Network.emulateNetworkConditions", {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    )
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory, make_suite, make_evaluation) -> dict[str, Path]:
    """A blocked fifth round of a lineage that also had an earlier blocked round, and the lineage."""
    generator = np.random.default_rng(0)
    names = ["agnews", "dbpedia", "sst2", "a-skill-with-a-very-long-name-indeed", "yelp"]
    hard = {name: generator.random(120) for name in names}
    rows = []
    for number in range(6):
        suites = []
        for index, name in enumerate(names):
            level = 0.85 - 0.01 * number if number > index else 0.3
            level -= 0.3 if number in (3, 5) and index < 2 else 0.0
            suites.append(make_suite(name, (hard[name] < level).astype(float), logprob=-hard[name] - 0.05 * number))
        suites.append(make_suite("piqa", (hard["agnews"] < 0.7).astype(float), category="general"))
        suites.append(make_suite("passages", 1 + hard["dbpedia"] * (1 + 0.001 * number), category="drift"))
        layers = {"q": LayerCapacity(shape=(64, 64), protected=8, trainable=8, free=max(0, 56 - 8 * number), leak=0.0)}
        decision = {0: None, 3: Decision.BLOCK, 5: None}.get(number, Decision.PASS)
        rows.append(
            RoundEvaluation(number, names[number - 1] if number else None, make_evaluation(f"m{number}", *suites), decision, layers=layers)
        )
    audit = audit_forgetting(rows)
    anchors = {name: rows[index + 1].evaluation for index, name in enumerate(names[:4])} | {"piqa": rows[0].evaluation}
    evidence = GateEvidence(rows[5].evaluation, rows[4].evaluation, anchors, "yelp")
    folder = tmp_path_factory.mktemp("pages")
    return {
        "round": render_round(decide(evidence, asked()), audit, evidence, out=folder / "round.html"),
        "lineage": render_lineage(audit, out=folder / "lineage.html"),
    }


def _show(browser: Any, page: Path, *, width: int = 1280, scheme: str = "light") -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(page.as_uri())


@pytest.mark.parametrize("name", ["round", "lineage"])
@pytest.mark.parametrize("width", [360, 800, 1400])
def test_nothing_is_logged_and_the_page_is_never_wider_than_the_window(browser, pages, name: str, width: int) -> None:
    _show(browser, pages[name], width=width)
    assert browser.get_log("browser") == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("name", ["round", "lineage"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read(browser, pages, name: str, scheme: str) -> None:
    _show(browser, pages[name], scheme=scheme)
    browser.execute_script("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert browser.execute_script(CONTRAST) == []


def test_dark_is_dark(browser, pages) -> None:
    shades = {}
    for scheme in ("light", "dark"):
        _show(browser, pages["round"], scheme=scheme)
        shades[scheme] = browser.execute_script("return getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).map(Number)")
    assert max(shades["dark"]) < 60 < 200 < min(shades["light"])


def test_items_can_be_found_from_the_keyboard(browser, pages) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    _show(browser, pages["round"])
    summary = browser.find_element(By.XPATH, "//summary[starts-with(normalize-space(), 'Browse the')]")
    summary.send_keys(Keys.ENTER)
    form = browser.find_element(By.ID, "item-filters")
    assert form.is_displayed()
    items = browser.find_elements(By.CSS_SELECTOR, "#items .item")
    form.find_element(By.NAME, "text").send_keys("Question 7 of agnews")
    shown = [item for item in items if item.is_displayed()]
    assert 1 <= len(shown) < len(items)
    assert all("agnews" in item.text for item in shown)
    assert browser.find_element(By.ID, "item-count").text == f"{len(shown)} of {len(items)} items shown"


def test_first_tab_skips_to_the_content(browser, pages) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    _show(browser, pages["round"])
    browser.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    assert browser.switch_to.active_element.text == "Skip to the content"


def test_wide_tables_scroll_and_can_be_reached(browser, pages) -> None:
    """A region that scrolls must take the focus, or a keyboard cannot scroll it."""
    _show(browser, pages["round"], width=360)
    script = (
        "return Array.from(document.querySelectorAll('*')).filter((e) => e.scrollWidth > e.clientWidth + 1 && e.tabIndex < 0"
        " && ['auto', 'scroll'].includes(getComputedStyle(e).overflowX)).map((e) => e.outerHTML.slice(0, 80))"
    )
    assert browser.execute_script(script) == []


def test_every_table_and_figure_has_a_name(browser, pages) -> None:
    for page in pages.values():
        _show(browser, page)
        nodes = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        named = {role: [] for role in ("image", "region", "img", "textbox", "searchbox", "combobox")}
        for node in nodes:
            role = node.get("role", {}).get("value")
            if role in named and not node.get("ignored"):
                named[role].append(node.get("name", {}).get("value", ""))
        assert named["region"]
        assert all(name for names in named.values() for name in names)
