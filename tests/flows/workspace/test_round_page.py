"""The page of a round, written by the stages that write it: made of stored values, written again when a person decides, and saying the same
numbers as the terminal, Prefect, MLflow and the stored items."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from data_contracts.manifests import Decision, DropManifest, EvalReport, Verdict, file_ref, read_manifest, write_manifest
from evals.audit.forgetting import RoundEvaluation, audit_forgetting
from evals.items import load_evaluation
from evals.report.answers import read_answers, write_answers
from evals.report.render import verdict_markdown
from flows.cli import console
from flows.config.model import SkillstackConfig
from flows.lineage import Lineage, current_champion, find_version, read_history, verify_lineage
from flows.review.decisions import reject
from flows.review.replay import replay_round
from flows.round import register as register_stage
from flows.round.decide import decide
from flows.round.flow import begin_round
from flows.round.reports import Evaluated
from flows.workspace.outcome import RoundOutcome
from flows.workspace.pages import suite_rows
from flows.workspace.round_page import ANSWERS, write_page
from flows.workspace.stages import Stage
from flows.workspace.workspace import Workspace, page_of

from ..made_rounds import read_by

POLICY = {"accept_unmeasured": ("safety", "drift")}


@dataclass(frozen=True)
class Ended:
    """A held third round: what it returned, where it lies, and what was sent to Prefect."""

    workspace: Workspace
    outcome: RoundOutcome
    verdict: Stage[Verdict]
    reports: Evaluated
    markdown: str

    @property
    def page(self) -> str:
        return self.outcome.report.read_text(encoding="utf-8")


@pytest.fixture
def ended(grown: Lineage, make_folders: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[[Decision], Ended]:
    def run(decision: Decision) -> Ended:
        champion = current_champion(grown)
        assert champion is not None
        folders = make_folders("third", skill="third", parent=champion.model_sha256, decision=decision)
        config = SkillstackConfig(state_dir=grown.state_dir, gate=POLICY, tracking={"model_name": "tiny", "experiment": "rounds"})
        workspace = Workspace(config, grown)
        round = begin_round(workspace, champion, "contents of third", grown.state_dir.parent / "third.jsonl", "third")
        folder = workspace.stages / "evaluate" / "third-champion"
        before = Stage(folder, read_manifest(folder, EvalReport), reused=True)
        after = Stage(folders.evaluation, folders.report, reused=True)
        reports = Evaluated(after, before, before, {"old": before}, {}, first_skill=False, new="third")
        rows = [RoundEvaluation(number=0, skill=None, evaluation=load_evaluation(folder))]
        rows.append(RoundEvaluation(number=3, skill="third", evaluation=load_evaluation(folders.evaluation)))
        forgetting = audit_forgetting(rows)
        sent: list[str] = []
        monkeypatch.setattr(register_stage, "publish_verdict", lambda verdict, audit, *rest: sent.append(verdict_markdown(verdict, audit)))
        judged = decide.fn(round, reports, forgetting, {})
        clean = Stage(folders.drop, read_manifest(folders.drop, DropManifest), reused=True)
        made = Stage(folders.checkpoint, folders.manifest, reused=True)
        outcome = register_stage.register.fn(round, clean, made, reports, forgetting, judged, read_by(round))
        return Ended(workspace, outcome, judged, reports, sent[0])

    return run


class Text(HTMLParser):
    """The visible text of a page, and of each row of its plot."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.hidden = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.hidden += tag in ("style", "script")

    def handle_endtag(self, tag: str) -> None:
        self.hidden -= tag in ("style", "script")

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_the_page_opens_with_verdict_next_step_and_facts(ended: Callable[[Decision], Ended]) -> None:
    done = ended(Decision.BLOCK)
    text = Text(done.page).text
    places = [
        text.index(words) for words in ("✕ Blocked", "Next:", "Started (UTC)", "Drop third.jsonl", "Change of every suite", "Why, in words")
    ]
    assert places == sorted(places)
    assert "<code>skillstack init</code>" in done.page
    assert re.sub(r"[\s`]", "", f"Next: {done.outcome.next[0]}") in re.sub(r"\s", "", text)
    assert f"version {done.outcome.version}" in text
    assert "Started from version 3 (round 2, second)" in text
    assert "1 read: 1 for training, 1 held out" in text
    assert "The training loss went from 2.00 to 0.40 nats per token in 5 steps" in text
    assert "blocked by gate" in text
    assert not re.search(r"\d[eE][-−]\d", text), "no exponents"


def test_answers_are_stored_with_the_verdict_and_verified_with_it(ended: Callable[[Decision], Ended]) -> None:
    done = ended(Decision.BLOCK)
    stored = read_answers(done.verdict.folder / ANSWERS)
    before, after = (pd.read_parquet(stage.folder / "items" / "old.parquet") for stage in (done.reports.champion, done.reports.candidate))
    lost = set(before["doc_hash"][(before["score"].to_numpy() == 1) & (after["score"].to_numpy() == 0)])
    assert {answer.doc_hash for answer in stored if answer.suite == "old" and answer.kind == "lost"} == lost
    assert {answer.kind for answer in stored if answer.suite == "third"} == {"right"}
    replay = replay_round(done.workspace, 3)
    assert (replay.equal, replay.answers) == (True, True)
    path = done.verdict.folder / ANSWERS
    path.write_bytes(path.read_bytes() + b" ")
    found = [finding for finding in verify_lineage(done.workspace.lineage).findings if "answers" in f"{finding.where} {finding.problem}"]
    assert len(found) == 1


