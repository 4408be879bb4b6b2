"""A browser without a network, and the pages of a lineage with a blocked round for it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
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

BROWSER = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
DRIVER = shutil.which("chromedriver")


def asked(**fields: object) -> GatePolicy:
    """The default policy for evidence that leaves categories out on purpose."""
    return GatePolicy.model_validate({"accept_unmeasured": ("general", "safety", "drift"), **fields})


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if BROWSER is None or DRIVER is None:
        pytest.skip("needs chromium and chromedriver on the PATH")
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
        as_of="2026-12-01",
        summary="Champion as of 2026-12-01: version 6. Rounds in 2026-11: 2. Decisions: 1.",
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


@pytest.fixture(scope="session")
def show() -> Callable[..., None]:
    """show(browser, page, width=..., scheme=...): open a page in a window of that width and colour scheme."""
    return _show


def _show(browser: Any, page: Path, *, width: int = 1280, scheme: str = "light") -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(page.as_uri())
