"""Orthogonal fine-tuning, from a 3x3 matrix to a layer of a real model.

    marimo edit docs/notebooks/orthogonal_fine_tuning.py      read it, turn the knobs, change the code
    python docs/notebooks/orthogonal_fine_tuning.py           run it from top to bottom without a browser

Needs linear algebra (singular values, projections) and no knowledge of OSFT. No network; half a minute of one CPU core.
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Orthogonal fine-tuning, from a 3x3 matrix to a real layer", html_head_file="offline.html")


@app.cell
def _():
    import marimo as mo
    import numpy as np
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    def show(figure):
        """A chart without the row of buttons, which would lie over its titles."""
        return mo.ui.plotly(figure, config={"displayModeBar": False})

    return go, make_subplots, mo, np, show


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    # Orthogonal fine-tuning, from a 3x3 matrix to a real layer

    A language model is mostly matrices. Fine-tuning changes them: each weight $W$ becomes $W + \Delta W$, where $\Delta W$ lowers the
    loss on the new data. Nothing in that says what $\Delta W$ does to everything the model could do **before**.

    *Orthogonal Subspace Fine-Tuning* (OSFT) allows only updates that cannot touch certain directions of $W$: the directions that
    hold the old abilities. This page builds the method three times on a matrix that fits on the page, shows why one of the three
    does not keep its promise, and then repeats everything on a layer of a trained model, with the functions that this project
    trains with.

    | symbol | meaning |
    |:---|:---|
    | $W$ | a weight, $m \times n$: it maps an input $x$ (length $n$) to an output $Wx$ (length $m$) |
    | $W = U S V^\top$ | its singular value decomposition: $v_i$ goes in, $s_i u_i$ comes out |
    | $U_k, V_k$ | the $k$ leading singular directions: **protected** |
    | $G$ | the gradient of the new loss with respect to $W$ |
    | leak | the part of an update that is where it must not be, divided by the size of the update |
    """)
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    ## 1. Three rules on a 3x3 matrix

    We make a weight whose singular values we know: 3, 1 and 0.2. The first direction is loud, the last one is hardly used.
    """)
    return


@app.cell
def _(mo, np):
    rng = np.random.default_rng(0)
    U = np.linalg.qr(rng.normal(size=(3, 3)))[0]  # three orthonormal output directions
    V = np.linalg.qr(rng.normal(size=(3, 3)))[0]  # three orthonormal input directions
    W = U @ np.diag([3.0, 1.0, 0.2]) @ V.T
    G = rng.normal(size=(3, 3))  # a gradient: what the new data demands

    mo.show_code()
    return G, U, V, W


@app.cell(hide_code=True)
def _(W, mo, np):
    mo.md(f"Singular values that numpy finds: `{np.linalg.svd(W)[1].round(3)}`")
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    Look at an update through the singular directions: entry $(i, j)$ of $U^\top \Delta W\, V$ says how much of input direction $v_j$
    is sent to output direction $u_i$. In these coordinates every protection rule is a statement about **which entries must stay zero**.

    - **`weights_block`**, the projection written in the paper: $G - U_k (U_k^\top G V_k) V_k^\top$. Only the $k \times k$ block that
      maps leading inputs to leading outputs stays zero.
    - **`weights`**, what the published implementations enforce on their factors: $U_k^\top \Delta W = 0$ *and* $\Delta W\, V_k = 0$.
      Rows **and** columns stay zero; only the trailing block may move.
    - **`activations`**, the default here: $\Delta W R_k = 0$, where $R_k$ are the leading directions of the *inputs* that the layer has
      been seen to read. Whatever the old data feeds in, the output does not change, however $W$ itself looks.

    In the last picture the layer's inputs happen to be drawn from a cloud that is not aligned with $V$. So its empty columns are
    columns of $U^\top \Delta W\, R$, in the inputs' own coordinates.
    """)
    return


