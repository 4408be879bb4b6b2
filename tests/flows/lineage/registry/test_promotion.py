"""Who may become champion, and what happens when two want to, when someone moves the alias, and when a promotion is cut off."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from data_contracts.errors import LineageError, ManifestError
from data_contracts.manifests import Decision
from flows.lineage import (
    approve_version,
    current_champion,
    find_version,
    promote_version,
    read_history,
    read_ledger,
    reject_version,
    roll_back,
    verify_lineage,
)
from flows.lineage.registry import entries, promotion
from flows.lineage.storage.records import MOVES_CHAMPION


def moves(lineage):
    """The champions by the ledger, one after another."""
    return [entry.champion for entry in read_ledger(lineage) if entry.action in MOVES_CHAMPION]


def test_promotion_moves_the_aliases_and_is_on_record(grown):
    assert promotion.aliases(grown) == {"champion": 3, "previous": 2, "candidate": 3}
    assert [(entry.action, entry.previous, entry.champion) for entry in read_ledger(grown) if entry.action != "register"] == [
        ("promote", None, 1),
        ("promote", 1, 2),
        ("promote", 2, 3),
    ]
    assert [(record.who, record.why) for record in read_history(grown)] == [("test", "start"), ("flow", "gate"), ("flow", "gate")]


def test_promoting_again_after_a_crash_adds_nothing(grown, register):
    _, _, folders = register(grown, "unused", 3, parent=current_champion(grown).model_sha256)
    before = read_ledger(grown)
    assert promote_version(grown, 3, expected_champion=2, reason="again", actor="flow", verdict=folders.verdict) == before[-2]
    assert read_ledger(grown) == before


def test_of_two_promoters_one_wins_and_the_other_says_why(open_lineage, grown, register):
    champion = current_champion(grown)
    rivals = [register(grown, name, 3, parent=champion.model_sha256) for name in ("left", "right")]
    lineages = [open_lineage(), open_lineage()]

    def attempt(number: int) -> str:
        _, version, folders = rivals[number]
        try:
            promote_version(
                lineages[number], version.version, expected_champion=champion.version, reason="gate", actor="flow", verdict=folders.verdict
            )
        except LineageError as error:
            return str(error)
        return "won"

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(attempt, (0, 1)))
    winner = results.index("won")
    assert f"judged against version {champion.version}" in results[1 - winner]
    assert current_champion(grown).version == rivals[winner][1].version
    assert moves(grown) == [1, 2, 3, rivals[winner][1].version]


_PROMOTER = """
import sys
from pathlib import Path
from data_contracts.errors import LineageError
from data_contracts.manifests import Verdict, read_manifest
from flows.lineage import connect, promote_version
uri, state, version, verdict = sys.argv[1:]
lineage = connect(uri, model_name="tiny", experiment="rounds", state_dir=Path(state))
print("ready", flush=True)
sys.stdin.readline()
try:
    promote_version(lineage, int(version), expected_champion=3, reason="gate", actor="flow", verdict=read_manifest(Path(verdict), Verdict))
except LineageError as error:
    print(error)
else:
    print("won")
