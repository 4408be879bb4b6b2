"""A month without a human hand: a drop in the inbox becomes a promoted version; one that forgets is held until a person decides."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.lineage import current_champion, read_history, read_ledger

from .in_browser import asked
from .in_browser.chromium import PageBrowser, running_chromium
from .project import backup

pytestmark = pytest.mark.services


def round_ended(project: Any, count: int) -> Any:
    """Wait until so many runs of the round have ended that nobody but the service started; gives the newest attempt on record."""

    def runs() -> list[dict[str, Any]]:
        found = project.post("/flow_runs/filter", flows={"name": {"any_": ["continual-round"]}}, sort="EXPECTED_START_TIME_ASC")
        return [run for run in found if run["parameters"].get("config") == str(project.config)]

    project.wait_for(lambda: len(runs()) >= count, f"round {count} to be started by the service")
    project.ended(runs()[count - 1]["id"])
    return max(read_history(project.lineage), key=lambda record: (record.round, record.attempt))


def about(record: Any, messages: Any) -> list[dict[str, Any]]:
    """What people were told of a round, among the messages about the other tests' rounds."""
    return [each for each in messages[1] if f"round {record.round}: {record.skill} is {record.decision}" in each["subject"]]


@pytest.fixture(scope="module")
def promoted(deployed: Any, workers: Any) -> Any:
    """A drop was put in the inbox; the scheduled watcher, the GPU's worker and the gate did the rest."""
    deployed.watch(True)
    deployed.drop("route", to="inbox")
    try:
        return round_ended(deployed, 1)
    finally:
        deployed.watch(False)


def decisions(deployed: Any) -> list[Any]:
    """The ledger without the entries that only say which version was registered."""
    return [entry for entry in read_ledger(deployed.lineage) if entry.action != "register"]


def test_a_drop_in_the_inbox_becomes_a_promoted_version(deployed: Any, promoted: Any) -> None:
    assert promoted.status == "finished", promoted.error
    assert (promoted.decision, promoted.skill, promoted.champion) == ("PASS", "route", True), promoted.reasons
    assert [entry.actor for entry in decisions(deployed)] == ["bootstrap", "gate"]
    runs = deployed.post("/flow_runs/filter", flows={"name": {"any_": ["continual-round"]}})
    mine = [run for run in runs if run["parameters"].get("config") == str(deployed.config)]
    assert [(run["work_pool_name"], run["state_type"]) for run in mine] == [("gpu", "COMPLETED")], "it ran once, on the GPU's pool"
    artifacts = {each["key"] for each in deployed.post("/artifacts/filter")}
    assert {"verdict", "gate-checks"} <= artifacts


def test_its_artifacts_lie_in_the_object_store(deployed: Any, promoted: Any, services: Any, parts: Any) -> None:
    import boto3

    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    url = f"http://127.0.0.1:{services.store.command[-1]}"
    found = boto3.client("s3", endpoint_url=url, **keys).list_objects_v2(Bucket=parts.BUCKET)["Contents"]
    names = [each["Key"].rsplit("/", 1)[-1] for each in found]
    assert "manifest.json" in names
    assert "report.html" in names
    assert "ledger.jsonl" in names
    assert deployed.answer("verify")["ok"]


@pytest.fixture(scope="module")
def blocked(deployed: Any, workers: Any, promoted: Any) -> Any:
    """The next drop is announced, and trained so that it is learned and the rest forgotten: nearly every direction, at a high rate."""
    forgetful = deployed.write_config(train={"unfreeze_rank_ratio": 0.95, "learning_rate": 4e-3, "num_epochs": 6})
    try:
        drop = deployed.drop("mood", seed=1)
        assert deployed.answer("announce", str(drop), "--skill", "tone", "--config", str(forgetful))["announced"]
        record = round_ended(deployed, 2)
        shutil.copyfile(asked.report_of(deployed.folder, record.version), deployed.folder / "blocked.html")  # before a person decides
        return record
    finally:
        deployed.write_config()


