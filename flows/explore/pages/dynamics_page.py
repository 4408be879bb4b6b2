# /// script
# [tool.marimo.display]
# theme = "system"
# ///
# mypy: ignore-errors
"""View 4 as a marimo app, for `skillstack explore` or `marimo edit`. The numbers come from flows/explore/views/dynamics.py."""

import marimo

app = marimo.App(width="medium", app_title="Training · skillstack", css_file="explore.css")


@app.cell
def _():
    import marimo as mo

    from flows.explore import frame

    frame.header("dynamics")
    return frame, mo


@app.cell
def _(frame, mo):
    from flows.explore import scene
    from flows.explore.answer import Missing, attempt
    from flows.explore.views import dynamics

    refresh = mo.ui.refresh(default_interval="10s", label="reload every 10 s")
    frame.controls(refresh)
    return Missing, attempt, dynamics, refresh, scene


@app.cell
def _(mo):
    chosen, choose = mo.state(None)
    return choose, chosen


@app.cell
def _(Missing, choose, chosen, dynamics, frame, mo, refresh, scene):
    now = scene.look() if refresh.value is not None else None  # each refresh reads it again
    mo.stop(isinstance(now.records, Missing), frame.notice(now.records) if isinstance(now.records, Missing) else None)
    rounds = {dynamics.title_of(record): record for record in reversed(now.records) if record.skill is not None}
    mo.stop(not rounds, frame.said("There is only the base model: no round has trained yet."))
    round_name = mo.ui.dropdown(list(rounds), value=chosen() if chosen() in rounds else next(iter(rounds)), label="round", on_change=choose)
    round_name
    return now, round_name, rounds


@app.cell
def _(Missing, attempt, dynamics, frame, mo, now, round_name, rounds):
    curve = attempt(lambda: dynamics.curve_of_round(now.lineage, rounds[round_name.value]))
    mo.stop(isinstance(curve, Missing), frame.notice(curve) if isinstance(curve, Missing) else None)
    mo.vstack([frame.said(curve.sentence()), frame.figure(dynamics.curve_figure(curve), f"Training curve of {curve.label}")])
    return


@app.cell
def _(Missing, attempt, dynamics, frame, mo, round_name, rounds):
    uses = attempt(lambda: dynamics.use_of_round(rounds[round_name.value]))
    mo.stop(isinstance(uses, Missing), frame.notice(uses) if isinstance(uses, Missing) else None)
    mo.vstack(
        [
            frame.figure(dynamics.use_figure(uses), "Share of the trainable directions in use, by layer"),
            frame.table(dynamics.use_rows(uses), "Subspace use by layer, the fullest first"),
        ]
    )
    return


@app.cell
def _(frame, mo, refresh, scene):
    from flows.explore.views import sweeps

    found = sweeps.read_sweeps(scene.current_config().state_dir) if refresh.value is not None else []
    caption = "Lost is in points of a score, and in percent more bits per byte for general text, worst first"
    shown = [(sweep, frame.table(sweeps.sweep_rows(sweep.table), caption) if sweep.table else None) for sweep in found]
    mo.vstack([part for sweep, rows in shown for part in (frame.said(sweep.sentence()), rows) if part is not None]) if shown else None
    return


if __name__ == "__main__":
    app.run()
