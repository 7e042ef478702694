"""Residuals to make small in the sense of least squares, and what is known of them at a point.

Residuals r of x are computed with their graph. All columns of the Jacobian J are pushed through that graph together;
where J is too large to write down, products with vectors take its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from minigrad import Tensor, no_grad
from minigrad.backend import Array
from minigrad.transforms.jacobians import jacobian_matrix
from minigrad.transforms.trace import Graph
from minigrad.transforms.trees import flatten

from .problem import Problem
from .reach import compare_derivative, traced
from .variables import Variables

MANY = 100_000
"""A Jacobian with more entries is not made for a look at it alone."""


class ResidualProblem(Protocol):
    """What a fit asks of a problem: residuals as they are, or weighted by a robust loss."""

    variables: Variables

    @property
    def nfev(self) -> int: ...

    @property
    def njev(self) -> int: ...

    @property
    def eps(self) -> float: ...

    def at(self, x: Array) -> ResidualPoint: ...


class Residuals(Problem):
    """`fun(x, *args)`, which returns residuals (a Tensor of any shape, or a tree of them), as a function of a flat x.

    `jac`, if given, is the (m, n) Jacobian. For the other arguments see `Problem`.
    """

    returns, asker = "(residuals, jacobian)", "least_squares"

    def at(self, x: Array) -> ResidualPoint:
        """The point x, with its residuals computed."""
        self.nfev += 1
        x = x.astype(self.variables.start.dtype, copy=False)  # a Jacobian of a finer dtype leaves that of x alone
        return (ResidualPoint if self.jac is None else GivenResidualPoint)(self, x)

    def meet(self, dtype: np.dtype) -> None:
        """Look at the dtype of residuals: integers have no derivative."""
        if dtype.kind != "f":
            raise TypeError(
                f"{self.owner}: the function returned residuals of {dtype}, which have no derivative; leave out what "
                "turned the values into them."
            )
        self.note_rounding_of(dtype)


class ResidualPoint:
    """A point, its residuals, and their derivatives as they are asked for.

    x : (n,) array
    r : (m,) array of residuals
    cost : float, half the sum of their squares; infinite where any of them is NaN or infinite
    """

    problem: Any  # ResidualProblem, or what a subclass makes of it
    trace: Graph
    """The graph from x to the residuals, until the Jacobian has been computed from it."""

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
        self.trace, in_doubt = traced(problem, self.x)
        if not sum(y.size for y in self.trace.outputs):
            raise ValueError(f"{problem.owner}: the function returned no residuals; it must return a Tensor of them.")
        r = joined(self.trace.outputs, problem.variables)
        if in_doubt and r.dtype.kind == "f" and r.size * self.x.size <= MANY:
            compare_derivative(problem, self.x, self.J, lambda result: joined(flatten(result)[0], problem.variables))
        return r

    @property
    def is_finite(self) -> bool:
        return self.cost < np.inf

    @property
    def unweighted(self) -> Array:
        """The residuals as the user's function gave them, (m,); under a robust loss `r` differs from them."""
        return self.r

    @cached_property
    def J(self) -> Array:
        """The Jacobian, (m, n). The graph is then freed."""
        self.problem.njev += 1
        with no_grad(), np.errstate(all="ignore"):
            matrix = jacobian_matrix(self.trace)
        del self.trace
        return matrix

    @cached_property
    def g(self) -> Array:
        """The gradient of the cost, J'r, (n,); from the Jacobian if that is there, else by one backward pass."""
        return self.vjp(self.r)

    def defect(self, p: Array, there: ResidualPoint) -> Array:
        """What the linear model misses at `there`, the point x + p: r(x + p) - r - J p, (m,)."""
        return there.r - self.r - self.jvp(p)

    def jvp(self, v: Array) -> Array:
        """J v, (m,): from the Jacobian if that is there, else pushed through the graph."""
        if "J" in vars(self):
            return self.J @ v
        variables = self.problem.variables
        with no_grad(), np.errstate(all="ignore"):
            return joined(self.trace.push([Tensor(leaf) for leaf in variables.leaves(v)]), variables)

    def vjp(self, u: Array) -> Array:
        """J'u, (n,): from the Jacobian if that is there, else pulled back through the graph."""
        if "J" in vars(self):
            return u @ self.J
        ends = np.cumsum([y.size for y in self.trace.outputs]).tolist()
        parts = zip([0, *ends[:-1]], ends, self.trace.outputs, strict=True)
        cotangents = [Tensor(u[begin:end].reshape(y.shape).astype(y.dtype, copy=False)) for begin, end, y in parts]
        with no_grad(), np.errstate(all="ignore"):
            return self.problem.variables.flat(self.trace.pull(cotangents))


class GivenResidualPoint(ResidualPoint):
    """A point of residuals whose Jacobian the user gave: no graph is built."""

    def _evaluate(self) -> Array:
        r, self.returned = self.problem.call_given(self.x)
        return self._floats(r).reshape(-1)

    @cached_property
    def J(self) -> Array:
        matrix = self._floats(self.problem.given_derivative(self.x, self.returned))
        if matrix.shape != (self.r.size, self.x.size):
            raise ValueError(
                f"{self.problem.owner}: jac returned shape {matrix.shape}, expected {(self.r.size, self.x.size)}: a "
                "row for each residual, a column for each number in x0."
            )
        return matrix

    @cached_property
    def g(self) -> Array:
        return self.r @ self.J

    def jvp(self, v: Array) -> Array:
        return self.J @ v

    def vjp(self, u: Array) -> Array:
        return u @ self.J

    def _floats(self, value: Any) -> Array:
        array = self.problem.array(value)
        return array if array.dtype.kind == "f" else array.astype(self.problem.variables.start.dtype)


def joined(outputs: Sequence[Tensor], variables: Variables) -> Array:
    """One vector of several Tensors."""
    if len(outputs) == 1:
        return outputs[0].data.reshape(-1)
    return variables.xp.concatenate([y.data.reshape(-1) for y in outputs])
