"""A continual-learning story on nano: five new skills, one after the other, by three methods; and what the ratio decides.

    marimo edit docs/notebooks/continual_learning.py          read it, change a rate or a skill, run it again
    python docs/notebooks/continual_learning.py               run it from top to bottom without a browser

Everything is trained while you read, with the engine that trains real rounds: nineteen short trainings, about a hundred seconds of one
CPU core. No network, and nothing is kept: the checkpoints live in a temporary folder.
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Continual learning on nano", html_head_file="offline.html")


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    # Five skills in a row

    A model has some skills. Each month it is to learn one more, from data of the new skill **only**: the old data is gone, or may not
    be kept. What is left of the first skills after five months?

    The model is nano, a Llama of about a million parameters trained from nothing on seven small skills (copy, reverse, sort, upper,
    add, larger, topic). It is small enough that every number on this page is computed while you read. The last section says what that
    does and does not show about a large model.

    Three methods get the same drops, the same number of steps and the same batches:

    - **plain**: fine-tuning of every parameter;
    - **OSFT, `weights`**: the method as published. Updates keep away from the leading singular directions of each weight;
    - **OSFT, `activations`**: the default of this project. Updates keep away from the leading directions of what each layer *reads* on
      everything learned so far. A small *subspace memory* of those directions travels from round to round; no old example does.

    How the updates are kept inside exactly is the subject of the first notebook, `orthogonal_fine_tuning.py`.
    """)
    return


@app.cell
def _():
    import contextlib
    import io
    import json
    import random
    import shutil
    import tempfile
    from pathlib import Path

    import marimo as mo
    import numpy as np
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    def show(figure):
        """A chart without the row of buttons, which would lie over its titles."""
        return mo.ui.plotly(figure, config={"displayModeBar": False})

    return Path, contextlib, go, io, json, make_subplots, mo, np, random, show, shutil, tempfile


@app.cell
def _():
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from data_contracts.rendering import TextRenderer
    from flows.base_models.resolve import NANO
    from flows.demo.materials import calibration_rows, distinct_pairs
    from flows.demo.skills import BASE_SKILLS, NEW_SKILLS
    from osft_engine.compute.forward import run_model
    from osft_engine.config import TrainConfig
    from osft_engine.data.batches import micro_batches
    from osft_engine.data.inputs import write_drop
    from osft_engine.method.attach import find_targets
    from osft_engine.run import TrainRun
    from osft_engine.subspace.algebra import singular_subspaces
    from osft_engine.train import train_candidate

    torch.set_num_threads(1)
    return (
        AutoModelForCausalLM,
        AutoTokenizer,
        BASE_SKILLS,
        NANO,
        NEW_SKILLS,
        TrainConfig,
        TrainRun,
        calibration_rows,
        distinct_pairs,
        TextRenderer,
        find_targets,
        micro_batches,
        run_model,
        singular_subspaces,
        torch,
        train_candidate,
        write_drop,
    )


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    ## 1. The data and the score

    A skill is a generator of questions and answers. A hash of the question decides whether a pair may be trained on or is held out, so
    a held-out question has never been seen.
    """)
    return


@app.cell
def _(BASE_SKILLS, NEW_SKILLS, calibration_rows, distinct_pairs, mo, random):
    ORDER = ["shift", "double", "route", "mood", "ends"]  # one new skill per round
    ROWS, ITEMS = 256, 40  # training rows of a drop; held-out items of each skill
    skills = {**BASE_SKILLS, **{name: NEW_SKILLS[name] for name in ORDER}}

    def chat(question, answer):
        return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}

    drops = {
        name: [chat(*pair) for pair in distinct_pairs(skills[name], random.Random(f"drop {name}"), ROWS, heldout=False)] for name in ORDER
    }
    heldout = {name: distinct_pairs(skill, random.Random(f"held out {name}"), ITEMS, heldout=True) for name, skill in skills.items()}
    general = calibration_rows()  # what stands for "everything the base knew" when the subspace memory is opened

    mo.md(
        "| skill | known from the start | a held-out question | its answer |\n|:---|:---|:---|:---|\n"
        + "\n".join(
            f"| {name} | {'yes' if name in BASE_SKILLS else 'no'} | `{heldout[name][0][0]}` | `{heldout[name][0][1]}` |" for name in skills
        )
    )
    return ITEMS, ORDER, chat, drops, general, heldout, skills


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    The score is **exact match**: the share of held-out questions whose answer is right to the last letter. We need no generation for it.
    A greedy decoder writes the right answer exactly where, given the right letters so far, the most likely next token is the right one at
    *every* place, the end token included. So one forward pass over question and answer scores them all.
    """)
    return


