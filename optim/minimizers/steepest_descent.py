"""Steepest descent: along the negative gradient, which gets its length from what the last step gained."""

from __future__ import annotations

from minigrad.backend import Array

from ..solve.objective import Point
from ..solve.vectors import dot, norm
from .direction import OneStep


class SteepestDirection(OneStep):
    """-g, of the length at which a function that is quadratic along it would fall as much as by the last step
    (Nocedal and Wright, eq. 3.60): t = 2 (f_old - f) / g'g. The first step is `first_length` long.

    unscaled : whether the step is -g itself, for a step rule that states the length
    """

    def __init__(self, unscaled: bool = False):
        self.unscaled = unscaled
        self.gained: float | None = None

    def along(self, here: Point) -> Array:
        if self.unscaled:
            return -here.g
        if self.gained is None:
            return -first_length(here) * (without_symmetry(here) * here.g)
        length = norm(here.g)
        return -(2.02 * self.gained / length / length) * here.g

    def within(self, here: Point, radius: float) -> tuple[Array, float]:
        """The Cauchy point: the lowest of the quadratic model along -g, no further than the radius."""
        g = here.g
        squared = norm(g) ** 2
        longest = radius / norm(g)
        curvature = dot(g, here.hvp(g))
        t = min(longest, squared / curvature) if curvature > 0 else longest
        return -t * g, t * squared - t * t * curvature / 2

    def learn(self, old: Point, new: Point) -> None:
        gained = old.f - new.f
        self.gained = gained if gained > 0 else None

    def forget(self) -> None:
        self.gained = None


class SteepestByOneNorm(SteepestDirection):
    """The same, with a first step of min(1, 1 / |g|_1) times -g: PyTorch's L-BFGS begins with it."""

    def along(self, here: Point) -> Array:
        if self.gained is not None:
            return super().along(here)
        size = float(abs(here.g).sum())
        return -min(1.0, 1 / size) * here.g if size > 0 else -here.g


def first_length(here: Point) -> float:
    """The t of a first step -t g: the step is 1 long, or as long as g where that is less."""
    return min(1.0, 1 / norm(here.g))


def without_symmetry(here: Point) -> Array:
    """Factors (n,) that differ from 1, and from each other, by about a millionth (in float64).

    A start often has a symmetry of the function, as where all variables are 1. Steps made of gradients keep that
    symmetry, and runs then end at saddles, which are lowest among the symmetric points only. (From the standard start
    of Biggs' EXP6, with x1 = x5 and x3 = x6, all methods do.) The factors are the same in each run.
    """
    xp = here.objective.variables.xp
    golden = xp.arange(1, here.x.size + 1, dtype=here.x.dtype) * 0.6180339887498949 % 1
    return 1 + here.objective.eps**0.4 * (golden - 0.5)
