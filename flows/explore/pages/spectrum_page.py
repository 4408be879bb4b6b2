# /// script
# [tool.marimo.display]
# theme = "system"
# ///
# mypy: ignore-errors
"""View 1 as a marimo app, for `skillstack explore` or `marimo edit`. The numbers come from flows/explore/views/spectrum.py."""

import marimo

app = marimo.App(width="medium", app_title="Spectrum · skillstack", css_file="explore.css")


@app.cell
def _():
    import marimo as mo

    from flows.explore import frame

    frame.header("spectrum")
    return frame, mo


@app.cell
def _(frame, mo):
    from flows.explore import material, scene
    from flows.explore.answer import Missing, attempt
    from flows.explore.views import spectrum

    now = scene.look()
    subjects = now.subjects()
    model_name = mo.ui.dropdown(list(subjects), value=next(iter(subjects)), label="model")
    frame.controls(model_name)
    return Missing, attempt, material, model_name, now, spectrum, subjects


@app.cell
def _(Missing, attempt, frame, material, mo, model_name, now, subjects):
    model = attempt(lambda: material.open_model(subjects[model_name.value], now.config.calibration))
    mo.stop(isinstance(model, Missing), frame.notice(model) if isinstance(model, Missing) else None)
    measured = material.measurements(model)
    layer_name = mo.ui.dropdown(list(model.targets), value=next(iter(model.targets)), label="layer")
    what = mo.ui.dropdown(
        {"the weight's singular values": False, "energies of its inputs": True}, value="the weight's singular values", label="spectrum of"
    )
    ratio = frame.ratio_slider(now.config.train.unfreeze_rank_ratio)
    frame.controls(layer_name, what, ratio)
    return layer_name, measured, model, ratio, what


@app.cell
def _(Missing, attempt, measured):
    _answer = attempt(measured.importance)
    importance = None if isinstance(_answer, Missing) else _answer
    return (importance,)


@app.cell
def _(importance, layer_name, measured, now, spectrum, what):
    moment = measured.moment(layer_name.value) if what.value else None
    energies = spectrum.input_energies(moment) if what.value else measured.weight_energies(layer_name.value)
    choices = spectrum.policy_choices(energies, now.config.train, layer_name.value, importance, moment)
    return choices, energies


@app.cell
def _(choices, energies, frame, layer_name, mo, model, ratio, spectrum, what):
    cut = spectrum.cut_energies(energies, ratio.value)
    mo.vstack(
        [
            frame.said(cut.sentence()),
            frame.figure(spectrum.spectrum_figure(energies, cut, choices, inputs=what.value), f"Spectrum of {layer_name.value}"),
            frame.table(spectrum.choice_rows(choices), "The choice of each rank policy for this layer"),
            frame.remarks([f"Importance is measured on {model.tokens} tokens of text; a round measures more."]),
        ]
    )
    return


if __name__ == "__main__":
    app.run()
