# /// script
# [tool.marimo.display]
# theme = "system"
# ///
# mypy: ignore-errors
"""View 3 as a marimo app: `skillstack explore`, or `marimo edit` on this file. The numbers come from flows/explore/cost.py."""

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
    from flows.explore import cost, scene
    from flows.explore.answer import Missing, attempt

    now = scene.look()
    named = {subject.label: subject.folder for subject in now.subjects().values()} | cost.known_shapes()
    model_name = mo.ui.dropdown(list(named), value=next(iter(named)), label="model")
    own = mo.ui.text(placeholder="/path/to/config.json", label="or the config of another model", full_width=False)
    quantity = mo.ui.dropdown(list(cost.QUANTITIES), value="peak memory", label="show")
    tokens = mo.ui.slider(steps=[128, 256, 512, 1024, 2048, 4096, 8192], value=256, label="tokens a step", show_value=True)
    ratio = frame.ratio_slider(now.config.train.unfreeze_rank_ratio)
    frame.controls(model_name, own, quantity, tokens, ratio)
    return Missing, attempt, cost, model_name, named, own, quantity, ratio, tokens


@app.cell
def _(Missing, attempt, cost, frame, mo, model_name, named, own):
    from pathlib import Path

    _path = Path(own.value).expanduser() if own.value else named[model_name.value]
    shape = attempt(lambda: cost.read_shape(_path, own.value or model_name.value))
    mo.stop(isinstance(shape, Missing), frame.notice(shape) if isinstance(shape, Missing) else None)
    return (shape,)


@app.cell
def _(cost):
    facts, rows = cost.load_measured()
    reference = cost.read_shape(cost.known_shapes()["SmolLM2-135M"], "SmolLM2-135M")
    speeds = cost.calibrated(reference, rows, min(row.tokens for row in rows))
    return facts, reference, rows, speeds


@app.cell
def _(cost, frame, mo, quantity, ratio, shape, speeds, tokens):
    used = cost.without_overhead(speeds)
    mo.vstack(
        [
            frame.said(cost.sentence(shape, ratio.value, tokens.value, used)),
            frame.figure(cost.cost_figure(shape, quantity.value, ratio.value, tokens.value, used), f"{quantity.value} over the ratio"),
            frame.table(cost.cost_rows(shape, ratio.value, tokens.value, used), f"One step of {tokens.value} tokens, {shape.name}"),
        ]
    )
    return


@app.cell
def _(cost, facts, frame, mo, reference, rows):
    mo.vstack(
        [
            frame.table(cost.error_rows(reference, rows, facts["ratio"]), f"Estimates against measured runs of {facts['model']}"),
            frame.remarks(
                [
                    f"Measured {facts['date']} on {facts['machine']} with torch {facts['torch']} at ratio {facts['ratio']}.",
                    "Two baseline rows give the speeds; the others are predicted. Read seconds on other machines as proportions.",
                ]
            ),
        ]
    )
    return


if __name__ == "__main__":
    app.run()
