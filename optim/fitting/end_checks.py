"""Whether the end of a fit is to be believed: columns of J that have vanished, and residuals that are no noise.

On a plateau the gradient is zero to the last digit, and yet nothing has been fitted: exp(-b x) with b far too large, a
saturated logistic, a peak beside the data. What shows it is that some columns of J have no length left.
"""

from __future__ import annotations

from math import sqrt

import numpy as np

from minigrad.backend import Array, namespace, to_device

from ..solve.residuals import ResidualPoint
from ..solve.vectors import column_norms
from .covariance import covariance, deviations

WITHOUT_EFFECT = 1e-6
"""A parameter has no effect where a change by its own size changes the residuals by less than this share of them."""

SMOOTH = 0.5
"""The ratio of Durbin and Watson (1950, Biometrika 37, 409-428) below which neighbouring residuals are alike. It is
about 2 for noise, and goes to 0 where the residuals are a smooth curve."""

POOR = 0.1
"""The share of the middle one of the terms x_j J_j that residuals left by a poor fit have at least."""

BLIND = 1e-12
"""The singular value of J, columns and largest value of length one, below which parameters run off together."""

UNTOLD = 1e3
"""A standard deviation of so many times a parameter that is no small term says that its term and others cancel."""

FAR = 1e5
"""How many times as large as at the start a parameter is that has run off, where J can no longer tell it."""


def sizes_of(here: ResidualPoint) -> Array:
    """The size (n,) that each parameter has or had; 1 for one that was and is zero."""
    variables = here.problem.variables
    size = variables.xp.maximum(abs(here.x), abs(variables.start))
    return variables.xp.where(size > 0, size, 1)


def without_effect(here: ResidualPoint) -> Array:
    """(n,) bools: whose columns of J have vanished, beside residuals that have not."""
    xp, size = here.problem.variables.xp, sizes_of(here)
    start = here.problem.variables.start
    size = xp.where((start == 0) & (size < 1), 1, size)  # from zero no size is known; a small one would be too strict
    return column_norms(here.J) * size <= WITHOUT_EFFECT * sqrt(2 * here.cost)


def running_off(J: Array, x: Array, cost: float) -> Array:
    """(n,) bools: which parameters run off to infinity together, their terms x_j J_j larger than the residuals and
    equal but for the sign, as a and c of a exp(-b x) + c do when b goes to zero."""
    xp, (m, n) = namespace(J), J.shape
    cov, rank = covariance(J)
    if rank < n or m <= n:
        return xp.zeros(n, dtype=bool)
    deviation = deviations(cov) * sqrt(2 * cost / (m - n))
    return (deviation > UNTOLD * abs(x)) & (column_norms(J) * abs(x) > sqrt(2 * cost))


def run_off(here: ResidualPoint) -> Array:
    """`running_off` at a point; also what has grown far beyond its start, to where J has lost rank."""
    start, xp = here.problem.variables.start, here.problem.variables.xp
    far = abs(here.x) > FAR * xp.where(start == 0, 1, abs(start))
    if not bool(far.any()) or covariance(here.J)[1] == here.x.size:
        return running_off(here.J, here.x, here.cost)
    return far & (column_norms(here.J) * abs(here.x) > sqrt(2 * here.cost))


def is_smooth(here: ResidualPoint) -> bool:
    """Whether neighbouring residuals are alike, so that they are no noise."""
    change = here.r[1:] - here.r[:-1]
    return here.r.size >= 2 * here.x.size and float(change @ change) < SMOOTH * 2 * here.cost


def misses_structure(here: ResidualPoint) -> bool:
    """Whether the residuals are smooth, and large or nearly blind to some direction: another start may fit them."""
    if not is_smooth(here):
        return False
    if bool(run_off(here).any()):
        return True
    xp, lengths = here.problem.variables.xp, column_norms(here.J)
    terms = xp.sort(lengths * abs(here.x))
    if sqrt(2 * here.cost) > POOR * float(terms[(terms.size - 1) // 2]):
        return True
    values = xp.linalg.svd(here.J / xp.where(lengths > 0, lengths, 1), compute_uv=False)
    return not float(values[-1]) > BLIND * float(values[0])


def numbers_of(columns: Array) -> list[int]:
    """Which of these (n,) bools are true."""
    return np.flatnonzero(np.asarray(to_device(columns, "cpu"))).tolist()


def names_of(columns: Array) -> str:
    """The numbers of these parameters in words, from 0."""
    numbers = numbers_of(columns)
    return f"parameter{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"
