"""History that was written by hand, with SQL or with the product's own functions: each forgery is a named finding of `verify`."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from data_contracts.errors import LineageError
from data_contracts.manifests import Decision, Verdict, read_manifest, write_manifest
from flows.lineage import (
    Lineage,
    approve_version,
    current_champion,
    find_version,
    open_round,
    promote_on_approval,
    promote_version,
    read_ancestry,
    read_ledger,
    register_candidate,
    verify_lineage,
)

from .forgeries import FORGERIES, delete_version, rewrite


@pytest.fixture(scope="session")
def judged_state(tmp_path_factory: pytest.TempPathFactory, grown_state: Path, copy_of: Any, register: Any, open_store_at: Any) -> Path:
    """Base, two promoted rounds (the champion is version 3), and version 4, which the gate blocked."""
    state = copy_of(grown_state, tmp_path_factory.mktemp("judged") / "state")
    lineage = open_store_at(state)
    register(lineage, "third", 3, parent=current_champion(lineage).model_sha256, decision=Decision.BLOCK)
    return state


@pytest.fixture
def forged(judged_state: Path, tmp_path: Path, copy_of: Any, open_store_at: Any) -> Lineage:
    return open_store_at(copy_of(judged_state, tmp_path / "judged" / "state"))


def test_a_lineage_that_nobody_touched_has_no_finding(forged):
    result = verify_lineage(forged)
    assert result.findings == ()
    assert (result.replayed, result.entries, result.signed_from) == (2, 7, None)


@pytest.mark.parametrize("name", FORGERIES)
def test_every_forgery_is_found(forged, name):
    forge, wanted = FORGERIES[name]
    forge(forged)
    problems = [f"{finding.where}: {finding.problem}" for finding in verify_lineage(forged).findings]
    assert any(wanted in problem for problem in problems), problems


def test_a_deleted_version_does_not_stop_what_does_not_need_it(forged):
    entries = read_ledger(forged)
    delete_version(forged)
    assert read_ledger(forged) == entries
    assert current_champion(forged).version == 3


# ------------------------------------------------------------------------------------------------ before the alias moves


def test_a_verdict_that_was_changed_to_pass_promotes_nothing(forged):
    version = find_version(forged, 4)
    verdict = read_manifest(version.verdict, Verdict).model_copy(update={"decision": Decision.PASS})
    with pytest.raises(LineageError, match="not the verdict that it was registered with"):
        promote_version(forged, 4, expected_champion=3, reason="Pass.", actor="gate", verdict=verdict)
    assert current_champion(forged).version == 3


def test_a_verdict_edited_before_it_was_registered_promotes_nothing(forged, make_folders_in):
    """The round was killed after the decision; its manifest was changed; the round went on."""
    champion = current_champion(forged)
    folders = make_folders_in(forged.state_dir, "fourth", skill="fourth", parent=champion.model_sha256, decision=Decision.BLOCK)
    edited = folders.verdict.model_copy(update={"decision": Decision.PASS, "reasons": ("Pass: nothing was lost.",)})
    write_manifest(folders.verdict_folder, edited)
    run = open_round(forged, 3, "fourth", key="fourth", chain=read_ancestry(forged, champion.version))
    version = register_candidate(
        forged,
        run,
        folders.checkpoint,
        folders.manifest,
        evaluation=folders.evaluation,
        report=folders.report,
        verdict_folder=folders.verdict_folder,
        verdict=edited,
    )
    with pytest.raises(LineageError, match="its verdict is PASS, but recomputed from the stored items it is BLOCK"):
        promote_version(forged, version.version, expected_champion=3, reason="Pass.", actor="gate", verdict=edited)
    assert current_champion(forged).version == 3


def test_an_approval_that_ran_out_before_the_promotion_is_found(forged):
    approve_version(forged, 4, reviewer="ann", reason="we accept it", override=True, valid_for=timedelta(hours=1))
    entry = promote_on_approval(forged, 4)
    assert (entry.action, entry.decision) == ("override", "BLOCK")
    assert verify_lineage(forged).findings == ()
    late = [
        each.model_copy(update={"time": each.time + timedelta(days=1)}) if each.sequence == entry.sequence else each
        for each in read_ledger(forged)
    ]
    rewrite(forged, late)
    assert any("without an approval on record" in finding.problem for finding in verify_lineage(forged).findings)
