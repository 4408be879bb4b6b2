"""Every value of a YAML document has its line, however it is written; what has none is placed at the nearest thing above it."""

from __future__ import annotations

import pytest

from data_contracts.contract.yaml_lines import YamlTree
from data_contracts.errors import ConfigError

TEXT = """\
a: 1
list:
  - name: x
    inner: {deep: 2}
  - name: y
shared: &s
  k: v
again: *s
"""


@pytest.mark.parametrize(
    ("path", "line", "name"),
    [
        (("a",), 1, "a"),
        (("list",), 2, "list"),
        (("list", 0, "inner"), 4, "list[0].inner"),
        (("list", 0, "inner", "deep"), 4, "list[0].inner.deep"),
        (("list", 1, "name"), 5, "list[1].name"),
        (("list", 1, "absent", "more"), 5, "list[1].absent.more"),
        (("again", "k"), 8, "again.k"),
        (("nowhere",), 1, "nowhere"),
        ((), 1, "the contract"),
    ],
)
def test_an_error_points_at_the_line_of_its_value(path: tuple[str | int, ...], line: int, name: str) -> None:
    error = YamlTree(TEXT, "c.yaml").refuse(path, "is wrong")
    assert (error.where, error.what) == (f"c.yaml:{line}", f"{name} is wrong")


def test_text_that_is_no_yaml_is_refused_at_its_line() -> None:
    with pytest.raises(ConfigError, match=r"^c\.yaml:2: is not YAML"):
        YamlTree("a: 1\n\tb: 2", "c.yaml")


def test_a_document_that_contains_itself_ends() -> None:
    assert YamlTree("&a\nk: 1\nme: *a\n", "c.yaml").value["k"] == 1


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a: 1\nb: 2\na: 3\n", "c.yaml:3: the key 'a' is on line 1 too"),
        ("list:\n  - name: x\n    name: y\n", r"c.yaml:3: the key 'list\[0\].name' is on line 2 too"),
        ("s: {k: 1,\n k: 1}\n", "c.yaml:2: the key 's.k' is on line 1 too"),
    ],
)
def test_a_key_that_occurs_twice_is_one_line(text: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        YamlTree(text, "c.yaml")


def test_a_key_of_two_mappings_and_one_that_replaces_a_merged_one_are_no_repetition() -> None:
    assert YamlTree("one: &o {k: 1}\ntwo: {<<: *o, k: 2}\nthree: *o\n", "c.yaml").value["two"] == {"k": 2}
