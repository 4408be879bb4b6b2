"""Two looks at growing evidence: how much chance of a wrong claim is left for the second, and how likely a claim is by then.

The statistic of the first look and that of the second, which reads the first look's items and more, are together normal with correlation
sqrt(fraction), where fraction is the information of the first over that of the second (Jennison and Turnbull 2000, Group Sequential
Methods with Applications to Clinical Trials, section 3.1). Pure functions of numbers; equal input gives equal bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import special

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(128)
_TINY = 1e-9  # a chance that one minus a float does not show well: what is left is then added, whatever the correlation
_FAR = 9.0  # standard errors beyond which a normal distribution has no mass that a float shows


def chance_of_neither(first: float, second: float, fraction: float) -> float:
    """P(Z1 <= first and Z2 <= second) of two standard normals with correlation sqrt(fraction), 0 < fraction < 1.

    By Gauss-Legendre quadrature of whichever of two forms is smooth for this correlation.
    """
    rho, rest = math.sqrt(fraction), math.sqrt(1.0 - fraction)
    if rho < 0.7:
        top = min(first, _FAR)
        return _integral(-_FAR, top, lambda x: special.ndtr((second - rho * x) / rest)) if top > -_FAR else 0.0
    # Z2 = rho Z1 + rest Y: below `kink` the bound on Z1 decides, above it the bound on Z2.
    kink = min(max((second - rho * first) / rest, -_FAR), _FAR)
    tail = _integral(kink, _FAR, lambda y: special.ndtr((second - rest * y) / rho))
    return float(special.ndtr(first) * special.ndtr(kink)) + tail


def _integral(low: float, high: float, weight: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> float:
    """Integral of the normal density times `weight` from low to high."""
    x = 0.5 * (high - low) * _NODES + 0.5 * (high + low)
    density = np.exp(-0.5 * x**2) / math.sqrt(2.0 * math.pi)
    return float(0.5 * (high - low) * (_WEIGHTS * density * weight(x)).sum())


def second_look_alpha(total: float, first: float, fraction: float) -> float:
    """The level of the second look at which both looks together claim wrongly with a chance of `total`; the first has spent `first`.

    A smaller fraction than the true one gives a smaller level, so that a lower bound of the fraction is safe.
    Raises ValueError unless 0 < first < total < 0.5 and 0 < fraction < 1.
    """
    if not (0.0 < first < total < 0.5 and 0.0 < fraction < 1.0):
        raise ValueError(f"total {total}, first {first}, fraction {fraction}: expected 0 < first < total < 0.5 and 0 < fraction < 1")
    if total < _TINY:
        return total - first
    bound = -float(special.ndtri(first))
    low, high = -float(special.ndtri(total)), -float(special.ndtri((total - first) / 2.0))
    for _ in range(80):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if 1.0 - chance_of_neither(bound, middle, fraction) > total else (low, middle)
    return float(special.ndtr(-high))


def chance_by_second(alphas: tuple[float, float], shifts: tuple[float, float], fraction: float) -> float:
    """Chance that one of two looks claims at its level, where the truth lies so many of its standard errors beyond the bound."""
    first, second = (-float(special.ndtri(alpha)) - shift for alpha, shift in zip(alphas, shifts, strict=True))
    return 1.0 - chance_of_neither(first, second, fraction)
