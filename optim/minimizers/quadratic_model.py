"""The lowest point of a quadratic model within a radius: one eigendecomposition gives it for every radius.

After this file you know the trust region's subproblem, and why its hard case is easy in the coordinates of the
eigenvectors.
"""

from __future__ import annotations

import math

from minigrad.autograd.tensor import array_of
from minigrad.backend import Array, namespace
from minigrad.linalg import eigh

from ..solve.vectors import length_of, root_of_rounding


class Spectrum:
    """The quadratic model g'p + p'Hp / 2 in the coordinates of the eigenvectors: for every radius its minimum, cheaply.

    One decomposition, some ten n^3, serves all radii tried at a point and shows the hard case as a plain zero;
    Cholesky factors, n^3 / 3 each, are needed two or three for every radius, with bounds and cases besides.

    H : (n, n), symmetric and finite
    g : (n,)
    """

    def __init__(self, H: Array, g: Array):
        self.values, self.vectors = map(array_of, eigh(H))
        self.slopes = g @ self.vectors
        self.lowest = float(self.values[0])

    def within(self, radius: float) -> tuple[Array, float]:
        """The p, |p| <= radius, that makes the model least, and by how much.

        There is one l >= 0 with (H + l I) p = -g, H + l I without negative eigenvalues, and l = 0 or |p| = radius
        (Moré & Sorensen 1983, lemmas 2.1 to 2.3). It is found as l = s - min(lowest, 0), so that the
        eigenvalues of H + l I are sums of terms from zero on, and keep all digits.
        """
        gaps = self.values - min(self.lowest, 0.0)
        p = _coordinates(self.slopes, gaps, self._shift(gaps, radius))
        if self.lowest < 0:
            p = self._filled(p, radius)
        predicted = -float(self.slopes @ p) - 0.5 * float((self.values * p) @ p)
        return self.vectors @ p, predicted

    def _shift(self, gaps: Array, radius: float) -> float:
        """The s >= 0 where the step has the length of the radius, or 0 where it is shorter for every s > 0.

        Newton's method on 1 / |p(s)| - 1 / radius, which is concave and nearly a line in s (Conn, Gould & Toint 2000,
        section 7.3.3): from the left of the root it never jumps past it. It starts where no single coordinate
        is longer than the radius, which cannot be right of the root.
        """
        xp = namespace(gaps)
        s = max(0.0, float((xp.abs(self.slopes) / radius - gaps).max()))
        for _ in range(100):
            p = _coordinates(self.slopes, gaps, s)
            length = length_of(p)
            if length <= radius * (1 + 1e-10):
                break
            along = p / length  # squares of p itself may overflow, or vanish
            bend = float(along @ _quotient(along, gaps + s))
            step = (length - radius) / radius / bend
            if s + step == s:
                break
            s += step
        return s

    def _filled(self, p: Array, radius: float) -> Array:
        """The hard case: with negative curvature the minimum lies on the border; where p does not reach it, the rest
        of the way goes along the lowest eigenvector, where there is no slope."""
        share = length_of(p) / radius
        if share < 1 - 1e-8:
            p[0] += math.copysign(radius * math.sqrt(1 - share * share), -float(self.slopes[0]))
        return p

    def way_down(self) -> Array | None:
        """The lowest eigenvector, pointing downhill, if its eigenvalue is clearly negative."""
        largest = max(abs(self.lowest), abs(float(self.values[-1])))
        if self.lowest >= -root_of_rounding(self.values) * largest:
            return None
        return -math.copysign(1.0, float(self.slopes[0])) * self.vectors[:, 0]


def _coordinates(slopes: Array, gaps: Array, s: float) -> Array:
    return -_quotient(slopes, gaps + s)


def _quotient(a: Array, b: Array) -> Array:
    """a / b for b >= 0, and 0 where b is 0: where slope and curvature vanish, the limit is a step of zero."""
    xp = namespace(b)
    return xp.where(b > 0, a / xp.where(b > 0, b, 1.0), 0.0)
