"""Ways to forge a lineage, with SQL or with the product's own functions, and what `verify` is to say of each."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing

import pandas as pd

from data_contracts.digests import file_digest
from data_contracts.manifests import DropManifest, EvalReport, Verdict, file_ref, read_manifest, write_manifest
from evals.items import write_items
from flows.lineage import Lineage, find_version, read_ledger
from flows.lineage.registry import ledger
from flows.lineage.registry.heads import head_of
from flows.lineage.storage.facts import facts_digest
from flows.lineage.storage.records import FIRST_PRIOR, LedgerEntry


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
    rewrite(lineage, [*entries, entry])
    sql(lineage, "UPDATE registered_model_aliases SET version = 4 WHERE alias = 'champion'")


def promote_and_edit_the_tag(lineage: Lineage) -> None:
    """The same, with the decision changed in every entry and tag."""
    promote_by_sql(lineage)
    set_tag("decision", "PASS", 4)(lineage)
    set_run_tag("decision", "PASS", 4)(lineage)
    rewrite(lineage, [entry.model_copy(update={"decision": "PASS"}) if entry.version == 4 else entry for entry in read_ledger(lineage)])


def rebuild_chain(lineage: Lineage) -> None:
    """Another person, another reason, in a chain that is whole again."""
    rewrite(lineage, [entry.model_copy(update={"actor": "nobody", "reason": "all fine"}) for entry in read_ledger(lineage)])


def cut_chain(lineage: Lineage) -> None:
    """The newest entry taken out, head and copy brought up to date."""
    entries = read_ledger(lineage)
    sql(lineage, "DELETE FROM model_version_tags WHERE key = ?", f"{ledger.ENTRY_TAG}{len(entries) - 1:06d}")
    lineage.client.set_registered_model_tag("tiny", ledger.HEAD_TAG, head_of(entries[-2]))
    ledger.copy_to_artifact(lineage, entries[:-1])


def rewrite(lineage: Lineage, entries: list[LedgerEntry]) -> None:
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
    rewrite(
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


def edit_one_cached_score(lineage: Lineage) -> None:
    """A single score in a file that two suites share, as those of equal settings do; the other suite's items stay as they were."""
    first, second = next(files for folder in (lineage.state_dir / "items").iterdir() if len(files := sorted(folder.glob("*.parquet"))) > 1)[
        :2
    ]
    table = pd.concat([pd.read_parquet(first), pd.read_parquet(second)], ignore_index=True)
    table.loc[0, "score"] = 1.0 - table.loc[0, "score"]
    write_items(first, table)
    first.with_suffix(".sha256").write_text(file_digest(first))


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
    "one cached score of one suite": (edit_one_cached_score, "1 of 800 cached scores differ from all"),
    "held-out items replaced": (replace_heldout, "disagree about the manifest of the drop"),
    "suite file replaced": (replace("piqa.jsonl"), "is not the file that version 4 was made with (suite piqa)"),
    "calibration text replaced": (replace("calibration.jsonl"), "is not the file that version 4 was made with (calibration)"),
    "source drop changed": (replace("first.jsonl"), "is not the file that version 2 was made with (drop)"),
}
