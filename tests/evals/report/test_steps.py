"""Code in the steps is code on the page and in Markdown; everything else is shown as it is."""

from __future__ import annotations

import pytest

from data_contracts.escaping import markdown_text
from evals.report.steps import step_html, step_markdown


def test_a_command_between_backticks_is_code() -> None:
    step = "Set `calibration` to text (`skillstack init` writes some): <b> & *more*."
    assert step_html(step) == "Set <code>calibration</code> to text (<code>skillstack init</code> writes some): &lt;b&gt; &amp; *more*."
    assert step_markdown(step) == "Set `calibration` to text (`skillstack init` writes some): &lt;b&gt; &amp; \\*more\\*."


@pytest.mark.parametrize("step", ["skillstack round `<script>`.jsonl", "one ` alone", "`` empty ``", "private \ue000 character"])
def test_what_is_no_name_of_a_command_stays_text(step: str) -> None:
    assert "<code>" not in step_html(step)
    assert "<script>" not in step_html(step)
    assert step_markdown(step) == markdown_text(step.replace("\ue000", " "))


def test_the_text_of_people_is_escaped(hostile: str) -> None:
    code = "`code`"  # shown as code, and nothing else of it is
    assert step_markdown(f"Offer it: {hostile}") == code.join(markdown_text(f"Offer it: {hostile}").split("\\`code\\`"))
    assert "<script>" not in step_html(hostile)
