"""BFGS: an estimate of the inverse Hessian, learnt from how the gradient changed along the steps.

Each step adds what it taught to the estimate, which stays positive definite because steps without curvature are left
out, or damped.
"""

from __future__ import annotations

from minigrad.backend import Array

from ..solve.objective import Point
from ..solve.vectors import dot
from .curvature_pairs import CurvaturePair, curvature_pair
from .direction import OneStep
from .steepest_descent import SteepestDirection


class BFGSDirection(OneStep):
    """The direction -H g, with H updated after each step s, along which the gradient changed by y, to

        H+ = (I - s y'/y's) H (I - y s'/y's) + s s'/y's

    (Nocedal and Wright, eq. 6.17). Before the first update H is y's / y'y times the identity (eq. 6.20). A step with
    y's <= eps |y| |s| is left out, since H+ would lose its definiteness; with `damping` it is taken too, its s mixed
    with the step that H believed in, as far as needed (Powell's damping, for the inverse update).

    Attributes
    ----------
    H : (n, n) array, or None before the first update
    """

    def __init__(self, damping: bool = False):
        self.damping = damping
        self.H: Array | None = None
        self.steepest = SteepestDirection()

    def along(self, here: Point) -> Array:
        return self.steepest.along(here) if self.H is None else -(self.H @ here.g)

    def learn(self, old: Point, new: Point) -> None:
        self.steepest.learn(old, new)
        s, y = new.x - old.x, new.g - old.g
        if self.damping and self.H is not None:
            s = damped(s, y, self.H @ y)
        pair = curvature_pair(s, y, old.objective.eps)
        if pair is None:
            return
        if self.H is None:
            self.H = pair.inverse_curvature * old.objective.variables.xp.eye(s.size, dtype=s.dtype)
        update_inverse(self.H, pair)

    def forget(self) -> None:
        self.H = None
        self.steepest.forget()

    @property
    def hess_inv(self) -> Array | None:
        return self.H


def update_inverse(H: Array, pair: CurvaturePair) -> None:
    """Eq. 6.17 in place, multiplied out: H + s w' + w s' with w = (1 + y'Hy / y's) s / (2 y's) - H y / y's."""
    s, y, curvature = pair
    Hy = H @ y
    w = ((1 + dot(y, Hy) / curvature) / (2 * curvature)) * s - Hy / curvature
    half = s[:, None] * w
    H += half + half.T  # summed first, so that H stays symmetric to the last bit


def damped(s: Array, y: Array, Hy: Array) -> Array:
    """s, mixed with H y so far that y's is at least a fifth of y'Hy (the dual of Powell's damping, 1978)."""
    curvature, believed = dot(s, y), dot(y, Hy)
    if curvature >= 0.2 * believed or not believed > 0:
        return s
    share = 0.8 * believed / (believed - curvature)
    return share * s + (1 - share) * Hy
