"""A headless Chromium on the pages of Prefect and MLflow, in any width and colour scheme."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...chromium import Chromium


class PageBrowser(Chromium):
    """One browser; `folder` takes the pictures."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "profile")
        self.folder = folder

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

    def picture(self, name: str) -> None:
        self.driver.save_screenshot(str(self.folder / f"{name}.png"))


@contextlib.contextmanager
def running_chromium(folder: Path) -> Iterator[PageBrowser]:
    browser = PageBrowser(folder)
    try:
        yield browser
    finally:
        browser.driver.quit()
