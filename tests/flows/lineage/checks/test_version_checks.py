"""A version's tags against its manifests, its round's run, and the user's files that its round read."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.lineage import Lineage, find_version, read_history
from flows.lineage.checks.verification import registered_versions
from flows.lineage.checks.version_checks import check_replay, check_sources, check_version
from flows.lineage.registry.replaying import stored_reports
from flows.lineage.storage.facts import read_sources


def problems_of_version_2(lineage: Lineage) -> list[str]:
    records, versions = read_history(lineage), registered_versions(lineage)
    record = next(each for each in records if each.version == 2)
    return [each.problem for each in check_version(record, versions)]


@pytest.mark.parametrize(
    ("tag", "value", "said"),
    [
        ("method", "lora", "about the method (lora and osft)"),
        ("model_sha256", "0" * 64, "about the model (000000000000 and "),
        ("drop_sha256", "0" * 64, "about the data (000000000000 and "),
        ("decision", "BLOCK", "about the verdict (BLOCK and PASS)"),
        ("reasons", '["Nothing was lost."]', "about the reasons of the verdict"),
    ],
)
def test_a_tag_that_differs_from_its_file_is_named_with_both_values(grown: Lineage, tag: str, value: str, said: str) -> None:
    assert problems_of_version_2(grown) == []
    grown.client.set_model_version_tag("tiny", "2", f"skillstack.{tag}", value)
    assert any(said in problem for problem in problems_of_version_2(grown)), problems_of_version_2(grown)


@pytest.mark.parametrize(("tag", "value"), [("round", "5"), ("attempt", "3")])
def test_a_run_that_differs_from_its_version_is_named(grown: Lineage, tag: str, value: str) -> None:
    """The gate counts earlier attempts from the runs."""
    grown.client.set_tag(find_version(grown, 2).run_id, f"skillstack.{tag}", value)
    [problem] = problems_of_version_2(grown)
    assert f"its tags and its round's run disagree about the {tag} (1 and {value})" in problem


def test_a_verdict_is_recomputed_and_a_missing_report_is_a_finding(grown: Lineage) -> None:
    record = next(each for each in read_history(grown) if each.version == 3)
    assert list(check_replay(grown, record, stored_reports(grown.state_dir))) == []
    [finding] = check_replay(grown, record, {})
    assert (finding.version, finding.round) == (3, 2)
    assert "restore the state directory from backup" in finding.problem


def test_the_users_files_are_compared_with_the_newest_round_that_read_them(grown: Lineage) -> None:
    versions = registered_versions(grown)
    assert list(check_sources(grown, versions)) == []
    places = {role: path for role, (path, _) in read_sources(grown, versions[3].fact("sources")).items()}
    [other] = [path for role, path in places.items() if role != "drop"][:1]
    Path(other).write_text("edited", encoding="utf-8")
    [finding] = check_sources(grown, versions)
    assert (finding.where, finding.version) == (str(other), 3)
    Path(other).unlink()
    [finding] = check_sources(grown, versions)
    assert "is missing; version 3 was made with it" in finding.problem


def test_a_drop_may_be_archived_elsewhere(grown: Lineage) -> None:
    versions = registered_versions(grown)
    path, _ = read_sources(grown, versions[3].fact("sources"))["drop"]
    path.unlink()
    assert list(check_sources(grown, versions)) == []
