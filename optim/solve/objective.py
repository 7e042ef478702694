"""A function to minimize, and what is known of it at a point: value, gradient, Hessian, products with it.

After this file you know what a solver may ask, and that it pays only for what it asks: the value is computed with its
graph, backward runs through that graph when the gradient is asked for, and the graph is freed with the point.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from minigrad import Tensor, grad, no_grad, ones_like
from minigrad import hessian as hessian_of
from minigrad.backend import Array
from minigrad.transforms import vjp
from minigrad.transforms.trace import Graph, scalar_of

from .differences import Differences
from .problem import Derivative, Problem, check_functions
from .reach import compare_derivative, traced


class Objective(Problem):
    """`fun(x, *args)`, which returns one number, as a function of a flat x. For the first arguments see `Problem`.

    Parameters
    ----------
    jac : callable, True, str or None
        The gradient, in the form of x0.
    hess, hessp : callable or None
        `hess(x, *args)`, the (n, n) matrix, and `hessp(x, v, *args)`, its product with a vector.

    Attributes
    ----------
    floor : a value below this is no minimum: the function falls without bound
    box : the bounds of x, or None; set for a method that keeps to them
    """

    returns, asker = "(value, gradient)", "minimize"

    def __init__(
        self,
        fun: Callable,
        x0: Any,
        args: Any = (),
        jac: Derivative = None,
        hess: Callable | None = None,
        hessp: Callable | None = None,
        owner: str | None = None,
    ):
        super().__init__(fun, x0, args, jac, owner)
        check_functions(self.owner, hess=hess, hessp=hessp)
        self.hess, self.hessp = hess, hessp
        self.floor = -np.inf

    def at(self, x: Array) -> Point:
        """The point x, with its value computed."""
        self.nfev += 1
        return (Point if self.jac is None else GivenPoint)(self, x)

    def of_flat(self, x: Tensor) -> Tensor:
        """`fun` as a function of one flat Tensor, for derivatives by it."""
        variables = self.variables
        parts = zip(variables.chunks(x), variables.shapes, variables.dtypes, strict=True)
        leaves = [chunk.reshape(shape).astype(dtype) for chunk, shape, dtype in parts]
        return self.fun(variables.rebuild(leaves), *self.args).reshape(())

    def number(self, value: Array) -> float:
        """The value as a float, with +inf for NaN."""
        if value.dtype.kind == "f" and value.dtype.itemsize < self.variables.start.dtype.itemsize:
            self.note_rounding_of(value.dtype)
        f = float(value.reshape(-1)[0])
        return np.inf if f != f else f


class Point:
    """A point and the function's value there; derivatives are computed when first asked for, and kept.

    x : (n,) array
    f : float; +inf where the function gives NaN, so that no comparison takes it for low
    """

    trace: Graph
    """The graph from x to the value, until the gradient has been computed from it."""

    def __init__(self, objective: Objective, x: Array):
        self.objective, self.x = objective, x
        self.f = self._evaluate()

    def _evaluate(self) -> float:
        """The value, with the graph from which the gradient will come."""
        objective = self.objective
        with no_grad(), np.errstate(all="ignore"):
            self.trace, in_doubt = traced(objective, self.x)
        value = objective.number(scalar_of(self.trace, objective.owner).data)
        if in_doubt:
            compare_derivative(objective, self.x, self.g, lambda result: result.data.reshape(-1)[0])
        return value

    @property
    def is_finite(self) -> bool:
        return self.f < np.inf

    @property
    def noise(self) -> float:
        """By how much rounding may falsify the value: more than the last digit, since it is a sum of many terms."""
        return self.objective.eps**0.8 * abs(self.f)

    @cached_property
    def g(self) -> Array:
        """The gradient, (n,)."""
        self.objective.njev += 1
        with np.errstate(all="ignore"):
            one = ones_like(self.trace.outputs[0].detach())
            gradient = self.objective.variables.flat(self.trace.pull([one], retain_graph=False))
        del self.trace
        return gradient

    @property
    def has_finite_gradient(self) -> bool:
        return self.steepness < np.inf

    @property
    def free_g(self) -> Array:
        """The gradient, (n,), with 0 for each component that only pushes x against a bound where it already is."""
        box = self.objective.box
        return self.g if box is None else box.projected(self.x, self.g)

    @cached_property
    def steepness(self) -> float:
        """The largest component of `free_g`, absolutely; +inf where one is NaN."""
        largest = float(abs(self.free_g).max())
        return largest if largest < np.inf else np.inf

    @cached_property
    def hessian(self) -> Array:
        """The Hessian, (n, n), made symmetric."""
        objective = self.objective
        objective.nhev += 1
        if objective.hess is not None:
            matrix = objective.array(objective.hess(objective.variables.given(self.x), *objective.args))
            if matrix.shape != (self.x.size, self.x.size):
                raise ValueError(
                    f"{objective.owner}: hess returned shape {matrix.shape}, expected {(self.x.size, self.x.size)}."
                )
        else:
            with no_grad(), np.errstate(all="ignore"):
                matrix = hessian_of(objective.of_flat)(Tensor(self.x)).data
        return (matrix + matrix.T) / 2

    def hvp(self, v: Array) -> Array:
        """The Hessian times v; the graph of the gradient is built once for all products at this point."""
        objective = self.objective
        objective.nhev += 1
        if objective.hessp is not None:
            variables = objective.variables
            product = objective.hessp(variables.given(self.x), variables.given(v), *objective.args)
            return variables.flat_of(product, f"{objective.owner}: what hessp returned")
        if objective.hess is not None:
            return self.hessian @ v
        with np.errstate(all="ignore"):
            return self._pull(Tensor(v))[0].data

    @cached_property
    def _pull(self) -> Callable:
        with no_grad(), np.errstate(all="ignore"):
            return vjp(grad(self.objective.of_flat), Tensor(self.x))[1]


class GivenPoint(Point):
    """A point of a function whose gradient the user gave: no graph is built."""

    def _evaluate(self) -> float:
        objective = self.objective
        with no_grad(), np.errstate(all="ignore"):
            value, self.returned = objective.call_given(self.x)
        value = objective.array(value)
        if value.size != 1:
            raise ValueError(f"{objective.owner}: the function returned shape {value.shape}; expected one number.")
        return objective.number(value)

    @cached_property
    def g(self) -> Array:
        objective = self.objective
        gradient = objective.given_derivative(self.x, self.returned)
        if isinstance(objective.jac, Differences):
            return gradient[0]
        return objective.variables.flat_of(gradient, f"{objective.owner}: what jac returned")

    @cached_property
    def hessian(self) -> Array:
        if self.objective.hess is None:
            raise ValueError(
                f"{self.objective.owner}: this method needs second derivatives, and of a given jac there is none; "
                "give hess (or hessp), or leave jac out and let the engine differentiate fun."
            )
        return Point.hessian.func(self)  # type: ignore[attr-defined]

    def hvp(self, v: Array) -> Array:
        if self.objective.hessp is None:
            return self.hessian @ v
        return super().hvp(v)
