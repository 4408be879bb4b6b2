# /// script
# [tool.marimo.display]
# theme = "system"
# ///
# mypy: ignore-errors
"""View 3 as a marimo app, for `skillstack explore` or `marimo edit`. The numbers come from cost.py, calibration.py and cost_views.py."""

import marimo

app = marimo.App(width="medium", app_title="Cost · skillstack", css_file="explore.css")


@app.cell
def _():
    import marimo as mo

    from flows.explore import frame

    frame.header("cost")
    return frame, mo


@app.cell
def _(frame, mo):
    from flows.explore import scene
    from flows.explore.answer import Missing, attempt
    from flows.explore.views import calibration, cost_views, model_shape

    now = scene.look()
    named = {subject.label: subject.folder for subject in now.subjects().values()} | model_shape.known_shapes()
    model_name = mo.ui.dropdown(list(named), value=next(iter(named)), label="model")
    own = mo.ui.text(placeholder="/path/to/config.json", label="or the config.json of another model", full_width=False)
    quantity = mo.ui.dropdown(list(cost_views.QUANTITIES), value="peak memory", label="show")
    tokens = mo.ui.slider(steps=[128, 256, 512, 1024, 2048, 4096, 8192], value=256, label="tokens per step", show_value=True)
    ratio = frame.ratio_slider(now.config.train.unfreeze_rank_ratio)
    frame.controls(model_name, own, quantity, tokens, ratio)
    return Missing, attempt, calibration, cost_views, model_name, model_shape, named, own, quantity, ratio, tokens


@app.cell
def _(Missing, attempt, frame, mo, model_name, model_shape, named, own):
    from pathlib import Path

    _path = Path(own.value).expanduser() if own.value else named[model_name.value]
    shape = attempt(lambda: model_shape.read_shape(_path, own.value or model_name.value))
    mo.stop(isinstance(shape, Missing), frame.notice(shape) if isinstance(shape, Missing) else None)
    return (shape,)


@app.cell
def _(calibration, model_shape):
    facts, rows = calibration.load_measured()
    reference = model_shape.read_shape(model_shape.known_shapes()["SmolLM2-135M"], "SmolLM2-135M")
    speeds = calibration.calibrated(reference, rows, min(row.tokens for row in rows))
    return facts, reference, rows, speeds


@app.cell
def _(calibration, cost_views, frame, mo, quantity, ratio, shape, speeds, tokens):
    used = calibration.without_overhead(speeds)
    mo.vstack(
        [
            frame.said(cost_views.sentence(shape, ratio.value, tokens.value, used)),
            frame.figure(
                cost_views.cost_figure(shape, quantity.value, ratio.value, tokens.value, used), f"{quantity.value} over the ratio"
            ),
            frame.table(cost_views.cost_rows(shape, ratio.value, tokens.value, used), f"One step of {tokens.value} tokens, {shape.name}"),
        ]
    )
    return


@app.cell
def _(calibration, facts, frame, mo, reference, rows):
    mo.vstack(
        [
            frame.table(calibration.error_rows(reference, rows, facts["ratio"]), f"Estimates against measured runs of {facts['model']}"),
            frame.remarks(
                [
                    f"Measured {facts['date']} on {facts['machine']} with torch {facts['torch']} at ratio {facts['ratio']}.",
                    "Two baseline rows give the speeds; the other rows are predicted. On other machines, seconds are relative.",
                ]
            ),
        ]
    )
    return


if __name__ == "__main__":
    app.run()
