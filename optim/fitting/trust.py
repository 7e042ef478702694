"""How far to trust the linear model: Levenberg's and Marquardt's damping, and Moré's region.

After this file you know the three classic forms of one idea. Gauss-Newton's step minimises |r + J p|, and goes astray
where the model is poor or J lacks rank. Levenberg (1944) adds lambda |p|^2, which turns and shortens the step towards
steepest descent; Marquardt (1963) measures p by the columns of J, so that units of x do not matter: lambda |D p|^2 with
D^2 = diag(J'J); Moré (1978) lets D only grow, and asks for a length |D p| <= radius rather than for a lambda. What the
model promised against what came true says whether lambda rises or falls, or the radius.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from minigrad.backend import Array

from ..solve.interpolation import quadratic_share
from ..solve.residuals import ResidualPoint
from .linear_model import LinearModel, Step, column_norms

GOOD_ENOUGH = 1e-4
"""The share of the promised gain that a step must bring to be taken (MINPACK's)."""


# --- how steps are measured: D ---


class Unscaled:
    """D = 1: Levenberg's."""

    def __call__(self, here: ResidualPoint, norms: Array) -> Array:
        return norms * 0 + 1


class Fixed:
    """D = 1 / x_scale, which the user gave."""

    def __init__(self, x_scale: Array):
        self.scale = 1 / x_scale

    def __call__(self, here: ResidualPoint, norms: Array) -> Array:
        return self.scale


class Columns:
    """D = the lengths of J's columns here: Marquardt's."""

    def __call__(self, here: ResidualPoint, norms: Array) -> Array:
        return _where_positive(norms, here)


class LargestColumns:
    """D = the largest length that each column of J has had lately: Moré's, with a memory that fades.

    A column that fades, because x has gone to where it has no effect, keeps its weight, and x does not run away. Moré
    keeps the largest of all for ever; started far out, where columns are long, steps then stay short to the end. With
    a memory that fades more of the problems of Moré, Garbow and Hillstrom are solved from far starts and none fewer
    from the usual ones (`benchmarks/second_order.py`); with 0.95 one of large residuals (Brown and Dennis) settles no
    more.
    """

    KEPT = 0.97
    """The share of a former length that still counts after a step."""

    def __init__(self) -> None:
        self.largest: Array | None = None

    def __call__(self, here: ResidualPoint, norms: Array) -> Array:
        xp = here.problem.variables.xp
        self.largest = norms if self.largest is None else xp.maximum(self.KEPT * self.largest, norms)
        return _where_positive(self.largest, here)


def _where_positive(norms: Array, here: ResidualPoint) -> Array:
    """A column of zeros is moved by no step, however it is weighted."""
    return here.problem.variables.xp.where(norms > 0, norms, 1)


class ScaledModel:
    """Makes the model at a point, its lengths measured by a scaling; None where the Jacobian is not finite."""

    def __init__(self, scaling: Any, model: Any = LinearModel):
        self.scaling, self.model = scaling, model

    def __call__(self, here: ResidualPoint) -> LinearModel | None:
        return self._model(here, self.scaling)

    def alone(self, here: ResidualPoint) -> LinearModel | None:
        """The model at a point whatever came before, its columns of length one: the best to end with."""
        return self._model(here, Columns())

    def _model(self, here: ResidualPoint, scaling: Any) -> LinearModel | None:
        xp = here.problem.variables.xp
        norms = column_norms(here.J, xp)
        if not bool(xp.isfinite(norms).all()):
            return None
        try:
            return self.model(here, scaling(here, norms), norms)
        except np.linalg.LinAlgError:  # scaled by the user's x_scale, J leaves the range of numbers
            return None


# --- how far steps go ---


class Trust(Protocol):
    """Which step to try next, and what a tried step teaches."""

    def propose(self, model: Any) -> Step:
        """The step to try, from the model as far as it is trusted."""

    def judge(self, step: Step, gained: float) -> bool:
        """Whether a step that lowered the cost by `gained` is taken (-inf: it led to where there is no number)."""

    extent: float
    """How far the next step may go, in |D p|."""

    bends: bool
    """Whether a step that failed may be bent and tried once more."""


class Radius:
    """A region |D p| <= radius: shrunk after a poor step, doubled around a good one (Moré 1978, algorithm 7.1)."""

    bends = True

    FIRST = 0.1
    """The first radius is |D x|, as in MINPACK; but at least this share of the best step straight downhill, where
    x0 is zero or has no weight in D."""

    def __init__(self) -> None:
        self.extent = 0.0
        self.damping = 0.0

    def propose(self, model: LinearModel) -> Step:
        if not self.extent:
            self.extent = max(model.size, self.FIRST * model.steepest_length)
        step = model.within(self.extent, self.damping)
        self.damping = model.damping
        return step

    def judge(self, step: Step, gained: float) -> bool:
        ratio = gained / step.gain if step.gain > 0 else -1.0
        if ratio < 0.25:
            shrink = quadratic_share(step.slope, -gained)
            self.extent = shrink * min(self.extent, 10 * step.length)
            self.damping /= shrink
        elif ratio >= 0.75 or self.damping == 0:
            self.extent = 2 * step.length
            self.damping /= 2
        return ratio >= GOOD_ENOUGH


class Damping:
    """A damping lambda: raised faster and faster while steps fail, lowered smoothly by how well one did.

    Nielsen (1999), Damping parameter in Marquardt's method, report IMM-REP-1999-05, equation 2.5.
    """

    FIRST = 1e-2
    """The first lambda, as a share of the largest eigenvalue of D^-1 J'J D^-1."""

    bends = True

    def __init__(self) -> None:
        self.damping: float | None = None
        self.growth = 2.0
        self.extent = 0.0

    def propose(self, model: Any) -> Step:
        if self.damping is None:
            self.damping = self.FIRST * model.largest_eigenvalue
        step = model.damped(self.damping)
        self.extent = step.length
        return step

    def judge(self, step: Step, gained: float) -> bool:
        assert self.damping is not None
        ratio = gained / step.gain if step.gain > 0 else -1.0
        if ratio >= GOOD_ENOUGH:
            self.damping *= max(1 / 3, 1 - (2 * ratio - 1) ** 3)
            self.growth = 2.0
            return True
        self.damping *= self.growth
        self.growth *= 2
        return False