@app.cell
def _(mo, np):
    def project_block(G, U, V, k):
        """The paper's projection: remove what maps leading inputs to leading outputs."""
        Uk, Vk = U[:, :k], V[:, :k]
        return G - Uk @ (Uk.T @ G @ Vk) @ Vk.T

    def project_both_sides(G, U, V, k):
        """Remove every leading output and every leading input."""
        Uk, Vk = U[:, :k], V[:, :k]
        left = G - Uk @ (Uk.T @ G)
        return left - (left @ Vk) @ Vk.T

    def project_inputs(G, R, k):
        """Remove the leading directions of the inputs, whatever they are sent to."""
        Rk = R[:, :k]
        return G - (G @ Rk) @ Rk.T

    # Old inputs: a cloud that is long in one direction. R: the eigenvectors of its second moment, loudest first.
    cloud = np.random.default_rng(1).normal(size=(500, 3)) @ np.diag([2.0, 0.7, 0.1]) @ np.linalg.qr(np.ones((3, 3)) + np.eye(3))[0]
    R = np.linalg.eigh(cloud.T @ cloud / len(cloud))[1][:, ::-1]
    mo.show_code()
    return R, cloud, project_block, project_both_sides, project_inputs


@app.cell
def _(mo):
    k_slider = mo.ui.slider(1, 2, value=1, label="protected directions k", show_value=True)
    mo.vstack([k_slider])
    return (k_slider,)


@app.cell
def _(G, R, U, V, go, k_slider, make_subplots, project_block, project_both_sides, project_inputs, show):
    _k = k_slider.value
    _tables = {
        "the gradient G": U.T @ G @ V,
        "weights_block": U.T @ project_block(G, U, V, _k) @ V,
        "weights": U.T @ project_both_sides(G, U, V, _k) @ V,
        "activations (inputs R)": U.T @ project_inputs(G, R, _k) @ R,
    }
    rules_figure = make_subplots(1, 4, subplot_titles=list(_tables), horizontal_spacing=0.04)
    for _column, _table in enumerate(_tables.values(), 1):
        _text = [[f"{value:.2f}" if abs(value) > 1e-12 else "0" for value in row] for row in _table]
        rules_figure.add_trace(
            go.Heatmap(
                z=_table, text=_text, texttemplate="%{text}", zmin=-2.5, zmax=2.5, colorscale="RdBu", showscale=False, xgap=2, ygap=2
            ),
            row=1,
            col=_column,
        )
    rules_figure.update_xaxes(tickvals=[0, 1, 2], ticktext=["in 1", "in 2", "in 3"])
    rules_figure.update_yaxes(tickvals=[0, 1, 2], ticktext=["out 1", "out 2", "out 3"], autorange="reversed")
    rules_figure.update_yaxes(showticklabels=False, col=2)
    rules_figure.update_yaxes(showticklabels=False, col=3)
    rules_figure.update_yaxes(showticklabels=False, col=4)
    rules_figure.update_layout(height=270, margin={"l": 50, "r": 10, "t": 40, "b": 30})
    show(rules_figure)
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    The first rule leaves much more room than the second: the cross of all entries beside the block. That cross is not harmless. An
    entry below the block takes a loud *old* input and sends it to a new output; it changes what the model says about old data.

    ## 2. Why a projected gradient leaks

    The rules above are projections: applying them to a gradient is one line. The obvious way to train is therefore a *hook*: before
    each optimiser step, replace the gradient by its projection. With plain gradient descent that is exact. Almost nobody trains
    with plain gradient descent.

    Take two numbers instead of nine. The only allowed direction is $(2, 1)/\sqrt 5$, and the gradient already lies on it:
    $g = (2, 1)$. Adam divides each coordinate by its own running size, so its first step is $g / |g| = (1, 1)$, coordinate by
    coordinate. And $(1, 1)$ is not on the line.
    """)
    return


@app.cell
def _(mo, np):
    allowed_line = np.array([2.0, 1.0]) / np.sqrt(5.0)
    first_adam_step = np.sign(np.array([2.0, 1.0]))  # m / sqrt(v) of the first step: every coordinate has size one
    off_line = first_adam_step - allowed_line * (allowed_line @ first_adam_step)
    leak_in_two_dimensions = float(np.linalg.norm(off_line) / np.linalg.norm(first_adam_step))
    mo.show_code()
    return (leak_in_two_dimensions,)


@app.cell(hide_code=True)
def _(leak_in_two_dimensions, mo):
    mo.md(f"After **one** Adam step, {leak_in_two_dimensions:.1%} of the step is off the allowed line (exactly $1/\\sqrt{{10}}$).")
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    A projection mixes coordinates; Adam scales coordinates. The two do not commute, so the step leaves the subspace although every
    gradient was inside it. Weight decay is a second hole: it subtracts a multiple of $W$ itself, and $W$ lies almost entirely *in* the
    protected directions.

    Here is the same on the 3x3 matrix, with the optimiser written out. The loss pulls $W$ towards a random target on noisy data, the
    way mini-batches do. Every run sees the same gradients' noise; only the optimiser differs.
    """)
    return


