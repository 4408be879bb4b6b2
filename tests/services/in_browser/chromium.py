"""A headless Chromium on the pages of Prefect and MLflow, in any width and colour scheme; it notes every host that a page asks."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

PATIENCE = 120.0  # seconds; two other workers may train on the same cores
QUIET = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-sync")


class Chromium:
    """One browser; `folder` takes the pictures."""

    def __init__(self, folder: Path) -> None:
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        options.binary_location = str(shutil.which("chromium"))
        for argument in (*QUIET, "--disable-background-networking", "--disable-component-update", f"--user-data-dir={folder / 'profile'}"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(shutil.which("chromedriver"))))
        self.folder = folder

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def show(self, width: int, scheme: str) -> None:
        """The window's width in CSS pixels, and the colours that the system prefers."""
        metrics = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})

    def open(self, address: str, script: str) -> Any:
        """Load a page anew and give the first true answer of a script on it."""
        self.driver.get("about:blank")  # an address that differs only behind its # would not be loaded again
        self.driver.get(address)
        return self.wait(lambda: self.run(script), script)

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        """The first true answer of a condition, within the deadline; what a page that is being built answers is asked again."""
        from selenium.common.exceptions import WebDriverException

        deadline = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(WebDriverException):
                if found := condition():
                    return found
            assert time.monotonic() < deadline, f"no {what}; the page says: {self.text()[:2000]}"
            time.sleep(0.1)  # between two looks at a condition that has a deadline

    def text(self) -> str:
        """What is to be read on the page, in one line."""
        return " ".join(str(self.run("return document.body.innerText")).split())

    def picture(self, name: str) -> None:
        self.driver.save_screenshot(str(self.folder / f"{name}.png"))

    def hosts(self) -> set[str]:
        """Where requests went since the last time that this was asked."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        asked = [each["params"] for each in messages if each["method"] in ("Network.requestWillBeSent", "Network.webSocketCreated")]
        parts = [urlsplit(params.get("url") or params["request"]["url"]) for params in asked]
        return {part.hostname or "" for part in parts if part.scheme in ("http", "https", "ws", "wss")}


@contextlib.contextmanager
def running_chromium(folder: Path) -> Iterator[Chromium]:
    pytest.importorskip("selenium.webdriver")
    if shutil.which("chromium") is None or shutil.which("chromedriver") is None:
        pytest.skip("needs chromium and chromedriver")
    browser = Chromium(folder)
    try:
        yield browser
    finally:
        browser.driver.quit()
