"""Other starts, for fits that ended on a plateau or in a poor place.

Where a column of J has vanished, derivatives say nothing of that parameter: a local method can only stand still. The
commonest cause is a start of ones for an x that reaches to 1e6, or 1e-6, so that the parameter is wrong by powers of
ten; and these are what is tried: each parameter alone, and all together, times 10^k. The trial points are ranked by
what a linear model promises there, and the fit goes on from the best.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np

from minigrad.backend import Array

from ..solve.bounds import Box
from ..solve.residuals import ResidualPoint, ResidualProblem
from ..solve.result import NO_LOWER_POINT, NOT_FINITE_GRADIENT, TOO_MANY_EVALUATIONS, Reason
from .end_checks import is_smooth, misses_structure, names_of, numbers_of, run_off, without_effect
from .fit_reasons import FLAT, SHORT_STEPS, endless, no_effect
from .local_model import Models

DECADES = 7
"""The powers of ten, up and down, by which a parameter may be wrong."""

MOST_PARAMETERS = 20
"""With more parameters no other start is tried: they would be too many."""

MOST_RUNS = 12
"""The fits that are begun anew."""

FOR_A_RUN = 30
"""The evaluations, times n + 1, of each of them."""

FOR_A_MINIMUM = 60
"""The evaluations, times n + 1, that may be spent on a minimum that fits poorly."""

NOTABLY = 0.999
"""The share of the cost below which another end counts as lower."""


class Ended(NamedTuple):
    """The end of a run: the last point, the number of steps, and the reason."""

    here: ResidualPoint
    nit: int
    reason: Reason


STUCK = (SHORT_STEPS, NO_LOWER_POINT)
LOST = (FLAT, NOT_FINITE_GRADIENT)
"""Reasons to end where derivatives are of no use any more; at the first point they are the caller's to mend."""


def is_doubtful(end: Ended) -> bool:
    """Whether a fit from another start may well end lower."""
    here, reason = end.here, end.reason
    if not here.is_finite or not here.cost or here.x.size > MOST_PARAMETERS:
        return False
    if not reason.success and reason is not TOO_MANY_EVALUATIONS:
        return reason in STUCK or (reason in LOST and end.nit > 0)
    return bool(without_effect(here).any()) or misses_structure(here)


def around(x: Array, which: Array, box: Box) -> Iterator[list[Array]]:
    """x with each of `which` (n,) times 10^k, alone and then all together: a list for each k, up and down."""
    xp, numbers = box.xp, numbers_of(which)
    unit = xp.where(x == 0, 1, x).astype(x.dtype)
    changes = [np.arange(x.size) == j for j in numbers] + [np.isin(np.arange(x.size), numbers)] * (len(numbers) > 1)
    for k in range(1, DECADES + 1):
        factors = 10.0**-k, 10.0**k
        yield [box.clip(xp.where(xp.asarray(changed), unit * f, x)) for f in factors for changed in changes]


def turned(x: Array, box: Box) -> list[Array]:
    """x with the sign of each parameter turned, one at a time: on the way from one sign to the other by infinity, as
    a of a exp(-b x) + c with b through zero, no local method gets across."""
    return [box.clip(box.xp.where(box.xp.arange(x.size) == j, -x, x)) for j in numbers_of(x != 0)]


def lower_end(
    end: Ended,
    begin: Callable[[ResidualPoint, float, int, float], Ended],
    models: Callable[[], Models],
    problem: ResidualProblem,
    box: Box,
    max_nfev: float,
) -> Ended:
    """The lowest end of fits from other starts, or `end` itself. `begin` runs a fit from a point: it takes the cost
    below which its points are for the caller to see, the steps made before, and the evaluations allowed."""
    astray = end.here.is_finite and bool(run_off(end.here).any())
    if is_minimum := end.reason.success and not astray and not bool(without_effect(end.here).any()):
        max_nfev = min(max_nfev, problem.nfev + FOR_A_MINIMUM * (end.here.x.size + 1))
    base, which = _base(end.here)
    ranked: list[tuple[bool, float, int, ResidualPoint]] = []
    for k, decade in enumerate(chain([turned(base, box)] if astray else [], around(base, which, box)), 1 - astray):
        for start in map(problem.at, decade[: max(0, int(max_nfev - problem.nfev))]):
            model = models().alone(start) if start.is_finite else None
            if model is not None:
                ranked.append((k > 0, start.cost - model.gauss_newton().gain, len(ranked), start))
        if is_minimum and k == 2 and not any(promised < NOTABLY * end.here.cost for _, promised, *_ in ranked):
            return end
    ranked.sort(key=lambda trial: trial[:3])
    for *_, start in ranked[:MOST_RUNS]:
        if problem.nfev >= max_nfev or not is_doubtful(end):
            break
        allowed = min(max_nfev, problem.nfev + FOR_A_RUN * (start.x.size + 1))
        trial = begin(start, NOTABLY * end.here.cost, end.nit, allowed)
        if trial.here.cost < NOTABLY * end.here.cost:
            end = trial
    if end.reason is TOO_MANY_EVALUATIONS and problem.nfev < max_nfev:
        end = begin(end.here, end.here.cost, end.nit, max_nfev)
    return end


def _base(here: ResidualPoint) -> tuple[Array, Array]:
    """The point to change, and which of its parameters (n,): those without effect, put back to where they started; all
    where none has lost its effect."""
    xp, start = here.problem.variables.xp, here.problem.variables.start
    lost = without_effect(here)
    if bool(lost.any()):
        return xp.where(lost, start, here.x), lost
    return start, xp.ones(start.shape, dtype=bool)


def believed(end: Ended, box: Box) -> Ended:
    """The end as it is, or as a failure where parameters that matter elsewhere have lost their effect there.

    A parameter that nothing depends on is no trouble: it may have any value. Nor are parameters that run off to
    infinity where what is left is noise.
    """
    here = end.here
    if not (end.reason.success and here.cost and here.x.size <= MOST_PARAMETERS):
        return end
    if is_smooth(here) and bool((astray := run_off(here)).any()):
        return end._replace(reason=endless(names_of(astray)))
    lost = without_effect(here)
    if not bool(lost.any()):
        return end
    base, _ = _base(here)
    for x in chain([base], *around(base, lost, box)):
        if not bool((here.problem.at(x).unweighted == here.unweighted).all()):
            return end._replace(reason=no_effect(names_of(lost)))
    return end
