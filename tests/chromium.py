"""One headless Chromium: what it shows, whom it asks, and what it is waited for. Needs chromium and chromedriver."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

QUIET = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run", "--disable-sync")
QUIET += ("--disable-background-networking", "--disable-component-update")
LOOK_SECONDS = 0.1


def require_chromium() -> None:
    """Skip the test where there is no browser."""
    pytest.importorskip("selenium.webdriver")
    if shutil.which("chromium") is None or shutil.which("chromedriver") is None:
        pytest.skip("needs chromium and chromedriver")


class Chromium:
    """A browser with a profile of its own. `patience`: how long it waits for a condition (seconds)."""

    def __init__(self, profile: Path, *arguments: str, patience: float = 120.0) -> None:
        require_chromium()
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        options.binary_location = str(shutil.which("chromium"))
        for argument in (*QUIET, f"--user-data-dir={profile}", *arguments):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(shutil.which("chromedriver"))))
        self.driver.set_page_load_timeout(patience)
        self.patience = patience

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        """The first true answer of a condition; what a page that is being built answers is asked again."""
        from selenium.common.exceptions import TimeoutException, WebDriverException
        from selenium.webdriver.support.ui import WebDriverWait

        try:
            return WebDriverWait(self.driver, self.patience, LOOK_SECONDS, [WebDriverException]).until(lambda _: condition())
        except TimeoutException:
            raise AssertionError(f"no {what} within {self.patience:.0f} s; the page says: {self.text()[:2000]}") from None

    def text(self) -> str:
        """What is to be read on the page, in one line."""
        return " ".join(str(self.run("return document.body.innerText")).split())

    def hosts(self) -> set[str]:
        """Where requests went since the last time that this was asked."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        asked = [each["params"] for each in messages if each["method"] in ("Network.requestWillBeSent", "Network.webSocketCreated")]
        parts = [urlsplit(params.get("url") or params["request"]["url"]) for params in asked]
        return {part.hostname or "" for part in parts if part.scheme in ("http", "https", "ws", "wss")}
