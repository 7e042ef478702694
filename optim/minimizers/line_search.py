"""How far to go along a direction: fixed, exact for a quadratic, backtracking, and the search for the Wolfe conditions.

After this file you know what makes a step long enough and not too long, and what a search does with points where the
function is NaN or infinite: it looks for them first, and turns back from them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property

from minigrad.backend import Array

from ..solve.interpolation import SHRINK, cubic_share, quadratic_share, secant_share
from ..solve.objective import Point
from ..solve.vectors import dot
from .direction import Direction, StepRule
from .method_options import OptionValues

GROW = 10.0
"""A next length is at most this many times the last one."""


class Line:
    """The function along a step: phi(t) = f(x + t step), with phi(0) known.

    slope : phi'(0), negative where the step leads down
    """

    def __init__(self, here: Point, step: Array):
        self.here, self.step = here, step
        self.slope = dot(here.g, step)
        self.noise = here.noise

    def at(self, t: float) -> Trial:
        """The function at a length t; +inf where that is so long that x overflows."""
        return Trial(t, self.here.objective.at(self.here.x + t * self.step), self)

    def moves(self, t: float) -> bool:
        """Whether a step of length t changes x in floating point."""
        return bool((self.here.x + t * self.step != self.here.x).any())


class Trial:
    """A length that was tried, and the function there; the slope is computed when first asked for."""

    def __init__(self, t: float, point: Point, line: Line):
        self.t, self.point, self.line, self.f = t, point, line, point.f

    @cached_property
    def slope(self) -> float:
        return dot(self.point.g, self.line.step)

    @property
    def knows_slope(self) -> bool:
        return "slope" in vars(self)

    @property
    def is_finite(self) -> bool:
        """Whether the value is below +inf (which also stands for NaN); minus infinity ends the run."""
        return self.f < math.inf

    @property
    def is_unbounded(self) -> bool:
        """Whether the value is lower than any minimum."""
        return self.f < self.point.objective.floor

    def has_fallen(self, c1: float) -> bool:
        """The sufficient decrease of Armijo: at least the share c1 of what the slope promised."""
        return self.f <= self.line.here.f + c1 * self.t * self.line.slope

    def is_level(self) -> bool:
        """Whether the value equals the first one to rounding, so that only slopes can tell which point is better."""
        return abs(self.f - self.line.here.f) <= self.line.noise


class FixedStep:
    """Always the same share of the direction's step, wherever it leads; None where the value is infinite or NaN."""

    def __init__(self, length: float = 1.0):
        self.length = length

    def __call__(self, here: Point, direction: Direction) -> Point | None:
        trial = Line(here, direction.along(here)).at(self.length)
        return trial.point if trial.is_finite else None


class Armijo:
    """Backtracking: the first length from 1 downwards with a sufficient decrease (Nocedal and Wright, algorithm 3.1).

    c1 : the share of the decrease promised by the slope that is enough
    max_trials : lengths tried before giving up
    """

    def __init__(self, c1: float = 1e-4, max_trials: int = 30):
        self.c1, self.max_trials = c1, max_trials

    def __call__(self, here: Point, direction: Direction) -> Point | None:
        line = Line(here, direction.along(here))
        return self.search(line) if line.slope < 0 else None

    def search(self, line: Line) -> Point | None:
        """The point of the first sufficient decrease along a line that leads down."""
        t = 1.0
        for _ in range(self.max_trials):
            trial = line.at(t)
            if trial.has_fallen(self.c1) and (trial.is_unbounded or trial.point.has_finite_gradient):
                return trial.point
            if trial.is_finite and trial.is_level():
                return trial.point if trial.point.steepness < line.here.steepness else None
            t *= SHRINK if trial.has_fallen(self.c1) else quadratic_share(line.slope * t, trial.f - line.here.f)
            if not line.moves(t):
                return None
        return None


class ExactQuadratic:
    """The length to the minimum of the quadratic model along the direction, -g'd / d'Hd; one product with the Hessian.

    On a quadratic this is the exact line search. Where the curvature along d is zero or negative, or the model's
    minimum is no lower, it searches by backtracking.
    """

    def __init__(self) -> None:
        self.otherwise = Armijo()

    def __call__(self, here: Point, direction: Direction) -> Point | None:
        line = Line(here, direction.along(here))
        if not line.slope < 0:
            return None
        curvature = dot(line.step, here.hvp(line.step))
        if 0 < curvature < math.inf:
            trial = line.at(-line.slope / curvature)
            if trial.f < here.f and (trial.is_unbounded or trial.point.has_finite_gradient):
                return trial.point
        return self.otherwise.search(line)


