"""The loop that all least-squares methods share: look at a point, propose a step, try it, judge it.

After this file you know in which order things are asked: whether a trial point is finite comes first, whether the step
brought what the model promised next, and whether there is anything left to gain last. A step that fails still teaches:
its residuals say how the model is curved, and the step is bent once and tried again.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import NamedTuple

from ..solve.residuals import ResidualPoint, ResidualProblem
from ..solve.result import (
    AT_PRECISION,
    CONVERGED,
    COST_SETTLED,
    INTERRUPTED,
    NO_LOWER_POINT,
    NOT_FINITE_AT_START,
    NOT_FINITE_GRADIENT,
    PERFECT_FIT,
    STEP_SETTLED,
    STOPPED_BY_CALLBACK,
    TOO_MANY_EVALUATIONS,
    Reason,
)
from .fit_reasons import FLAT, SHORT_STEPS, TOO_LARGE, TOO_SMALL, VANISHED
from .local_model import FitModel, Models, Step
from .polish import polish
from .trust import GOOD_ENOUGH, Trust


class FitLimits(NamedTuple):
    """When to stop.

    ftol : the relative fall of the cost, promised and brought, that counts as zero
    xtol : the length of a step, relative to that of x, that counts as zero
    gtol : the cosine between the residuals and the columns of J that counts as zero
    max_nfev : evaluations allowed
    in_all : evaluations allowed where further runs follow
    """

    ftol: float
    xtol: float
    gtol: float
    max_nfev: float
    in_all: float = inf


def fit_residuals(
    problem: ResidualProblem,
    models: Models,
    trust: Trust,
    limits: FitLimits,
    watch: Callable[[ResidualPoint, int], bool],
    start: ResidualPoint | None = None,
    nit: int = 0,
) -> tuple[ResidualPoint, int, Reason]:
    """The last point, the number of steps, and why there is no further one.

    `models` gives the model at a point, `trust` says how far to go by it; `watch` sees each new point, True stops.
    A first Ctrl-C ends the run with the last point reached. A run may begin at another `start`, after `nit` steps.
    """
    here = problem.at(problem.variables.start) if start is None else start
    reason = _reason_at_start(here)
    if reason is not None:
        return here, nit, reason
    try:
        found = _look(here, models, limits)
        while not isinstance(found, Reason):
            new, reason = _advance(here, found, models, trust, limits)
            if new is not None:
                here, nit = new, nit + 1
                if watch(here, nit):
                    return here, nit, STOPPED_BY_CALLBACK
            found = reason or _look(here, models, limits)
        reason = found
        if reason.success and here.cost:
            here = polish(here, models)
    except KeyboardInterrupt:
        reason = INTERRUPTED
    return here, nit, reason


def _reason_at_start(here: ResidualPoint) -> Reason | None:
    """Why the fit ends before its first step, if it does: residuals or squares are NaN, infinite, or too small."""
    if here.is_finite:
        return TOO_SMALL if here.cost == 0 and bool(here.unweighted.any()) else None
    finite = here.problem.variables.xp.isfinite(here.unweighted).all()
    return TOO_LARGE if bool(finite) else NOT_FINITE_AT_START


def _look(here: ResidualPoint, models: Models, limits: FitLimits) -> FitModel | Reason:
    """The model at a new point, or why the fit ends there."""
    if here.cost == 0:
        return VANISHED if bool(here.unweighted.any()) else PERFECT_FIT
    model: FitModel | None = models(here)
    if model is None:
        return NOT_FINITE_GRADIENT
    if model.is_flat:
        return FLAT
    return CONVERGED if model.orthogonality <= limits.gtol else model


def _advance(
    here: ResidualPoint, model: FitModel, models: Models, trust: Trust, limits: FitLimits
) -> tuple[ResidualPoint | None, Reason | None]:
    """The next point, None where none was found; and a reason to end the fit, if there is one."""
    problem = here.problem
    while problem.nfev < limits.max_nfev:
        step = trust.propose(model)
        new = problem.at(step.to)
        if trust.bends and new.is_finite and here.cost - new.cost < GOOD_ENOUGH * step.gain:
            new = _bent(model, step, new)
        gained = here.cost - new.cost
        if gained > 0 and new.cost and not models.exists(new):  # a point without derivatives leads no further
            gained = -inf
        taken = trust.judge(step, gained)
        reason = _settled(model, step, gained, taken, trust.extent, limits)
        if taken or reason is not None:
            return (new if taken else None), reason
    return None, TOO_MANY_EVALUATIONS


def _bent(model: FitModel, step: Step, trial: ResidualPoint) -> ResidualPoint:
    """The lower of a failed trial point and the one that it leads to when its curvature is answered."""
    corrected = model.corrected(step, trial)
    if corrected is None:
        return trial
    second = trial.problem.at(corrected.to)
    return second if second.cost < trial.cost else trial


def _settled(
    model: FitModel, step: Step, gained: float, taken: bool, extent: float, limits: FitLimits
) -> Reason | None:
    """The reason to end that the last trial gives, if any: all is gained (MINPACK's tests), or no step leads lower."""
    nothing = limits.ftol * model.here.cost
    if abs(gained) <= nothing and step.gain <= nothing and gained <= 2 * step.gain:
        return COST_SETTLED if model.promises_little(limits.ftol, limits.xtol) else SHORT_STEPS
    if extent > limits.xtol * model.size:
        return None
    if taken:
        return STEP_SETTLED if model.promises_little(limits.ftol, limits.xtol) else SHORT_STEPS
    return AT_PRECISION if model.is_solved else NO_LOWER_POINT
