# /// script
# [tool.marimo.display]
# theme = "system"
# ///
# mypy: ignore-errors
"""View 8 as a marimo app, for `skillstack explore` or `marimo edit`. The numbers come from flows/explore/geometry.py."""

import marimo

app = marimo.App(width="medium", app_title="Geometry · skillstack", css_file="explore.css")


@app.cell
def _():
    import marimo as mo

    from flows.explore import frame

    frame.header("geometry")
    return frame, mo


@app.cell
def _(frame, mo):
    from flows.explore import geometry, material, scene
    from flows.explore.answer import Missing, attempt

    config = scene.current_config()
    subjects = scene.list_subjects()
    model_name = mo.ui.dropdown(list(subjects), value=next(iter(subjects)), label="model")
    frame.controls(model_name)
    return Missing, attempt, config, geometry, material, model_name, subjects


@app.cell
def _(Missing, attempt, config, frame, material, mo, model_name, subjects):
    model = attempt(lambda: material.open_model(subjects[model_name.value], config.calibration))
    mo.stop(isinstance(model, Missing), frame.notice(model) if isinstance(model, Missing) else None)
    measured = material.measurements(model)
    layer_name = mo.ui.dropdown(list(model.targets), value=next(iter(model.targets)), label="layer")
    layer_name
    return layer_name, measured, model


@app.cell
def _(Missing, attempt, config, frame, layer_name, measured, mo):
    layer = attempt(lambda: measured.layer(layer_name.value))
    mo.stop(isinstance(layer, Missing), frame.notice(layer) if isinstance(layer, Missing) else None)
    _side = min(layer.W.shape)
    angle = mo.ui.slider(0, 170, 5, value=30, label="largest angle of the turn (degrees)", include_input=True)
    block = mo.ui.slider(
        steps=[2**power for power in range(1, 9) if 2**power <= layer.W.shape[1]], value=32, label="block size", show_value=True
    )
    rank = mo.ui.slider(1, _side, 1, value=min(16, _side), label="rank of cut and low-rank update", include_input=True)
    ratio = frame.ratio_slider(config.train.unfreeze_rank_ratio)
    frame.controls(angle, block, rank, ratio)
    return angle, block, layer, rank, ratio


@app.cell
def _(angle, block, frame, geometry, layer, layer_name, mo, model, rank, ratio):
    settings = geometry.Settings(angle.value, block.value, rank.value, ratio.value)
    found = geometry.changes(layer, settings)
    mo.vstack(
        [
            frame.said(*geometry.sentences(found, settings)),
            frame.figure(geometry.spectrum_figure(layer, found), f"Singular values of {layer_name.value} before and after each change"),
            frame.figure(geometry.ratio_figure(layer, found), f"Singular values of {layer_name.value} after each change over those before"),
            frame.figure(geometry.angles_figure(layer, found), f"Angles between the neurons of {layer_name.value} before and after"),
            frame.table(geometry.geometry_rows(found), "What each change keeps, relative to the weight before"),
            frame.remarks(
                [
                    f"Inputs and the gradient are measured on {model.tokens} tokens; the turn's blocks are drawn with one seed.",
                    "Both updates have the size of the turn's change; the cut has the size that its rank gives.",
                    *([] if geometry.shows_all_neurons(layer) else ["Angles and energy: of the first 768 neurons."]),
                ]
            ),
        ]
    )
    return


if __name__ == "__main__":
    app.run()
