"""A batch computes what checks share once, and a check of single rows says in which place of the batch it found something."""

from __future__ import annotations

from collections.abc import Iterator

from data_contracts.rows.findings import Batch, Finding, RowCheck, WholeDrop
from data_contracts.rows.records import Row


class Long(RowCheck):
    def observe_row(self, row: Row) -> Iterator[Finding]:
        for word in row.value["text"].split():
            if len(word) > 3:
                yield Finding("long", row.line, word)


def _batch() -> Batch:
    return Batch([Row(line, "document", {"text": text}) for line, text in ((4, "one"), (9, "three seven"), (12, "four"))], first=7)


def test_findings_have_their_place_in_the_batch_and_their_line_in_the_file() -> None:
    check = Long()
    found = [(place, finding.line, finding.reason) for place, finding in check.observe(_batch())]
    assert found == [(1, 9, "three"), (1, 9, "seven"), (2, 12, "four")]
    assert list(check.conclude(WholeDrop(bytearray(3), (4, 9, 12), lambda ordinal: {}))) == []
    assert check.summary() == {}


def test_words_and_contents_are_computed_once_for_all_checks() -> None:
    batch = _batch()
    assert batch.words is batch.words
    assert batch.contents is batch.contents
    assert batch.contents == ["one", "three seven", "four"]
    assert batch.words.rows.tolist() == [0, 1, 3, 4]
