"""The report of a validation for people: an HTML page with plots, a table for the terminal, and Markdown, all made of report.json alone.

The page holds everything it needs (no scripts, no fonts, no network), reads in light and dark, and is a few dozen kilobytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from data_contracts.contract.rules import RULES
from data_contracts.escaping import markdown_text
from data_contracts.report.charts import Bar, bar_chart, histogram
from data_contracts.report.environment import page_environment

if TYPE_CHECKING:
    from jinja2 import Template
    from rich.console import Group, RenderableType

_MEANING = {"error": "refused", "drop": "left out", "warning": "kept"}
_STYLE = {"error": "bold red", "drop": "yellow", "warning": "cyan"}


def report_page(report: Mapping[str, Any]) -> str:
    """The page as HTML text. The same report gives the same bytes."""
    shown = {"plots": _plots(report), "findings": _gravest_first(report), "left_out": left_out(report)}
    return _page_template().render(report=report, meaning=_meaning, rules=RULES, **shown)


@lru_cache(maxsize=1)
def _page_template() -> Template:
    environment = page_environment("data_contracts.report")
    environment.filters["thousands"] = lambda value: f"{value:,}"
    return environment.get_template("report.html.j2")


def _gravest_first(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Findings by what they mean, then by rows."""
    return sorted(report["findings"], key=lambda found: (list(_MEANING).index(found["severity"]), -found["rows"], found["check"]))


def _meaning(found: Mapping[str, Any]) -> str:
    """What a finding means for its rows; a warning about all of the drop (line 0) is about no row."""
    about_a_row = found["severity"] != "warning" or found["examples"][0]["line"]
    return _MEANING[found["severity"]] if about_a_row else "noted"


