"""The pages: whole, safe, the same bytes again, and saying first what matters."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from data_contracts.manifests import Decision, LayerCapacity, Verdict
from evals.audit.forgetting import ForgettingAudit, RoundEvaluation, WeightDrift, audit_forgetting
from evals.gate.decide import GateEvidence, GatePolicy, decide
from evals.report.answers import compare_answers
from evals.report.facts import RoundCost
from evals.report.render import render_lineage, render_round, verdict_markdown


def asked(**fields: object) -> GatePolicy:
    """The default policy for evidence that leaves categories out on purpose."""
    return GatePolicy.model_validate({"accept_unmeasured": ("general", "safety", "drift"), **fields})


VOID = {"meta", "br", "input", "link", "hr", "img", "circle", "line", "rect", "polyline", "path"}
SKILLS = ("agnews", "dbpedia", "sst2")


class Page(HTMLParser):
    """Collects what the tests ask for, and whether every tag is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.loads: list[str] = []
        self.words: list[str] = []
        self.unlabelled: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        self.ids += [found["id"]] if found.get("id") else []
        if tag == "a" and (found.get("href") or "").startswith("#"):
            self.targets.append((found["href"] or "")[1:])
        self.loads += [value for name in ("src", "href", "data") if (value := found.get(name)) and not value.startswith("#")]
        inside = "svg" in self.open[:-1]
        if tag == "svg" and not (inside or found.get("aria-hidden") or (found.get("role") == "img" and found.get("aria-label"))):
            self.unlabelled.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="session")
def round_page(make_suite, make_evaluation):
    """(verdict, audit, evidence) of a third round that lost `lost` items of agnews."""

    def build(lost: int = 60) -> tuple[Verdict, ForgettingAudit, GateEvidence]:
        right = np.r_[np.ones(300), np.zeros(100)]
        rows = []
        for number in range(4):
            suites = []
            for index, name in enumerate(SKILLS):
                score = right.copy() if number > index else np.r_[np.ones(100), np.zeros(300)]
                if number == 3 and index == 0:
                    score[:lost] = 0
                suites.append(make_suite(name, score, logprob=-1.0 - 0.01 * number - score * 0.1))
                if number > index:
                    suites.append(make_suite(f"{name}.sealed", score[::4], sealed=True))
            suites.append(make_suite("piqa", right, category="general"))
            suites.append(make_suite("text", np.linspace(1, 1.4, 40) * (1 + 0.001 * number), category="drift"))
            layers = {"model.layers.0.q_proj": LayerCapacity(shape=(64, 64), protected=16, trainable=8, free=48 - 8 * number, leak=0.0)}
            weights = [WeightDrift(layer="model.layers.0.q_proj", relative_change=0.01, principal_angles=(0.2, 0.1))] if number else []
            decision = Decision.PASS if 0 < number < 3 else None
            skill = SKILLS[number - 1] if number else None
            rows.append(RoundEvaluation(number, skill, make_evaluation(f"m{number}", *suites), decision, layers=layers, weights=weights))
        anchors = {"agnews": rows[1].evaluation, "dbpedia": rows[2].evaluation, "piqa": rows[0].evaluation, "text": rows[0].evaluation}
        evidence = GateEvidence(rows[3].evaluation, rows[2].evaluation, anchors, "sst2")
        return decide(evidence, asked()), audit_forgetting(rows), evidence

    return build