class StrongWolfe:
    """Bracketing and zoom to the strong Wolfe conditions (Nocedal and Wright, algorithms 3.5 and 3.6)

        phi(t) <= phi(0) + c1 t phi'(0)    and    |phi'(t)| <= c2 |phi'(0)|.

    One loop does both: `low` is the best length so far with a sufficient decrease, `high` the other end of an interval
    that holds a good length, None at first. The next length is the minimum of the cubic through values and slopes at
    both ends, kept away from the ends. Where two values differ by rounding only, slopes alone decide (Hager and Zhang,
    SIAM J. Optim. 16(1), 2005, the approximate Wolfe conditions), so that the gradient can become smaller than the
    root of the rounding unit. A search that runs out of trials takes `low`, if it is lower than the start: enough to go
    on at a kink, where no slope is small.
    """

    def __init__(self, c1: float = 1e-4, c2: float = 0.9, max_trials: int = 30):
        if not 0 < c1 < c2 < 1:
            raise ValueError(f"StrongWolfe: c1={c1} and c2={c2}; expected 0 < c1 < c2 < 1.")
        self.c1, self.c2, self.max_trials = c1, c2, max_trials

    def __call__(self, here: Point, direction: Direction) -> Point | None:
        line = Line(here, direction.along(here))
        return self.search(line) if line.slope < 0 else None

    def search(self, line: Line) -> Point | None:
        """The point of a good length along a line that leads down."""
        here = line.here
        start = Trial(0.0, here, line)
        start.slope = line.slope
        low, high, before = start, None, start
        t = 1.0
        for number in range(self.max_trials):
            trial = line.at(t)
            if trial.f < here.objective.floor:
                return trial.point
            if not self._is_lower(trial, low) or not abs(trial.slope) < math.inf:
                high = trial
            elif abs(trial.slope) <= -self.c2 * line.slope:
                return trial.point
            else:
                if trial.slope * ((high.t if high else math.inf) - low.t) >= 0:
                    high = low
                before, low = low, trial
            t = _beyond(before, low) if high is None else _between(low, high, bisect=number % 4 == 3)
            if number > 4 and not line.moves(abs(t - low.t)):
                break
        return low.point if low.f < here.f else None

    def _is_lower(self, trial: Trial, low: Trial) -> bool:
        """Whether the trial may take the place of `low`."""
        if not trial.is_finite:
            return False
        if trial.is_level() and low.is_level():
            return True
        return trial.has_fallen(self.c1) and trial.f < low.f


def _beyond(before: Trial, low: Trial) -> float:
    """A longer length: where the slope would be zero, if it went on as between the last two."""
    rise = low.slope - before.slope
    t = low.t - low.slope * (low.t - before.t) / rise if rise > 0 else math.inf
    return min(max(t, 1.1 * low.t), GROW * low.t)


def _between(low: Trial, high: Trial, bisect: bool) -> float:
    """A length between the two, at the minimum of a model that takes their values, and the slopes that are known."""
    width = high.t - low.t
    if not high.is_finite:
        return low.t + (SHRINK if low.t == 0 else 0.5) * width
    if bisect:
        return low.t + width / 2
    if low.is_level() and high.is_level():
        share = secant_share(low.slope * width, high.slope * width)
    elif high.knows_slope and math.isfinite(high.slope):
        share = cubic_share(low.slope * width, high.slope * width, high.f - low.f)
    else:
        share = quadratic_share(low.slope * width, high.f - low.f)
    return low.t + min(max(share, SHRINK), 1 - SHRINK) * width


LINE_SEARCHES: dict[str, Callable[[OptionValues, float], StepRule]] = {
    "fixed": lambda options, c2: FixedStep(options.get("step_length", 1.0)),
    "armijo": lambda options, c2: Armijo(options.get("c1", 1e-4)),
    "exact": lambda options, c2: ExactQuadratic(),
    "strong wolfe": lambda options, c2: StrongWolfe(options.get("c1", 1e-4), options.get("c2", c2)),
}


def line_search(options: OptionValues, default: str, c2: float = 0.9) -> StepRule:
    """The step rule that `options["line_search"]` names; a step rule there is taken as it is."""
    chosen = options.get("line_search", default)
    if callable(chosen):
        return chosen
    name = str(chosen).lower().replace("-", " ").replace("_", " ")
    if name not in LINE_SEARCHES:
        raise ValueError(f"line_search={chosen!r}; expected one of {', '.join(LINE_SEARCHES)}, or a step rule.")
    return LINE_SEARCHES[name](options, c2)