@app.cell
def _(AutoModelForCausalLM, AutoTokenizer, ITEMS, NANO, chat, TextRenderer, heldout, micro_batches, mo, run_model, skills, torch):
    _tokenizer = AutoTokenizer.from_pretrained(NANO)
    _examples = [TextRenderer(_tokenizer).render_row(chat(*pair), name, max_tokens=256)[0] for name in skills for pair in heldout[name]]
    _batches = micro_batches(_examples, max_tokens=8192, layout="padded")

    @torch.no_grad()
    def score(folder):
        """Exact match of a model folder on every skill, in [0, 1]."""
        model = AutoModelForCausalLM.from_pretrained(folder).eval()
        right = dict.fromkeys(skills, 0)
        for batch in _batches:
            wrong = run_model(model, batch).argmax(-1) != batch.targets  # one entry an answer token
            failed = set((batch.rows[wrong] // batch.input_ids.shape[1]).tolist())  # the examples that these tokens belong to
            for line, name in enumerate(batch.origins):
                right[name] += line not in failed
        return {name: count / ITEMS for name, count in right.items()}

    base_scores = score(NANO)
    mo.show_code(mo.md(" · ".join(f"{name} **{value:.0%}**" for name, value in base_scores.items())))
    return base_scores, score


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    ## 2. Five rounds

    A round takes the model of the round before and one drop, and calls `train_candidate`, the function behind `skillstack round`. Its
    checkpoint carries that memory; the next round finds it through `parent`.

    Learning rates differ by method, because what a step does differs. Plain fine-tuning gets 3e-4; section 4 shows what a smaller one
    does. `weights` gets 1e-3 and `activations` 3e-3: at each, most of these drops are learned in 96 steps, or come closest to it.
    """)
    return


@app.cell
def _(NANO, Path, TrainConfig, TrainRun, contextlib, drops, general, io, json, mo, tempfile, train_candidate, write_drop):
    work = Path(tempfile.mkdtemp(prefix="skillstack-notebook-"))
    _calibration = work / "general.jsonl"
    _calibration.write_text("".join(json.dumps(row) + "\n" for row in general), encoding="utf-8")
    for _name, _rows in drops.items():
        write_drop(_rows, work / "drops" / _name, source=f"{_name}.jsonl")

    def learn(skill, out, parent=None, **settings):
        """One round: the checkpoint folder `out` learns `skill`, starting from the checkpoint `parent` or from nano."""
        run = TrainRun(
            base=parent / "model" if parent else NANO,
            parent=parent,
            drop=work / "drops" / skill,
            calibration=_calibration,
            skill=skill,
            out_dir=work / out,
            cache_dir=work / "cache",
            config=TrainConfig(effective_batch_size=8, num_epochs=3, moment_tokens=12000, device="cpu", num_threads=1, **settings),
        )
        with contextlib.redirect_stderr(io.StringIO()):  # nineteen progress bars would bury the page; one is enough
            return train_candidate(run)

    mo.show_code()
    return learn, work


@app.cell
def _(ORDER, base_scores, learn, mo, score, work):
    def five_rounds(name, **settings):
        """Learn every skill of ORDER in turn; returns the scores after each round (the base first) and the manifests."""
        history, manifests, parent = [base_scores], [], None
        for number, skill in enumerate(ORDER, 1):
            manifests.append(learn(skill, f"{name}-{number}", parent, **settings))
            parent = work / f"{name}-{number}"
            history.append(score(parent / "model"))
            bar.update()
        return history, manifests

    METHODS = {
        "plain": {"method": "full", "learning_rate": 3e-4},
        "OSFT weights": {"method": "osft", "protect": "weights", "unfreeze_rank_ratio": 0.25, "learning_rate": 1e-3},
        "OSFT activations": {"method": "osft", "protect": "activations", "unfreeze_rank_ratio": 0.25, "learning_rate": 3e-3},
    }
    with mo.status.progress_bar(total=19, title="training", remove_on_exit=True) as bar:
        lineages = {name: five_rounds(name.replace(" ", "-"), **settings) for name, settings in METHODS.items()}

        # How the ratio matters, and the rate of plain fine-tuning: one round each, from nano. Ratio 0.25 is the first round above.
        ratio_scores = {0.25: lineages["OSFT activations"][0][1]}
        for _ratio in (0.05, 0.5, 0.8):
            learn(ORDER[0], f"ratio-{_ratio}", **{**METHODS["OSFT activations"], "unfreeze_rank_ratio": _ratio})
            ratio_scores[_ratio] = score(work / f"ratio-{_ratio}" / "model")
            bar.update()
        rate_scores = {3e-4: lineages["plain"][0][1]}
        learn(ORDER[0], "small-rate", method="full", learning_rate=3e-5)
        rate_scores[3e-5] = score(work / "small-rate" / "model")
        bar.update()
    mo.show_code()
    return lineages, rate_scores, ratio_scores


@app.cell
def _(AutoModelForCausalLM, NANO, find_targets, lineages, mo, np, shutil, singular_subspaces, work):
    def share_written_again(before, after, ratio=0.25):
        """Of the squared size of the update from `before` to `after`: the share inside the directions that `weights` frees in `after`.

        Returns it as a mean over the layers, and the share that a random update would have there.
        """
        old, new = (find_targets(AutoModelForCausalLM.from_pretrained(folder)) for folder in (before, after))
        shares, by_chance = [], []
        for name, layer in new.items():
            dW = (layer.weight.detach() - old[name].weight.detach()).double()
            spaces = singular_subspaces(layer.weight.detach())  # as the next round will decompose it
            k = len(spaces.values) - round(ratio * len(spaces.values))
            U, V = spaces.U[:, :k], spaces.V[:, :k]
            free = dW - U @ (U.T @ dW)
            free -= (free @ V) @ V.T
            shares.append(float(free.square().sum() / dW.square().sum()))
            by_chance.append((dW.shape[0] - k) * (dW.shape[1] - k) / dW.numel())
        return float(np.mean(shares)), float(np.mean(by_chance))

    assert lineages  # the trainings are done
    rewritten, chance = share_written_again(NANO, work / "OSFT-weights-1" / "model")
    shutil.rmtree(work)
    mo.show_code(
        mo.md(f"Of round 1's update by `weights`, {rewritten:.0%} lies where round 2 may write again (a random update: {chance:.0%}).")
    )
    return chance, rewritten


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    The **accuracy matrix** has a row per round and a column per skill. Read it downwards: a column shows the life of one skill. Left of the
    gap are the skills of the base, right of it the new ones; what a round taught is framed.
    """)
    return


@app.cell
def _(BASE_SKILLS, ORDER, go, lineages, make_subplots, show, skills):
    matrix_figure = make_subplots(3, 1, subplot_titles=list(lineages), vertical_spacing=0.09)
    _places = [index + (0.4 if index >= len(BASE_SKILLS) else 0.0) for index in range(len(skills))]
    for _row, (_history, _) in enumerate(lineages.values(), 1):
        _table = [[100 * scores[name] for name in skills] for scores in _history]
        matrix_figure.add_trace(
            go.Heatmap(
                x=_places,
                y=list(range(len(_history))),
                z=_table,
                zmin=0,
                zmax=100,
                colorscale="Blues",
                text=_table,
                texttemplate="%{text:.0f}",
                showscale=False,
                xgap=2,
                ygap=2,
            ),
            row=_row,
            col=1,
        )
        for _number in range(1, len(_history)):
            _x, _half = _places[len(BASE_SKILLS) + _number - 1], 0.48
            _corners = {"x0": _x - _half, "x1": _x + _half, "y0": _number - _half, "y1": _number + _half}
            matrix_figure.add_shape(type="rect", line={"color": "#e45756", "width": 2}, row=_row, col=1, **_corners)
    matrix_figure.update_xaxes(tickvals=_places, ticktext=list(skills))
    matrix_figure.update_yaxes(
        autorange="reversed", tickvals=list(range(len(ORDER) + 1)), ticktext=["base", *(f"{n}: {name}" for n, name in enumerate(ORDER, 1))]
    )
    matrix_figure.update_layout(height=780, margin={"l": 80, "r": 10, "t": 30, "b": 30})
    show(matrix_figure)
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    ## 3. Forgetting in one number

    Let $a_{t,j}$ be the score on skill $j$ after round $t$, and $t_j$ the round that taught it (0 for the base's skills).

    - **Backward transfer**, $\mathrm{BWT} = \operatorname{mean}_j\,(a_{T,j} - a_{t_j,j})$ over all skills but the last: what the later
      rounds did to a skill since it was learned. Negative is forgetting.
    - BWT alone can be cheated: a method that learns nothing forgets nothing. So we also measure what each round **learned**,
      $\operatorname{mean}_j a_{t_j,j}$ over the new skills, and what is **left**, the mean over all twelve skills at the end.
    """)
    return


@app.cell
def _(BASE_SKILLS, ORDER, lineages, mo, np, skills):
    def summarise(history):
        """BWT, what was learned, what is left, and the base skills' mean after each round; all in [0, 1]."""
        taught = dict.fromkeys(BASE_SKILLS, 0) | {name: number for number, name in enumerate(ORDER, 1)}
        earlier = [name for name in skills if taught[name] < len(ORDER)]
        return {
            "BWT": float(np.mean([history[-1][name] - history[taught[name]][name] for name in earlier])),
            "learned": float(np.mean([history[taught[name]][name] for name in ORDER])),
            "left": float(np.mean([history[-1][name] for name in skills])),
            "base": [float(np.mean([scores[name] for name in BASE_SKILLS])) for scores in history],
        }

    summaries = {name: summarise(history) for name, (history, _) in lineages.items()}
    max_leaks = {name: max((each.summary.max_leak or 0.0) for each in manifests) for name, (_, manifests) in lineages.items()}
    _nothing = float(np.mean(list(lineages["plain"][0][0].values())))
    _kept = lineages["OSFT activations"][0]
    _skill = max(BASE_SKILLS, key=lambda name: _kept[0][name] - _kept[-1][name])
    _round = max(range(1, len(_kept)), key=lambda number: _kept[number - 1][_skill] - _kept[number][_skill])
    worst = {"skill": _skill, "before": _kept[0][_skill], "after": _kept[-1][_skill], "round": ORDER[_round - 1]}
    mo.show_code(
        mo.md(
            "| method | new skills, when taught | backward transfer | base skills, end | all twelve, end |\n|:---|---:|---:|---:|---:|\n"
            + "\n".join(
                f"| {name} | {each['learned']:.0%} | {100 * each['BWT']:+.0f} points | {each['base'][-1]:.0%} | {each['left']:.0%} |"
                for name, each in summaries.items()
            )
            + f"\n| *doing nothing* | *0%* | *0* | *{summaries['plain']['base'][0]:.0%}* | *{_nothing:.0%}* |"
        )
    )
    return max_leaks, summaries, worst


@app.cell
def _(ORDER, go, show, summaries):
    base_figure = go.Figure()
    for _name, _color in (("plain", "#e45756"), ("OSFT weights", "#f58518"), ("OSFT activations", "#4c78a8")):
        base_figure.add_scatter(
            x=["base", *ORDER], y=[100 * value for value in summaries[_name]["base"]], name=_name, line_color=_color, mode="lines+markers"
        )
    base_figure.update_yaxes(title="mean of the seven base skills, %", range=[-3, 103])
    base_figure.update_xaxes(title="after the round that taught")
    base_figure.update_layout(height=340, margin={"l": 60, "r": 10, "t": 10, "b": 40}, legend={"orientation": "h", "y": 1.15})
    show(base_figure)
    return


@app.cell(hide_code=True)
def _(chance, max_leaks, mo, rewritten, summaries, worst):
    _plain, _weights, _activations = (summaries[name] for name in ("plain", "OSFT weights", "OSFT activations"))
    mo.md(f"""
**Plain fine-tuning forgets.** One round takes the base skills from {_plain["base"][0]:.0%} to {_plain["base"][1]:.0%}, five rounds to
{_plain["base"][-1]:.0%}. It learns the new skills and loses them again as soon as the next one comes.

**OSFT with `activations` {"keeps" if _activations["base"][-1] > 0.9 else "does not quite keep"} them.** After five rounds the base skills
are at {_activations["base"][-1]:.0%}, backward transfer is {100 * _activations["BWT"]:+.0f} points, and the new skills were learned to
{_activations["learned"]:.0%} on average.

**OSFT as published is in between.** `weights` loses {100 * (_weights["base"][0] - _weights["base"][1]):.0f} points of the base skills
in the first round and {100 * (_weights["base"][0] - _weights["base"][-1]):.0f} by the fifth, and learns the new skills to
{_weights["learned"]:.0%}. Nothing leaks: the largest leak of all its rounds is {max_leaks["OSFT weights"]:.0e}. The protection is kept
exactly, and protects the wrong thing: a direction that the weights use little may still be one that old inputs pass through (first
notebook, section 6). A second suspect is stacking: each round decomposes the weights *as they are now* and may free what the round
before wrote. We looked: of what round 1 wrote into the weights, **{rewritten:.0%}** (of its squared size) lies where round 2 may write
again; directions drawn at random would leave {chance:.0%} of it open. {
        "So overwriting is not the main reason here." if rewritten < 0.3 else "So much of what a round wrote is open to the next one."
    }

Keeping skills has a price. `activations` has to live in the directions that are still quiet, and each round makes some of them loud;
plain fine-tuning goes further on the round at hand (compare *route* in the matrices). And it is not free of loss: the base skill that
lost most is *{worst["skill"]}*, from {worst["before"]:.0%} to {worst["after"]:.0%}, most of it in the round that taught
*{worst["round"]}*. Skills whose prompts have similar words are read through the same directions.
""")
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    ## 4. The ratio decides the trade

    `unfreeze_rank_ratio` is the share of directions that may move. The same first round (*shift*, from nano) at four ratios:
    """)
    return


@app.cell
def _(BASE_SKILLS, ORDER, go, np, ratio_scores, show):
    ratio_table = {
        ratio: {"new": ratio_scores[ratio][ORDER[0]], "base": float(np.mean([ratio_scores[ratio][name] for name in BASE_SKILLS]))}
        for ratio in sorted(ratio_scores)
    }
    _ratios = list(ratio_table)
    ratio_figure = go.Figure()
    ratio_figure.add_scatter(x=_ratios, y=[100 * each["new"] for each in ratio_table.values()], name="the new skill", line_color="#54a24b")
    ratio_figure.add_scatter(
        x=_ratios, y=[100 * each["base"] for each in ratio_table.values()], name="the base skills", line_color="#4c78a8"
    )
    ratio_figure.update_xaxes(title="unfreeze_rank_ratio", tickvals=_ratios)
    ratio_figure.update_yaxes(title="exact match, %", range=[-3, 103])
    ratio_figure.update_layout(height=320, margin={"l": 60, "r": 10, "t": 10, "b": 40}, legend={"orientation": "h", "y": 1.15})
    show(ratio_figure)
    return (ratio_table,)


@app.cell(hide_code=True)
def _(BASE_SKILLS, ORDER, mo, np, rate_scores, ratio_table):
    _rows = "\n".join(f"| {ratio} | {each['new']:.0%} | {each['base']:.0%} |" for ratio, each in ratio_table.items())
    _small = {
        name: float(np.mean([rate_scores[3e-5][each] for each in group])) for name, group in (("base", BASE_SKILLS), ("new", ORDER[:1]))
    }
    mo.md(f"""
| ratio | the new skill | the base skills |
|---:|---:|---:|
{_rows}

At 0.05 the new skill {"is not learned" if ratio_table[0.05]["new"] < 0.1 else f"is learned to {ratio_table[0.05]['new']:.0%}"}: the few
quietest directions carry too little of the new questions to tell them apart. At 0.8 it is learned to {ratio_table[0.8]["new"]:.0%}, and
the base skills fall to {ratio_table[0.8]["base"]:.0%}: directions that the old skills use were given away. In between lies a wide
plateau; the default is 0.25, and `skillstack sweep` looks for the place on your own model and drop.

*Would a smaller learning rate not do the same for plain fine-tuning?* At a tenth of the rate, 3e-5, one round leaves the base skills at
{_small["base"]:.0%} and the new skill at {_small["new"]:.0%}. A small rate forgets less and learns less; it moves along the trade, it
does not change it.
""")
    return


@app.cell(hide_code=True)
def _(ITEMS, mo, summaries):
    mo.md(f"""
    ## 5. What this does and does not show

    - One seed, {len(summaries)} methods, one model of a million parameters, {ITEMS} held-out items per skill: differences
      under about ten points of a single skill are noise. The gate of this project requires hundreds of items before it says that
      nothing was lost.
    - Learning rates were chosen by hand. `weights` at half its rate forgets less and learns less, as section 4 says of every method.
    - nano's new skills are unlike its old ones. Skills that read alike compete for the same directions.
    - The subspace memory was opened with examples of what nano knows. Without such text the engine has the model generate its own.

    **What to try.** Change `ORDER`: put *mood* before *route*. Give `activations` a ratio of 0.5 for all five rounds: does the fifth still
    fit? Set `replay_share=0.2` for plain fine-tuning: what does keeping some old data buy?
    """)
    return


if __name__ == "__main__":
    app.run()
