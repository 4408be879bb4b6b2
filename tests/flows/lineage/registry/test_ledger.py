"""The ledger: whatever is changed, taken out or cut off is found."""

from __future__ import annotations

import pytest

from data_contracts.errors import LineageError
from flows.lineage import current_champion, read_history, read_ledger, verify_lineage
from flows.lineage.registry.ledger import ENTRY_TAG, HEAD_TAG, LEDGER_FILE, check_chain, ledger_run


@pytest.mark.parametrize("damage", ["edit", "edit the last", "remove", "remove the last", "swap", "garbage"])
def test_a_broken_chain_is_found(grown, damage):
    texts = [entry.text for entry in read_ledger(grown)]
    head = grown.client.get_registered_model("tiny").tags[HEAD_TAG]
    assert check_chain(texts, head) == read_ledger(grown)
    if damage == "edit":
        texts[3] = texts[3].replace('"flow"', '"someone else"')
    elif damage == "edit the last":
        texts[-1] = texts[-1].replace('"flow"', '"someone else"')
    elif damage == "remove":
        del texts[1]
    elif damage == "remove the last":
        del texts[-1]
    elif damage == "swap":
        texts[0], texts[1] = texts[1], texts[0]
    else:
        texts[1] = "{}"
    with pytest.raises(LineageError, match="ledger"):
        check_chain(texts, head)


def test_an_entry_edited_in_mlflow_stops_history_and_champion(grown):
    entry = read_ledger(grown)[3]
    forged = entry.text.replace('"gate"', '"all fine"')
    assert (entry.action, entry.version, forged != entry.text) == ("promote", 2, True)
    grown.client.set_model_version_tag("tiny", "2", f"{ENTRY_TAG}000003", forged)
    for read in (read_ledger, current_champion, read_history):
        with pytest.raises(LineageError, match="ledger entry 4: does not continue the chain"):
            read(grown)


def test_a_deleted_version_takes_no_entry_along_and_is_found(grown):
    """Its entries go with its tags; the copy has them, and without the copy the chain says what is missing."""
    entries = read_ledger(grown)
    grown.client.delete_registered_model_alias("tiny", "previous")
    grown.client.delete_model_version("tiny", "2")
    assert read_ledger(grown) == entries
    assert any("it was deleted" in finding.problem for finding in verify_lineage(grown).findings)
    grown.client.log_text(ledger_run(grown), "", LEDGER_FILE)
    with pytest.raises(LineageError, match="ledger entry 2: is missing"):
        read_history(grown)


def test_the_copy_on_disk_is_the_whole_ledger(grown, tmp_path):
    path = grown.client.download_artifacts(ledger_run(grown), LEDGER_FILE, str(tmp_path))
    with open(path, encoding="utf-8") as copy:
        assert copy.read().splitlines() == [entry.text for entry in read_ledger(grown)]
