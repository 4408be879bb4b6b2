"""History that was written by hand, with SQL or with the product's own functions: each forgery is a named finding of `verify`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from data_contracts.digests import file_digest
from data_contracts.errors import LineageError, SkillstackError
from data_contracts.manifests import Decision, DropManifest, EvalReport, Verdict, file_ref, read_manifest, write_manifest
from evals.items import write_items
from flows.lineage import (
    Lineage,
    approve_version,
    current_champion,
    find_version,
    introduce_key,
    open_round,
    promote_on_approval,
    promote_version,
    pull_version,
    read_ancestry,
    read_ledger,
    register_candidate,
    reject_version,
    verify_lineage,
)
from flows.lineage.registry import ledger
from flows.lineage.registry.heads import head_of
from flows.lineage.storage.facts import facts_digest
from flows.lineage.storage.records import FIRST_PRIOR, LedgerEntry
from flows.lineage.storage.signing import SigningConfig, make_key_pair


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


def sql(lineage: Lineage, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(lineage.state_dir / "mlflow.db")) as database, database:
        assert database.execute(statement, values).rowcount > 0, statement


def set_tag(name: str, value: str, version: int = 3) -> Callable[[Lineage], None]:
    return lambda lineage: sql(
        lineage, "UPDATE model_version_tags SET value = ? WHERE version = ? AND key = ?", value, version, f"skillstack.{name}"
    )


def set_run_tag(name: str, value: str, version: int) -> Callable[[Lineage], None]:
    def forge(lineage: Lineage) -> None:
        run = find_version(lineage, version).run_id
        sql(lineage, "UPDATE tags SET value = ? WHERE run_uuid = ? AND key = ?", value, run, f"skillstack.{name}")

    return forge


def promote_by_sql(lineage: Lineage) -> None:
    """The blocked version 4 becomes champion: ledger entry, head, copy and alias, all as the product writes them."""
    entries = read_ledger(lineage)
    entry = entries[-1].model_copy(
        update={"sequence": len(entries), "action": "promote", "previous": 3, "champion": 4, "actor": "gate", "reason": "Pass."}
        | {"verdict_sha256": find_version(lineage, 4).verdict_sha256, "prior": entries[-1].digest}
    )
    _rewrite(lineage, [*entries, entry])
    sql(lineage, "UPDATE registered_model_aliases SET version = 4 WHERE alias = 'champion'")


def promote_and_edit_the_tag(lineage: Lineage) -> None:
    """The same, with the decision changed in every entry and tag."""
    promote_by_sql(lineage)
    set_tag("decision", "PASS", 4)(lineage)
    set_run_tag("decision", "PASS", 4)(lineage)
    _rewrite(lineage, [entry.model_copy(update={"decision": "PASS"}) if entry.version == 4 else entry for entry in read_ledger(lineage)])


def rebuild_chain(lineage: Lineage) -> None:
    """Another person, another reason, in a chain that is whole again."""
    _rewrite(lineage, [entry.model_copy(update={"actor": "nobody", "reason": "all fine"}) for entry in read_ledger(lineage)])


def cut_chain(lineage: Lineage) -> None:
    """The newest entry taken out, head and copy brought up to date."""
    entries = read_ledger(lineage)
    sql(lineage, "DELETE FROM model_version_tags WHERE key = ?", f"{ledger.ENTRY_TAG}{len(entries) - 1:06d}")
    lineage.client.set_registered_model_tag("tiny", ledger.HEAD_TAG, head_of(entries[-2]))
    ledger.copy_to_artifact(lineage, entries[:-1])


def _rewrite(lineage: Lineage, entries: list[LedgerEntry]) -> None:
    """Chain the entries anew and write them, head and copy with them."""
    prior = FIRST_PRIOR
    for entry in entries:
        chained = entry.model_copy(update={"prior": prior, "key": None, "signature": None})
        ledger.write_entry(lineage, chained)
        prior = chained.digest
    ledger.copy_to_artifact(lineage, read_ledger(lineage))


def edit_verdict(lineage: Lineage) -> None:
    """The champion's verdict with another reason, every digest of it brought up to date in files, tags and ledger."""
    folder = find_version(lineage, 3).verdict
    assert folder is not None
    verdict = read_manifest(folder, Verdict)
    write_manifest(folder, verdict.model_copy(update={"reasons": ("Pass: it is splendid.",)}))
    digest = file_digest(folder / "manifest.json")
    set_tag("verdict_sha256", digest)(lineage)
    set_tag("reasons", json.dumps(["Pass: it is splendid."]))(lineage)
    facts = facts_digest(lineage.client.get_model_version("tiny", "3").tags)
    _rewrite(
        lineage,
        [
            entry.model_copy(update={"facts_sha256": facts, "verdict_sha256": digest if entry.verdict_sha256 else None})
            if entry.version == 3
            else entry
            for entry in read_ledger(lineage)
        ],
    )


