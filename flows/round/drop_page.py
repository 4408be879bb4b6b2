"""What people see in Prefect of a drop: the report as a Markdown artifact, for a refused drop too."""

from __future__ import annotations

import json
from pathlib import Path

from prefect.artifacts import create_markdown_artifact

from data_contracts.errors import DropError
from data_contracts.escaping import markdown_text
from data_contracts.report.render import report_markdown
from flows.workspace.pages import not_vital


def publish_drop_report(folder: Path, refusal: DropError | None = None) -> None:
    """Attach the report in `folder` to the running task. A file that could not be read at all leaves no report, only its error.

    The key is fixed, so that its page shows the drop of every round.
    """
    report, page = folder / "report.json", folder / "report.html"
    if report.is_file():
        text = report_markdown(json.loads(report.read_text(encoding="utf-8")))
        text += f"\nThe whole report, with plots: [{page.name}]({page.as_uri()})\n"
    else:
        text = f"# The drop cannot be read\n\n{markdown_text(str(refusal))}\n"
    with not_vital("the drop"):
        create_markdown_artifact(
            text, key="drop", description=f"refused: {markdown_text(str(refusal))}" if refusal else "the drop keeps its contract"
        )