def test_a_forgetting_drop_is_blocked_and_the_champion_stays(deployed: Any, blocked: Any, promoted: Any) -> None:
    assert blocked.status == "finished", blocked.error
    assert blocked.decision == "BLOCK", blocked.reasons
    assert blocked.lost
    champion = current_champion(deployed.lineage)
    assert champion is not None
    assert champion.version == promoted.version


def test_people_are_told_of_the_blocked_round(deployed: Any, blocked: Any, messages: Any) -> None:
    told = deployed.wait_for(lambda: about(blocked, messages), "the message about the blocked round", 60)
    assert f"version {blocked.version}" in told[0]["body"]
    assert blocked.reasons[0] in told[0]["body"]


def test_a_person_rejects_and_another_overrides_from_processes_of_their_own(deployed: Any, blocked: Any) -> None:
    version = str(blocked.version)
    plain = deployed.command("approve", version, "--reviewer", "ana", "--reason", "needed now", "--json")
    assert plain.returncode == 1, "a blocked version needs an override"
    assert "--override" in plain.stdout
    refused = deployed.answer("reject", version, "--reviewer", "ben", "--reason", "it lost copy")
    assert refused["action"] == "reject"
    deployed.answer("approve", version, "--reviewer", "ana", "--reason", "needed now", "--override")
    actions = [(entry.action, entry.actor) for entry in decisions(deployed)][2:]
    assert actions == [("reject", "ben"), ("approve", "ana"), ("override", "ana")]
    deployed.answer("rollback", "--reason", "it is too bad after all", "--actor", "ana")
    champion = current_champion(deployed.lineage)
    assert champion is not None
    assert champion.version == 2


def test_rejecting_works_as_a_deployment_too(deployed: Any, blocked: Any) -> None:
    run = deployed.submit("reject/reject", version=blocked.version, reviewer="ben", reason="from the page of the deployment")
    assert deployed.ended(run)["state_type"] == "COMPLETED"
    assert read_ledger(deployed.lineage)[-1].reason == "from the page of the deployment"


@pytest.fixture(scope="module")
def undecided(deployed: Any, workers: Any, blocked: Any) -> Any:
    """A third drop under a margin that a hundred items cannot show: nothing is proven, in either direction."""
    narrow = deployed.write_config("narrow.yaml", gate={"margin_general": 0.01, "margin_skill": 0.01})
    run = deployed.submit("continual-round/round", narrow, drop=str(deployed.drop("mood")), skill="mood")
    assert deployed.ended(run)["state_type"] == "COMPLETED"
    return next(record for record in read_history(deployed.lineage) if record.skill == "mood")


def test_an_undecided_round_is_held_and_people_are_told(deployed: Any, undecided: Any, messages: Any) -> None:
    assert undecided.status == "finished", undecided.error
    assert undecided.decision == "INCONCLUSIVE", undecided.reasons
    assert not undecided.champion
    told = deployed.wait_for(lambda: about(undecided, messages), "the message about the undecided round", 60)
    first, _, steps = told[0]["body"].partition("\nWhat to try next:\n")
    assert f"version {undecided.version}" in first
    assert steps.splitlines()[-1].startswith(f"Or decide in your own name: skillstack approve {undecided.version} --reviewer NAME")


# ---------------------------------------------------------------------------------------- the pages that people open

SIZES = pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (1400, "dark"), (420, "light"), (420, "dark")])


@pytest.fixture(scope="module")
def browser(undecided: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageBrowser]:
    with running_chromium(tmp_path_factory.mktemp("pages")) as chromium:
        yield chromium


@pytest.fixture(scope="module")
def prefect_pages(browser: PageBrowser, services: Any) -> str:
    return asked.open_prefect(browser, services.environment)


@pytest.fixture(scope="module")
def mlflow_pages(browser: PageBrowser, services: Any, deployed: Any) -> str:
    return f"{asked.open_mlflow(browser, services.environment)}/#/experiments/{deployed.lineage.experiment_id}/runs"