@app.cell
def _(mo, np):
    def optimise(gradient, start, project, *, adam, momentum=0.0, decay=0.0, rate=0.02, steps=200):
        """Yield the parameter after each step. `project` is the hook: it is applied to each gradient."""
        value, m, v = start.copy(), np.zeros_like(start), np.zeros_like(start)
        noise = np.random.default_rng(2)
        for step in range(1, steps + 1):
            g = project(gradient(value, noise))
            value = value - rate * decay * value
            if adam:
                m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g * g
                value = value - rate * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.95**step)) + 1e-8)
            else:
                m = momentum * m + g
                value = value - rate * m
            yield value

    def leak_of_both_sides(dW, U, V, k):
        """What the rule `weights` forbids, relative to the update: the larger of the two sides."""
        return max(np.linalg.norm(U[:, :k].T @ dW), np.linalg.norm(dW @ V[:, :k])) / np.linalg.norm(dW)

    mo.show_code()
    return leak_of_both_sides, optimise


@app.cell
def _(U, V, W, k_slider, leak_of_both_sides, mo, np, optimise, project_both_sides):
    _k = k_slider.value
    _target = W + np.random.default_rng(3).normal(size=W.shape)

    def _gradient(value, noise):
        x = noise.normal(size=(4, 3))  # a mini-batch of four inputs
        return (value - _target) @ x.T @ x / 4

    def _hook(gradient):
        return project_both_sides(gradient, U, V, _k)

    _kinds = {
        "hook + SGD": {"adam": False},
        "hook + SGD with momentum": {"adam": False, "momentum": 0.9, "rate": 0.005},
        "hook + SGD, weight decay 0.1": {"adam": False, "decay": 0.1},
        "hook + Adam": {"adam": True},
        "hook + AdamW, weight decay 0.1": {"adam": True, "decay": 0.1},
    }
    toy_leaks = {
        name: [leak_of_both_sides(value - W, U, V, _k) for value in optimise(_gradient, W, _hook, **settings)]
        for name, settings in _kinds.items()
    }

    # The engine's way: train C in dW = L C R^T. Its gradient is L^T G R by the chain rule, and nothing is projected.
    _L, _R = U[:, _k:], V[:, _k:]
    _path = optimise(
        lambda core, noise: _L.T @ _gradient(W + _L @ core @ _R.T, noise) @ _R,
        np.zeros((3 - _k, 3 - _k)),
        lambda g: g,
        adam=True,
        decay=0.1,
    )
    toy_leaks["dW = L C Rᵀ + AdamW, weight decay 0.1"] = [leak_of_both_sides(_L @ core @ _R.T, U, V, _k) for core in _path]
    mo.show_code()
    return (toy_leaks,)


@app.cell(hide_code=True)
def _(go, np, show, toy_leaks):
    toy_figure = go.Figure()
    for _name, _values in toy_leaks.items():
        toy_figure.add_scatter(y=np.maximum(_values, 1e-17), x=np.arange(1, len(_values) + 1), name=_name, mode="lines")
    toy_figure.update_yaxes(type="log", title="leak (share of the update)", exponentformat="power", range=[-17.5, 0.5])
    toy_figure.update_xaxes(title="step")
    toy_figure.update_layout(height=380, margin={"l": 60, "r": 10, "t": 10, "b": 40}, legend={"orientation": "h", "y": -0.2})
    show(toy_figure)
    return


