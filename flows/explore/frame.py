"""The common parts of all pages: navigation, heading, notices, tables, and figures with a name for screen readers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import marimo as mo

from flows.explore.answer import Missing

PAGES_FOLDER = Path(__file__).parent / "pages"


@dataclass(frozen=True)
class Page:
    """A view. look_for: a sentence that says what to look for."""

    name: str
    title: str
    look_for: str

    @property
    def file(self) -> Path:
        return PAGES_FOLDER / f"{self.name}_page.py"


PAGES = (
    Page(
        "spectrum",
        "Spectrum",
        "Look for the knee of the curve: a cut to the left of it makes directions with much energy trainable, a cut far to the right "
        "leaves little to train.",
    ),
    Page(
        "constraint",
        "Constraint",
        "Look at the framed region: left, the part of the unconstrained update in protected directions; right, what remains of it "
        "under the constraint. An update that is almost completely inside cannot be learned under this constraint.",
    ),
    Page(
        "geometry",
        "Geometry",
        "Look at the second figure: a turn keeps every singular value (one), a cut and an update do not. Then at the leak in the table: "
        "only the constrained update keeps away from the protected directions.",
    ),
    Page(
        "cost",
        "Cost",
        "Look at how the cost of each method grows with the ratio, and at the part that does not depend on the ratio. "
        "The last table shows the error of each estimate against a measured run.",
    ),
    Page(
        "dynamics",
        "Training",
        "Look for a loss that falls and then flattens: still falling means too few steps, jumps mean a learning rate that is too large. "
        "Below, a layer that uses nearly all of its trainable directions could use more.",
    ),
    Page(
        "matrix",
        "Forgetting",
        "Read a column downwards: a score that falls after the round that learned it is forgetting. "
        "Choose a cell, in the figure or with the two lists, to read the items that were right before and are wrong there.",
    ),
    Page(
        "capacity",
        "Capacity",
        "Look for the layer that darkens first: the least free layer limits how many more rounds fit at the chosen ratio.",
    ),
    Page(
        "gate",
        "Gate",
        "Look at the curve at zero loss (rounds without a loss that are promoted) and at the chosen loss (losses that are missed). "
        "More items separate the two; more churn (items that change by chance) brings them together.",
    ),
)


def header(name: str) -> mo.Html:
    """Links to the views, the title, and the sentence that says what to look for."""
    links = "".join(
        f'<a href="../{page.name}/"{" aria-current=page" if page.name == name else ""}>{escape(page.title)}</a>' for page in PAGES
    )
    page = next(page for page in PAGES if page.name == name)
    return mo.Html(
        f'<header class="explore"><nav aria-label="Views">{links}</nav><h1>{escape(page.title)}</h1>'
        f'<p class="look">{escape(page.look_for)}</p></header>'
    )


def notice(missing: Missing) -> mo.Html:
    """A notice that says why there is nothing to show."""
    return mo.Html(f'<div class="explore-notice" role="alert"><strong>Nothing to show here.</strong> {escape(missing.sentence())}</div>')


def remarks(lines: Sequence[str]) -> mo.Html:
    """Remarks, one per line; nothing if there are none."""
    return mo.Html("".join(f'<p class="explore-remark">{escape(line)}</p>' for line in lines))


def said(*sentences: str) -> mo.Html:
    """The numbers of a view in words. Screen readers announce changes."""
    return mo.Html('<div role="status" class="explore-said">' + "".join(f"<p>{escape(each)}</p>" for each in sentences) + "</div>")


def figure(shown: Any, name: str) -> mo.Html:
    """A figure with a name for screen readers; a table beside it has its numbers. `shown`: a Plotly figure."""
    plot = mo.ui.plotly(shown, config={"displayModeBar": False, "responsive": True})
    return mo.Html(f'<div class="explore-figure" role="img" aria-label="{escape(name)}">{plot.text}</div>')


def table(rows: Sequence[Mapping[str, str]], caption: str) -> mo.Html:
    """A plain table, which screen readers can read; a narrow screen shows each row as a block, every value with its column's name."""
    if not rows:
        return mo.Html(f'<p class="explore-remark">{escape(caption)}: none.</p>')
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in rows[0])
    cells = ("".join(f'<td data-label="{escape(name)}">{escape(value)}</td>' for name, value in row.items()) for row in rows)
    lines = "".join(f"<tr>{row}</tr>" for row in cells)
    return mo.Html(
        f'<div class="explore-table" tabindex="0" role="region" aria-label="{escape(caption)}"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def controls(*elements: Any) -> mo.Html:
    """Controls side by side, or one below another on a narrow screen."""
    return mo.hstack(list(elements), justify="start", align="end", wrap=True, gap=1.5)


def ratio_slider(value: float = 0.25) -> mo.ui.slider:
    return mo.ui.slider(0.01, 1.0, 0.01, value=value, label="ratio", include_input=True, debounce=False)
