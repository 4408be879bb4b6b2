"""The tables of an HTML page as a reader sees them."""

from __future__ import annotations

from html.parser import HTMLParser

Cell = list[str]


class HtmlTables(HTMLParser):
    """Tables as lists of rows of cells; a cell is what is to be read in it, by tag: [score, change] of the heat map."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[list[list[Cell]]] = []
        self._cell: Cell | None = None
        self.feed(text)

    @property
    def rows(self) -> list[list[Cell]]:
        """The rows of all tables."""
        return [row for table in self.tables for row in table]

    def line(self, *starts: str) -> list[str]:
        """The one row of all tables that begins with these cells, each cell as one text."""
        lines = [[" ".join(cell) for cell in row] for row in self.rows]
        [found] = [line for line in lines if tuple(line[: len(starts)]) == starts]
        return found

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "table":
            self.tables.append([])
        elif tag == "tr" and self.tables:
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self._cell = []

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th") and self._cell is not None and self.tables and self.tables[-1]:
            self.tables[-1][-1].append(self._cell)
            self._cell = None

    def handle_data(self, data: str) -> None:
        if self._cell is not None and data.strip():
            self._cell.append(" ".join(data.split()))
