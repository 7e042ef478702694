"""What the optimizers of a loss share: one step is a descent by a direction and a step rule of `minimize`."""

from __future__ import annotations

import math
from dataclasses import dataclass

from minigrad.backend import Array

from ..minimizers.descent_loop import DescentLimits, descend
from ..minimizers.direction import Direction, OneStep, StepRule
from ..minimizers.line_search import FixedStep, line_search
from ..solve.objective import Point
from ..solve.result import Reason
from .closure_objective import ClosureObjective
from .closure_optimizer import ClosureOptimizer
from .option_checks import Group
from .step_watch import StepWatch, evaluations


@dataclass
class DescentParts:
    """The pair that searches in one step."""

    direction: Direction
    step_rule: StepRule


class DescentOptimizer(ClosureOptimizer):
    """An optimizer whose closure gives a loss, which a pair of `minimize` lowers."""

    problem = ClosureObjective

    def search(
        self, problem: ClosureObjective, parts: DescentParts, group: Group, watch: StepWatch
    ) -> tuple[Point, int, Reason]:
        limits = DescentLimits(gtol=group["tolerance_grad"], maxiter=math.inf, max_nfev=evaluations(group))
        last, iterations, reason = descend(problem, parts.direction, parts.step_rule, limits, watch)
        return last, iterations, watch.reason or reason

    def lowered(self, last: Point) -> float:
        return last.f


class ScaledDirection(OneStep):
    """A direction with `lr` times the step, so that a search begins there."""

    def __init__(self, direction: Direction, lr: float):
        self.direction, self.lr = direction, lr

    def along(self, here: Point) -> Array:
        return self.lr * self.direction.along(here)


class ScaledSearch:
    """A line search that begins at `lr` times the direction's step."""

    def __init__(self, search: StepRule, lr: float):
        self.search, self.lr = search, lr

    def __call__(self, here: Point, direction: Direction) -> Point | Reason | None:
        return self.search(here, direction if self.lr == 1 else ScaledDirection(direction, self.lr))


def searched(group: Group, name: str | None) -> StepRule:
    """The step rule of a name in PyTorch's manner; None is a fixed length."""
    if name is None:
        return FixedStep(group["lr"])
    return ScaledSearch(line_search({"line_search": name}, name), group["lr"])
