"""A lineage that is cheap to make: real MLflow on SQLite, real manifests and items, no training."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import pytest
import torch

from data_contracts.digests import model_digest, model_files, text_digest
from data_contracts.manifests import (
    CheckpointManifest,
    Decision,
    EvalReport,
    LayerCapacity,
    SuiteResult,
    Verdict,
    file_ref,
    write_manifest,
)
from evals.gate.decide import GateEvidence, GatePolicy, decide
from evals.items import load_evaluation, write_items
from flows.base_models.resolve import NANO
from flows.config.model import SkillstackConfig
from flows.explore import scene
from flows.lineage import (
    connect,
    find_version,
    finish_round,
    log_stage,
    open_round,
    promote_version,
    read_ancestry,
    register_candidate,
)

LAYERS = ("model.layers.0.self_attn.q_proj", "model.layers.0.mlp.down_proj")


def write_evaluation(folder: Path, model_sha256: str, right: dict[str, int], n: int = 40) -> EvalReport:
    """Suites in which the first `right` items are right."""
    suites, files = [], {}
    for name, count in right.items():
        score = np.zeros(n)
        score[:count] = 1.0
        ids = [f"{name}-{index}" for index in range(n)]
        rows = pd.DataFrame({"doc_hash": ids, "prompt_hash": ids, "score": score, "gold_logprob": np.nan, "weight": 1.0, "cluster": None})
        rows["prompt"] = [f"question {index} of {name}" for index in range(n)]
        rows["gold"] = [f"answer {index}" for index in range(n)]
        rows["prediction"] = [f"answer {index}" if score[index] else "something else" for index in range(n)]
        rows["reasoning"], rows["cut"], rows["choice_logprobs"] = "", 0, None
        write_items(folder / f"{name}.parquet", rows)
        files[f"items/{name}"] = file_ref(folder, folder / f"{name}.parquet")
        category = "skill" if name in ("alpha", "beta") else "general"
        suites.append(
            SuiteResult(
                name=name, category=category, metric="acc", higher_is_better=True, n=n, score=float(score.mean()),
                suite_sha256=text_digest(name), seconds=0.1,
            )
        )  # fmt: skip
    report = EvalReport(model_sha256=model_sha256, settings={}, settings_sha256="0", suites=tuple(suites), files=files)
    write_manifest(folder, report)
    return report


def write_checkpoint(folder: Path, skill: str | None, free: int | None) -> CheckpointManifest:
    """Nano's own weights under a manifest; `free` directions where capacity was measured."""
    (folder / "model").mkdir(parents=True)
    for name in model_files(NANO):
        (folder / "model" / name).symlink_to(NANO / name)
    layers = {}
    if free is not None:
        shapes = dict(zip(LAYERS, ((160, 160), (160, 416)), strict=True))
        for name, shape in shapes.items():
            trainable = shape[1] // 4
            layers[name] = LayerCapacity(shape=shape, protected=shape[1] - trainable, trainable=trainable, free=free, leak=1e-7)
    method = "base" if skill is None else "full" if free is None else "osft"
    digest = text_digest(f"{folder.name}{model_digest(model_files(NANO))}")
    manifest = CheckpointManifest(skill=skill, method=method, model_sha256=digest, layers=layers)
    write_manifest(folder, manifest)
    (folder / "metrics.jsonl").write_text(
        "".join(
            f'{{"event": "step", "step": {step}, "steps": 5, "loss": {2.0 / step}, "lr": 0.001, "tokens_per_second": 100.0}}\n'
            for step in range(1, 6)
        ),
        encoding="utf-8",
    )
    return manifest


ROUNDS: tuple[tuple[str | None, int | None, Decision | None, dict[str, int]], ...] = (
    (None, None, None, {"general": 40}),
    ("alpha", 100, Decision.PASS, {"general": 40, "alpha": 36}),
    ("beta", 60, Decision.PASS, {"general": 39, "alpha": 34, "beta": 38}),
    ("gamma", None, Decision.BLOCK, {"general": 10, "alpha": 5, "beta": 0}),
)


def judge(candidate: Path, champion: Path, new_skill: str | None) -> Verdict:
    """The gate's own verdict, under margins that 40 items can decide."""
    after, before = load_evaluation(candidate), load_evaluation(champion)
    anchors = {name: before for name in after.suites if name != new_skill}
    policy = GatePolicy(margin_skill=0.4, margin_general=0.4, anchor_budget=0.4, floor=0.5, accept_unmeasured=("safety", "drift"))
    evidence = GateEvidence(after, before, anchors, new_skill, bootstrap=set(after.suites) <= {"general", new_skill})
    return decide(evidence, policy)


