"""Linear algebra with derivatives of any order, under NumPy's names: what stands in `minigrad.ops.linalg`.

Beside it the iterative solvers: differentiable ones, which give x or raise, and, in `iterative`, the same on plain
arrays, which report how it went. There is no solve(method=...): which solver is meant is said by its name.
"""

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
