"""What the pages of Prefect and MLflow are asked, and what the report of a round says that they must say too."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .chromium import PageBrowser

FLOW_RUNS = """
const found = [...document.querySelectorAll('.state-list-item')]
  .map((e) => [e.querySelector('.flow-run-bread-crumbs__flow-run-link'), e.querySelector('.state-badge')])
  .filter(([a, b]) => a && b).map(([a, b]) => [a.innerText, b.innerText, a.href]);
return found.length > 2 && found;
"""
"""Of Prefect's list: the name, the badge and the address of every flow run."""
ARTIFACTS = """
const found = [...document.querySelectorAll('a[href*="/artifacts/artifact/"]')].map((a) => a.href);
return found.length > 2 && found;
"""
VERDICTS = """
const found = [...document.querySelectorAll('[role=gridcell][col-id="params.`verdict`"]')].map((e) => e.innerText.trim());
return found.includes('BLOCK') && found;
"""
COLUMNS = """
return [...document.querySelectorAll('.ag-header-cell[col-id]')]
  .map((e) => [e.getAttribute('col-id').split('`')[1], e.getBoundingClientRect()])
  .filter(([name]) => name).sort((a, b) => a[1].left - b[1].left).map(([name, box]) => [name, box.right]);
"""
"""Of MLflow's table of runs: its columns from left to right, and where each ends."""


def open_prefect(browser: PageBrowser, environment: dict[str, str]) -> str:
    """The address as the guide gives it, signed in with the password that the guide names."""
    address = environment["PREFECT_API_URL"].removesuffix("/api")
    browser.open(address, "return document.querySelector('input[type=password]')").send_keys(environment["PREFECT_API_AUTH_STRING"] + "\n")
    browser.wait(lambda: "/login" not in browser.driver.current_url, "page behind the login")
    return address


def open_mlflow(browser: PageBrowser, environment: dict[str, str]) -> str:
    """MLflow's address; name and password are typed into the browser's own window."""
    parts = urlsplit(environment["MLFLOW_TRACKING_URI"])
    user = f"{environment['MLFLOW_TRACKING_USERNAME']}:{environment['MLFLOW_TRACKING_PASSWORD']}"
    browser.open(f"{parts.scheme}://{user}@{parts.netloc}/", "return document.querySelector('button')")
    # What the button of its assistant keeps: on a first visit the assistant's panel takes a third of the window.
    browser.run("localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')")
    browser.run("localStorage.setItem('mlflow.assistant.panelOpen_v1', 'false')")
    return f"{parts.scheme}://{parts.netloc}"


def colours_of_prefect(browser: PageBrowser, scheme: str) -> None:
    """What the switch on its page of settings keeps; these pages do not ask the system."""
    browser.run("localStorage.setItem('color-scheme', arguments[0])", f'"{scheme}"')


def colours_of_mlflow(browser: PageBrowser, scheme: str) -> None:
    browser.run("localStorage.setItem('databricks-dark-mode-pref', arguments[0])", scheme)
    browser.run("localStorage.setItem('_mlflow_dark_mode_toggle_enabled', arguments[0])", str(scheme == "dark").lower())


def report_of(folder: Path, version: int) -> Path:
    return folder / ".skillstack" / "reports" / f"version-{version}.html"


def said_by(report: Path) -> tuple[str, list[str]]:
    """(the headline, every step) of a round's own page, while nobody has decided about it."""
    page = report.read_text(encoding="utf-8")
    headline = re.search(r'(?s)<p class="headline">(.*?)</p>', page)
    box = re.search(r'(?s)<p class="next"><b>Next:</b>(.*?)</p>(.*?)</section>', page)
    assert headline is not None
    assert box is not None
    return _plain(headline[1]), [_plain(step) for step in (box[1], *re.findall(r"(?s)<li>(.*?)</li>", box[2]))]


def _plain(part: str) -> str:
    return " ".join(html.unescape(re.sub("<[^>]*>", "", part)).split())


def round_tags(lineage: Any) -> list[set[str]]:
    """skillstack's tags of every round's own run."""
    runs = lineage.client.search_runs([lineage.experiment_id], "tags.`skillstack.kind` = 'round'")
    return [{name.removeprefix("skillstack.") for name in run.data.tags if name.startswith("skillstack.")} for run in runs]


def listed_tags(guide: Path) -> set[str]:
    """Those of a round's run that the guide lists."""
    listed = re.search(r"(?s)A round's run has the tags that something reads: (.*?) A stage's run", guide.read_text(encoding="utf-8"))
    assert listed is not None
    return set(re.findall(r"`(\w+)`", listed[1]))