@pytest.mark.parametrize("lost", [0, 60])
def test_a_round_page_is_whole_and_loads_nothing(tmp_path: Path, round_page, lost: int) -> None:
    verdict, audit, evidence = round_page(lost)
    text = render_round(verdict, audit, evidence, out=tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert page.loads == []
    assert "http" not in text.replace("http://www.w3.org", "")
    assert set(page.targets) <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert page.unlabelled == []
    assert len(text) < 5_000_000


def test_the_verdict_comes_first_and_names_what_was_lost(tmp_path: Path, round_page) -> None:
    verdict, audit, evidence = round_page()
    page = Page(render_round(verdict, audit, evidence, out=tmp_path / "report.html").read_text(encoding="utf-8"))
    order = ("✕ Blocked", "Lost agnews", "Change of every suite", "Earlier skills", "Why, in words", "Every skill after every round")
    places = [page.text.index(words, page.text.index("Skip to the content")) for words in order]
    assert places == sorted(places)
    for reason in verdict.reasons:
        assert " ".join(reason.removeprefix("Blocked: l").split()) in page.text
    for words in ("75.0", "60.0", "This is a real loss, not noise", "Capacity left", "11.5°"):
        assert words in page.text


def test_what_is_flagged_is_said_with_the_verdict_and_shown_with_its_numbers(tmp_path, round_page) -> None:
    verdict, audit, evidence = round_page()
    warned = {check.subject for check in verdict.checks if check.check in ("drift_warning", "early_warning")}
    assert warned
    text = Page(render_round(verdict, audit, evidence, out=tmp_path / "report.html").read_text(encoding="utf-8")).text
    assert text.index("⚑ Flagged: general text became harder to predict") < text.index("Change of every suite")
    for check in verdict.checks:
        if check.check in ("drift_warning", "early_warning"):
            assert " ".join(check.sentence.split()) in text
    assert "Flagged: general text became harder to predict" in verdict_markdown(verdict)


def test_every_question_of_the_gate_is_on_the_page(tmp_path: Path, round_page) -> None:
    verdict, audit, evidence = round_page()
    page = Page(render_round(verdict, audit, evidence, out=tmp_path / "report.html").read_text(encoding="utf-8"))
    proven = {check.subject for check in verdict.checks if check.check == "regression" and check.outcome == "block"}
    for check in verdict.checks:
        if not (check.check == "floor" and check.subject in proven):
            assert " ".join(check.sentence.split()) in page.text


def test_text_from_data_cannot_become_markup(tmp_path: Path, round_page) -> None:
    verdict, audit, evidence = round_page()
    attack = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    items = tuple(
        item.model_copy(update={"prompt": attack, "gold": attack, "predictions": (attack,) * len(item.rows)}) for item in audit.churn_items
    )
    audit = audit.model_copy(update={"churn_items": items})
    verdict = verdict.model_copy(update={"reasons": (attack, attack)})
    text = render_round(verdict, audit, evidence, out=tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "<img" not in text
    assert attack in Page(text).text


def test_sealed_scores_are_shown_and_sealed_texts_are_not(tmp_path: Path, round_page) -> None:
    verdict, audit, evidence = round_page()
    text = render_round(verdict, audit, evidence, out=tmp_path / "report.html").read_text(encoding="utf-8")
    assert "agnews.sealed" in text
    assert "of agnews.sealed: what is" not in text


def test_the_same_input_gives_the_same_bytes(tmp_path: Path, round_page) -> None:
    verdict, audit, evidence = round_page()
    first, second = (render_round(verdict, audit, evidence, out=tmp_path / name).read_bytes() for name in ("a.html", "b.html"))
    assert first == second


def test_an_error_without_numbers_has_a_page(tmp_path: Path, round_page) -> None:
    _, audit, evidence = round_page()
    verdict = decide(replace(evidence, anchors={}), asked())
    answers = compare_answers(evidence.candidate, evidence.champion, "sst2")
    assert answers
    page = Page(render_round(verdict, audit, answers=answers, out=tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "Error: nothing was decided" in page.text
    assert "has no anchor evaluation" in page.text
    assert "Answers, side by side" not in page.text


def test_a_base_alone_has_a_page(tmp_path: Path, round_page) -> None:
    _, _, evidence = round_page()
    audit = audit_forgetting([RoundEvaluation(0, None, evidence.champion)], base_skills=())
    page = Page(render_lineage(audit, out=tmp_path / "lineage.html").read_text(encoding="utf-8"))
    assert page.open == []
    assert "No skill has been learned yet" in page.text


def test_the_lineage_page_shows_every_score(tmp_path: Path, round_page) -> None:
    _, audit, _ = round_page()
    page = Page(render_lineage(audit, out=tmp_path / "lineage.html").read_text(encoding="utf-8"))
    for row in audit.matrix:
        for suite, value in zip(audit.suites, row, strict=True):
            if value is not None:
                assert (f"{value:.3f}" if suite.category == "drift" else f"{100 * value:.1f}") in page.text
    assert page.text.index("Rounds") < page.text.index("Every skill after every round")


def test_what_a_round_took_stands_on_the_lineage_page_without_the_verdict_that_is_there_already(tmp_path: Path, round_page) -> None:
    _, audit, _ = round_page()
    cost = RoundCost(1, 1, "new", 2, "BLOCK", "blocked", "gate", datetime(2026, 11, 3, 6, 0, tzinfo=UTC), 7261.0, 3600.0, 1234567, "cuda:0")
    text = Page(render_lineage(audit, out=tmp_path / "lineage.html", rounds=(cost,)).read_text(encoding="utf-8")).text
    took = text[text.rindex("What each round took") : text.index("Every skill after every round")]
    assert "2 h" in took
    assert "blocked by gate" in took
    assert "BLOCK" not in took
    assert "verdict" not in took


def test_gaps_are_said(tmp_path: Path, make_suite, make_evaluation) -> None:
    rows = [RoundEvaluation(n, None, make_evaluation(f"m{n}", make_suite("a", np.ones(40), suite_sha256=str(n) * 64))) for n in range(2)]
    page = Page(render_lineage(audit_forgetting(rows), out=tmp_path / "lineage.html").read_text(encoding="utf-8"))
    assert "a changed after round 0" in page.text


def test_markdown_for_the_registry(round_page) -> None:
    verdict, audit, _ = round_page()
    text = verdict_markdown(verdict, audit)
    assert text.startswith("## ✕ Blocked")
    assert "- ✕ **Earlier skills**: 1 of 2 suites lost: agnews −15.0; on average −7.5 points" in text
    assert re.search(r"\| agnews \| blocks \| −15\.0 \(90 %: −\d.*\| Earlier skills \|", text)
    groups = [line for line in text.splitlines() if line.startswith("- ") and "**" in line]
    assert len(groups) == 5, "one line per kind of suite, not one per check"
    assert "forgetting" in text
    assert verdict.candidate_sha256[:12] in text
    assert verdict_markdown(verdict) != text


def test_markdown_of_odd_names_stays_text(round_page) -> None:
    verdict, _, _ = round_page()
    check = next(check for check in verdict.checks if check.check == "regression").model_copy(update={"subject": "a|b<i>`x`"})
    text = verdict_markdown(verdict.model_copy(update={"checks": (check,), "reasons": ("**lost** a|b",)}))
    assert "a\\|b&lt;i&gt;\\`x\\`" in text
    assert not re.search(r"(?<!\\)\*\*lost", text)


def test_the_page_says_what_was_not_compared_and_what_was_given_back(round_page, tmp_path: Path) -> None:
    verdict, audit, evidence = round_page(0)
    plain = Page(render_round(verdict, audit, evidence, out=tmp_path / "a.html").read_text(encoding="utf-8")).text
    assert "set aside" not in plain
    report = evidence.candidate.report
    said = {"set_aside": 3, "cut": 2, "reproduced": 0.5}
    suites = tuple(suite.model_copy(update=said) if suite.name == "sst2" else suite for suite in report.suites)
    candidate = replace(evidence.candidate, report=report.model_copy(update={"suites": suites}))
    text = Page(
        render_round(verdict, audit, replace(evidence, candidate=candidate), out=tmp_path / "b.html").read_text(encoding="utf-8")
    ).text
    for words in ("sst2, of 400 items: in 3 the reasoning was set aside", "in 2 the context is longer", "reproduces 50 %"):
        assert words in text
