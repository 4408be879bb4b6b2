"""The pages in a real browser: nothing logged, nothing cut off, readable contrast in light and dark, and a filter that filters.

pytest -m services tests/evals/report/test_browser.py
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_contracts.manifests import Decision, LayerCapacity
from evals.audit.forgetting import RoundEvaluation, audit_forgetting
from evals.gate.decide import GateEvidence, GatePolicy, decide
from evals.report.answers import compare_answers
from evals.report.facts import Difference, Event, RoundCost, RoundFacts
from evals.report.render import MonthView, render_lineage, render_round


def asked(**fields: object) -> GatePolicy:
    """The default policy for evidence that leaves categories out on purpose."""
    return GatePolicy.model_validate({"accept_unmeasured": ("general", "safety", "drift"), **fields})


BROWSER = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
DRIVER = shutil.which("chromedriver")
AXE = Path(__file__).parents[2] / "vendor" / "axe-core" / "axe.min.js"

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
    verdict, answers = decide(evidence, asked()), compare_answers(rows[5].evaluation, rows[4].evaluation, "yelp")
    known = round_facts()
    steps = (
        "Offer part of the trained update: skillstack round 2026-11-yelp.jsonl --skill yelp --scale 0.5",
        "Or decide in your own name.",
    )
    return {
        "round": render_round(verdict, audit, evidence, steps=steps, facts=known, answers=answers, out=folder / "round.html"),
        "lineage": render_lineage(
            audit, out=folder / "lineage.html", rounds=known.rounds, events=known.events, policy=asked().model_dump(mode="json")
        ),
        "month": render_lineage(audit, folder / "month.html", month_view(), rounds=known.rounds, policy=asked().model_dump(mode="json")),
    }


def month_view() -> MonthView:
    [event] = round_facts().events
    when = f"{event.when:%Y-%m-%d %H:%M}"
    return MonthView(
        title="2026-11",
        summary="Champion: version 6. Rounds this month: 2. Decisions: 1.",
        waiting="version 8",
        checked=f"150 files and 9 ledger entries verified: 1 finding. Head of the ledger: 9:{'0123456789abcdef' * 4}.",
        decisions=((when, event.what, str(event.version), event.who, event.why),),
        findings=(
            ("/srv/skillstack/state/stages/train/0123456789abcdef/model/model.safetensors", "has changed since its manifest was written"),
        ),
    )


def round_facts() -> RoundFacts:
    """Facts with the longest texts that are likely."""
    when = datetime(2026, 11, 3, 6, 0, tzinfo=UTC)
    why = "needed for the release of Thursday; the losses are on a suite that nobody uses any more, see the minutes"
    cost = RoundCost(
        5, 2, "yelp", 7, "BLOCK", "promoted by override", "ana (signed in as ana.garcia)", when, 7261.0, 3600.0, 1234567, "cuda:0"
    )
    return RoundFacts(
        version=7,
        rows=(
            ("Drop", "a-very-long-name-of-a-drop-with-no-space-in-it-2026-11.jsonl"),
            ("Training", "3 passes, 1,234 steps of 32 examples"),
        ),
        loss=tuple((step, 3.0 / step) for step in range(1, 60)),
        settled=False,
        since="version 6 (round 4, dbpedia)",
        differences=(Difference("learning rate", "0.001", "0.0003"), Difference("version of transformers", "5.17.0", "5.23.0")),
        events=(Event(when, "override (verdict BLOCK)", 7, "ana (signed in as ana.garcia)", why),),
        rounds=(cost,),
    )


def _show(browser: Any, page: Path, *, width: int = 1280, scheme: str = "light") -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(page.as_uri())


@pytest.mark.parametrize("name", ["round", "lineage", "month"])
@pytest.mark.parametrize("width", [360, 420, 800, 1400])
def test_nothing_is_logged_and_the_page_is_never_wider_than_the_window(browser, pages, name: str, width: int) -> None:
    _show(browser, pages[name], width=width)
    assert browser.get_log("browser") == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


# Text that is cut by its own box or by one around it, but for the heat map, which scrolls, and what only a screen reader sees.
CUT = """
document.querySelectorAll("details").forEach((each) => { each.open = true; });
const cut = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.textContent.trim() || element.closest("script, style, .sr, .skip, .scroll, [hidden]")) continue;
  const range = document.createRange(); range.selectNodeContents(walker.currentNode);
  for (const box of range.getClientRects()) {
    if (box.right > window.innerWidth + 1 || box.left < -1) cut.push(walker.currentNode.textContent.trim().slice(0, 60));
  }
}
return cut;
"""
# Rows of the plot whose parts lie over each other.
COVERED = """
const covered = [];
for (const row of document.querySelectorAll(".forest li")) {
  const filled = Array.from(row.children).filter((e) => e.textContent.trim() || e.querySelector("svg"));
  const boxes = filled.map((e) => e.getBoundingClientRect());
  boxes.forEach((a, i) => boxes.slice(i + 1).forEach((b) => {
    if (a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1) covered.push(row.textContent.trim());
  }));
}
return covered;
"""


@pytest.mark.parametrize("name", ["round", "lineage", "month"])
@pytest.mark.parametrize("width", [420, 1400])
def test_no_text_is_cut_and_no_part_of_the_plot_covers_another(browser, pages, name: str, width: int) -> None:
    _show(browser, pages[name], width=width)
    assert browser.execute_script(CUT) == []
    assert browser.execute_script(COVERED) == []


def test_the_verdict_and_the_next_step_are_on_a_phones_first_screen_and_the_plot_on_a_desks(browser, pages) -> None:
    _show(browser, pages["round"], width=420)
    assert browser.execute_script("return document.querySelector('p.next').getBoundingClientRect().bottom") < 900
    _show(browser, pages["round"], width=1400)
    assert browser.execute_script("return document.querySelector('.forest li').getBoundingClientRect().bottom") < 900


def test_marks_lie_inside_the_plot_and_ticks_line_up_with_the_grid(browser, pages) -> None:
    for width in (420, 1400):
        _show(browser, pages["round"], width=width)
        outside = browser.execute_script(
            "const marks = 'svg.plot circle, svg.plot .beyond, svg.plot .anchor, svg.plot .whisker';"
            "return Array.from(document.querySelectorAll(marks)).filter((e) => {"
            " const a = e.getBoundingClientRect(), b = e.closest('svg.plot').getBoundingClientRect();"
            " return a.left < b.left - 1 || a.right > b.right + 1; }).length"
        )
        assert outside == 0
        zero, tick = browser.execute_script(
            "const middle = (e) => { const b = e.getBoundingClientRect(); return (b.left + b.right) / 2; };"
            "return [middle(document.querySelector('svg.plot .zero')),"
            " middle(Array.from(document.querySelectorAll('svg.axis text')).find((e) => e.textContent === '0'))]"
        )
        assert abs(zero - tick) < 1.5


def test_no_page_asks_any_host_for_anything(browser, pages) -> None:
    for page in pages.values():
        _show(browser, page)
        assert browser.execute_script("return performance.getEntriesByType('resource').map((each) => each.name)") == []


def test_answers_are_filtered_by_suite_kind_and_text(browser, pages) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    _show(browser, pages["round"], width=420)
    form = browser.find_element(By.CSS_SELECTOR, "form[data-items='#side-by-side .answer']")
    cards = browser.find_elements(By.CSS_SELECTOR, "#side-by-side .answer")
    Select(form.find_element(By.NAME, "suite")).select_by_visible_text("agnews")
    Select(form.find_element(By.NAME, "kind")).select_by_visible_text("lost")
    shown = [card for card in cards if card.is_displayed()]
    assert shown
    assert {(card.get_attribute("data-suite"), card.get_attribute("data-kind")) for card in shown} == {("agnews", "lost")}
    words = [line.text for line in shown[0].find_elements(By.TAG_NAME, "dt")]
    assert words[1:] == ["should be", "was", "is now"]
    assert form.find_element(By.CSS_SELECTOR, ".count").text == f"{len(shown)} of {len(cards)} items shown"
    assert [each.text for each in browser.find_elements(By.CSS_SELECTOR, "#side-by-side h3") if each.is_displayed()] == [
        each.text for each in browser.find_elements(By.CSS_SELECTOR, "#side-by-side h3") if each.text.startswith("agnews")
    ]


@pytest.mark.parametrize("name", ["round", "lineage", "month"])
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

    _show(browser, pages["lineage"])
    summary = browser.find_element(By.XPATH, "//summary[starts-with(normalize-space(), 'Browse the')]")
    summary.send_keys(Keys.ENTER)
    form = browser.find_element(By.CSS_SELECTOR, "form[data-items='#items .item']")
    assert form.is_displayed()
    items = browser.find_elements(By.CSS_SELECTOR, "#items .item")
    form.find_element(By.NAME, "text").send_keys("Question 7 of agnews")
    shown = [item for item in items if item.is_displayed()]
    assert 1 <= len(shown) < len(items)
    assert all("agnews" in item.text for item in shown)
    assert form.find_element(By.CSS_SELECTOR, ".count").text == f"{len(shown)} of {len(items)} items shown"


@pytest.mark.parametrize("name", ["round", "lineage", "month"])
@pytest.mark.parametrize("width", [420, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser, pages, name: str, width: int, scheme: str) -> None:
    """axe-core, every rule, with everything unfolded. Contrast over mixed colours, which it leaves open, is measured above."""
    _show(browser, pages[name], width=width, scheme=scheme)
    browser.execute_script("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    browser.execute_script(AXE.read_text(encoding="utf-8"))
    found = browser.execute_async_script("axe.run().then(arguments[0])")
    assert len(found["passes"]) > 20
    assert [(rule["id"], rule["impact"], rule["nodes"][0]["html"]) for rule in found["violations"]] == []


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
    from selenium.webdriver.support.ui import WebDriverWait

    for page in pages.values():
        _show(browser, page)
        # Chromium builds the tree of a page after the page: on a busy machine the first answer is the tree of an empty one.
        named = WebDriverWait(browser, 60).until(lambda driver: (found := _named_parts(driver))["region"] and found)
        assert all(name for names in named.values() for name in names)


def _named_parts(browser: Any) -> dict[str, list[str]]:
    """Role -> the accessible names of its parts."""
    named: dict[str, list[str]] = {role: [] for role in ("image", "region", "img", "textbox", "searchbox", "combobox")}
    for node in browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]:
        role = node.get("role", {}).get("value")
        if role in named and not node.get("ignored"):
            named[role].append(node.get("name", {}).get("value", ""))
    return named
