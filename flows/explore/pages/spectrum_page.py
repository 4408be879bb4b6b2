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
    from flows.explore import scene, weight_files
    from flows.explore.answer import Missing, attempt
    from flows.explore.views import spectrum

    config = scene.current_config()
    subjects = scene.list_subjects()
    model_name = mo.ui.dropdown(list(subjects), value=next(iter(subjects)), label="model")
    frame.controls(model_name)
    return Missing, attempt, config, model_name, spectrum, subjects, weight_files


@app.cell
def _(Missing, attempt, config, frame, mo, model_name, subjects, weight_files):
    spectra = attempt(lambda: weight_files.open_spectra(subjects[model_name.value], config.calibration))
    mo.stop(isinstance(spectra, Missing), frame.notice(spectra) if isinstance(spectra, Missing) else None)
    layer_name = mo.ui.dropdown(list(spectra.layers), value=spectra.layers[0], label="layer")
    what = mo.ui.dropdown(
        {"the weight's singular values": False, "energies of its inputs": True}, value="the weight's singular values", label="spectrum of"
    )
    ratio = frame.ratio_slider(config.train.unfreeze_rank_ratio)
    policies, set_policies = mo.state(())
    frame.controls(layer_name, what, ratio)
    return layer_name, policies, ratio, set_policies, spectra, what


@app.cell
def _(Missing, attempt, frame, layer_name, mo, spectra, what):
    energies = attempt(lambda: spectra.energies(layer_name.value, inputs=what.value))
    mo.stop(isinstance(energies, Missing), frame.notice(energies) if isinstance(energies, Missing) else None)
    return (energies,)


@app.cell
def _(energies, frame, ratio, spectrum):
    cut = spectrum.cut_energies(energies, ratio.value)
    frame.said(cut.sentence())
    return (cut,)


@app.cell
def _(cut, energies, frame, layer_name, policies, spectrum, what):
    # Drawn at once, and again with a line for each policy when the cell below has measured the model.
    _lines = policies()[1] if policies() and policies()[0] == (layer_name.value, what.value) else ()
    frame.figure(spectrum.spectrum_figure(energies, cut, _lines, inputs=what.value), f"Spectrum of {layer_name.value}")
    return


@app.cell
def _(Missing, attempt, config, energies, frame, layer_name, mo, model_name, set_policies, spectrum, subjects, what):
    from flows.explore import material  # torch, transformers and the model: after the numbers above

    model = attempt(lambda: material.open_model(subjects[model_name.value], config.calibration))
    mo.stop(isinstance(model, Missing), frame.notice(model) if isinstance(model, Missing) else None)
    _measured = material.measurements(model)
    _importance = attempt(_measured.importance)
    _moment = _measured.moment(layer_name.value) if what.value else None
    choices = spectrum.policy_choices(
        energies, config.train, layer_name.value, None if isinstance(_importance, Missing) else _importance, _moment
    )
    set_policies(((layer_name.value, what.value), choices))
    mo.vstack(
        [
            frame.table(spectrum.choice_rows(choices), "The choice of each rank policy for this layer"),
            frame.remarks([f"Importance is measured on {model.tokens} tokens of text; a round measures more."]),
        ]
    )
    return


if __name__ == "__main__":
    app.run()
