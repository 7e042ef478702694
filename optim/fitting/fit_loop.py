"""The loop that all least-squares methods share: look at a point, propose a step, try it, judge it.

After this file you know in which order things are asked: whether a trial point is finite comes first, whether the step
brought what the model promised next, and whether there is anything left to gain last. A step that fails is not lost:
its residuals say how the model is curved, and the step is bent once and tried again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..solve.residuals import ResidualPoint, Residuals
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
from .gauss_newton import polish
from .linear_model import Step
from .trust import GOOD_ENOUGH, Trust

FLAT = Reason(-9, False, "the derivatives are all zero at the last point: no residual changes with x; start elsewhere")
TOO_LARGE = Reason(-10, False, "the residuals are finite at x0, but their squares are not; give them in a larger unit")
TOO_SMALL = Reason(-11, False, "the residuals are not zero at x0, but their squares are; give them in a smaller unit")
SHORT_STEPS = Reason(
    -12,
    False,
    "the steps that lead lower are too short to change anything, though an undamped one promises more: x is in a "
    "narrow bend, or on its way to infinity; start elsewhere, or give x_scale",
)
VANISHED = Reason(6, True, "the squares of the residuals are zero in floating point")


class Limits(NamedTuple):
    """When to stop.

    ftol : the relative fall of the cost, promised and brought, that counts as none
    xtol : the length of a step, relative to that of x, that counts as none
    gtol : the cosine between the residuals and the columns of J that counts as none
    max_nfev : evaluations allowed
    """

    ftol: float
    xtol: float
    gtol: float
    max_nfev: float


def fit(
    problem: Residuals, model_at: Any, trust: Trust, limits: Limits, watch: Callable[[ResidualPoint, int], bool]
) -> tuple[ResidualPoint, int, Reason]:
    """The last point, the number of steps, and why there is no further one.

    `model_at` gives the model at a point, `trust` says how far to go by it; `watch` sees each new point, True stops.
    A first Ctrl-C ends the run, and what was reached is not lost.
    """
    here, nit = problem.at(problem.variables.start), 0
    reason = _reason_at_start(here)
    if reason is not None:
        return here, nit, reason
    try:
        model, reason = _look(here, model_at, limits)
        while reason is None:
            new, reason = _advance(here, model, trust, limits)
            if new is None:
                break
            here, nit = new, nit + 1
            if watch(here, nit):
                return here, nit, STOPPED_BY_CALLBACK
            if reason is None:
                model, reason = _look(here, model_at, limits)
        assert reason is not None
        if reason.success and here.cost:
            here = polish(here, model_at)
    except KeyboardInterrupt:
        reason = INTERRUPTED
    return here, nit, reason


def _reason_at_start(here: ResidualPoint) -> Reason | None:
    """Whether the first residuals are numbers whose squares are, too."""
    if here.is_finite:
        return TOO_SMALL if here.cost == 0 and bool(here.unweighted.any()) else None
    finite = here.problem.variables.xp.isfinite(here.unweighted).all()
    return TOO_LARGE if bool(finite) else NOT_FINITE_AT_START


def _look(here: ResidualPoint, model_at: Any, limits: Limits) -> tuple[Any, Reason | None]:
    """The model at a new point, and whether the fit ends there."""
    if here.cost == 0:
        return None, VANISHED if bool(here.unweighted.any()) else PERFECT_FIT
    model = model_at(here)
    if model is None:
        return None, NOT_FINITE_GRADIENT
    if model.is_flat:
        return model, FLAT
    return model, CONVERGED if model.orthogonality <= limits.gtol else None


def _advance(
    here: ResidualPoint, model: Any, trust: Trust, limits: Limits
) -> tuple[ResidualPoint | None, Reason | None]:
    """The next point, None where none was found; and a reason to end the fit, if there is one."""
    problem = here.problem
    while problem.nfev < limits.max_nfev:
        step = trust.propose(model)
        new = problem.at(step.to)
        if trust.bends and new.is_finite and here.cost - new.cost < GOOD_ENOUGH * step.gain:
            new = _bent(model, step, new)
        gained = here.cost - new.cost
        taken = trust.judge(step, gained)
        reason = _settled(model, step, gained, taken, trust.extent, limits)
        if taken or reason is not None:
            return (new if taken else None), reason
    return None, TOO_MANY_EVALUATIONS


def _bent(model: Any, step: Step, trial: ResidualPoint) -> ResidualPoint:
    """The lower of a failed trial point and the one that it leads to when its curvature is answered."""
    corrected = model.corrected(step, trial)
    if corrected is None:
        return trial
    second = trial.problem.at(corrected.to)
    return second if second.cost < trial.cost else trial


def _settled(model: Any, step: Step, gained: float, taken: bool, extent: float, limits: Limits) -> Reason | None:
    """Whether the last trial says that there is nothing left to gain (MINPACK's tests), or nothing to be had."""
    nothing = limits.ftol * model.here.cost
    if abs(gained) <= nothing and step.gain <= nothing and gained <= 2 * step.gain:
        return COST_SETTLED if model.promises_little(limits.ftol, limits.xtol) else SHORT_STEPS
    if extent > limits.xtol * model.size:
        return None
    if taken:
        return STEP_SETTLED if model.promises_little(limits.ftol, limits.xtol) else SHORT_STEPS
    return AT_PRECISION if model.is_solved else NO_LOWER_POINT