def test_replay_finds_answers_that_the_items_do_not_give(ended: Callable[[Decision], Ended]) -> None:
    done = ended(Decision.BLOCK)
    path = done.verdict.folder / ANSWERS
    write_answers(path, read_answers(path)[1:])
    manifest = done.verdict.manifest
    files = {**manifest.files, "answers": file_ref(done.verdict.folder, path)}
    write_manifest(done.verdict.folder, manifest.model_copy(update={"files": files}))
    replay = replay_round(done.workspace, 3)
    assert (replay.equal, replay.answers) == (False, False)


def test_the_same_page_comes_from_the_stored_values(ended: Callable[[Decision], Ended]) -> None:
    done = ended(Decision.INCONCLUSIVE)
    first = done.page
    write_page(done.workspace, find_version(done.workspace.lineage, done.outcome.version))
    assert done.page == first


def test_a_persons_decision_is_on_the_page_afterwards(ended: Callable[[Decision], Ended]) -> None:
    done = ended(Decision.INCONCLUSIVE)
    assert "the minutes of Monday" not in done.page
    reject.fn(done.workspace.config, done.outcome.version, reviewer="ana", reason="see the minutes of Monday")
    text = Text(done.page).text
    assert "reject (verdict INCONCLUSIVE)" in text
    assert "see the minutes of Monday" in text
    assert "Decided since: reject (verdict INCONCLUSIVE) by ana, " in text
    assert text.index("rejected by ana") < text.index("Change of every suite")
    assert f"skillstack approve {done.outcome.version}" not in text, "what was decided is not asked for again"
    artifacts = done.workspace.lineage.client.list_artifacts(find_version(done.workspace.lineage, done.outcome.version).run_id)
    assert page_of(done.workspace, done.outcome.version).name in {Path(each.path).name for each in artifacts}


def test_page_terminal_prefect_mlflow_and_items_say_the_same_numbers(
    ended: Callable[[Decision], Ended], capsys: pytest.CaptureFixture[str]
) -> None:
    """The expected numbers are computed here, from the stored items; every place must print them."""
    done = ended(Decision.BLOCK)
    console.choose(False)
    console.show_outcome(done.outcome)
    terminal = capsys.readouterr().out
    text = Text(done.page).text
    record = next(each for each in read_history(done.workspace.lineage) if each.version == done.outcome.version)
    prefect = {row["suite"]: row for row in suite_rows(done.reports.candidate.manifest, done.reports.champion.manifest, ())}
    audit = audit_lines(done)
    for suite, file in (("old", "old"), ("piqa, 0-shot", "piqa_ 0-shot"), ("third", "third")):
        before, after = (
            100 * pd.read_parquet(stage.folder / "items" / f"{file}.parquet")["score"].mean()
            for stage in (done.reports.champion, done.reports.candidate)
        )
        old, new, change = f"{before:.1f}", f"{after:.1f}", f"{after - before:+.1f}" if after != before else "0.0"
        minus = change.replace("-", "−")
        assert f"{suite} {old} → {new}" in text, "the plot"
        assert re.search(rf"{re.escape(suite)} {old} → {new} .{{0,40}}?{re.escape(minus)} \(90 %", text), "the plot"
        assert re.search(rf"\| {re.escape(suite)} \| [\w ]+ \| {re.escape(minus)} \(", done.markdown), "the artifact `verdict`"
        assert (prefect[suite]["champion"], prefect[suite]["candidate"]) == (f"{old} %", f"{new} %")
        assert float(prefect[suite]["change"].removesuffix(" points")) == pytest.approx(float(change))
        cells = next(line for line in terminal.splitlines() if f" {suite} " in line and re.search(r"\d\.\d", line))
        assert [old, new] == re.findall(r"\b\d+\.\d\b", cells)[:2], "the terminal"
        assert record.scores[suite] == pytest.approx(after / 100), "MLflow"
        assert audit[suite] == (old, new), "the matrix of the same page"


def audit_lines(done: Ended) -> dict[str, tuple[str, str]]:
    """Suite -> its two scores in the page's matrix, by its columns."""
    table = re.search(r'<table class="matrix">.*?</table>', done.page, re.S)
    assert table is not None
    suites = re.findall(r'<th scope="col">([^<]+)</th>', table[0])[1:]
    rows = [re.findall(r"<td [^>]*>([^<]+)<", row) for row in re.findall(r"<tr.*?</tr>", table[0], re.S)[1:]]
    return {suite: (rows[0][at], rows[-1][at]) for at, suite in enumerate(suites)}
