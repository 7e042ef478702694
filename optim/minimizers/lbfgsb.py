"""L-BFGS between bounds: quasi-Newton in the variables that are free, the gradient in those that a bound holds.

After this file you know two-metric projection: why the projected path of a Newton step may lead up, and which variables
must be left out of the matrix so that it leads down.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad.backend import Array
from minigrad.transforms.trees import flatten

from ..solve.interpolation import quadratic_share
from ..solve.objective import Point
from ..solve.variables import Variables
from ..solve.vectors import dot, norm
from .descent_loop import Direction, noise
from .lbfgs import LBFGS, Pair, two_loops

NEAR = 1e-3
"""A variable so near to a bound, or as near as the projected gradient is long, counts as held by it."""


class ProjectedLBFGS(LBFGS):
    """The two-metric projection of Bertsekas (SIAM J. Control Optim. 20(2), 1982, 221-246), with L-BFGS's matrix.

    A variable is held where it is at a bound, or close, and the gradient pushes it there. Held variables follow their
    own gradient, and stop at the bound; all others take the quasi-Newton step of the pairs cut to them.
    """

    def along(self, here: Point) -> Array:
        if not self.pairs:
            return self.steepest.along(here)
        x, g, lower, upper = here.x, here.g, here.objective.lower, here.objective.upper
        near = min(NEAR, here.steepness)
        held = ((x <= lower + near) & (g > 0)) | ((x >= upper - near) & (g < 0))
        newest = self.pairs[-1]
        towards_bound = (x - (newest.curvature / norm(newest.y) / norm(newest.y)) * g).clip(lower, upper) - x
        free = (~held).astype(x.dtype)
        pairs = [pair for pair in (_cut(pair, free) for pair in self.pairs) if pair.curvature > 0]
        step = -two_loops(pairs, free * g) if pairs else -free * g
        return here.objective.variables.xp.where(held, towards_bound, step)


def _cut(pair: Pair, free: Array) -> Pair:
    """What the pair says about the free variables; without curvature where that cannot be told."""
    s, y = free * pair.s, free * pair.y
    curvature = dot(s, y)
    smallest = 1e-10 * norm(s) * norm(y)
    return Pair(s, y, curvature if curvature > smallest else 0.0)


class ProjectedSearch:
    """Backtracking along the projected path x(t) = P(x + t d), which bends where it meets a bound, to the decrease

        f(x(t)) <= f(x) + c1 g'(x(t) - x)    (Bertsekas 1982, eq. 16, in one form for all variables).

    Where the path is still steep at a first length that is good, longer ones are tried.
    """

    def __init__(self, c1: float = 1e-4, c2: float = 0.9, max_trials: int = 30):
        self.c1, self.c2, self.max_trials = c1, c2, max_trials

    def __call__(self, here: Point, direction: Direction) -> Point | None:
        step = direction.along(here)
        lower, upper = here.objective.lower, here.objective.upper
        t = 1.0
        for number in range(self.max_trials):
            x = (here.x + t * step).clip(lower, upper)
            promised = dot(here.g, x - here.x)
            if not promised < 0:
                return None
            trial = here.objective.at(x)
            if trial.f <= here.f + self.c1 * promised:
                return self._longer(here, step, t, trial) if number == 0 else trial
            if abs(trial.f - here.f) <= noise(here):
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
            x = (here.x + t * step).clip(here.objective.lower, here.objective.upper)
            if not (x != best.x).any():
                return best
            trial = here.objective.at(x)
            if not trial.f < best.f:
                return best
            best = trial
        return best


def read_bounds(bounds: Any, variables: Variables, owner: str) -> tuple[Array, Array]:
    """The lowest and the highest x, (n,) each, of what the user gave; see `minimize`."""
    if hasattr(bounds, "lb") and hasattr(bounds, "ub"):
        pairs = [bounds.lb, bounds.ub]
    elif isinstance(bounds, dict):
        pairs = _of_dict(bounds, variables, owner)
    else:
        pairs = _of_pairs(list(bounds), variables, owner)
    lower, upper = (np.broadcast_to(np.asarray(end, dtype=float), variables.size) for end in pairs)
    if not (lower <= upper).all():
        at = int(np.argmin(lower <= upper))
        raise ValueError(f"{owner}: bound {at} is ({lower[at]}, {upper[at]}); expected lowest <= highest, and no NaN.")
    dtype = variables.start.dtype
    return variables.xp.asarray(lower.astype(dtype)), variables.xp.asarray(upper.astype(dtype))


def _of_pairs(given: list, variables: Variables, owner: str) -> list[list[float]]:
    if len(given) != variables.size or not all(np.size(pair) == 2 for pair in given):
        raise ValueError(
            f"{owner}: bounds are {given!r}; expected {variables.size} pairs (low, high), one for each number of x0."
        )
    return [
        [-math.inf if low is None else float(low) for low, _ in given],
        [math.inf if high is None else float(high) for _, high in given],
    ]


def _of_dict(given: dict, variables: Variables, owner: str) -> list[Array]:
    """One pair for each entry of a dict x0, which holds for all numbers of that entry."""
    if not isinstance(variables.tree, dict) or set(given) - set(variables.tree):
        raise ValueError(f"{owner}: bounds are a dict with {', '.join(map(str, given))}; expected keys of a dict x0.")
    ends = {name: given.get(name, (None, None)) for name in variables.tree}
    both: list[Array] = []
    for side, without in ((0, -math.inf), (1, math.inf)):
        filled = {
            name: _filled(variables.tree[name], without if pair[side] is None else float(pair[side]))
            for name, pair in ends.items()
        }
        both.append(np.concatenate([leaf.reshape(-1) for leaf in flatten(filled)[0]]))
    return both


def _filled(tree: Any, value: float) -> Any:
    """The same tree with this value everywhere, as arrays on the host."""
    leaves, rebuild = flatten(tree)
    return rebuild([np.full(np.shape(leaf) if not hasattr(leaf, "shape") else leaf.shape, value) for leaf in leaves])