def edit_report(lineage: Lineage) -> None:
    """A stored report of the champion's, items and manifest."""
    folder = find_version(lineage, 3).evaluation
    assert folder is not None
    report = read_manifest(folder, EvalReport)
    path = folder / report.files["items/old"].path
    write_items(path, pd.read_parquet(path).assign(score=1.0))
    write_manifest(folder, report.model_copy(update={"files": {**report.files, "items/old": file_ref(folder, path)}}))


def edit_cache(lineage: Lineage) -> None:
    """Scores that the next round would read, with the digest beside them."""
    path = next(path for path in (lineage.state_dir / "items").glob("*/*.parquet") if pd.read_parquet(path)["score"].mean() < 1.0)
    write_items(path, pd.read_parquet(path).assign(score=1.0))
    path.with_suffix(".sha256").write_text(file_digest(path))


def replace_heldout(lineage: Lineage) -> None:
    folder = find_version(lineage, 2).drop
    assert folder is not None
    (folder / "heldout.jsonl").write_text('{"heldout": "easier"}\n')
    manifest = read_manifest(folder, DropManifest, verify=False)
    write_manifest(folder, manifest.model_copy(update={"files": {**manifest.files, "heldout": file_ref(folder, folder / "heldout.jsonl")}}))


def replace(name: str) -> Callable[[Lineage], None]:
    def forge(lineage: Lineage) -> None:
        path = lineage.state_dir.parent / name
        assert path.is_file()
        path.write_text('{"text": "another"}\n')

    return forge


def delete_version(lineage: Lineage) -> None:
    lineage.client.delete_model_version("tiny", "4")


def add_version(lineage: Lineage) -> None:
    """A version that no round made: a copy of version 4's row and tags under a new number."""
    columns = "name, creation_time, last_updated_time, description, user_id, current_stage, source, run_id, status, status_message"
    sql(lineage, f"INSERT INTO model_versions ({columns}, version) SELECT {columns}, 5 FROM model_versions WHERE version = 4")
    copied = "SELECT key, value, name, 5 FROM model_version_tags WHERE version = 4 AND key NOT LIKE '%ledger%' AND key NOT LIKE '%run'"
    sql(lineage, f"INSERT INTO model_version_tags (key, value, name, version) {copied}")


FORGERIES: dict[str, tuple[Callable[[Lineage], None], str]] = {
    "blocked version promoted by SQL": (promote_by_sql, "promotes version 4 without a person, although its verdict was BLOCK"),
    "blocked version promoted, decision edited": (promote_and_edit_the_tag, "disagree about the verdict"),
    "decision tag": (set_tag("decision", "PASS", 4), "its tags differ from those in ledger entry"),
    "decision tag of the run": (set_run_tag("decision", "ERROR", 4), "round's run disagree about the decision"),
    "parent tag": (set_tag("parent_version", "1"), "disagree about the parent"),
    "evaluation tag": (set_tag("evaluation_sha256", "0" * 64), "its tags differ from those in ledger entry"),
    "skill relabelled": (set_tag("skill", "other"), "disagree about the skill"),
    "attempt of the run": (set_run_tag("attempt", "9", 3), "round's run disagree about the attempt"),
    "version deleted": (delete_version, "it was deleted"),
    "version added": (add_version, "it was written by hand"),
    "champion's verdict rewritten everywhere": (edit_verdict, "with other bytes"),
    "report edited": (edit_report, "its manifest is not the one that was registered"),
    "cached scores": (edit_cache, "cached scores differ from all"),
    "held-out items replaced": (replace_heldout, "disagree about the manifest of the drop"),
    "suite file replaced": (replace("piqa.jsonl"), "is not the file that version 4 was made with (suite piqa)"),
    "calibration text replaced": (replace("calibration.jsonl"), "is not the file that version 4 was made with (calibration)"),
    "source drop changed": (replace("first.jsonl"), "is not the file that version 2 was made with (drop)"),
}


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


