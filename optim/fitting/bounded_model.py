"""Bounds for least squares: damped steps that stay in a box.

After this file you know a sound and simple way to keep to bounds, a projected Levenberg-Marquardt method with an active
set. A variable that lies on a bound, and that the gradient pushes against it, rests. For the others the damped step is
found; those that it would carry across a bound are put on that bound, and the rest is solved for again.

With growing damping such a step becomes one of scaled steepest descent, put back into the box, which lowers the cost
unless x is stationary; so the rule that raises the damping after a failure finds a way on (Bertsekas 1982, SIAM J.
Control and Optimization 20, 221-246; Kanzow, Yamashita and Fukushima 2004, J. Comput. Appl. Math. 172, 375-397).
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from types import SimpleNamespace
from typing import Any

from minigrad import Tensor
from minigrad.backend import Array

from ..solve.residuals import ResidualPoint
from ..solve.variables import Variables
from .linear_model import LinearModel, Step, is_solved, promises_little


class Box:
    """lower <= x <= upper, flat vectors (n,)."""

    def __init__(self, lower: Array, upper: Array, xp: Any):
        self.lower, self.upper, self.xp = lower, upper, xp

    @property
    def is_everything(self) -> bool:
        """Whether there is no bound at all."""
        return not bool(self.xp.isfinite(self.lower).any()) and not bool(self.xp.isfinite(self.upper).any())

    def active(self, x: Array) -> Array:
        """-1 where x lies on its lower bound, 1 on its upper one, else 0, as SciPy's active_mask."""
        return (x >= self.upper).astype(int) - (x <= self.lower)

    def pressed(self, x: Array, g: Array) -> Array:
        """(n,) bools: which variables rest on a bound that descent would have them cross."""
        return ((x <= self.lower) & (g > 0)) | ((x >= self.upper) & (g < 0))

    def projected(self, x: Array, g: Array) -> Array:
        """The gradient without what only presses against bounds, (n,): zero where x is stationary in the box."""
        return self.xp.where(self.pressed(x, g), 0, g)


def read_box(bounds: Any, variables: Variables, owner: str) -> Box:
    """The box of SciPy's `bounds`, (lower, upper), each a number or in the form of x0; or an object with `lb` and `ub`.

    Raises ValueError for bounds of another form or in the wrong order, and for an x0 outside.
    """
    if hasattr(bounds, "lb") and hasattr(bounds, "ub"):
        bounds = bounds.lb, bounds.ub
    if not isinstance(bounds, (tuple, list)) or len(bounds) != 2:
        raise ValueError(f"{owner}: bounds={bounds!r}; expected (lower, upper), each a number or in the form of x0.")
    xp = variables.xp
    lower, upper = (spread(bound, variables, f"{owner}: a bound") for bound in bounds)
    if not bool((lower < upper).all()):
        raise ValueError(
            f"{owner}: each lower bound must be below its upper bound; to fix a variable leave it out of x0."
        )
    if bool(((variables.start < lower) | (variables.start > upper)).any()):
        raise ValueError(f"{owner}: x0 lies outside the bounds; start from a point between them.")
    return Box(lower, upper, xp)


def spread(bound: Any, variables: Variables, what: str) -> Array:
    """The flat vector (n,) of one number for all, or of something in the form of x0."""
    number = bound.data if isinstance(bound, Tensor) else bound
    if not isinstance(number, (dict, tuple, list)) and getattr(number, "size", 1) == 1:
        number = float(number.item() if hasattr(number, "item") else number)
        return variables.xp.full(variables.size, number, dtype=variables.start.dtype)
    return variables.flat_of(bound, what)


class BoxedModel:
    """The linear model with steps that stay in a box; asked as `LinearModel` is."""

    def __init__(self, box: Box, here: ResidualPoint, scale: Array, norms: Array):
        self.box, self.here, self.scale, self.norms = box, here, scale, norms
        self.xp = box.xp
        self.free = ~box.pressed(here.x, here.g)
        self.damping = 0.0
        self.inside = self._model_of(self.free, here.r)

    def gauss_newton(self) -> Step:
        self.damping = 0.0
        return self._step(lambda model: model.gauss_newton())

    def damped(self, damping: float) -> Step:
        self.damping = damping
        return self._step(lambda model: model.damped(damping))

    def within(self, radius: float, guess: float) -> Step:
        """The step with the damping that would give this length if no further bound were met."""
        if self.inside is None:
            return self.gauss_newton()
        self.inside.within(radius, guess)
        return self.damped(self.inside.damping) if self.inside.damping else self.gauss_newton()

    def corrected(self, step: Step, trial: ResidualPoint) -> None:
        """No bent steps in a box: they might leave it."""

    @property
    def size(self) -> float:
        """|D x|, which the lengths of steps are compared with."""
        scaled = self.scale * self.here.x
        return sqrt(float(scaled @ scaled))

    @property
    def steepest_length(self) -> float:
        return self.inside.steepest_length if self.inside is not None else 0.0

    @property
    def largest_eigenvalue(self) -> float:
        return self.inside.largest_eigenvalue if self.inside is not None else 1.0

    @property
    def is_flat(self) -> bool:
        return not float(self.norms.max()) > 0

    @property
    def orthogonality(self) -> float:
        """As for `LinearModel`, of the projected gradient."""
        lengths = self.xp.where(self.norms > 0, self.norms, 1)
        steepness = abs(self.box.projected(self.here.x, self.here.g)) / lengths
        return float(steepness.max()) / sqrt(2 * self.here.cost)

    @property
    def is_solved(self) -> bool:
        return is_solved(self)

    def promises_little(self, ftol: float, xtol: float) -> bool:
        return promises_little(self, ftol, xtol)

    def _model_of(self, free: Array, r: Array) -> LinearModel | None:
        """The model of the free variables alone, around residuals `r`; its steps start from zero."""
        if not bool(free.any()):
            return None
        columns, scale = self.here.J[:, free], self.scale[free]
        around: Any = SimpleNamespace(J=columns, r=r, x=scale * 0, problem=self.here.problem)
        return LinearModel(around, scale, self.norms[free])

    def _step(self, solve: Callable[[LinearModel], Step]) -> Step:
        """`solve`'s step for the free variables; as long as it crosses bounds, with these variables put on them."""
        x, J, where = self.here.x, self.here.J, self.xp.where
        low, high = self.box.lower - x, self.box.upper - x
        free, model, p = self.free, self.inside, x * 0
        while model is not None:
            p[free] = solve(model).to
            crossing = free & ((p < low) | (p > high))
            if not bool(crossing.any()):
                break
            p = p.clip(low, high)
            free = free & ~crossing
            model = self._model_of(free, self.here.r + J @ where(free, 0, p))
        to = where(p <= low, self.box.lower, where(p >= high, self.box.upper, x + p))
        image, scaled = J @ p, self.scale * p
        slope = float(self.here.g @ p)
        return Step(to, sqrt(float(scaled @ scaled)), slope, -slope - 0.5 * float(image @ image))
