"""Linear algebra with derivatives of any order, under NumPy's names: the ops of `minigrad.ops.linalg`.

Beside them are the iterative solvers: differentiable ones, which give x or raise, and, in `iterative`, the same on
plain arrays, which report how it went. Each solver has a function of its own; there is no solve(method=...).
"""

import sys

from minigrad.autograd import methods
from minigrad.ops.linalg import *  # noqa: F403
from minigrad.ops.linalg import __all__ as _direct
from minigrad.ops.linalg import iterative
from minigrad.ops.linalg.iterative import ConvergenceError
from minigrad.transforms.iterative_solvers import cg, gauss_seidel, jacobi, lsmr
from minigrad.transforms.linear_solve import custom_linear_solve

__all__ = [
    *_direct,
    "ConvergenceError",
    "cg",
    "custom_linear_solve",
    "gauss_seidel",
    "iterative",
    "jacobi",
    "lsmr",
]


def __dir__() -> list[str]:
    return sorted(__all__)


methods.bind(linalg=sys.modules[__name__])  # which says what to write for numpy.linalg's functions
