"""How the lengths of steps are measured: the diagonal D in |D p|, as Levenberg, Marquardt and Moré have it."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Protocol

import numpy as np

from minigrad.backend import Array

from ..solve.residuals import ResidualPoint
from ..solve.vectors import column_norms
from .linear_model import LinearModel
from .local_model import MatrixModel


class Scaling(Protocol):
    """D at a point, from the lengths of J's columns there."""

    def __call__(self, here: ResidualPoint, norms: Array) -> Array: ...


class Unscaled:
    """D = 1: Levenberg's."""

    def __call__(self, here: ResidualPoint, norms: Array) -> Array:
        return norms * 0 + 1


class UserScale:
    """D = 1 / x_scale, which the user gave."""

    def __init__(self, x_scale: Array):
        self.scale = 1 / x_scale

    def __call__(self, here: ResidualPoint, norms: Array) -> Array:
        return self.scale


class ColumnLengths:
    """D = the lengths of J's columns here: Marquardt's."""

    def __call__(self, here: ResidualPoint, norms: Array) -> Array:
        return _where_positive(norms, here)


class DampedColumns(ColumnLengths):
    """The same, where a column that has all but vanished keeps some weight: for damped steps.

    A saturated tanh has a column of 1e-30, and a step along it, measured by that column, goes to 1e30 or beyond, from
    where there is no way back. No parameter weighs less than the root of the rounding unit
    times the heaviest, both times their size.
    """

    def __call__(self, here: ResidualPoint, norms: Array) -> Array:
        xp, scale, size = here.problem.variables.xp, super().__call__(here, norms), abs(here.x)
        least = sqrt(here.problem.eps) * (norms * size).max() / xp.where(size > 0, size, 1)
        return xp.maximum(scale, xp.where(size > 0, least, 0))


class LargestColumns:
    """D = the largest length that each column of J has had lately: Moré's, with a memory that fades.

    A column that fades, because x has gone to where it has no effect, keeps its weight, and x does not run away. Moré
    keeps the largest of all for ever; started far out, where columns are long, steps then stay short to the end. With
    a memory that fades more of the problems of Moré, Garbow and Hillstrom are solved from far starts, and as many
    from the usual ones (`benchmarks/second_order.py`); with 0.95 one of large residuals (Brown and Dennis) no
    longer settles.
    """

    KEPT = 0.97
    """The share of a former length that still counts after a step."""

    def __init__(self) -> None:
        self.largest: Array | None = None

    def __call__(self, here: ResidualPoint, norms: Array) -> Array:
        xp = here.problem.variables.xp
        self.largest = norms if self.largest is None else xp.maximum(self.KEPT * self.largest, norms)
        return _where_positive(self.largest, here)


class WeightedColumns(LargestColumns):
    """The same, where no parameter is without weight: what `least_squares` begins with.

    A column that is all but zero from the start (exp(-b x) with b x large) has no weight to keep. Its step would be as
    long as the column is short, 1e30 or more, and the radius would shrink to nothing before the others might move. So
    no parameter weighs less than a tenth of the heaviest, both times their size, the largest |x_j| so far: within a
    radius of |D x| it changes by `REACH` times its size at most. The units of x still make no difference.
    """

    REACH = 10
    """How many times its size a parameter without weight may change, within a radius of |D x|."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: Array | None = None

    def __call__(self, here: ResidualPoint, norms: Array) -> Array:
        xp, scale = here.problem.variables.xp, super().__call__(here, norms)
        self.sizes = size = abs(here.x) if self.sizes is None else xp.maximum(abs(here.x), self.sizes)
        least = (scale * abs(here.x)).max() / self.REACH / xp.where(size > 0, size, 1)
        return xp.maximum(scale, xp.where(size > 0, least, 0))


def _where_positive(norms: Array, here: ResidualPoint) -> Array:
    """D, with 1 for a column of zeros, along which every step is zero whatever its weight."""
    return here.problem.variables.xp.where(norms > 0, norms, 1)


class ScaledModels:
    """Makes the model at a point, its lengths measured by a scaling; None where the Jacobian is NaN or infinite."""

    def __init__(self, scaling: Scaling, model: Callable[[ResidualPoint, Array, Array], MatrixModel] = LinearModel):
        self.scaling, self.model = scaling, model

    def __call__(self, here: ResidualPoint) -> MatrixModel | None:
        return self._model(here, self.scaling)

    def exists(self, here: ResidualPoint) -> bool:
        return bool(here.problem.variables.xp.isfinite(column_norms(here.J)).all())

    def alone(self, here: ResidualPoint) -> MatrixModel | None:
        """The model at a point with columns of length one, whatever came before: the best to end with."""
        return self._model(here, ColumnLengths())

    def _model(self, here: ResidualPoint, scaling: Scaling) -> MatrixModel | None:
        xp = here.problem.variables.xp
        norms = column_norms(here.J)
        if not bool(xp.isfinite(norms).all()):
            return None
        try:
            return self.model(here, scaling(here, norms), norms)
        except np.linalg.LinAlgError:  # scaled by the user's x_scale, J leaves the range of numbers
            return None
