"""What ends a step of an optimizer of models before the search has ended by itself."""

from __future__ import annotations

from typing import Any

from ..solve.result import Reason
from .borrowing import ClosureProblem
from .option_checks import Group

ENOUGH_FOR_NOW = Reason(0, False, "max_iter iterations were made; call step again to go on")
SETTLED = Reason(2, True, "the loss or the parameters change by less than tolerance_change")


class StepWatch:
    """Sees each point of a search: it keeps the last one, should the search break off, and ends a step in time.

    x : the last accepted point; `problem.variables.start` itself as long as there is none
    reason : why the search was stopped, if it was
    """

    def __init__(self, problem: ClosureProblem, group: Group):
        self.problem, self.group = problem, group
        self.x = problem.variables.start
        self.f: float | None = None
        self.reason: Reason | None = None

    def __call__(self, here: Any, iteration: int) -> bool:
        is_over = "tolerance_grad" in self.group and here.steepness <= self.group["tolerance_grad"]
        if not is_over and "tolerance_change" in self.group and self._is_settled(here, self.group["tolerance_change"]):
            self.reason = SETTLED
        if not is_over and iteration >= self.group["max_iter"]:
            self.reason = ENOUGH_FOR_NOW
        self.x = here.x
        return self.reason is not None

    def _is_settled(self, here: Any, tolerance: float) -> bool:
        before, self.f = (float(self.problem.first_loss) if self.f is None else self.f), here.f
        return abs(before - here.f) < tolerance * abs(here.f) or float(abs(here.x - self.x).max()) < tolerance


def evaluations(group: Group) -> float:
    """How many evaluations a step may make; by default so many that max_iter ends nearly all steps first."""
    return 2 * group["max_iter"] + 10 if group["max_eval"] is None else group["max_eval"]
