# /// script
# [tool.marimo.display]
# theme = "system"
# ///
# mypy: ignore-errors
"""View 2 as a marimo app, for `skillstack explore` or `marimo edit`. The numbers come from flows/explore/views/constraint.py."""

import marimo

app = marimo.App(width="medium", app_title="Constraint · skillstack", css_file="explore.css")


@app.cell
def _():
    import marimo as mo

    from flows.explore import frame

    frame.header("constraint")
    return frame, mo


@app.cell
def _(frame, mo):
    from flows.explore import material, scene, updates
    from flows.explore.answer import Missing, attempt
    from flows.explore.views import constraint

    now = scene.look()
    subjects = now.subjects()
    model_name = mo.ui.dropdown(list(subjects), value=next(iter(subjects)), label="model")
    frame.controls(model_name)
    return Missing, attempt, constraint, material, model_name, now, subjects, updates


@app.cell
def _(Missing, attempt, frame, material, mo, model_name, now, subjects, updates):
    model = attempt(lambda: material.open_model(subjects[model_name.value], now.config.calibration))
    mo.stop(isinstance(model, Missing), frame.notice(model) if isinstance(model, Missing) else None)
    measured = material.measurements(model)
    sources = updates.list_sources(now, model_name.value)
    layer_name = mo.ui.dropdown(list(model.targets), value=next(iter(model.targets)), label="layer")
    source = mo.ui.dropdown(list(sources), value=next(iter(sources)), label="update")
    protect = mo.ui.dropdown(["activations", "weights", "weights_block"], value=now.config.train.protect, label="protect")
    ratio = frame.ratio_slider(now.config.train.unfreeze_rank_ratio)
    frame.controls(source, layer_name, protect, ratio)
    return layer_name, measured, model, protect, ratio, source, sources


@app.cell
def _(Missing, attempt, frame, layer_name, measured, mo, source, sources, updates):
    rotated = attempt(lambda: updates.rotated_by_protection(measured, sources[source.value], layer_name.value))
    mo.stop(isinstance(rotated, Missing), frame.notice(rotated) if isinstance(rotated, Missing) else None)
    return (rotated,)


@app.cell
def _(constraint, frame, layer_name, mo, model, protect, ratio, rotated):
    results = [constraint.constrain(rotated[each], each, ratio.value) for each in rotated]
    chosen = next(each for each in results if each.protect == protect.value)
    mo.vstack(
        [
            frame.said(chosen.sentence()),
            frame.figure(constraint.constraint_figure(chosen), f"The update of {layer_name.value} before and after {protect.value}"),
            frame.table(constraint.comparison_rows(results), "The three protections on this update"),
            frame.remarks(
                [
                    f"Gradients are of the mean loss on {model.tokens} tokens.",
                    "Input directions come from the subspace memory of the version, if it has one.",
                ]
            ),
        ]
    )
    return


if __name__ == "__main__":
    app.run()
