"""The explorer in a process of its own, and a headless Chromium on it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from ....chromium import Chromium

PATIENCE = 300.0  # seconds; on a busy machine the first page waits for torch, transformers and MLflow
CONTROLS = "marimo-slider, marimo-dropdown, marimo-text, marimo-button, marimo-refresh"


class Browser(Chromium):
    """One headless Chromium on the explorer."""

    FIND = f"return [...document.querySelectorAll('{CONTROLS}')].find(e => (e.getAttribute('data-label') || '').includes(arguments[0]))"

    def __init__(self, address: str, profile: Path) -> None:
        super().__init__(profile, "--window-size=1200,1400", patience=PATIENCE)
        self.base = address.partition("/?")[0]
        self.driver.get(address)

    def open(self, name: str) -> None:
        self.driver.get(f"{self.base}/{name}/")
        self.wait(lambda: self.said() or self.notices(), f"answer of {name}")

    def said(self) -> list[str]:
        """The sentences with the view's numbers."""
        return list(self.run("return [...document.querySelectorAll('.explore-said p')].map(e => e.textContent)"))

    def notices(self) -> list[str]:
        return list(self.run("return [...document.querySelectorAll('.explore-notice')].map(e => e.textContent)"))

    def await_sentence(self, sentence: str) -> None:
        try:
            self.wait(lambda: sentence in self.said(), f"sentence {sentence!r}")
        except AssertionError as error:
            raise AssertionError(f"expected {sentence!r}, the page says {self.said()}") from error

    def labels(self) -> list[str]:
        found = self.run(f"return [...document.querySelectorAll('{CONTROLS}')].map(e => e.getAttribute('data-label') || '')")
        return [label for label in found if label]

    def press(self, label: str, key: str) -> None:
        """One key on a slider's thumb, as someone without a mouse does it."""
        self.wait(lambda: self.run(self.FIND, label), f"control {label}")
        self.run(self.FIND.replace("return [", "const host = [") + "; host.shadowRoot.querySelector('[role=slider]').focus()", label)
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(key).perform()

    def choose(self, label: str, option: str) -> None:
        self.wait(lambda: self.run(self.FIND, label), f"control {label}")
        host = self.run(self.FIND, label)
        menu = host.shadow_root.find_element("css selector", "select")
        self.run(
            "const s = arguments[0], o = [...s.options].find(e => e.text === arguments[1]);"
            "Object.getOwnPropertyDescriptor(HTMLSelectElement.prototype, 'value').set.call(s, o.value);"
            "s.dispatchEvent(new Event('change', {bubbles: true}))",
            menu,
            option,
        )

    def errors(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


@contextlib.contextmanager
def running_explorer(folder: Path, state: Path, *arguments: str, **variables: str) -> Iterator[str]:
    """A running `skillstack explore` over a state folder, as its address; ended afterwards.

    It computes in one thread, as the test's own process does (fixture one_thread): sums of more threads have another order, and a number
    that lies between two last digits is then shown as the other one.
    """
    (folder / "skillstack.yaml").write_text(f"state_dir: {state}\n", encoding="utf-8")
    line = [
        sys.executable,
        "-m",
        "flows.cli.app",
        "explore",
        "--no-browser",
        "--json",
        "--config",
        str(folder / "skillstack.yaml"),
        *arguments,
    ]
    inherited = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    inherited |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=log, text=True, cwd=folder, env={**inherited, **variables})
        assert process.stdout is not None
        answer = process.stdout.readline()
        try:
            assert answer, (folder / "server.log").read_text(encoding="utf-8")
            yield str(json.loads(answer)["address"])
        finally:
            process.terminate()
            process.wait(30)