def write_lineage(state: Path) -> None:
    """Base, two promoted rounds, and one that was blocked."""
    lineage = connect(f"sqlite:///{state / 'mlflow.db'}", model_name="skillstack", experiment="skillstack", state_dir=state)
    champion: int | None = None
    standing: dict[str, int] = {}
    for number, (skill, free, decision, right) in enumerate(ROUNDS):
        run = open_round(lineage, number, skill, chain=read_ancestry(lineage, champion) if champion is not None else ())
        checkpoint, evaluation, verdict_folder = (state / "stages" / kind / str(number) for kind in ("train", "evaluate", "decide"))
        manifest = write_checkpoint(checkpoint, skill, free)
        if champion is not None:
            manifest = manifest.model_copy(update={"parent_sha256": find_version(lineage, champion).model_sha256})
            write_manifest(checkpoint, manifest)
            log_stage(lineage, run, "train", manifest, checkpoint)
        report = write_evaluation(evaluation, manifest.model_sha256, right)
        log_stage(lineage, run, "evaluate", report, evaluation)
        verdict = None
        if decision is not None:
            before = state / "stages" / "evaluate" / f"{number}-champion"
            write_evaluation(before, find_version(lineage, champion or 1).model_sha256, {name: standing.get(name, 0) for name in right})
            verdict = judge(evaluation, before, skill if skill in right else None)
            assert verdict.decision is decision, verdict.reasons
            write_manifest(verdict_folder, verdict)
            log_stage(lineage, run, "decide", verdict, verdict_folder)
        version = register_candidate(lineage,
            run, checkpoint, manifest, evaluation=evaluation, report=report, verdict=verdict,
            verdict_folder=verdict_folder if verdict else None,
        ).version  # fmt: skip
        if decision in (None, Decision.PASS):
            promote_version(lineage, version, expected_champion=champion, reason="test", actor="test", verdict=verdict)
            champion, standing = version, right
        finish_round(lineage, run)


def made_lineage(state: Path) -> Path:
    """`write_lineage` into a new state folder."""
    state.mkdir()
    write_lineage(state)
    return state


@pytest.fixture(scope="session")
def lineage_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder with a lineage in it, which nothing may change: test_nothing_was_written proves it."""
    return made_lineage(tmp_path_factory.mktemp("explored") / "state")


@pytest.fixture
def explored(lineage_state: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SkillstackConfig]:
    """This process explores the lineage."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    config = SkillstackConfig(state_dir=lineage_state)
    scene.use(config)
    yield config
    scene.use(SkillstackConfig(state_dir=lineage_state.parent / "nothing"))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# ---------------------------------------------------------------------------------------------------- in a browser

PATIENCE = 300.0  # seconds; on a busy machine the first page waits for torch, transformers and MLflow
QUIET = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage", "--disable-sync"]
QUIET += ["--disable-background-networking", "--disable-component-update"]
CONTROLS = "marimo-slider, marimo-dropdown, marimo-text, marimo-button, marimo-refresh"


class Browser:
    """One headless Chromium on the explorer."""

    FIND = f"return [...document.querySelectorAll('{CONTROLS}')].find(e => (e.getAttribute('data-label') || '').includes(arguments[0]))"

    def __init__(self, address: str, profile: Path) -> None:
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        options.binary_location = str(shutil.which("chromium"))
        for argument in [*QUIET, f"--user-data-dir={profile}", "--window-size=1200,1400"]:
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(shutil.which("chromedriver"))))
        self.driver.set_page_load_timeout(PATIENCE)
        self.base = address.partition("/?")[0]
        self.driver.get(address)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        """The first true answer of a condition, within the deadline."""
        deadline = time.monotonic() + PATIENCE
        while not (answer := condition()):
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"no {what} within {PATIENCE:.0f} s; the page says: {self.run('return document.body.innerText')[:2000]}"
                )
            time.sleep(0.1)  # between two looks at a condition that has a deadline
        return answer

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

    def hosts(self) -> set[str]:
        """Where requests went, since the last time that this was asked."""
        found = set()
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] in ("Network.requestWillBeSent", "Network.webSocketCreated"):
                url = message["params"].get("url") or message["params"]["request"]["url"]
                parts = urlsplit(url)
                if parts.scheme in ("http", "https", "ws", "wss"):
                    found.add(parts.hostname or "")
        return found


@contextlib.contextmanager
def running_explorer(folder: Path, state: Path, *arguments: str, **variables: str) -> Iterator[str]:
    """A running `skillstack explore` over a state folder, as its address; ended afterwards."""
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


@pytest.fixture(scope="module")
def explorer_in_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Browser]]:
    """explorer_in_browser(state, *arguments, **variables) -> a browser on an explorer of its own; both end with the module."""
    pytest.importorskip("selenium.webdriver")
    if shutil.which("chromium") is None or shutil.which("chromedriver") is None:
        pytest.skip("needs chromium and chromedriver")
    with contextlib.ExitStack() as ended:

        def start(state: Path, *arguments: str, **variables: str) -> Browser:
            address = ended.enter_context(running_explorer(tmp_path_factory.mktemp("explorer"), state, *arguments, **variables))
            browser = Browser(address, tmp_path_factory.mktemp("chromium"))
            ended.callback(browser.driver.quit)
            return browser

        yield start


@pytest.fixture(scope="module")
def changing_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lineage like `lineage_state`, which a test may change."""
    return made_lineage(tmp_path_factory.mktemp("changing") / "state")
