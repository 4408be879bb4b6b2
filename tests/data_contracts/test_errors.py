"""An expected failure is one line of where, what and the way out, also after it has crossed a process."""

from __future__ import annotations

import pickle

import pytest

from data_contracts import errors
from data_contracts.errors import SkillstackError

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, SkillstackError)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_comes_back_whole_from_another_process(kind: type[SkillstackError]) -> None:
    error = pickle.loads(pickle.dumps(kind("drop.jsonl:4", "has no answer", "write one")))
    assert type(error) is kind
    assert (error.where, error.what, error.way_out) == ("drop.jsonl:4", "has no answer", "write one")
    assert str(error) == "drop.jsonl:4: has no answer (write one)"


def test_a_way_out_may_be_absent() -> None:
    assert str(SkillstackError("file", "is gone")) == "file: is gone"
