"""A person's word: with a name and a reason, for a while, about one version against one champion."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from data_contracts.errors import LineageError, ManifestError
from data_contracts.manifests import Decision
from flows.lineage.registry import approval


@pytest.fixture
def held(grown, register):
    """Number and folders of a candidate that the gate could not decide."""
    _, version, folders = register(grown, "held", 3, parent=grown.champion().model_sha256, decision=Decision.INCONCLUSIVE)
    return version.version, folders


def test_an_approved_version_becomes_champion_in_the_reviewers_name(grown, held):
    version, _ = held
    with pytest.raises(LineageError, match="nobody has approved"):
        grown.promote_approved(version)
    grown.approve(version, reviewer="ann", reason="the margin is wide enough for us")
    assert grown.champion().version == 3
    entry = grown.promote_approved(version)
    assert (entry.action, entry.actor, entry.decision) == ("promote-approved", "ann", "INCONCLUSIVE")
    assert grown.champion().version == version
    assert grown.promote_approved(version) == entry
    assert [entry.action for entry in grown.ledger()][-2:] == ["approve", "promote-approved"]


def test_an_approval_expires(grown, held):
    version, _ = held
    grown.approve(version, reviewer="ann", reason="fine", valid_for=timedelta(hours=1))
    late = datetime.now(UTC) + timedelta(hours=2)
    with pytest.raises(LineageError, match="approval by ann has expired"):
        approval.promote_approved(grown._store, version, now=late)
    assert grown.champion().version == 3
    assert grown.history()[-1].approved_until < late


def test_a_rejection_takes_an_approval_back(grown, held):
    version, _ = held
    grown.approve(version, reviewer="ann", reason="fine")
    grown.reject(version, reviewer="bob", reason="not fine")
    with pytest.raises(LineageError, match="rejected by bob: not fine"):
        grown.promote_approved(version)
    record = grown.history()[-1]
    assert (record.rejected, record.approved_until, record.who) == (True, None, "bob")


def test_an_approval_dies_with_the_champion_it_was_given_against(grown, held, register):
    version, _ = held
    grown.approve(version, reviewer="ann", reason="fine")
    _, other, folders = register(grown, "other", 3, parent=grown.champion().model_sha256)
    grown.promote(other.version, expected_champion=3, reason="gate", actor="flow", verdict=folders.verdict)
    with pytest.raises(LineageError, match="judged against version 3, but version 5 is champion"):
        grown.promote_approved(version)
    with pytest.raises(LineageError, match="judged against version 3, but version 5 is champion"):
        grown.approve(version, reviewer="ann", reason="still fine")


@pytest.mark.parametrize(("decision", "needs"), [(Decision.BLOCK, "override"), (Decision.ERROR, "nothing was measured")])
def test_a_blocked_version_needs_an_override_and_an_error_cannot_be_accepted(grown, register, decision, needs):
    _, version, _ = register(grown, "bad", 3, parent=grown.champion().model_sha256, decision=decision)
    with pytest.raises(LineageError, match=needs):
        grown.approve(version.version, reviewer="ann", reason="we want it")
    if decision is Decision.ERROR:
        with pytest.raises(LineageError, match=needs):
            grown.approve(version.version, reviewer="ann", reason="we want it", override=True)
    else:
        grown.approve(version.version, reviewer="ann", reason="we want it", override=True)
        assert grown.promote_approved(version.version).decision == "BLOCK"


def test_reviewer_and_reason_are_required(grown, held):
    version, _ = held
    for reviewer, reason in (("", "fine"), ("ann", "  ")):
        with pytest.raises(LineageError, match="needs a"):
            grown.approve(version, reviewer=reviewer, reason=reason)
    with pytest.raises(LineageError, match="is the champion"):
        grown.reject(3, reviewer="ann", reason="no")
    assert [entry.action for entry in grown.ledger()] == ["register", "promote"] * 3 + ["register"]


def test_a_verdict_that_was_edited_after_the_round_promotes_nothing(grown, held):
    version, folders = held
    grown.approve(version, reviewer="ann", reason="fine")
    manifest = folders.verdict_folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace("INCONCLUSIVE", "PASS"))
    with pytest.raises((LineageError, ManifestError), match="not the verdict that was registered"):
        grown.promote_approved(version)


def test_an_approval_from_a_clock_in_the_future_promotes_nothing(grown, held):
    version, _ = held
    grown.approve(version, reviewer="ann", reason="fine", valid_for=timedelta(days=30))
    earlier = datetime.now(UTC) - timedelta(days=1)
    with pytest.raises(LineageError, match="which is still to come: a clock is wrong"):
        approval.promote_approved(grown._store, version, now=earlier)
    assert grown.champion().version == 3
