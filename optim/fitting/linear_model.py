"""The linear model of residuals around a point, r + J p, and the steps that minimise it.

After this file you know how one singular value decomposition of the scaled Jacobian, made once at a point, gives every
step that is asked for there: the Gauss-Newton step, the damped step for any damping, the step of a given length, and
the correction for what the linear model leaves out. J'J is never formed: it would square the condition of J.

With J D^-1 = U S V' and b = U'r the damped step, which solves min |r + J p|^2 + lambda |D p|^2, is
p = -D^-1 V S (S^2 + lambda)^-1 b: some operations on vectors of length n for each further lambda.
"""

from __future__ import annotations

from math import sqrt

from minigrad.backend import Array

from ..solve.residuals import ResidualPoint
from ..solve.vectors import length_of
from .local_model import MatrixModel, Step

CLOSE_TO_RADIUS = 0.1
"""How closely, relatively, a step must have the length asked for (Moré 1978, section 5)."""


class LinearModel(MatrixModel):
    """r + J p around `here`, by the singular values of J D^-1.

    damping : the lambda of the last step that was asked for; 0 for the Gauss-Newton step
    """

    def __init__(self, here: ResidualPoint, scale: Array, norms: Array):
        super().__init__(here, scale, norms)
        self.U, self.s, self.Vt = self.xp.linalg.svd(here.J / scale, full_matrices=False)
        self.b = here.r @ self.U
        self.slopes = self.s * self.b
        self.damping = 0.0
        self.tiny = here.problem.eps * max(here.J.shape)
        self.has_full_rank = bool(self.s[-1] > self.tiny * self.s[0])

    @property
    def steepest_length(self) -> float:
        """The length of the best step straight downhill (Cauchy's), |D p|."""
        steepness = length_of(self.slopes)
        stretch = length_of(self.s * (self.slopes / steepness)) if steepness > 0 else 0.0
        return steepness / stretch / stretch if stretch > 0 else 0.0

    @property
    def largest_eigenvalue(self) -> float:
        """Of D^-1 J'J D^-1."""
        return float(self.s[0]) ** 2

    @property
    def independent(self) -> Array:
        """(k,) bools: which singular values stand above rounding, so that J moves along their directions."""
        return self.s > self.tiny * self.s[0]

    @property
    def is_flat(self) -> bool:
        """Whether J is zero."""
        return not float(self.s[0]) > 0

    def gauss_newton(self) -> Step:
        """The undamped step; where J lacks full rank the shortest of those that do equally well, in |D p|."""
        self.damping = 0.0
        return self._step(self._undamped(self.b))

    def damped(self, damping: float) -> Step:
        """The step for a damping lambda > 0 (Levenberg 1944, Marquardt 1963)."""
        self.damping = damping
        return self._step(-self.slopes / (self.s * self.s + damping))

    def within(self, radius: float, guess: float) -> Step:
        """The best step no longer than about `radius`; the damping it needs is left in `damping`.

        Newton's method on 1/|D p| as a function of lambda, kept between bounds (Hebden; Moré 1978, section 5).
        `guess` is a damping to begin with.
        """
        full = self._undamped(self.b)
        if length_of(full) <= (1 + CLOSE_TO_RADIUS) * radius:
            self.damping = 0.0
            return self._step(full)
        squares, slopes = self.s * self.s, self.slopes
        low, high = 0.0, length_of(slopes) / radius
        damping = guess if low < guess < high else 1e-3 * high
        for _ in range(20):
            z = slopes / (squares + damping)
            length = length_of(z)
            if not length > 0 or abs(length - radius) <= CLOSE_TO_RADIUS * radius:
                break
            low, high = (low, damping) if length < radius else (damping, high)
            change = float((z / (squares + damping)) @ (z / length))  # - d length / d lambda
            damping += (length / radius) * (length - radius) / change if change > 0 else 0.0
            if not low < damping < high:
                damping = max(1e-3 * high, sqrt(low * high))
        return self.damped(damping)

    def corrected(self, step: Step, trial: ResidualPoint) -> Step | None:
        """The step bent by what the residuals at its end, `trial`, say about their curvature; None where it bends too
        much.

        The half second derivative along p is about r(x + p) - r - J p. The acceleration of Transtrum and Sethna (2012,
        arXiv:1201.5885, equations 10 and 15) answers it by one more solution with the same damping. They find it by an
        evaluation of its own; here it comes from one that had to be made in any case.
        """
        c = self.U.T @ self.here.defect(step.to - self.here.x, trial)
        z = -self.s * c / (self.s * self.s + self.damping) if self.damping else self._undamped(c)
        if not 2 * length_of(z) <= 0.75 * step.length:
            return None
        return step._replace(to=step.to + (z @ self.Vt) / self.scale)

    def _undamped(self, c: Array) -> Array:
        """The z that answers c, S z = -c, as far as the singular values tell it."""
        if self.has_full_rank:
            return -c / self.s
        found = self.independent
        return self.xp.where(found, -c / self.xp.where(found, self.s, 1), 0)

    def _step(self, z: Array) -> Step:
        """The step p = D^-1 V z."""
        image = self.s * z
        slope = float(self.slopes @ z)
        return Step(
            self.here.x + (z @ self.Vt) / self.scale,
            length_of(z),
            slope,
            -slope - 0.5 * float(image @ image),
        )