@SIZES
def test_prefects_runs_are_named_by_the_decision_and_their_links_lead_on(
    browser: PageBrowser, prefect_pages: str, deployed: Any, blocked: Any, undecided: Any, width: int, scheme: str
) -> None:
    browser.show(width, scheme)
    asked.colours_of_prefect(browser, scheme)
    runs = browser.open(f"{prefect_pages}/runs", asked.FLOW_RUNS)
    browser.picture(f"prefect-runs-{width}-{scheme}")
    states = {name.split(" · ")[1]: (name.split(" · ")[-1], state) for name, state, _ in runs if name.startswith("round")}
    assert states[blocked.skill] == ("Blocked", "Blocked")
    assert states[undecided.skill] == ("Held", "Held")
    assert states["route"][1] == "Completed"
    assert browser.run("return document.documentElement.className") == scheme
    assert browser.run("return document.documentElement.scrollWidth") <= width
    name, _, link = next(run for run in runs if f" {blocked.skill} " in run[0])
    [run] = deployed.post("/flow_runs/filter", flow_runs={"name": {"any_": [name]}})
    assert link == f"{prefect_pages}/runs/flow-run/{run['id']}", "the address that a worker's log names"
    browser.open(link, "return document.querySelector('.state-badge')?.innerText === 'Blocked'")
    browser.picture(f"prefect-run-{width}-{scheme}")
    assert name in browser.text()
    assert browser.run("return document.documentElement.scrollWidth") <= width
    assert browser.hosts() <= {"127.0.0.1"}


@SIZES
def test_prefects_artifact_has_the_words_of_the_report(
    browser: PageBrowser, prefect_pages: str, deployed: Any, blocked: Any, undecided: Any, width: int, scheme: str
) -> None:
    """Verdict and next steps, in the same order: a share of the update is offered before an override."""
    browser.show(width, scheme)
    asked.colours_of_prefect(browser, scheme)
    texts: dict[int, str] = {}
    for link in browser.open(f"{prefect_pages}/artifacts/key/verdict", asked.ARTIFACTS):
        browser.open(link, "return /Full report: artifact/.test(document.body.innerText)")
        for record in (blocked, undecided):
            if f"version-{record.version}.html" in browser.text():
                texts[record.version] = browser.text()
                browser.picture(f"prefect-verdict-{record.decision}-{width}-{scheme}")
                assert browser.run("return document.documentElement.scrollWidth") <= width
    reports = ((blocked, deployed.folder / "blocked.html"), (undecided, asked.report_of(deployed.folder, undecided.version)))
    for record, report in reports:
        headline, steps = asked.said_by(report)
        assert headline in texts[record.version]
        places = [texts[record.version].index(step) for step in steps]
        assert places == sorted(places)
        assert f"skillstack approve {record.version}" in steps[-1]
    _, steps = asked.said_by(deployed.folder / "blocked.html")
    assert ["--scale" in step for step in steps].index(True) < ["--override" in step for step in steps].index(True)
    [named] = {found[1] for step in steps if (found := re.search(r"skillstack round (\S+) ", step))}
    assert (deployed.folder / named).is_file(), "the command works in the project's folder as it stands"
    assert browser.hosts() <= {"127.0.0.1"}


