"""What a model of the residuals around a point is asked: steps, and whether there is anything left to gain.

Every model is r + J p. With the Jacobian J as a matrix it is a `LinearModel`, or a `BoxedModel` between bounds; with
products alone it is a `ProductModel`. Lengths of steps are measured by |D p|, with a diagonal D > 0.
"""

from __future__ import annotations

from math import sqrt
from typing import Any, NamedTuple, Protocol

from minigrad.backend import Array

from ..solve.residuals import ResidualPoint

AT_ROUNDING = 100
"""A step of at most this many rounding units of x is no more than rounding."""


class Step(NamedTuple):
    """A step p from a point, and what the model says of it.

    to : (n,) where it leads, x + p
    length : |D p|
    slope : g'p, below zero
    gain : by how much the cost falls, according to the model: -(g'p + |J p|^2 / 2)
    """

    to: Array
    length: float
    slope: float
    gain: float

    def share_of_promise(self, gained: float) -> float:
        """The fall of the cost through the fall that the model promised; -1 where it promised none."""
        return gained / self.gain if self.gain > 0 else -1.0


class FitModel(Protocol):
    """What the fit loop asks of a model. The steps that a model knows are between it and the trust that takes them."""

    here: ResidualPoint

    @property
    def size(self) -> float:
        """|D x|, which the lengths of steps are compared with."""

    @property
    def orthogonality(self) -> float:
        """The cosine between the residuals and what J reaches: zero where the cost is stationary."""

    @property
    def is_flat(self) -> bool:
        """Whether J is zero."""

    @property
    def is_solved(self) -> bool:
        """Whether a point where no lower one is found is as good as a solution."""

    def promises_little(self, ftol: float, xtol: float) -> bool:
        """Whether the undamped step gains or moves little too."""

    def corrected(self, step: Step, trial: ResidualPoint) -> Step | None:
        """The step bent by what the residuals at its end, `trial`, say about their curvature; or None."""


class DampedModel(Protocol):
    """A model that knows the damped step, with or without a matrix."""

    @property
    def largest_eigenvalue(self) -> float:
        """Of D^-1 J'J D^-1, or a lower estimate of it."""

    def damped(self, damping: float) -> Step:
        """The step that minimises |r + J p|^2 + damping |D p|^2."""


class Models(Protocol):
    """Makes the model at a point."""

    def __call__(self, here: ResidualPoint) -> Any:
        """The model, for the steps of a fit; None where the derivatives are NaN or infinite."""

    def exists(self, here: ResidualPoint) -> bool:
        """Whether the derivatives are finite."""

    def alone(self, here: ResidualPoint) -> Any:
        """The model for the undamped steps at the end of a fit, or None for no such steps."""


class MatrixModel:
    """What models with the Jacobian as a matrix share: lengths by |D p|, and the tests for an end.

    Parameters
    ----------
    here : ResidualPoint with a finite Jacobian
    scale : (n,) array, the diagonal of D, all positive
    norms : (n,) array, the lengths of J's columns
    """

    def __init__(self, here: ResidualPoint, scale: Array, norms: Array):
        self.here, self.scale, self.norms = here, scale, norms
        self.xp = here.problem.variables.xp

    def gauss_newton(self) -> Step:
        """The undamped step."""
        raise NotImplementedError

    @property
    def free_g(self) -> Array:
        """The gradient J'r, (n,), as far as x may follow it."""
        return self.here.g

    @property
    def size(self) -> float:
        """|D x|, which the lengths of steps are compared with."""
        scaled = self.scale * self.here.x
        return sqrt(float(scaled @ scaled))

    @property
    def orthogonality(self) -> float:
        """The largest cosine between the residuals and a column of J: zero where the cost is stationary.

        max_j |g_j| / (|J_j| |r|), the same in all units of x and of r (MINPACK's test, Moré et al. 1980).
        """
        lengths = self.xp.where(self.norms > 0, self.norms, 1)
        return float((abs(self.free_g) / lengths).max()) / sqrt(2 * self.here.cost)

    @property
    def is_solved(self) -> bool:
        """Whether a point where no lower one is found is as good as a solution.

        Either the residuals are orthogonal to the columns of J, to half the digits; or, as where they are nothing but
        rounding, the Gauss-Newton step would change each variable by no more than that, or is itself the rounding of x.
        """
        here, half = self.here, sqrt(self.here.problem.eps)
        if self.orthogonality <= 10 * half:  # with J nearly singular at the solution this is the best to be had
            return True
        step = self.gauss_newton()
        if step.length <= AT_ROUNDING * here.problem.eps * self.size:
            return True
        return bool((abs(step.to - here.x) <= half * abs(here.x)).all())

    def promises_little(self, ftol: float, xtol: float) -> bool:
        """Whether the undamped step gains or moves little too, or the steepest one, by the roots of the tolerances.

        A damped step that does neither may just be damped too much. Beside a variable that has run off towards infinity
        the length of any step is small, and says nothing.
        """
        here, step, least = self.here, self.gauss_newton(), self.here.problem.eps
        share = sqrt(max(ftol, least))
        if step.gain <= share * here.cost or self.orthogonality**2 <= share:
            return True
        start = here.problem.variables.start
        if float(abs(here.x).max()) > (1 + float(abs(start).max())) / sqrt(least):
            return False
        return step.length <= sqrt(max(xtol, least)) * self.size
