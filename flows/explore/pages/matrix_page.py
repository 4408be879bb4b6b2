# /// script
# [tool.marimo.display]
# theme = "system"
# ///
# mypy: ignore-errors
"""View 5 as a marimo app, for `skillstack explore` or `marimo edit`. The numbers come from flows/explore/views/matrix.py."""

import marimo

app = marimo.App(width="medium", app_title="Forgetting · skillstack", css_file="explore.css")


@app.cell
def _():
    import marimo as mo

    from flows.explore import frame

    frame.header("matrix")
    return frame, mo


@app.cell
def _(frame, mo):
    from flows.explore import scene
    from flows.explore.answer import Missing, attempt
    from flows.explore.views import matrix

    now = scene.look()
    mo.stop(isinstance(now.records, Missing), frame.notice(now.records) if isinstance(now.records, Missing) else None)
    view = attempt(lambda: matrix.view_lineage(now.records))
    mo.stop(isinstance(view, Missing), frame.notice(view) if isinstance(view, Missing) else None)
    cell, choose = mo.state(matrix.worst_cell(view))
    picture = mo.ui.plotly(
        matrix.matrix_figure(view),
        config={"displayModeBar": False, "responsive": True},
        on_change=lambda points: choose(matrix.cell_of(points, view) or cell()),
    )
    mo.vstack([frame.said(*matrix.summary_sentences(view)), picture, frame.remarks(view.left_out)])
    return cell, choose, matrix, view


@app.cell
def _(cell, choose, frame, mo, view):
    round_name = mo.ui.dropdown(view.rows, value=cell()[0], label="round", on_change=lambda name: choose((name, cell()[1])))
    suite_name = mo.ui.dropdown(view.suites, value=cell()[1], label="suite", on_change=lambda name: choose((cell()[0], name)))
    frame.controls(round_name, suite_name)
    return


@app.cell
def _(cell, frame, matrix, mo, view):
    _row, _suite = view.rows.index(cell()[0]), cell()[1]
    items = matrix.changed_items(view, _row, _suite)
    mo.vstack(
        [
            frame.said(matrix.cell_sentence(view, _row, _suite, items)),
            frame.table(matrix.item_rows(items), f"Items of {_suite} that changed at {cell()[0]}"),
        ]
    )
    return


@app.cell
def _(frame, matrix, mo, view):
    mo.vstack(
        [
            frame.figure(matrix.forgetting_figure(view), "Each skill when it was learned and now"),
            frame.table(matrix.matrix_rows(view), "All scores, in % (drift: bits per byte)"),
        ]
    )
    return


if __name__ == "__main__":
    app.run()
