"""L-BFGS between bounds: quasi-Newton in the variables that are free, the gradient in those that a bound holds.

After this file you know two-metric projection: why the projected path of a Newton step may lead up, and which variables
must be left out of the matrix so that it leads down.
"""

from __future__ import annotations

from minigrad.backend import Array

from ..solve.bounds import Box
from ..solve.interpolation import SHRINK, quadratic_share
from ..solve.objective import Point
from ..solve.vectors import dot, norm
from .curvature_pairs import CurvaturePair, two_loops
from .direction import Direction
from .lbfgs import LBFGSDirection

NEAR = 1e-3
"""A variable this near to a bound, or as near as the projected gradient is steep, counts as held by it."""


class ProjectedLBFGSDirection(LBFGSDirection):
    """The two-metric projection of Bertsekas (SIAM J. Control Optim. 20(2), 1982, 221-246), with L-BFGS's matrix.

    A variable is held where it is at a bound, or close, and the gradient pushes it there. Held variables follow their
    own gradient, and stop at the bound; all others take the quasi-Newton step of the pairs cut to them.
    """

    def along(self, here: Point) -> Array:
        if not self.pairs:
            return self.steepest.along(here)
        x, g, box = here.x, here.g, box_of(here)
        held = box.pressed(x, g, near=min(NEAR, here.steepness))
        towards_bound = box.clip(x - self.pairs[-1].inverse_curvature * g) - x
        free = (~held).astype(x.dtype)
        pairs = [pair for pair in (_cut(pair, free) for pair in self.pairs) if pair.curvature > 0]
        step = -two_loops(pairs, free * g) if pairs else -free * g
        return box.xp.where(held, towards_bound, step)


def _cut(pair: CurvaturePair, free: Array) -> CurvaturePair:
    """What the pair says about the free variables; with a curvature of zero where that is lost in rounding."""
    s, y = free * pair.s, free * pair.y
    curvature = dot(s, y)
    smallest = 1e-10 * norm(s) * norm(y)
    return CurvaturePair(s, y, curvature if curvature > smallest else 0.0)


class ProjectedSearch:
    """Backtracking along the projected path x(t) = P(x + t d), which bends where it meets a bound, to the decrease

        f(x(t)) <= f(x) + c1 g'(x(t) - x)    (Bertsekas 1982, eq. 16, in one form for all variables).

    Where the path is still steep at a first length that is good, longer ones are tried.
    """

    def __init__(self, c1: float = 1e-4, c2: float = 0.9, max_trials: int = 30):
        self.c1, self.c2, self.max_trials = c1, c2, max_trials

    def __call__(self, here: Point, direction: Direction) -> Point | None:
        step = direction.along(here)
        box, t = box_of(here), 1.0
        for number in range(self.max_trials):
            x = box.clip(here.x + t * step)
            promised = dot(here.g, x - here.x)
            if not promised < 0:
                return None
            trial = here.objective.at(x)
            if trial.f <= here.f + self.c1 * promised:
                if trial.f < here.objective.floor or trial.has_finite_gradient:
                    return self._longer(here, step, t, trial) if number == 0 else trial
                t *= SHRINK
                continue
            if abs(trial.f - here.f) <= here.noise:
                return trial if trial.steepness < here.steepness else None
            t *= quadratic_share(promised, trial.f - here.f)
        return None

    def _longer(self, here: Point, step: Array, t: float, best: Point) -> Point:
        """The best point of growing lengths, while the path there still falls nearly as steeply as at its start."""
        for _ in range(self.max_trials):
            moved = best.x - here.x
            if best.f < here.objective.floor or dot(best.g, moved) > self.c2 * dot(here.g, moved):
                return best
            t *= 4
            x = box_of(here).clip(here.x + t * step)
            if not (x != best.x).any():
                return best
            trial = here.objective.at(x)
            if not (trial.f < here.objective.floor or (trial.f < best.f and trial.has_finite_gradient)):
                return best
            best = trial
        return best


def box_of(here: Point) -> Box:
    """The bounds of the function whose point this is, which the method was chosen for."""
    box = here.objective.box
    assert box is not None
    return box