"""


def test_two_processes_cannot_both_promote(grown, register, state_dir):
    champion = current_champion(grown)
    rivals = [register(grown, name, 3, parent=champion.model_sha256) for name in ("left", "right")]
    command = [sys.executable, "-c", _PROMOTER, f"sqlite:///{state_dir}/mlflow.db", str(state_dir)]
    children = [
        subprocess.Popen(
            [*command, str(version.version), str(folders.verdict_folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _, version, folders in rivals
    ]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    said = [child.communicate(timeout=60)[0].strip() for child in children]
    assert said.count("won") == 1
    assert sum("judged against version 3" in text for text in said) == 1
    assert len(moves(grown)) == 4


@pytest.mark.parametrize(
    ("decision", "action"), [(Decision.BLOCK, "override"), (Decision.INCONCLUSIVE, "promote-approved"), (Decision.ERROR, "override")]
)
def test_only_pass_promotes_without_a_person(grown, register, decision, action):
    champion = current_champion(grown)
    _, version, folders = register(grown, "third", 3, parent=champion.model_sha256, decision=decision)
    arguments = {"expected_champion": 3, "reason": "we accept it", "actor": "ann", "verdict": folders.verdict}
    with pytest.raises(LineageError, match=f"{decision.value}, not PASS"):
        promote_version(grown, version.version, **arguments)
    assert current_champion(grown) == champion
    entry = promote_version(grown, version.version, override=True, **arguments)
    assert (entry.action, entry.decision, entry.actor) == (action, decision.value, "ann")


def test_a_pass_that_a_person_rejected_waits_for_an_approval(grown, register):
    """The round was cut off between its registration and its promotion; repeated, it would have promoted what a person had refused."""
    champion = current_champion(grown)
    _, version, folders = register(grown, "third", 3, parent=champion.model_sha256)
    reject_version(grown, version.version, reviewer="bob", reason="licence of the data")
    arguments = {"expected_champion": 3, "reason": "gate", "actor": "gate", "verdict": folders.verdict}
    with pytest.raises(LineageError, match="was rejected by bob: licence of the data"):
        promote_version(grown, version.version, **arguments)
    assert current_champion(grown) == champion
    approve_version(grown, version.version, reviewer="bob", reason="licence is in order")
    assert promote_version(grown, version.version, **arguments).action == "promote"
    assert verify_lineage(grown).findings == ()


def test_a_verdict_about_another_model_promotes_nothing(grown, register):
    champion = current_champion(grown)
    _, version, _ = register(grown, "third", 3, parent=champion.model_sha256)
    _, _, other = register(grown, "fourth", 3, parent=champion.model_sha256)
    with pytest.raises(LineageError, match="about another model"):
        promote_version(grown, version.version, expected_champion=3, reason="gate", actor="flow", verdict=other.verdict)
    with pytest.raises(LineageError, match="has no verdict"):
        promote_version(grown, version.version, expected_champion=3, reason="gate", actor="flow", verdict=None)
    assert current_champion(grown) == champion


def test_rollback_goes_back_and_not_forth(grown):
    assert roll_back(grown, reason="complaints", actor="ann").champion == 2
    assert roll_back(grown, reason="more complaints", actor="ann").champion == 1
    with pytest.raises(LineageError, match="no earlier champion"):
        roll_back(grown, reason="even more", actor="ann")
    assert roll_back(grown, 3, reason="it was the client", actor="ann").champion == 3


def test_rollback_refuses_a_changed_checkpoint(grown):
    weights = find_version(grown, 2).checkpoint / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(ManifestError, match="changed"):
        roll_back(grown, 2, reason="complaints", actor="ann")
    assert current_champion(grown).version == 3
    assert moves(grown) == [1, 2, 3]


def test_rollback_refuses_what_never_was_champion_and_an_empty_reason(grown, register):
    _, version, _ = register(grown, "bad", 3, parent=current_champion(grown).model_sha256, decision=Decision.BLOCK)
    with pytest.raises(LineageError, match="never champion"):
        roll_back(grown, version.version, reason="why not", actor="ann")
    with pytest.raises(LineageError, match="needs a reason"):
        roll_back(grown, 2, reason=" ", actor="ann")


def test_an_alias_moved_by_hand_is_noticed_and_put_right_on_record(grown):
    grown.client.set_registered_model_alias("tiny", "champion", "1")
    with pytest.raises(LineageError, match=r"points to version 1, but according to the ledger version 3 .* moved by hand"):
        current_champion(grown)
    roll_back(grown, 3, reason="someone clicked", actor="ann")
    assert current_champion(grown).version == 3
    grown.client.delete_registered_model_alias("tiny", "champion")
    with pytest.raises(LineageError, match="points to no version"):
        current_champion(grown)


@pytest.mark.parametrize("step", ["set_model_version_tag", "set_registered_model_alias", "log_artifact", "delete_registered_model_tag"])
def test_a_promotion_cut_off_anywhere_is_finished_by_the_next_reader(open_lineage, grown, register, monkeypatch, step):
    champion = current_champion(grown)
    _, version, folders = register(grown, "third", 3, parent=champion.model_sha256)
    dying = open_lineage()

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(dying.client, step, die)
    with pytest.raises(KeyboardInterrupt):
        promote_version(dying, version.version, expected_champion=3, reason="gate", actor="flow", verdict=folders.verdict)

    assert current_champion(open_lineage()).version == version.version
    assert moves(grown) == [1, 2, 3, version.version]
    assert entries.PENDING_TAG not in grown.client.get_registered_model("tiny").tags


@pytest.fixture
def entry_from_tomorrow(grown):
    """The ledger's last entry was written by a machine whose clock runs a day ahead."""
    entry = read_ledger(grown)[-1]
    ahead = {"sequence": entry.sequence + 1, "action": "reject", "time": datetime.now(UTC) + timedelta(days=1), "prior": entry.digest}
    entries.carry_out(grown, entry.model_copy(update=ahead))


def test_a_clock_that_is_behind_the_ledger_promotes_nothing_until_a_person_has_decided(grown, register, entry_from_tomorrow):
    champion = current_champion(grown)
    _, version, folders = register(grown, "next", 3, parent=champion.model_sha256)
    arguments = {"expected_champion": champion.version, "reason": "gate", "actor": "gate", "verdict": folders.verdict}
    with pytest.raises(LineageError, match=r"this machine's clock: says .*before the ledger's last entry .*set the clocks"):
        promote_version(grown, version.version, **arguments)
    assert current_champion(grown) == champion
    reject_version(grown, 2, reviewer="ann", reason="the clock of the other machine was wrong")
    assert promote_version(grown, version.version, **arguments).champion == version.version


def test_a_few_seconds_between_two_clocks_keep_the_order(grown, register):
    entry = read_ledger(grown)[-1]
    soon = {"sequence": entry.sequence + 1, "action": "reject", "time": datetime.now(UTC) + timedelta(seconds=30), "prior": entry.digest}
    entries.carry_out(grown, entry.model_copy(update=soon))
    champion = current_champion(grown)
    _, version, folders = register(grown, "next", 3, parent=champion.model_sha256)
    promote_version(grown, version.version, expected_champion=champion.version, reason="gate", actor="gate", verdict=folders.verdict)
    times = [entry.time for entry in read_ledger(grown)]
    assert times == sorted(times)