@app.cell(hide_code=True)
def _(mo, toy_leaks):
    mo.md(
        "The leak after the last step, on a logarithmic scale above because the two groups are fourteen orders of magnitude apart:\n\n"
        + "| how | leak |\n|:---|---:|\n"
        + "\n".join(f"| {name} | {values[-1]:.1e} |" for name, values in toy_leaks.items())
        + r"""

SGD and momentum are *linear* in the gradients: a sum of projected gradients is projected. Weight decay breaks that even for SGD, because
it bypasses the hook. Adam breaks it by itself, and its leak is no rounding error. The last row uses AdamW with the same weight decay,
without a hook, and stays at rounding error.
"""
    )
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    ## 3. Parametrise, don't project

    There are three ways to write the same method down. Take the rule `weights` with $r = q - k$ trainable directions:

    | form | what is trained | what keeps it inside |
    |:---|:---|:---|
    | projection | $W$, all $m n$ numbers | a hook that projects each gradient |
    | factorised (published code) | $U_r, S_r, V_r$ of $W = U_k S_k V_k^\top + U_r S_r V_r^\top$ | hooks on $U_r$ and $V_r$ |
    | **core** | $C$, where $\Delta W = L\, C\, R^\top$ with fixed orthonormal $L \perp U_k$, $R \perp V_k$ | nothing: no $C$ leaves |

    The factorised form inherits the hole: $U_r$ starts orthogonal to $U_k$, and Adam walks it away. (One implementation projects the
    factors again after each step; that closes the hole, with one more projection per step.) With the core, whatever an optimiser does to
    $C$, with momentum, clipping, weight decay or low precision, $L C R^\top$ stays inside. And weight decay on $C$ pulls towards
    the *old model*, not towards zero.

    For plain gradient descent the first and the last are the same method. A step on $C$ moves $W$ by $L L^\top G R R^\top$, which is
    the projected gradient:
    """)
    return


@app.cell
def _(G, U, V, mo, np, project_both_sides):
    _L, _R = U[:, 1:], V[:, 1:]
    chain_rule_gap = float(np.abs(_L @ (_L.T @ G @ _R) @ _R.T - project_both_sides(G, U, V, 1)).max())
    mo.show_code()
    return (chain_rule_gap,)


@app.cell(hide_code=True)
def _(chain_rule_gap, mo):
    mo.md(f"Largest difference between the two: `{chain_rule_gap:.1e}`")
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    ## 4. The same on a real layer

    Now torch, and nano: a Llama of about a million parameters that this project trained from nothing on seven small skills (copy,
    reverse, sort, ...). We open it, choose a layer, and hold the project's own functions against numpy.
    """)
    return


@app.cell
def _():
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from flows.base_models.resolve import NANO
    from osft_engine.method.attach import find_targets
    from osft_engine.subspace.algebra import singular_subspaces
    from osft_engine.subspace.protection import protect_weights, protect_weights_block

    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(NANO)
    nano = AutoModelForCausalLM.from_pretrained(NANO)
    layers = find_targets(nano)  # every linear layer inside the decoder blocks
    return (
        AutoModelForCausalLM,
        NANO,
        find_targets,
        layers,
        nano,
        protect_weights,
        protect_weights_block,
        singular_subspaces,
        tokenizer,
        torch,
    )


@app.cell
def _(layers, mo):
    layer_choice = mo.ui.dropdown(list(layers), value="model.layers.1.self_attn.o_proj", label="layer")
    ratio_slider = mo.ui.slider(
        0.05, 0.95, step=0.05, value=0.25, label="unfreeze_rank_ratio: share of the directions that may move", show_value=True
    )
    mo.vstack([layer_choice, ratio_slider])
    return layer_choice, ratio_slider


