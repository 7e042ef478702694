"""A function to minimize, and what is known of it at a point: value, gradient, Hessian, products with it.

After this file you know what a solver may ask, and that it pays only for what it asks: the value is computed with its
record, the gradient walks back along that record when somebody wants it, and the record goes with the point.
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
from minigrad.transforms.trace import Trace, scalar_of

from .variables import Variables


class Objective:
    """`fun(x, *args)` as a function of one flat vector, with its counts.

    Parameters
    ----------
    fun : callable
        From Tensors in the form of x0 to one number. With `jac` given, it gets arrays where x0 held arrays, so that
        a plain NumPy function will do.
    x0 : array, Tensor, or a tuple, list or dict of them
    jac : callable, True or None
        The gradient; True where `fun` returns (value, gradient); None: the engine's.
    hess, hessp : callable or None
        `hess(x, *args)`, the (n, n) matrix, and `hessp(x, v, *args)`, its product with a vector.
    owner : str
        Whose name errors carry.

    Attributes
    ----------
    nfev, njev, nhev : how many values, gradients and Hessians (or products) were computed
    eps : the rounding unit of the coarsest number type met, in x or in the value
    floor : a value below this is no minimum: the function falls without bound
    lower, upper : bounds of the flat x, (n,) each, or None; set by a method that keeps to them
    """

    def __init__(self, fun, x0, args=(), jac=None, hess=None, hessp=None, owner: str = "minimize"):
        if not isinstance(args, tuple):
            args = (args,)
        for name, given in (("fun", fun), ("jac", jac), ("hess", hess), ("hessp", hessp)):
            if not (callable(given) or given is None or (name == "jac" and given is True)):
                raise TypeError(f"{owner}: {name} must be a function, got {given!r}.")
        self.owner, self.fun, self.args = owner, fun, args
        self.jac, self.hess, self.hessp = jac, hess, hessp
        self.variables = Variables(x0, owner)
        self.eps = self.variables.eps
        self.floor = -np.inf
        self.lower: Any = None
        self.upper: Any = None
        self.nfev = self.njev = self.nhev = 0

    def at(self, x: Array) -> Point:
        """The point x, with its value computed."""
        self.nfev += 1
        return (Point if self.jac is None else GivenPoint)(self, x)

    def of_flat(self, x: Tensor) -> Any:
        """`fun` as a function of one flat Tensor, for derivatives by it."""
        pieces = [x] if len(self.variables.ends) == 1 else self._pieces(x)
        leaves = [
            piece.reshape(shape).astype(dtype)
            for piece, shape, dtype in zip(pieces, self.variables.shapes, self.variables.dtypes, strict=True)
        ]
        return self.fun(self.variables.rebuild(leaves), *self.args).reshape(())

    def number(self, value: Array) -> float:
        """The value as a float, with +inf for NaN; a value of a coarser type than x has its rounding."""
        if value.dtype.kind == "f" and value.dtype.itemsize < self.variables.start.dtype.itemsize:
            self.eps = max(self.eps, float(np.finfo(value.dtype).eps))
        f = float(value.reshape(-1)[0])
        return np.inf if f != f else f

    def _pieces(self, x: Tensor) -> list[Tensor]:
        ends = self.variables.ends
        return [x[begin:end] for begin, end in zip([0, *ends[:-1]], ends, strict=True)]


class Point:
    """A point and the function's value there; derivatives are computed when first asked for, and kept.

    x : (n,) array
    f : float; +inf where the function gives NaN, so that no comparison takes it for low
    """

    def __init__(self, objective: Objective, x: Array):
        self.objective, self.x = objective, x
        self.f = self._evaluate()

    def _evaluate(self) -> float:
        """The value, with the record from which the gradient will come."""
        objective = self.objective
        with no_grad(), np.errstate(all="ignore"):
            self.trace = Trace(objective.fun, (objective.variables.tensors(self.x), *objective.args), {}, (0,))
        return objective.number(scalar_of(self.trace, objective.owner).data)

    @property
    def is_finite(self) -> bool:
        return self.f < np.inf

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
        objective = self.objective
        if objective.lower is None:
            return self.g
        held = ((self.x <= objective.lower) & (self.g > 0)) | ((self.x >= objective.upper) & (self.g < 0))
        return objective.variables.xp.where(held, 0, self.g)

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
            matrix = objective.hess(self._given(), *objective.args)
            matrix = objective.variables.xp.asarray(matrix.data if isinstance(matrix, Tensor) else matrix)
            if matrix.shape != (self.x.size, self.x.size):
                raise ValueError(
                    f"{objective.owner}: hess returned shape {matrix.shape}, expected {(self.x.size, self.x.size)}."
                )
        else:
            with no_grad(), np.errstate(all="ignore"):
                matrix = hessian_of(objective.of_flat)(Tensor(self.x)).data
        return (matrix + matrix.T) / 2

    def hvp(self, v: Array) -> Array:
        """The Hessian times v; the gradient is recorded once for all products at this point."""
        objective = self.objective
        objective.nhev += 1
        if objective.hessp is not None:
            product = objective.hessp(self._given(), objective.variables.given(v), *objective.args)
            return objective.variables.flat_of(product, f"{objective.owner}: what hessp returned")
        if objective.hess is not None:
            return self.hessian @ v
        with np.errstate(all="ignore"):
            return self._pull(Tensor(v))[0].data

    @cached_property
    def _pull(self) -> Callable:
        with no_grad(), np.errstate(all="ignore"):
            return vjp(grad(self.objective.of_flat), Tensor(self.x))[1]

    def _given(self) -> Any:
        return self.objective.variables.given(self.x)


class GivenPoint(Point):
    """The same where the user gave the gradient: nothing is recorded."""

    def _evaluate(self) -> float:
        objective = self.objective
        with no_grad(), np.errstate(all="ignore"):
            value = objective.fun(self._given(), *objective.args)
        if objective.jac is True:
            if not isinstance(value, tuple) or len(value) != 2:
                raise TypeError(f"{objective.owner}: with jac=True the function must return (value, gradient).")
            value, self.given_gradient = value
        value = value.data if isinstance(value, Tensor) else objective.variables.xp.asarray(value)
        if value.size != 1:
            raise ValueError(f"{objective.owner}: the function returned shape {value.shape}; expected one number.")
        return objective.number(value)

    @cached_property
    def g(self) -> Array:
        objective = self.objective
        objective.njev += 1
        if objective.jac is True:
            given = self.given_gradient
        else:
            with np.errstate(all="ignore"):
                given = objective.jac(self._given(), *objective.args)
        return objective.variables.flat_of(given, f"{objective.owner}: what jac returned")

    @cached_property
    def hessian(self) -> Array:
        if self.objective.hess is None and self.objective.jac is not None:
            raise ValueError(
                f"{self.objective.owner}: this method needs second derivatives, and of a given jac there is none; "
                "give hess (or hessp), or leave jac out and let the engine differentiate fun."
            )
        return Point.hessian.func(self)  # type: ignore[attr-defined]

    def hvp(self, v: Array) -> Array:
        if self.objective.hessp is None:
            return self.hessian @ v
        return super().hvp(v)
