"""Minimizing a function of many variables with more than its slope: Newton to Levenberg-Marquardt, on the engine's
derivatives. `minimize`, `least_squares` and `curve_fit` have SciPy's names and result fields; the classes step models.
"""

from .curve_fit import curve_fit
from .least_squares import least_squares
from .minimize import minimize
from .model_optimizers import BFGS, LBFGS, GaussNewton, LevenbergMarquardt, Newton
from .newton_cg import Composite
from .result import OptimizeResult

__all__ = [
    "BFGS",
    "Composite",
    "GaussNewton",
    "LBFGS",
    "LevenbergMarquardt",
    "Newton",
    "OptimizeResult",
    "curve_fit",
    "least_squares",
    "minimize",
]