@SIZES
def test_mlflows_table_begins_with_the_verdict_and_the_report_is_on_the_rounds_own_run(
    browser: PageBrowser, mlflow_pages: str, deployed: Any, undecided: Any, width: int, scheme: str
) -> None:
    browser.show(width, scheme)
    asked.colours_of_mlflow(browser, scheme)
    shown = browser.open(f"{mlflow_pages}?workflowType=machine_learning&viewStateShareKey=rounds", asked.VERDICTS)
    browser.picture(f"mlflow-runs-{width}-{scheme}")
    assert {"PASS", "BLOCK", "INCONCLUSIVE"} <= set(shown)
    columns = browser.run(asked.COLUMNS)
    assert [name for name, _ in columns[:2]] == ["Run Name", "verdict"]
    if width == 1400:  # a phone has to scroll for the scores
        scores = {f"score/{suite}" for suite in undecided.scores if not suite.endswith(".sealed")}
        assert {name for name, _ in columns[2:]} == scores
        assert all(right <= width for _, right in columns), "none is out of sight"
    assert ("dark-mode" in browser.run("return document.body.className")) == (scheme == "dark")

    page = f"{mlflow_pages}/{undecided.run_id}/artifacts/version-{undecided.version}.html?workflowType=machine_learning"
    frame = browser.open(page, "return document.querySelector('iframe')")
    headline, steps = asked.said_by(asked.report_of(deployed.folder, undecided.version))
    browser.driver.switch_to.frame(frame)
    try:
        browser.wait(lambda: headline in browser.text(), "headline of the report")
        assert steps[0] in browser.text()
        shade = browser.run("return getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).slice(0, 3).map(Number)")
        assert (min(shade) > 200) == (scheme == "light"), "the report follows the same scheme"
    finally:
        browser.driver.switch_to.default_content()
    browser.picture(f"mlflow-report-{width}-{scheme}")
    assert browser.hosts() <= {"127.0.0.1"}


def test_a_rounds_run_in_mlflow_has_the_tags_that_the_guide_lists_and_no_other(deployed: Any, undecided: Any) -> None:
    listed = asked.listed_tags(Path(__file__).parents[2] / "docs/guides/operations.md")
    found = asked.round_tags(deployed.lineage)
    assert len(found) == 4
    assert all(tags <= listed for tags in found), set().union(*found) - listed
    assert max(map(len, found)) <= 12


# ----------------------------------------------------------------------------------------------------- and afterwards


def test_a_person_approves_the_undecided_round_without_an_override(deployed: Any, undecided: Any) -> None:
    deployed.answer("approve", str(undecided.version), "--reviewer", "ana", "--reason", "looked at every lost item")
    champion = current_champion(deployed.lineage)
    assert champion is not None
    assert champion.version == undecided.version
    entry = read_ledger(deployed.lineage)[-1]
    assert (entry.actor, entry.decision, entry.reason) == ("ana", "INCONCLUSIVE", "looked at every lost item")


def test_the_month_comes_back_from_a_backup_on_empty_servers(
    deployed: Any, promoted: Any, services: Any, parts: Any, tmp_path: Path
) -> None:
    """Saved while the service runs; restored into another database, another store and another folder; every digest holds there."""
    before = [record.model_dump(exclude={"checkpoint", "evaluation", "verdict", "drop"}) for record in read_history(deployed.lineage)]
    backup(services.postgres, f"http://127.0.0.1:{services.store.command[-1]}", deployed.folder / ".skillstack", "save", tmp_path / "saved")
    with contextlib.ExitStack() as ended:
        postgres = parts.Postgres(())
        ended.callback(postgres.close)
        store, s3_url = parts.object_store(tmp_path)
        ended.callback(store.stop)
        state = tmp_path / "project" / ".skillstack"
        backup(postgres, s3_url, state, "restore", tmp_path / "saved")
        # What the user wrote is his to keep; `verify` asks for it where the state says it lay, beside the state directory.
        shutil.copytree(deployed.folder / "suites", tmp_path / "project" / "suites")
        server, url = parts.mlflow_server(tmp_path, postgres, s3_url, "not used: the users came back too")
        ended.callback(server.stop)
        config = deployed.write_config("restored.yaml", state_dir=str(state))
        assert deployed.answer("verify", "--config", str(config), MLFLOW_TRACKING_URI=url)["ok"]
        after = deployed.answer("history", "--config", str(config), MLFLOW_TRACKING_URI=url)["rounds"]
    assert [(each["round"], each["version"], each["decision"], each["run_id"]) for each in after] == [
        (each["round"], each["version"], each["decision"], each["run_id"]) for each in before
    ]
