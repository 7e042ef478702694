"""The methods of `least_squares` by their names: how lengths are measured times how far the model is trusted."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from .linear_model import LinearModel
from .local_model import MatrixModel, Models
from .matrix_free import ProductModels
from .scaling import ColumnLengths, DampedColumns, ScaledModels, Scaling, Unscaled, WeightedColumns
from .trust import Damping, Radius, ShortenedStep, Trust


class FitMethod(NamedTuple):
    """How lengths are measured, and how far the model is trusted, each made anew for a run.

    scaling : None where the method forms no matrix
    tries_other_starts : whether a fit that ends in a doubtful place is begun anew from others
    """

    scaling: Callable[[], Scaling] | None
    trust: Callable[[], Trust]
    takes_bounds: bool = True
    tries_other_starts: bool = False

    def models(self, scaling: Scaling | None = None, model: Callable[..., MatrixModel] = LinearModel) -> Models:
        """What makes the model at a point; with another scaling, or another model with a matrix, if given."""
        if self.scaling is None:
            return ProductModels()
        return ScaledModels(self.scaling() if scaling is None else scaling, model)


FIT_METHODS = {
    "lm": FitMethod(WeightedColumns, Radius, tries_other_starts=True),
    "levenberg": FitMethod(Unscaled, Damping),
    "marquardt": FitMethod(DampedColumns, Damping),
    "gauss-newton": FitMethod(ColumnLengths, ShortenedStep, takes_bounds=False),
    "matrix-free": FitMethod(None, Damping, takes_bounds=False),
}
"""The methods by name; see `least_squares`."""

ALIASES = {"levenberg-marquardt": "lm", "trf": "lm", "dogbox": "lm", "gn": "gauss-newton"}
