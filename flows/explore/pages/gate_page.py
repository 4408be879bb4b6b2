# /// script
# [tool.marimo.display]
# theme = "system"
# ///
# mypy: ignore-errors
"""View 7 as a marimo app, for `skillstack explore` or `marimo edit`. The numbers come from flows/explore/views/playground.py."""

import marimo

app = marimo.App(width="medium", app_title="Gate · skillstack", css_file="explore.css")


@app.cell
def _():
    import marimo as mo

    from flows.explore import frame

    frame.header("gate")
    return frame, mo


@app.cell
def _(frame, mo):
    from flows.explore.views import playground

    items = mo.ui.slider(
        steps=[30, 50, 100, 150, 200, 300, 400, 600, 800, 1200, 2000, 4000], value=400, label="n: items per suite", show_value=True
    )
    suites = mo.ui.slider(1, 12, 1, value=5, label="earlier skills", include_input=True)
    margin = mo.ui.slider(0.5, 5.0, 0.5, value=2.0, label="margin (points)", include_input=True)
    churn = mo.ui.slider(0.0, 30.0, 1.0, value=5.0, label="churn (%)", include_input=True)
    loss = mo.ui.slider(0.0, 10.0, 0.5, value=2.0, label="true loss (points)", include_input=True)
    frame.controls(items, suites, margin, churn, loss)
    return churn, items, loss, margin, playground, suites


@app.cell
def _(churn, frame, items, loss, margin, mo, playground, suites):
    question = playground.Question(items.value, suites.value, margin.value / 100, churn.value / 100)
    mo.vstack(
        [
            frame.said(*playground.sentences(question, loss.value / 100)),
            frame.figure(playground.promote_figure(question, loss.value / 100), "Probability of promotion over the true loss"),
            frame.remarks(
                ["Probabilities are those of the gate's plan (evals/gate/plan.py), for the category of skills and a round with a gain."]
            ),
        ]
    )
    return (question,)


@app.cell
def _(mo):
    ask = mo.ui.run_button(label="Let the gate decide 40 simulated rounds")
    ask
    return (ask,)


@app.cell
def _(ask, frame, loss, mo, playground, question):
    mo.stop(not ask.value, frame.remarks(["The button runs evals.gate.decide.decide on random items; it takes some seconds."]))
    frame.said(playground.simulate(question, loss.value / 100, rounds=40).sentence())
    return


if __name__ == "__main__":
    app.run()
