"""Residuals to make small in the sense of least squares, and what is known of them at a point.

After this file you know what the least-squares solvers work with: residuals r of x, computed with their record, and the
Jacobian J, for which all columns are pushed through that record together; or, where J is too large to write down,
its products with vectors.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from minigrad import Tensor, no_grad
from minigrad.backend import Array
from minigrad.transforms.jacobians import jacobian_matrix
from minigrad.transforms.trace import Trace

from .objective import Objective


class Residuals(Objective):
    """`fun(x, *args)`, which returns residuals (a Tensor of any shape, or a tree of them), as a function of a flat x.

    `jac`, if given, returns the (m, n) Jacobian; `fun` then gets arrays where x0 held arrays. See `Objective`.
    """

    def __init__(self, fun, x0, args=(), jac=None, owner: str = "least_squares"):
        super().__init__(fun, x0, args, jac, owner=owner)

    def at(self, x: Array) -> ResidualPoint:  # type: ignore[override]
        self.nfev += 1
        x = x.astype(self.variables.start.dtype, copy=False)  # a Jacobian of a finer type leaves x what it was
        return (ResidualPoint if self.jac is None else GivenResidualPoint)(self, x)

    def meet(self, dtype: np.dtype) -> None:
        """Residuals of a coarser type than x have its rounding; integers have no derivative."""
        if dtype.kind != "f":
            raise TypeError(
                f"{self.owner}: the function returned residuals of {dtype}, which have no derivative; leave out what "
                "turned the values into them."
            )
        self.eps = max(self.eps, float(np.finfo(dtype).eps))


class ResidualPoint:
    """A point, its residuals, and their derivatives as they are asked for.

    x : (n,) array
    r : (m,) array of residuals
    cost : float, half the sum of their squares; infinite where any of them is NaN or infinite
    """

    def __init__(self, problem: Residuals, x: Array):
        self.problem, self.x = problem, x
        with no_grad(), np.errstate(all="ignore"):
            self.r = self._evaluate()
            if self.r.dtype != problem.variables.start.dtype:
                problem.meet(self.r.dtype)
            cost = 0.5 * float(self.r @ self.r)
        self.cost = cost if cost < np.inf else np.inf  # also for NaN

    def _evaluate(self) -> Array:
        problem = self.problem
        self.trace = Trace(problem.fun, (problem.variables.tensors(self.x), *problem.args), {}, (0,))
        if not sum(y.size for y in self.trace.outputs):
            raise ValueError(f"{problem.owner}: the function returned no residuals; it must return a Tensor of them.")
        return joined(self.trace.outputs, problem)

    @property
    def is_finite(self) -> bool:
        return self.cost < np.inf

    @property
    def unweighted(self) -> Array:
        """The residuals as the user's function gave them, (m,); here that is `r`, under a robust loss it is not."""
        return self.r

    @cached_property
    def J(self) -> Array:
        """The Jacobian, (m, n). The record has then served its purpose."""
        self.problem.njev += 1
        with no_grad(), np.errstate(all="ignore"):
            matrix = jacobian_matrix(self.trace)
        del self.trace
        return matrix

    @cached_property
    def g(self) -> Array:
        """The gradient of the cost, J'r, (n,); from the Jacobian if that is there, else by one walk back."""
        return self.vjp(self.r)

    def defect(self, p: Array, there: ResidualPoint) -> Array:
        """What the linear model misses at `there`, the point x + p: r(x + p) - r - J p, (m,)."""
        return there.r - self.r - self.jvp(p)

    def jvp(self, v: Array) -> Array:
        """J v, (m,), without J unless it is there."""
        if "J" in vars(self):
            return self.J @ v
        tangents = [Tensor(piece) for piece in self.problem.variables.leaves(v)]
        with no_grad(), np.errstate(all="ignore"):
            return joined(self.trace.push(tangents), self.problem)

    def vjp(self, u: Array) -> Array:
        """J'u, (n,), likewise."""
        if "J" in vars(self):
            return u @ self.J
        ends = np.cumsum([y.size for y in self.trace.outputs]).tolist()
        parts = zip([0, *ends[:-1]], ends, self.trace.outputs, strict=True)
        cotangents = [Tensor(u[begin:end].reshape(y.shape).astype(y.dtype, copy=False)) for begin, end, y in parts]
        with no_grad(), np.errstate(all="ignore"):
            return self.problem.variables.flat(self.trace.pull(cotangents))


class GivenResidualPoint(ResidualPoint):
    """The same where the user gave the Jacobian."""

    def _evaluate(self) -> Array:
        problem = self.problem
        r = problem.fun(problem.variables.given(self.x), *problem.args)
        if problem.jac is True:
            if not isinstance(r, tuple) or len(r) != 2:
                raise TypeError(f"{problem.owner}: with jac=True the function must return (residuals, jacobian).")
            r, self.given_jacobian = r
        return _float_array(r, problem).reshape(-1)

    @cached_property
    def J(self) -> Array:
        problem = self.problem
        problem.njev += 1
        if problem.jac is True:
            matrix = self.given_jacobian
        else:
            with np.errstate(all="ignore"):
                matrix = problem.jac(problem.variables.given(self.x), *problem.args)
        matrix = _float_array(matrix, problem)
        if matrix.shape != (self.r.size, self.x.size):
            raise ValueError(
                f"{problem.owner}: jac returned shape {matrix.shape}, expected {(self.r.size, self.x.size)}: a row for "
                "each residual, a column for each number in x0."
            )
        return matrix

    @cached_property
    def g(self) -> Array:
        return self.r @ self.J

    def jvp(self, v: Array) -> Array:
        return self.J @ v

    def vjp(self, u: Array) -> Array:
        return u @ self.J


def _float_array(value: Any, problem: Residuals) -> Array:
    array = value.data if isinstance(value, Tensor) else problem.variables.xp.asarray(value)
    return array if array.dtype.kind == "f" else array.astype(problem.variables.start.dtype)


def joined(outputs: list[Tensor], problem: Residuals) -> Array:
    """One vector of several Tensors."""
    if len(outputs) == 1:
        return outputs[0].data.reshape(-1)
    return problem.variables.xp.concatenate([y.data.reshape(-1) for y in outputs])
