"""Pages are escaped by themselves, and a name that a template misspells is an error and no gap."""

from __future__ import annotations

import pytest
from jinja2 import UndefinedError

from data_contracts.report.environment import page_environment


@pytest.mark.parametrize("package", ["data_contracts.report", "evals.report"])
def test_values_are_escaped_and_absent_ones_refused(package: str) -> None:
    environment = page_environment(package)
    assert environment.list_templates(), "the templates are in the package"
    assert environment.from_string("{{ name }}\n").render(name="<b>'a' & b</b>") == "&lt;b&gt;&#39;a&#39; &amp; b&lt;/b&gt;\n"
    with pytest.raises(UndefinedError):
        environment.from_string("{{ nmae }}").render(name="x")
    with pytest.raises(UndefinedError):
        environment.from_string("{{ report.absent }}").render(report={})
