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
