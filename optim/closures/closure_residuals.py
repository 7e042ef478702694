"""The residuals that a closure computes, as a function of the parameters in one flat vector."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from minigrad import Tensor, tensor
from minigrad.backend import Array
from minigrad.transforms.trace import Graph

from ..solve.residuals import ResidualPoint, Residuals, joined
from .borrowing import call_at
from .closure_checks import check_reach, check_residuals, went_backward_in_vain


class ClosureResiduals(Residuals):
    """The residuals that `closure()` returns, as a function of the parameters; see `ClosureObjective`.

    first_loss : half the sum of their squares at the first point
    """

    went_backward = False

    def __init__(self, closure: Callable[[], Any], params: Sequence[Tensor], owner: str):
        super().__init__(closure, [p.detach() for p in params], owner=owner)
        self.params = params
        self.first_loss: Tensor | float = math.nan

    def at(self, x: Array) -> ClosureResidualPoint:
        self.nfev += 1
        point = ClosureResidualPoint(self, x)
        if self.nfev == 1:
            self.first_loss = tensor(point.cost, dtype=point.r.dtype, device=Tensor(point.r).device)
        return point


class ClosureResidualPoint(ResidualPoint):
    """The residuals that the closure returned at a point."""

    problem: ClosureResiduals

    def _evaluate(self) -> Array:
        problem = self.problem
        inputs, returned = call_at(problem, self.x)
        if any(p.grad is not None for p in problem.params):
            raise RuntimeError(went_backward_in_vain(problem.owner, "residuals"))
        self.trace = Graph(inputs, check_residuals(returned, problem.owner))
        check_reach(self.trace, problem, "residuals")
        return joined(self.trace.outputs, problem.variables)
