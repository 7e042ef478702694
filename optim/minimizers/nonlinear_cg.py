"""Nonlinear conjugate gradients: steepest descent that does not undo its last step.

After this file you know three ways to choose how much of the last direction is kept, when to start afresh, and how a
preconditioner made of former steps helps where the variables have very different scales.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from minigrad.backend import Array

from ..solve.objective import Point
from ..solve.vectors import TINY, dot, norm
from .curvature_pairs import CurvaturePair, curvature_pair, two_loops
from .direction import OneStep
from .steepest_descent import SteepestDirection

# Each formula gets the old and the new gradient, the new one preconditioned (P g+), P applied to y = g+ - g, and the
# old direction d; without a preconditioner P is the identity.


def fletcher_reeves(old: Array, new: Array, P_new: Array, P_y: Array, d: Array) -> float:
    """g+'P g+ / g'P g (Fletcher and Reeves 1964)."""
    return dot(new, P_new) / max(dot(old, P_new - P_y), TINY)


def polak_ribiere_plus(old: Array, new: Array, P_new: Array, P_y: Array, d: Array) -> float:
    """max(0, y'P g+ / g'P g) (Polak and Ribiere 1969; Powell 1986)."""
    return max(0.0, dot(new, P_y) / max(dot(old, P_new - P_y), TINY))


def hager_zhang(old: Array, new: Array, P_new: Array, P_y: Array, d: Array) -> float:
    """(y'P g+ - 2 y'P y d'g+ / d'y) / d'y (Hager and Zhang, SIAM J. Optim. 16(1), 2005, eq. 1.3)."""
    y = new - old
    along = dot(d, y)
    if along == 0:
        return 0.0
    return (dot(y, P_new) - 2 * dot(y, P_y) * dot(d, new) / along) / along


LONGEST_CYCLE = 50
"""The most steps with one preconditioner, however many variables there are."""

BETAS = {"fr": fletcher_reeves, "pr+": polak_ribiere_plus, "hz": hager_zhang}


class NonlinearCGDirection(OneStep):
    """The direction d+ = -P g+ + beta d, of the length of the last step times the ratio of the slopes (Nocedal and
    Wright, section 3.5).

    A cycle of n steps, or fewer where d+ would not lead down enough, begins with beta = 0. P, the preconditioner, stays
    the same through a cycle: it is the L-BFGS matrix of the last steps before it (Buckley and LeNir, Math.
    Programming 27, 1983); so on a quadratic each cycle is that of linear conjugate gradients.

    beta : "hz" (Hager-Zhang), "pr+" (Polak-Ribiere+), "fr" (Fletcher-Reeves), or a function like theirs
    memory : how many steps make the preconditioner; 0 for none
    """

    def __init__(self, beta: str | Callable[..., float] = "hz", memory: int = 20):
        formula = beta if callable(beta) else BETAS.get(beta)
        if formula is None:
            raise ValueError(f"conjugate gradients: beta={beta!r}; expected one of {', '.join(BETAS)} or a function.")
        self.beta = formula
        self.steepest = SteepestDirection()
        self.pairs: deque[CurvaturePair] = deque(maxlen=int(memory))
        self._begin(())

    def _begin(self, pairs: Sequence[CurvaturePair]) -> None:
        """A new cycle, with these pairs as the preconditioner."""
        self.preconditioner = list(pairs)
        self.d: Array | None = None
        self.steps = 0

    def along(self, here: Point) -> Array:
        if self.d is not None:
            return self.length * self.d
        return -self._precondition(here.g) if self.preconditioner else self.steepest.along(here)

    def _precondition(self, v: Array) -> Array:
        return two_loops(self.preconditioner, v) if self.preconditioner else v

    def learn(self, old: Point, new: Point) -> None:
        self.steepest.learn(old, new)
        s, y = new.x - old.x, new.g - old.g
        pair = curvature_pair(s, y, old.objective.eps) if self.pairs.maxlen else None
        if pair is not None:
            self.pairs.append(pair)
        self.steps += 1
        if self.steps >= min(s.size, LONGEST_CYCLE):
            self._begin(self.pairs)
            return
        P_new, P_y = self._precondition(new.g), self._precondition(y)
        d = -self._precondition(old.g) if self.d is None else self.d
        d_new = self.beta(old.g, new.g, P_new, P_y, d) * d - P_new
        slope = dot(new.g, d_new)
        if not slope < -1e-4 * dot(new.g, P_new):
            self._begin(self.pairs)
            return
        length = norm(s) / norm(d)
        self.length = length * min(10.0, dot(old.g, d) / slope)
        self.d = d_new

    def forget(self) -> None:
        self.pairs.clear()
        self._begin(())
        self.steepest.forget()
