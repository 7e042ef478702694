"""The loss that a closure computes, as a function of the parameters in one flat vector."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from minigrad import Tensor, enable_grad, no_grad, ones_like, zeros_like
from minigrad.autograd import grad
from minigrad.backend import Array
from minigrad.transforms.jacobians import jacobian_matrix
from minigrad.transforms.trace import Graph

from ..solve.objective import Objective, Point
from .borrowing import call_at
from .closure_checks import check_loss, check_reach, went_backward_in_vain


class ClosureObjective(Objective):
    """The loss that `closure()` returns, as a function of the parameters in one flat vector. Used while `borrowed`.

    There are two kinds of closures. One returns the loss, and backward is run through its graph here; the other has
    called backward itself, and the gradients lie in the parameters.

    first_loss : what the closure returned at the first point
    went_backward : whether the closure calls backward
    """

    def __init__(self, closure: Callable[[], Any], params: Sequence[Tensor], owner: str):
        super().__init__(closure, [p.detach() for p in params], owner=owner)
        self.params = params
        self.first_loss: Tensor | float = math.nan
        self.went_backward = False

    def at(self, x: Array) -> ClosurePoint:
        self.nfev += 1
        point = self.point(x)
        if self.nfev == 1:
            self.first_loss = point.loss
        return point

    def point(self, x: Array) -> ClosurePoint:
        return ClosurePoint(self, x)


class CurvedObjective(ClosureObjective):
    """A loss whose second derivatives are wanted, so that the closure must leave backward to the optimizer."""

    def point(self, x: Array) -> ClosurePoint:
        return CurvedPoint(self, x)


class ClosurePoint(Point):
    """What the closure said at a point. loss : what it returned, as a detached Tensor or a number."""

    objective: ClosureObjective
    may_go_backward = True

    def _evaluate(self) -> float:
        problem = self.objective
        inputs, loss = call_at(problem, self.x)
        gradients = [p.grad for p in problem.params]
        problem.went_backward = any(g is not None for g in gradients)
        check_loss(loss, problem.owner, has_graph=not problem.went_backward)
        if problem.went_backward:
            if not self.may_go_backward:
                raise RuntimeError(went_backward_in_vain(problem.owner, "loss"))
            pairs = zip(gradients, inputs, strict=True)
            self.pulled = problem.variables.flat([zeros_like(x.detach()) if g is None else g for g, x in pairs])
        else:
            self.trace = Graph(inputs, [loss])
            check_reach(self.trace, problem, "loss")
        self.loss = loss.detach() if isinstance(loss, Tensor) else loss
        return problem.number(loss.data if isinstance(loss, Tensor) else np.asarray(float(loss)))

    @cached_property
    def g(self) -> Array:
        if "pulled" not in vars(self):
            return Point.g.func(self)  # type: ignore[attr-defined]
        self.objective.njev += 1
        return self.pulled


class CurvedPoint(ClosurePoint):
    """A point whose gradient has a graph, so that it can be differentiated once more."""

    may_go_backward = False

    @cached_property
    def slopes(self) -> Graph:
        """The graph from the parameters to the gradient."""
        inputs, (loss,) = self.trace.inputs, self.trace.outputs
        with enable_grad(), np.errstate(all="ignore"):
            found = grad(loss, inputs, ones_like(loss.detach()), create_graph=True, allow_unused=True)
        pairs = zip(found, inputs, strict=True)
        return Graph(inputs, [zeros_like(x.detach()) if g is None else g for g, x in pairs])

    @cached_property
    def g(self) -> Array:
        self.objective.njev += 1
        return self.objective.variables.flat(self.slopes.outputs)

    @cached_property
    def hessian(self) -> Array:
        """(n, n): all columns pushed through the graph of the gradient together."""
        self.objective.nhev += 1
        with no_grad(), np.errstate(all="ignore"):
            matrix = jacobian_matrix(self.slopes)
        return (matrix + matrix.T) / 2

    def hvp(self, v: Array) -> Array:
        """The Hessian times v: since it is symmetric, v pulled back through the graph of the gradient."""
        variables = self.objective.variables
        self.objective.nhev += 1
        with no_grad(), np.errstate(all="ignore"):
            return variables.flat(self.slopes.pull([Tensor(leaf) for leaf in variables.leaves(v)]))
