"""A person's word: with a name and a reason, for a while, about one version against one champion."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from data_contracts.errors import LineageError, ManifestError
from data_contracts.manifests import Decision
from flows.lineage import approve_version, current_champion, promote_on_approval, promote_version, read_history, read_ledger, reject_version
from flows.lineage.registry import approval


@pytest.fixture
def held(grown, register):
    """Number and folders of a candidate that the gate could not decide."""
    _, version, folders = register(grown, "held", 3, parent=current_champion(grown).model_sha256, decision=Decision.INCONCLUSIVE)
    return version.version, folders


def test_an_approved_version_becomes_champion_in_the_reviewers_name(grown, held):
    version, _ = held
    with pytest.raises(LineageError, match="is not approved"):
        promote_on_approval(grown, version)
    approve_version(grown, version, reviewer="ann", reason="the margin is wide enough for us")
    assert current_champion(grown).version == 3
    entry = promote_on_approval(grown, version)
    assert (entry.action, entry.actor, entry.decision) == ("promote-approved", "ann", "INCONCLUSIVE")
    assert current_champion(grown).version == version
    assert promote_on_approval(grown, version) == entry
    assert [entry.action for entry in read_ledger(grown)][-2:] == ["approve", "promote-approved"]


def test_an_approval_expires(grown, held):
    version, _ = held
    approve_version(grown, version, reviewer="ann", reason="fine", valid_for=timedelta(hours=1))
    late = datetime.now(UTC) + timedelta(hours=2)
    with pytest.raises(LineageError, match="approval by ann has expired"):
        approval.promote_on_approval(grown, version, now=late)
    assert current_champion(grown).version == 3
    assert read_history(grown)[-1].approved_until < late


def test_a_rejection_takes_an_approval_back(grown, held):
    version, _ = held
    approve_version(grown, version, reviewer="ann", reason="fine")
    reject_version(grown, version, reviewer="bob", reason="not fine")
    with pytest.raises(LineageError, match="rejected by bob: not fine"):
        promote_on_approval(grown, version)
    record = read_history(grown)[-1]
    assert (record.rejected, record.approved_until, record.who) == (True, None, "bob")


def test_an_approval_dies_with_the_champion_it_was_given_against(grown, held, register):
    version, _ = held
    approve_version(grown, version, reviewer="ann", reason="fine")
    _, other, folders = register(grown, "other", 3, parent=current_champion(grown).model_sha256)
    promote_version(grown, other.version, expected_champion=3, reason="gate", actor="flow", verdict=folders.verdict)
    with pytest.raises(LineageError, match="judged against version 3, but version 5 is champion"):
        promote_on_approval(grown, version)
    with pytest.raises(LineageError, match="judged against version 3, but version 5 is champion"):
        approve_version(grown, version, reviewer="ann", reason="still fine")


@pytest.mark.parametrize(("decision", "needs"), [(Decision.BLOCK, "override"), (Decision.ERROR, "nothing was measured")])
def test_a_blocked_version_needs_an_override_and_an_error_cannot_be_accepted(grown, register, decision, needs):
    _, version, _ = register(grown, "bad", 3, parent=current_champion(grown).model_sha256, decision=decision)
    with pytest.raises(LineageError, match=needs):
        approve_version(grown, version.version, reviewer="ann", reason="we want it")
    if decision is Decision.ERROR:
        with pytest.raises(LineageError, match=needs):
            approve_version(grown, version.version, reviewer="ann", reason="we want it", override=True)
    else:
        approve_version(grown, version.version, reviewer="ann", reason="we want it", override=True)
        assert promote_on_approval(grown, version.version).decision == "BLOCK"


def test_reviewer_and_reason_are_required(grown, held):
    version, _ = held
    for reviewer, reason in (("", "fine"), ("ann", "  ")):
        with pytest.raises(LineageError, match="needs a"):
            approve_version(grown, version, reviewer=reviewer, reason=reason)
    with pytest.raises(LineageError, match="is the champion"):
        reject_version(grown, 3, reviewer="ann", reason="no")
    assert [entry.action for entry in read_ledger(grown)] == ["register", "promote"] * 3 + ["register"]


def test_a_verdict_that_was_edited_after_the_round_promotes_nothing(grown, held):
    version, folders = held
    approve_version(grown, version, reviewer="ann", reason="fine")
    manifest = folders.verdict_folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace("INCONCLUSIVE", "PASS"))
    with pytest.raises((LineageError, ManifestError), match="not the verdict that was registered"):
        promote_on_approval(grown, version)


def test_an_approval_from_a_clock_in_the_future_promotes_nothing(grown, held):
    version, _ = held
    approve_version(grown, version, reviewer="ann", reason="fine", valid_for=timedelta(days=30))
    earlier = datetime.now(UTC) - timedelta(days=1)
    with pytest.raises(LineageError, match="which is in the future: a clock is wrong"):
        approval.promote_on_approval(grown, version, now=earlier)
    assert current_champion(grown).version == 3


def test_an_approval_that_has_expired_is_given_again_in_the_same_words(grown, held):
    """The expired one was found again, and refused as expired."""
    version, _ = held
    words = {"reviewer": "ann", "reason": "fine", "valid_for": timedelta(microseconds=1)}
    first, second = (approve_version(grown, version, **words) for _ in range(2))
    assert second.sequence > first.sequence
    lasting = words | {"valid_for": timedelta(days=7)}
    assert approve_version(grown, version, **lasting) == approve_version(grown, version, **lasting)
    assert promote_on_approval(grown, version).action == "promote-approved"