def _plots(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(title, SVG) of every plot that there is data for."""
    details, rows = report["details"], report["rows"]
    plots = [("Where the rows went", bar_chart([Bar(name, rows[key]) for name, key in _SIDES if rows[key]], "rows"))]
    if report["findings"]:
        bars = [Bar(f"{found['check']} ({_meaning(found)})", found["rows"], found["severity"]) for found in report["findings"]]
        plots.append(("Findings", bar_chart(sorted(bars, key=lambda bar: -bar.value), "rows")))
    if details.get("length", {}).get("bins"):
        length = details["length"]
        bins = [(part["from"], part["to"], part["rows"]) for part in length["bins"]]
        plots.append((f"Length in {length['unit']}", histogram(bins, length["unit"], length["limit"])))
    copies = _duplicates(details)
    if any(bar.value for bar in copies):
        plots.append(("Duplicates", bar_chart(copies, "rows")))
    for key, title in (("labels", "Answers"), ("languages", "Languages")):
        if details.get(key):
            plots.append((title, bar_chart([Bar(name or "(empty)", count) for name, count in _commonest(details[key])], "rows")))
    suites = {name: part["rows"] for name, part in details.get("contamination", {}).items() if part["rows"]}
    if suites:
        plots.append(("Rows that give away held-out items", bar_chart([Bar(name, count) for name, count in suites.items()], "rows")))
    return plots


def _commonest(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:24]


_SIDES = (
    ("training", "clean"),
    ("held out for the gate", "heldout"),
    ("sealed for the audit", "sealed"),
    ("left out with a note", "dropped"),
    ("refused", "bad"),
)


def _duplicates(details: Mapping[str, Any]) -> list[Bar]:
    exact, near = details.get("exact_duplicates", {}), details.get("near_duplicates", {})
    return [
        Bar("exact, in this drop", exact.get("within", 0)),
        Bar("exact, of an earlier round", exact.get("earlier", 0)),
        Bar("near, in this drop", near.get("within", 0)),
        Bar("near, of an earlier round", near.get("earlier", 0)),
    ]


def report_markdown(report: Mapping[str, Any]) -> str:
    """The outcome, the rows by side and every finding with its first example, for a place that shows Markdown."""
    rows, contract = report["rows"], report["contract"]
    lines = [
        f"# {markdown_text(report['source'])} for skill {markdown_text(report['skill'])}: {report['outcome']}, {left_out(report)}",
        f"Contract {markdown_text(contract['id'])} {contract['version']}, sha256 of the drop `{report['source_sha256']}`",
    ]
    if report["outcome"] != "passed":
        lines.append(f"**{markdown_text(report['where'])}**: {markdown_text(report['reason'])} ({markdown_text(report['way_out'])})")
    sides = ", ".join(f"{rows[key]:,} {name}" for name, key in _SIDES)
    lines.append(f"{rows['read']:,} rows read: {sides}.")
    if report["findings"]:
        table = ["| check | rows | the row is | first example |", "|---|---:|---|---|"]
        for found in _gravest_first(report):
            cells = (found["check"], f"{found['rows']:,}", _meaning(found), markdown_text(_first_example(found)))
            table.append(f"| {' | '.join(cells)} |")
        lines.append("\n".join(table))
    else:
        lines.append("No findings.")
    if pairs := _pair_lines(report):
        lines.append("Rows that were taken for the same:\n\n" + "\n".join(f"- {markdown_text(line.strip())}" for line in pairs))
    return "\n\n".join(lines) + "\n"


def left_out(report: Mapping[str, Any]) -> str:
    """How many of the rows that were read are in no split, as a share."""
    rows = report["rows"]
    gone = rows["bad"] + rows["dropped"]
    if not gone:
        return "every row kept"
    share = gone / rows["read"]
    return f"{gone:,} of {rows['read']:,} rows left out ({'<0.1' if share < 0.001 else f'{100 * share:.1f}'} %)"


def _many_left_out(report: Mapping[str, Any]) -> bool:
    rows = report["rows"]
    return not rows["bad"] + rows["dropped"] <= 0.05 * rows["read"]


def _pair_lines(report: Mapping[str, Any]) -> list[str]:
    """Both rows of each pair, for a person to judge whether they are copies."""
    pairs = report["details"].get("near_duplicates", {}).get("pairs", ())
    return [f"  line {line}: {text}" for pair in pairs for line, text in zip(pair["lines"], pair["texts"], strict=True)]


def _first_example(found: Mapping[str, Any]) -> str:
    first = found["examples"][0]
    return (f"line {first['line']}: " if first["line"] else "") + str(first["reason"])


def report_table(report: Mapping[str, Any]) -> Group:
    """The report for a terminal: a line with the outcome, the rows by side, and a table of findings with their first example."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    rows = report["rows"]
    verdict = Text("passed", style="bold green") if report["outcome"] == "passed" else Text("failed", style="bold red")
    head = Text.assemble(
        f"{report['source']} for skill {report['skill']!r}: ",
        verdict,
        Text(f", {left_out(report)}", style="bold yellow" if _many_left_out(report) else ""),
        f", contract {report['contract']['id']} {report['contract']['version']}",
    )
    sides = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, key in (("rows read", "read"), *_SIDES):
        sides.add_row(name, f"{rows[key]:,}")
    findings = Table(title="Findings", title_justify="left")
    for column in ("check", "rows", "means", "first example"):
        findings.add_column(column, justify="right" if column == "rows" else "left")
    for found in _gravest_first(report):
        style = _STYLE[found["severity"]]
        findings.add_row(found["check"], f"{found['rows']:,}", Text(_meaning(found), style), Text(_first_example(found)[:160]))
    parts: list[RenderableType] = [head, sides, findings if report["findings"] else Text("No findings.")]
    if report["details"].get("near_duplicates", {}).get("pairs"):
        parts.append(Text("Rows that were taken for the same:", style="bold"))
        parts += [Text(line) for line in _pair_lines(report)]
    if report["outcome"] != "passed":
        parts.append(Text(f"{report['where']}: {report['reason']} ({report['way_out']})", style="red"))
    return Group(*parts)