@app.cell
def _(go, layer_choice, layers, mo, np, protect_weights, protect_weights_block, ratio_slider, show, torch):
    real_W = layers[layer_choice.value].weight.detach()
    _U, spectrum, _Vt = np.linalg.svd(real_W.double().numpy())  # all directions of both sides
    ours_weights = protect_weights(real_W, ratio_slider.value)
    ours_block = protect_weights_block(real_W, ratio_slider.value)
    _k = ours_weights.protected

    _G = torch.randn(real_W.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    _Uk, _Vk = _U[:, :_k], _Vt[:_k].T
    _paper = _G.numpy() - _Uk @ (_Uk.T @ _G.numpy() @ _Vk) @ _Vk.T
    _core = torch.randn(ours_weights.core_shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    _dW = ours_weights.expand(_core).numpy()  # L C R^T
    engine_gaps = {
        "`protect_weights`: U_k^T dW of a random core, which must be zero": float(np.abs(_Uk.T @ _dW).max()),
        "`protect_weights`: dW V_k of a random core, which must be zero": float(np.abs(_dW @ _Vk).max()),
        "`protect_weights_block(...).expand(G)` is the paper's projection of G": float(
            np.abs(ours_block.expand(_G).numpy() - _paper).max()
        ),
    }

    _energy = float((spectrum[:_k] ** 2).sum() / (spectrum**2).sum())
    spectrum_figure = go.Figure(go.Bar(y=spectrum, marker_color=["#4c78a8"] * _k + ["#f58518"] * (len(spectrum) - _k), name=""))
    spectrum_figure.add_vline(_k - 0.5, line_dash="dash", annotation_text=f"k = {_k} protected | {len(spectrum) - _k} trainable")
    spectrum_figure.update_layout(
        height=300, margin={"l": 50, "r": 10, "t": 25, "b": 40}, bargap=0, xaxis_title="singular direction", yaxis_title="singular value"
    )
    mo.vstack(
        [
            show(spectrum_figure),
            mo.md(
                f"The protected directions hold **{_energy:.1%}** of the squared weight. "
                "numpy against the engine, largest difference of any entry:\n\n"
                + "| | difference |\n|:---|---:|\n"
                + "\n".join(f"| {name} | {gap:.0e} |" for name, gap in engine_gaps.items())
                + "\n\n(The engine keeps its bases in float32, numpy here works in float64.)"
            ),
        ]
    )
    return engine_gaps, real_W


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    A trained weight has no cliff in its spectrum. Where to cut is a choice, and that is what the ratio is for; the second notebook
    shows what it costs.

    ## 5. Train that layer, three ways

    Real gradients now: nano learns a new skill (*shift*: write the letter after each letter) with everything frozen but this one
    layer, 40 steps of AdamW, for each of the forms. The third form is not written here: it is the engine's own attachment, the one
    that a round of this project trains with.
    """)
    return


@app.cell
def _(mo, tokenizer, torch):
    import random

    from data_contracts.rendering import TextRenderer
    from flows.demo.materials import distinct_pairs
    from flows.demo.skills import NEW_SKILLS
    from osft_engine.compute.forward import summed_loss
    from osft_engine.data.batches import micro_batches

    STEPS, BATCH, RATE, DECAY = 40, 8, 3e-3, 0.01
    _pairs = distinct_pairs(NEW_SKILLS["shift"], random.Random("notebook"), STEPS * BATCH, heldout=False)
    _rows = [[{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}] for prompt, answer in _pairs]
    _renderer = TextRenderer(tokenizer)
    _examples = [_renderer.render_row({"messages": row}, f"shift {number}", max_tokens=256)[0] for number, row in enumerate(_rows)]
    batches = [
        micro_batches(_examples[start : start + BATCH], max_tokens=4096, layout="padded")[0] for start in range(0, len(_examples), BATCH)
    ]

    def train(model, parameters, *, hook=lambda: None, after_step=lambda: None):
        """AdamW on `parameters`. `hook` may change the gradients before each step. Yields the loss after each step."""
        optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=DECAY)
        for batch in batches:
            loss = summed_loss(model, batch) / len(batch.targets)
            loss.backward()
            hook()
            optimizer.step()
            optimizer.zero_grad()
            after_step()
            yield float(loss.detach())

    first_pair = _pairs[0]
    mo.show_code()
    return TextRenderer, first_pair, train


@app.cell(hide_code=True)
def _(first_pair, mo):
    mo.md(f"One example: `{first_pair[0]}` must be answered `{first_pair[1]}`.")
    return


@app.cell
def _(AutoModelForCausalLM, NANO, find_targets, layer_choice, mo, protect_weights, ratio_slider, real_W, singular_subspaces, torch, train):
    from osft_engine.method.attach import OsftAttachment

    _allowed = protect_weights(real_W, ratio_slider.value)
    _spaces = singular_subspaces(real_W)  # float64
    _k = _allowed.protected
    _Uk, _Vk = _spaces.U[:, :_k].float(), _spaces.V[:, :_k].float()

    def _frozen_nano():
        model = AutoModelForCausalLM.from_pretrained(NANO)
        return model.requires_grad_(False), find_targets(model)[layer_choice.value]

    def _leak(weight):
        """The engine's own measure: the larger share of the update that is outside the free outputs, or outside the free inputs."""
        return _allowed.leak(weight.detach().double() - real_W.double())

    def train_with_hook():
        """Train W itself; before each step its gradient is projected on both sides."""
        model, layer = _frozen_nano()
        weight = layer.weight.requires_grad_(True)

        def project():
            weight.grad -= _Uk @ (_Uk.T @ weight.grad)
            weight.grad -= (weight.grad @ _Vk) @ _Vk.T

        return [(loss, _leak(weight)) for loss in train(model, [weight], hook=project)]

    def train_factors():
        """Train U_r, s_r, V_r; before each step the gradients of U_r and V_r are projected, as PEFT does."""
        model, layer = _frozen_nano()
        U_r, s_r, V_r = (torch.nn.Parameter(each[..., _k:].float().clone()) for each in (_spaces.U, _spaces.values, _spaces.V))
        kept = _Uk * _spaces.values[:_k].float() @ _Vk.T
        layer.register_forward_hook(lambda _, inputs, __: torch.nn.functional.linear(inputs[0], kept + U_r * s_r @ V_r.T))

        def project():
            U_r.grad -= _Uk @ (_Uk.T @ U_r.grad)
            V_r.grad -= _Vk @ (_Vk.T @ V_r.grad)

        return [(loss, _leak(kept + U_r * s_r @ V_r.T)) for loss in train(model, [U_r, s_r, V_r], hook=project)]

    def train_core():
        """Train C with the engine's attachment; no hook."""
        model, layer = _frozen_nano()
        attachment = OsftAttachment(model, {layer_choice.value: layer}, {layer_choice.value: _allowed}, execution="dense")
        cores = list(attachment.trainable().values())
        return [(loss, attachment.leaks()[layer_choice.value]) for loss in train(model, cores, after_step=attachment.after_step)]

    curves = {
        "projected gradient of W": train_with_hook(),
        "projected gradients of the factors": train_factors(),
        "core, dW = L C Rᵀ": train_core(),
    }
    real_leaks = {name: points[-1][1] for name, points in curves.items()}
    mo.show_code()
    return curves, real_leaks


@app.cell
def _(curves, make_subplots, show):
    leak_figure = make_subplots(1, 2, subplot_titles=["leak of the weight", "loss on the new skill, nats per token"])
    for (_name, _points), _color in zip(curves.items(), ("#e45756", "#f58518", "#4c78a8"), strict=True):
        _steps = list(range(1, len(_points) + 1))
        leak_figure.add_scatter(x=_steps, y=[leak for _, leak in _points], name=_name, line_color=_color, row=1, col=1)
        leak_figure.add_scatter(x=_steps, y=[loss for loss, _ in _points], line_color=_color, showlegend=False, row=1, col=2)
    leak_figure.update_yaxes(type="log", exponentformat="power", row=1, col=1)
    leak_figure.update_xaxes(title="step")
    leak_figure.update_layout(height=340, margin={"l": 50, "r": 10, "t": 30, "b": 40}, legend={"orientation": "h", "y": -0.25})
    show(leak_figure)
    return


@app.cell(hide_code=True)
def _(curves, mo, real_leaks):
    _rows = "\n".join(
        f"| {name} | {points[0][1]:.1e} | {real_leaks[name]:.1e} | {sum(loss for loss, _ in points[-5:]) / 5:.2f} |"
        for name, points in curves.items()
    )
    _hooks = min(leak for name, leak in real_leaks.items() if not name.startswith("core"))
    mo.md(f"""
| form | leak after 1 step | leak after 40 steps | loss, mean of the last 5 steps |
|:---|---:|---:|---:|
{_rows}

Both hooks leak **{_hooks:.0%} or more** of the update into directions that they promise not to touch. The core leaks
{real_leaks["core, dW = L C Rᵀ"]:.0e}, which is the rounding of the dense float32 weight. The leak of a hook is
there from the first step, where Adam takes little but the *sign* of each gradient entry, and forty steps do not wash it out.

The losses are no contest: at one learning rate the forms take steps of different size, and part of what the first form gained it
gained in directions that it promised not to touch.
""")
    return


@app.cell(hide_code=True)
def _(mo):
    mo.md(r"""
    ## 6. Exact, but of the right directions?

    So the promise can be kept exactly. What is it worth? It says: *the loud directions of the weight are untouched*. The user wants
    something else: *the outputs on old data do not change*. Small singular values are no proof that the old data does not pass
    through a direction.

    We can measure it. We let nano read what it already knows, record what the layer reads ($x$), and make random updates of equal size
    inside each rule's allowed set. How much does the layer's output on the **old** data change?
    """)
    return


@app.cell
def _(TextRenderer, mo, nano, tokenizer):
    from flows.demo.materials import calibration_rows
    from osft_engine.data.batches import micro_batches as _micro_batches
    from osft_engine.memory.moments import measure_moments

    def nano_moment(layer):
        """Second moment (n x n) of what a layer reads on nano's old skills: the mean of x x^T."""
        rows = calibration_rows()[:220]
        old = [each for row in rows for each in TextRenderer(tokenizer).render_row(row, "old", unmask=True, max_tokens=256)]
        return measure_moments(nano, {"layer": layer}, _micro_batches(old, max_tokens=4096, layout="padded")).moments["layer"]

    mo.show_code()
    return (nano_moment,)


@app.cell
def _(layer_choice, layers, mo, nano_moment, np, protect_weights, protect_weights_block, ratio_slider, real_W, torch):
    from osft_engine.subspace.protection import AllowedUpdate, protect_activations

    _shape = (real_W.shape[0], real_W.shape[1])
    _rules = {
        "no rule (full fine-tuning)": AllowedUpdate(_shape, None, None),
        "weights_block": protect_weights_block(real_W, ratio_slider.value),
        "weights": protect_weights(real_W, ratio_slider.value),
        "activations": protect_activations(_shape, nano_moment(layers[layer_choice.value]), ratio_slider.value),
    }

    def _disturbance(allowed):
        """Mean size of dW x over that of W x on old inputs, for random dW a tenth as large as W, over 20 draws."""
        moment = nano_moment(layers[layer_choice.value]).double()
        found = []
        for seed in range(20):
            core = torch.randn(allowed.core_shape, generator=torch.Generator().manual_seed(seed))
            dW = allowed.expand(core).double()
            dW *= 0.1 * real_W.double().norm() / dW.norm()
            found.append(float(((dW @ moment * dW).sum() / (real_W.double() @ moment * real_W.double()).sum()).sqrt()))
        return float(np.mean(found))

    disturbance = {name: _disturbance(allowed) for name, allowed in _rules.items()}
    mo.show_code()
    return (disturbance,)


@app.cell(hide_code=True)
def _(disturbance, mo):
    mo.md(
        "A random update a tenth as large as the weight, inside each rule:\n\n| rule | change of the output on old data |\n|:---|---:|\n"
        + "\n".join(f"| {name} | {value:.2%} |" for name, value in disturbance.items())
    )
    return


@app.cell(hide_code=True)
def _(disturbance, mo):
    mo.md(f"""
The rule that looks at the inputs disturbs the old outputs by {disturbance["activations"]:.2%}, the published one by
{disturbance["weights"]:.2%}: **{disturbance["weights"] / disturbance["activations"]:.0f} times** as much, at the same size of the
update. That is why `activations` is the default here. A random update is not a trained one, though: whether this carries over to skills
that are really learned, one after the other, is what the second notebook measures (`continual_learning.py`).

**What to try.** Move the ratio and watch the last table: at which ratio does `activations` lose its lead? Choose `mlp.down_proj`
(160 x 416): a weight that is not square has input directions that it does not use at all, and `weights` lets an update use them. Set the
weight decay in section 5 to 0 and see how much of the hooks' leak is left.
""")
    return


if __name__ == "__main__":
    app.run()
