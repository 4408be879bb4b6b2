"""How fast the explorer starts and answers, in a headless Chromium:

    python tests/benchmarks/explore.py --config skillstack.yaml [--model FOLDER] [--json OUT]

Start: from the command to the first view's heading, and to its first numbers. Answer: from a key on the ratio's slider to the changed
sentence in the page, median of ten. Beside the wall clock stand the server's CPU seconds, which other work on the machine does not stretch.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from selenium import webdriver

VIEWS = {"spectrum": "ratio", "constraint": "ratio", "geometry": "angle", "cost": "ratio", "gate": "churn"}
RIGHT, DEADLINE = "\ue014", 120.0
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync", "--disable-dev-shm-usage"]
SAID = "return [...document.querySelectorAll('.explore-said p')].map(e => e.textContent).join(' ')"
FOCUS = """const h = [...document.querySelectorAll('marimo-slider')].find(e => (e.getAttribute('data-label') || '').includes(arguments[0]));
const t = h && h.shadowRoot && h.shadowRoot.querySelector('[role=slider]'); if (t) t.focus(); return !!t"""


def until(driver: Any, script: str, wanted: Any, *arguments: Any) -> Any:
    """Poll a script until `wanted` accepts its answer; seconds since the call are the caller's to take."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        answer = driver.execute_script(script, *arguments)
        if wanted(answer):
            return answer
        time.sleep(0.01)
    raise SystemExit(f"no answer within {DEADLINE:.0f} s: {driver.execute_script('return document.body.innerText')[:500]}")


def cpu_of(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def measure(driver: Any, server: psutil.Process, base: str, name: str, label: str) -> dict[str, Any]:
    """Open a view and press a key ten times."""
    began, cpu = time.perf_counter(), cpu_of(server)
    driver.get(f"{base}/{name}/")
    until(driver, SAID, bool)
    opened = {"open_seconds": time.perf_counter() - began, "open_cpu": cpu_of(server) - cpu}
    until(driver, FOCUS, bool, label)
    wall, used = [], []
    for _ in range(10):
        before = driver.execute_script(SAID)
        driver.execute_script(FOCUS, label)
        began, cpu = time.perf_counter(), cpu_of(server)
        webdriver.ActionChains(driver, duration=0).send_keys(RIGHT).perform()
        until(driver, SAID, lambda said, before=before: said and said != before)
        wall.append(time.perf_counter() - began)
        used.append(cpu_of(server) - cpu)
    found = {"view": name, **opened, "answer_seconds": statistics.median(wall), "answer_cpu": statistics.median(used)}
    print(json.dumps(found), file=sys.stderr, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for argument in [*ARGUMENTS, f"--user-data-dir={tempfile.mkdtemp()}"]:
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(shutil.which("chromedriver"))))
    command = [sys.executable, "-m", "flows.cli.app", "explore", "--json"]
    command += ["--config", str(arguments.config)] if arguments.config else []
    command += ["--model", str(arguments.model)] if arguments.model else []
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = json.loads(process.stdout.readline())["address"]
            server = psutil.Process(process.pid)
            driver.get(address)
            until(driver, "return !!document.querySelector('.explore h1')", bool)
            start = {"heading_seconds": time.perf_counter() - began, "heading_cpu": cpu_of(server)}
            until(driver, SAID, bool)
            start |= {"numbers_seconds": time.perf_counter() - began, "numbers_cpu": cpu_of(server)}
            base = address.partition("/?")[0]
            views = [measure(driver, server, base, name, label) for name, label in VIEWS.items()]
        finally:
            process.terminate()
            driver.quit()
    result = {"start": start, "views": views, "load": psutil.getloadavg()[0]}
    print(json.dumps(result, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
