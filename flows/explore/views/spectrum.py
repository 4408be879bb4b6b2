"""View 1: the spectrum of a layer, and how each policy divides it into protected and trainable directions. Pure.

Energies are in descending order: squared singular values of a weight (for `weights` and `weights_block`), or eigenvalues of the second
moment of the layer's inputs (for `activations`). Spectra and cuts are numpy, so that they can be shown before torch is loaded; only the
policies need it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike, NDArray

from flows.explore.views.figures import BLUE, GREEN, ORANGE, PURPLE, mark, styled
from osft_engine.config import TrainConfig
from osft_engine.subspace.counts import trainable_count

Floats = NDArray[np.float64]

_POINTS = 600  # a longer spectrum is thinned for drawing, never for counting
POLICY_COLOURS = {"uniform": BLUE, "importance": ORANGE, "energy": GREEN}


@dataclass(frozen=True)
class Cut:
    """A spectrum of `directions` divided at a ratio. Energies are shares of the total."""

    directions: int
    trainable: int
    ratio: float
    energy_kept: float

    @property
    def protected(self) -> int:
        """The number of protected directions: k in the paper."""
        return self.directions - self.trainable

    def sentence(self) -> str:
        return (
            f"Of {self.directions} directions {self.protected} are protected and have {self.energy_kept:.2%} of the energy; "
            f"the {self.trainable} with the least energy are trainable ({1 - self.energy_kept:.2%})."
        )


@dataclass(frozen=True)
class Choice:
    """The choice of one rank policy for this layer; `cut` is None if it does not apply, and `why` says so."""

    policy: str
    cut: Cut | None
    why: str


def weight_energies(W: ArrayLike) -> Floats:
    """Squared singular values of a weight (m x n) in descending order: eigenvalues of its smaller Gram matrix, as in the engine."""
    W = np.asarray(W, dtype=np.float64)
    return _eigenvalues(W @ W.T if W.shape[0] <= W.shape[1] else W.T @ W)


def input_energies(moment: ArrayLike) -> Floats:
    """Eigenvalues of a layer's input second moment (n x n) in descending order."""
    return _eigenvalues(np.asarray(moment, dtype=np.float64))


def _eigenvalues(symmetric: Floats) -> Floats:
    found: Floats = np.linalg.eigvalsh(symmetric)[::-1].clip(min=0.0)
    return found


def cut_energies(energies: Floats, ratio: float) -> Cut:
    """Divide descending energies (length q) as in the engine: round(ratio q) trainable, at least one."""
    count = len(energies)
    trainable = trainable_count(count, ratio)
    total = float(energies.sum())
    kept = float(energies[: count - trainable].sum()) / total if total > 0.0 else 0.0
    return Cut(count, trainable, ratio, kept)


def policy_choices(
    energies: Floats, config: TrainConfig, layer: str, importance: Mapping[str, float] | None, moment: ArrayLike | None
) -> tuple[Choice, ...]:
    """The three policies with the config's settings. `moment` is given if the energies are those of the inputs."""
    import torch

    from osft_engine.method.ranks import importance_ratios
    from osft_engine.subspace.algebra import directions_holding, falling_energies

    uniform = Choice("uniform", cut_energies(energies, config.unfreeze_rank_ratio), "the same ratio in every layer")
    if importance is None:
        by_importance = Choice("importance", None, "needs a measurement on text, which failed")
    else:
        ratio = importance_ratios(importance, config.unfreeze_rank_ratio, config.importance_minimum)[layer]
        mean = sum(importance.values()) / len(importance)
        why = f"similarity of output and input {importance[layer]:.3f}, mean over the layers {mean:.3f}"
        by_importance = Choice("importance", cut_energies(energies, ratio), why)
    if moment is None:
        by_energy = Choice("energy", None, "applies to the energies of the inputs: choose them above")
    else:
        measured = falling_energies(torch.from_numpy(np.array(moment)))
        ratio = 1.0 - directions_holding(measured, config.energy_share) / len(measured)
        why = f"protects the directions with {config.energy_share:.0%} of the input energy"
        by_energy = Choice("energy", cut_energies(energies, ratio), why)
    return uniform, by_importance, by_energy


def spectrum_figure(energies: Floats, cut: Cut, choices: tuple[Choice, ...], *, inputs: bool) -> go.Figure:
    """Energies on a log axis, protected ones in blue and trainable ones in orange, with a line for the cut of each policy."""
    shown = np.asarray(energies if inputs else np.sqrt(energies), dtype=np.float64)
    floor = float(shown.max()) * 1e-9 or 1e-12
    values = [max(float(value), floor) for value in shown]
    step = max(1, len(values) // _POINTS)
    k = cut.protected
    figure = go.Figure()
    for name, start, stop, colour in (("protected", 0, k, BLUE), ("trainable", k, len(values), ORANGE)):
        picked = sorted({*range(start, stop, step), *([stop - 1] if stop > start else [])})
        figure.add_scatter(
            x=[index + 1 for index in picked], y=[values[index] for index in picked], name=name, mode="lines", fill="tozeroy",
            line={"color": colour, "width": 2},
        )  # fmt: skip
    mark(figure, k + 0.5, "chosen cut", PURPLE, dash="solid")
    for row, choice in enumerate(choices):
        if choice.cut is not None:
            mark(figure, choice.cut.protected + 0.5, choice.policy, POLICY_COLOURS[choice.policy], dash="dot", top=0.9 - 0.1 * row)
    what = "mean energy of the inputs" if inputs else "singular value"
    return styled(figure, x="direction, largest first", y=what, log_y=True)


def choice_rows(choices: tuple[Choice, ...]) -> list[dict[str, str]]:
    """The policies as a table, also for screen readers."""
    rows = []
    for choice in choices:
        cut = choice.cut
        rows.append(
            {
                "policy": choice.policy,
                "ratio": f"{cut.trainable / cut.directions:.3f}" if cut else "—",
                "protected": str(cut.protected) if cut else "—",
                "trainable": str(cut.trainable) if cut else "—",
                "energy kept": f"{cut.energy_kept:.2%}" if cut else "—",
                "because": choice.why,
            }
        )
    return rows
