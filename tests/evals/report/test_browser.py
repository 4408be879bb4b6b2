"""The pages in a real browser: nothing logged, nothing cut off, readable contrast in light and dark, and a filter that filters.

pytest -m services tests/evals/report/test_browser.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

AXE = Path(__file__).parents[2] / "vendor" / "axe-core" / "axe.min.js"

pytestmark = pytest.mark.services

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


@pytest.mark.parametrize("name", ["round", "lineage", "month"])
@pytest.mark.parametrize("width", [360, 420, 800, 1400])
def test_nothing_is_logged_and_the_page_is_never_wider_than_the_window(browser, show, pages, name: str, width: int) -> None:
    show(browser, pages[name], width=width)
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
def test_no_text_is_cut_and_no_part_of_the_plot_covers_another(browser, show, pages, name: str, width: int) -> None:
    show(browser, pages[name], width=width)
    assert browser.execute_script(CUT) == []
    assert browser.execute_script(COVERED) == []


def test_a_phone_shows_every_cell_of_the_heat_map_with_its_suite(browser, show, pages) -> None:
    for name in ("round", "lineage"):
        show(browser, pages[name], width=420)
        cells = browser.execute_script(
            "return Array.from(document.querySelectorAll('table.matrix td')).map((e) => { const b = e.getBoundingClientRect();"
            " return [e.dataset.label, getComputedStyle(e, '::before').content, b.left, b.right]; })"
        )
        assert cells
        assert all(shown == f'"{label}"' and 0 <= left < right <= 420 for label, shown, left, right in cells)


def test_the_verdict_and_the_next_step_are_on_a_phones_first_screen_and_the_plot_on_a_desks(browser, show, pages) -> None:
    show(browser, pages["round"], width=420)
    assert browser.execute_script("return document.querySelector('p.next').getBoundingClientRect().bottom") < 900
    show(browser, pages["round"], width=1400)
    assert browser.execute_script("return document.querySelector('.forest li').getBoundingClientRect().bottom") < 900


def test_marks_lie_inside_the_plot_and_ticks_line_up_with_the_grid(browser, show, pages) -> None:
    for width in (420, 1400):
        show(browser, pages["round"], width=width)
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


def test_no_page_asks_any_host_for_anything(browser, show, pages) -> None:
    for page in pages.values():
        show(browser, page)
        assert browser.execute_script("return performance.getEntriesByType('resource').map((each) => each.name)") == []


def test_answers_are_filtered_by_suite_kind_and_text(browser, show, pages) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    show(browser, pages["round"], width=420)
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
def test_all_text_can_be_read(browser, show, pages, name: str, scheme: str) -> None:
    show(browser, pages[name], scheme=scheme)
    browser.execute_script("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert browser.execute_script(CONTRAST) == []


def test_dark_is_dark(browser, show, pages) -> None:
    shades = {}
    for scheme in ("light", "dark"):
        show(browser, pages["round"], scheme=scheme)
        shades[scheme] = browser.execute_script("return getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).map(Number)")
    assert max(shades["dark"]) < 60 < 200 < min(shades["light"])


def test_items_can_be_found_from_the_keyboard(browser, show, pages) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    show(browser, pages["lineage"])
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
def test_axe_finds_nothing(browser, show, pages, name: str, width: int, scheme: str) -> None:
    """axe-core, every rule, with everything unfolded. Contrast over mixed colours, which it leaves open, is measured above."""
    show(browser, pages[name], width=width, scheme=scheme)
    browser.execute_script("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    browser.execute_script(AXE.read_text(encoding="utf-8"))
    found = browser.execute_async_script("axe.run().then(arguments[0])")
    assert len(found["passes"]) > 20
    assert [(rule["id"], rule["impact"], rule["nodes"][0]["html"]) for rule in found["violations"]] == []


def test_first_tab_skips_to_the_content(browser, show, pages) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    show(browser, pages["round"])
    browser.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    assert browser.switch_to.active_element.text == "Skip to the content"


def test_wide_tables_scroll_and_can_be_reached(browser, show, pages) -> None:
    """A region that scrolls must take the focus, or a keyboard cannot scroll it."""
    show(browser, pages["round"], width=360)
    script = (
        "return Array.from(document.querySelectorAll('*')).filter((e) => e.scrollWidth > e.clientWidth + 1 && e.tabIndex < 0"
        " && ['auto', 'scroll'].includes(getComputedStyle(e).overflowX)).map((e) => e.outerHTML.slice(0, 80))"
    )
    assert browser.execute_script(script) == []


def test_every_table_and_figure_has_a_name(browser, show, pages) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    for page in pages.values():
        show(browser, page)
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
