# /// script
# [tool.marimo.display]
# theme = "system"
# ///
# mypy: ignore-errors
"""View 6 as a marimo app, for `skillstack explore` or `marimo edit`. The numbers come from flows/explore/views/capacity.py."""

import marimo

app = marimo.App(width="medium", app_title="Capacity · skillstack", css_file="explore.css")


@app.cell
def _():
    import marimo as mo

    from flows.explore import frame

    frame.header("capacity")
    return frame, mo


@app.cell
def _(frame, mo):
    from flows.explore import scene
    from flows.explore.answer import Missing, attempt
    from flows.explore.views import capacity

    now = scene.look()
    mo.stop(isinstance(now.records, Missing), frame.notice(now.records) if isinstance(now.records, Missing) else None)
    view = attempt(lambda: capacity.view_capacity(now.records))
    mo.stop(isinstance(view, Missing), frame.notice(view) if isinstance(view, Missing) else None)
    ratio = frame.ratio_slider(now.config.train.unfreeze_rank_ratio)
    frame.controls(ratio)
    return capacity, ratio, view


@app.cell
def _(capacity, frame, mo, ratio, view):
    mo.vstack(
        [
            frame.said(capacity.sentence(view, ratio.value)),
            frame.figure(capacity.trend_figure(view, ratio.value), "Free directions over the rounds"),
        ]
    )
    return


@app.cell
def _(capacity, frame, mo, view):
    mo.vstack(
        [
            frame.figure(capacity.capacity_figure(view), "Free share of every layer after every round"),
            frame.table(capacity.capacity_rows(view), f"Layers after {view.rounds[-1]}, the least free first"),
            frame.remarks(view.left_out),
        ]
    )
    return


if __name__ == "__main__":
    app.run()