# ------------------------------------------------------------------------------------------------ with a key


@pytest.fixture
def signed(tmp_path: Path, copy_of: Any, grown_state: Path, open_store_at: Any, register: Any) -> tuple[Lineage, SigningConfig]:
    """A lineage that is older than its key; the key was introduced and a blocked round registered since."""
    private, public = make_key_pair(tmp_path / "keys")
    config = SigningConfig(private_key=private, public_keys=(public,), head_file=tmp_path / "elsewhere" / "heads")
    lineage = open_store_at(copy_of(grown_state, tmp_path / "signed" / "state"), config)
    introduce_key(lineage, public, reason="signed from now on", actor="ann")
    register(lineage, "third", 3, parent=current_champion(lineage).model_sha256, decision=Decision.BLOCK)
    return lineage, config


def only_public(config: SigningConfig) -> SigningConfig:
    return SigningConfig(public_keys=config.public_keys)


def test_a_signed_lineage_verifies_with_the_public_key_alone(signed, open_store_at, tmp_path):
    lineage, config = signed
    result = verify_lineage(open_store_at(lineage.state_dir), config.public_keys)
    assert (result.findings, result.signed_from) == ((), 6)
    reader = open_store_at(lineage.state_dir, only_public(config))
    assert pull_version(reader, tmp_path / "served").version == 3
    with pytest.raises(LineageError, match="this machine has no private key"):
        reject_version(reader, 4, reviewer="bob", reason="no")


@pytest.mark.parametrize(("forge", "wanted"), [(rebuild_chain, "no entry of the ledger is signed"), (cut_chain, "entries were removed")])
def test_a_chain_that_was_rebuilt_whole_or_cut_short_is_found(signed, open_store_at, tmp_path, forge, wanted):
    lineage, config = signed
    unsigned = open_store_at(lineage.state_dir)
    entries = read_ledger(unsigned)
    forge(unsigned)
    if forge is rebuild_chain:
        assert verify_lineage(unsigned).findings == ()  # without a key, or a head that was kept elsewhere, nothing shows
    problems = [finding.problem for finding in verify_lineage(open_store_at(lineage.state_dir, config)).findings]
    assert any(wanted in problem for problem in problems), problems
    assert verify_lineage(unsigned, head=head_of(entries[-1])).findings != ()
    with pytest.raises(SkillstackError):
        pull_version(open_store_at(lineage.state_dir, config), tmp_path / "served")


def test_an_entry_written_without_the_key_is_found_and_not_served(signed, open_store_at, tmp_path):
    lineage, config = signed
    plain = open_store_at(lineage.state_dir)
    approve_version(plain, 4, reviewer="eve", reason="let it in", override=True)
    promote_on_approval(plain, 4)
    assert current_champion(plain).version == 4
    reader = open_store_at(lineage.state_dir, only_public(config))
    assert any("is not signed, but entries" in finding.problem for finding in verify_lineage(reader).findings)
    with pytest.raises(LineageError, match="is not signed"):
        pull_version(reader, tmp_path / "served")


def test_a_tag_of_a_version_older_than_the_key_is_covered(signed, open_store_at):
    lineage, config = signed
    sql(lineage, "UPDATE model_version_tags SET value = '7' WHERE version = 2 AND key = 'skillstack.attempt'")
    problems = [finding.problem for finding in verify_lineage(open_store_at(lineage.state_dir, config)).findings]
    assert any("covers the tags of all versions" in problem for problem in problems)


def test_keys_are_rotated_by_an_entry_of_the_old_one(signed, open_store_at, tmp_path):
    lineage, config = signed
    private, public = make_key_pair(tmp_path / "next")
    stranger = SigningConfig(private_key=private, public_keys=config.public_keys)
    introduce_key(lineage, public, reason="the year's new key", actor="ann")
    reject_version(open_store_at(lineage.state_dir, stranger), 4, reviewer="ann", reason="lost too much")
    result = verify_lineage(open_store_at(lineage.state_dir), config.public_keys)  # the first public key is enough
    assert result.findings == ()
    _, other = make_key_pair(tmp_path / "other")
    assert any("not trusted" in finding.problem for finding in verify_lineage(open_store_at(lineage.state_dir), (other,)).findings)


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
    _rewrite(forged, late)
    assert any("without an approval on record" in finding.problem for finding in verify_lineage(forged).findings)
