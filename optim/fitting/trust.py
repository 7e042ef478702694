"""How far to trust the linear model: Gauss-Newton's line search, Levenberg's and Marquardt's damping, Moré's region.

After this file you know the classic forms of one idea. Gauss-Newton's step minimises |r + J p|, and goes astray
where the model is poor or J lacks rank. Levenberg (1944) adds lambda |p|^2, which turns and shortens the step towards
steepest descent; Marquardt (1963) measures p by the columns of J, so that units of x do not matter: lambda |D p|^2 with
D^2 = diag(J'J); Moré (1978) lets D only grow, and asks for a length |D p| <= radius rather than for a lambda. What the
model promised against what came true says whether lambda rises or falls, or the radius.
"""

from __future__ import annotations

from typing import Any, Protocol

from ..solve.interpolation import quadratic_share
from .linear_model import LinearModel
from .local_model import DampedModel, Step

GOOD_ENOUGH = 1e-4
"""The share of the promised gain that a step must bring to be taken (MINPACK's)."""


class Trust(Protocol):
    """Which step to try next, and what a tried step teaches."""

    def propose(self, model: Any) -> Step:
        """The step to try, from the model as far as it is trusted."""

    def judge(self, step: Step, gained: float) -> bool:
        """Whether a step that lowered the cost by `gained` is taken; -inf where the new cost is NaN or infinite."""

    extent: float
    """How far the next step may go, in |D p|."""

    bends: bool
    """Whether a step that failed may be bent and tried once more."""


class ShortenedStep:
    """Gauss-Newton: the undamped step, shortened until the cost falls by enough (Armijo 1966).

    The step comes from a decomposition of J, never from J'J. Where J lacks full rank it is the shortest one.
    """

    SUFFICIENT = 1e-4
    """The share of the fall foretold by the slope alone that a step must bring."""

    bends = False

    def __init__(self) -> None:
        self.share, self.extent = 1.0, 0.0

    def propose(self, model: LinearModel) -> Step:
        full, t = model.gauss_newton(), self.share
        self.extent = t * full.length
        to = full.to if t == 1 else model.here.x + t * (full.to - model.here.x)
        return Step(to, self.extent, t * full.slope, -t * (1 - t / 2) * full.slope)

    def judge(self, step: Step, gained: float) -> bool:
        taken = step.slope < 0 and gained >= -self.SUFFICIENT * step.slope
        self.share = 1.0 if taken else self.share * quadratic_share(step.slope, -gained)
        return taken


class Radius:
    """A region |D p| <= radius: shrunk after a poor step, doubled around a good one (Moré 1978, algorithm 7.1)."""

    bends = True

    FIRST = 0.1
    """The first radius is |D x|, as in MINPACK; but at least this share of the best step straight downhill, where
    x0 is zero or has no weight in D."""

    def __init__(self) -> None:
        self.extent = 0.0
        self.damping = 0.0

    def propose(self, model: LinearModel) -> Step:
        if not self.extent:
            self.extent = max(model.size, self.FIRST * model.steepest_length) or 1.0
        step = model.within(self.extent, self.damping)
        self.damping = model.damping
        return step

    def judge(self, step: Step, gained: float) -> bool:
        ratio = step.share_of_promise(gained)
        if ratio < 0.25:
            shrink = quadratic_share(step.slope, -gained)
            self.extent = shrink * min(self.extent, 10 * step.length)
            self.damping /= shrink
        elif ratio >= 0.75 or self.damping == 0:
            self.extent = 2 * step.length
            self.damping /= 2
        return ratio >= GOOD_ENOUGH


class Damping:
    """A damping lambda: raised faster and faster while steps fail, lowered smoothly by how well one did.

    Nielsen (1999), Damping parameter in Marquardt's method, report IMM-REP-1999-05, equation 2.5.
    """

    FIRST = 1e-2
    """The first lambda, as a share of the largest eigenvalue of D^-1 J'J D^-1."""

    bends = True

    def __init__(self) -> None:
        self.damping: float | None = None
        self.growth = 2.0
        self.extent = 0.0

    def propose(self, model: DampedModel) -> Step:
        if self.damping is None:
            self.damping = self.FIRST * model.largest_eigenvalue
        step = model.damped(self.damping)
        self.extent = step.length
        return step

    def judge(self, step: Step, gained: float) -> bool:
        assert self.damping is not None
        ratio = step.share_of_promise(gained)
        if ratio >= GOOD_ENOUGH:
            self.damping *= max(1 / 3, 1 - (2 * ratio - 1) ** 3)
            self.growth = 2.0
            return True
        self.damping *= self.growth
        self.growth *= 2
        return False
