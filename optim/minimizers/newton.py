"""Newton's method: go to where the quadratic model, value, gradient and Hessian, has its lowest point.

After this file you know the troubles of that step and their cures. Where the Hessian H is not positive definite the
model has no lowest point: along a line, H is changed until it has (`REPAIRS`); within a radius there always is one, and
one eigendecomposition gives it for every radius. Where the gradient is zero and H has a negative eigenvalue, a saddle,
the step is zero though the function falls: its eigenvector leads down.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from minigrad.backend import Array, namespace
from minigrad.linalg import cholesky, eigh, solve

from ..solve.objective import Point
from ..solve.result import Reason
from ..solve.vectors import length_of

LinAlgError = np.linalg.LinAlgError

NOT_FINITE_HESSIAN = Reason(
    -9, False, "the Hessian is NaN or infinite at the last point, where value and gradient are finite"
)


class Curved:
    """What directions that know second derivatives share: a way out where those are no numbers, and from saddles.

    slide : (n,) or None
        At a saddle: a unit vector along which the function falls, though the gradient is zero.
    """

    def __init__(self) -> None:
        self.steepest = False
        self.slide: Array | None = None
        self.blind: list[Point] = []  # points in a row whose second derivatives are no numbers

    def way_down(self, here: Point) -> Array | None:
        """Where the gradient is zero: a unit vector of clearly negative curvature, or None if there is none."""
        raise NotImplementedError

    def is_saddle(self, here: Point) -> bool:
        """Whether the function falls from here, where its gradient vanishes, all the same; `slide` is then the way."""
        self.slide = self.way_down(here)
        return self.slide is not None

    def sees(self, here: Point, curvature: Array) -> bool:
        """Whether second derivatives at a point are numbers; where not, the steepest step is taken instead."""
        if is_finite(curvature):
            self.blind = []
            return True
        if not any(point is here for point in self.blind):
            self.blind.append(here)
        return False

    def obstacle(self) -> Reason | None:
        """A reason to end the run: a second point in a row without second derivatives."""
        return NOT_FINITE_HESSIAN if len(self.blind) > 1 else None

    def learn(self, old: Point, new: Point) -> None:
        self.steepest, self.slide = False, None

    def forget(self) -> None:
        self.steepest, self.slide = True, None


class Newton(Curved):
    """The direction -(H + alpha I)^-1 g, H repaired where that is not positive definite; or its minimum in a radius.

    Parameters
    ----------
    alpha : float
        Added to the diagonal of every Hessian, >= 0. It shortens the steps, so that near the minimum the error falls by
        alpha / (alpha + lowest eigenvalue) a step, no longer quadratically. For `along` only.
    repair : "cholesky", "shift" or "eigenvalues"
        What is done to a matrix that is not positive definite; see `REPAIRS`. For `along` only.
    """

    def __init__(self, alpha: float = 0.0, repair: str = "cholesky"):
        if not 0 <= alpha < math.inf:
            raise ValueError(f"Newton: alpha must be a number >= 0, got {alpha!r}; it is added to the diagonal.")
        if repair not in REPAIRS:
            raise ValueError(f"Newton: repair must be one of {', '.join(map(repr, REPAIRS))}, got {repair!r}.")
        super().__init__()
        self.alpha, self.repair = alpha, REPAIRS[repair]
        self.known: tuple[Point, Spectrum] | None = None

    def along(self, here: Point) -> Array:
        if self.steepest or not self.sees(here, here.hessian):
            return steepest_step(here)
        matrix = here.hessian + self.alpha * namespace(here.x).eye(here.x.size, dtype=here.x.dtype)
        p = solve_positive(matrix, -here.g)
        return self.repair(matrix, -here.g) if p is None else p

    def within(self, here: Point, radius: float) -> tuple[Array, float]:
        """Newton's step if it is within the radius, else the minimum on the border (Moré & Sorensen 1983).

        Newton's step comes from Cholesky factors: scaled to a diagonal of ones, they solve badly scaled problems to
        digits that eigenvalues, exact to rounding of the largest only, have lost.
        """
        if not self.sees(here, here.hessian):
            return cauchy_step(here.g, 0.0, radius)
        if self.steepest:
            return cauchy_step(here.g, float(here.g @ (here.hessian @ here.g)), radius)
        p = None if self.known_at(here) else solve_positive(here.hessian, -here.g)
        if p is not None and length_of(p) <= radius:
            return p, -0.5 * float(here.g @ p)
        return self.spectrum(here).within(radius)

    def way_down(self, here: Point) -> Array | None:
        if not self.sees(here, here.hessian) or solve_positive(here.hessian, here.g) is not None:
            return None
        return self.spectrum(here).way_down()

    def known_at(self, here: Point) -> bool:
        return self.known is not None and self.known[0] is here

    def spectrum(self, here: Point) -> Spectrum:
        if not self.known_at(here):
            self.known = here, Spectrum(here.hessian, here.g)
        return self.known[1]  # type: ignore[index]


class Spectrum:
    """The quadratic model g'p + p'Hp / 2 in the coordinates of the eigenvectors: for every radius its minimum, cheaply.

    One decomposition, some ten n^3, serves all radii tried at a point and shows the hard case as a plain zero;
    Cholesky factors, n^3 / 3 each, are needed two or three for every radius, with bounds and cases besides.

    H : (n, n), symmetric and finite
    g : (n,)
    """

    def __init__(self, H: Array, g: Array):
        self.values, self.vectors = eigh(H)
        self.slopes = g @ self.vectors
        self.lowest = float(self.values[0])

    def within(self, radius: float) -> tuple[Array, float]:
        """The p, |p| <= radius, that makes the model least, and by how much.

        There is one l >= 0 with (H + l I) p = -g, H + l I without negative eigenvalues, and l = 0 or |p| = radius
        (Moré & Sorensen 1983, lemmas 2.1 to 2.3). It is found as l = s - min(lowest, 0), so that the
        eigenvalues of H + l I are sums of what is not negative and lose no digits.
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
        if self.lowest >= -clearly(self.values) * largest:
            return None
        return -math.copysign(1.0, float(self.slopes[0])) * self.vectors[:, 0]


def _coordinates(slopes: Array, gaps: Array, s: float) -> Array:
    return -_quotient(slopes, gaps + s)


def _quotient(a: Array, b: Array) -> Array:
    """a / b for b >= 0, and 0 where b is 0: in the limit nothing moves along what has no slope and no curvature."""
    xp = namespace(b)
    return xp.where(b > 0, a / xp.where(b > 0, b, 1.0), 0.0)


# --- matrices made positive definite ---


def solve_positive(H: Array, b: Array) -> Array | None:
    """H^-1 b for a symmetric positive definite H, or None where H is not, to rounding.

    H is first scaled to a diagonal of ones, which comes close to the best scaling there is (van der Sluis 1969).
    """
    diagonal = H.diagonal()
    if not bool((diagonal > 0).all()):
        return None
    scale = diagonal**-0.5
    scaled = H * scale * scale[:, None]
    try:
        cholesky(scaled)  # NumPy does not solve with its factors; they are the test
        return scale * solve(scaled, scale * b)
    except LinAlgError:
        return None


def modified_cholesky(H: Array) -> Array:
    """e >= 0, (n,), so that H + diag(e) is positive definite with bounded factors; 0 where H is so by itself.

    The factorisation L D L' of Gill, Murray & Wright (Practical Optimization, 1981, 4.4.2.2), largest diagonal first: a
    pivot that is negative changes its sign, one that would make a column of L too large is raised. The least pivot
    is sqrt(eps) of the largest element, not eps: a step of length 1 / eps is none.
    """
    xp, n = namespace(H), H.shape[0]
    rest, order, e = H.copy(), xp.arange(n), xp.zeros_like(H[0])
    diagonal = float(xp.abs(H.diagonal()).max())
    beside = float(xp.abs(H - xp.diag(H.diagonal())).max())
    least = clearly(H) * (diagonal + beside) or 1.0
    bound = max(diagonal, beside / math.sqrt(max(n * n - 1, 1)), float(np.finfo(H.dtype).tiny))
    for j in range(n):
        pivot = j + int(xp.abs(rest.diagonal()[j:]).argmax())
        swapped = xp.arange(n)
        swapped[j], swapped[pivot] = pivot, j
        rest, order = rest[swapped][:, swapped], order[swapped]
        column = rest[j + 1 :, j].copy()
        wide = float(xp.abs(column).max()) ** 2 / bound if j + 1 < n else 0.0
        d = max(abs(float(rest[j, j])), wide, least)
        e[order[j]] = d - rest[j, j]
        rest[j + 1 :, j + 1 :] -= column[:, None] * (column / d)
    return e


def _by_cholesky(H: Array, b: Array) -> Array:
    """H + diag(e), of `modified_cholesky`."""
    return solve(H + namespace(H).diag(modified_cholesky(H)), b)


def _by_shift(H: Array, b: Array) -> Array:
    """H + alpha I with the first alpha of a doubling sequence that will do (Nocedal & Wright 2006, algorithm 3.3)."""
    xp = namespace(H)
    identity = xp.eye(H.shape[0], dtype=H.dtype)
    alpha = 1e-3 * float(xp.abs(H).max()) - min(float(H.diagonal().min()), 0.0) or 1.0
    while (p := solve_positive(H + alpha * identity, b)) is None:
        alpha *= 2
    return p


def _by_eigenvalues(H: Array, b: Array) -> Array:
    """The eigenvalues' absolute values (Greenstadt 1967), the least raised to sqrt(eps) of the largest."""
    values, vectors = eigh(H)
    xp = namespace(H)
    values = xp.abs(values)
    least = clearly(H) * float(values.max()) or 1.0
    return vectors @ ((b @ vectors) / xp.maximum(values, least))


REPAIRS: Mapping[str, Callable[[Array, Array], Array]] = {
    "cholesky": _by_cholesky,
    "shift": _by_shift,
    "eigenvalues": _by_eigenvalues,
}
"""For a symmetric H that is not positive definite: from H and b, x with (H + E) x = b where H + E is."""


# --- small things that all Newton methods share ---


def steepest_step(here: Point) -> Array:
    """-g, but no longer than x (or 1), and no shorter than a thousandth of it: nothing is known of a better length."""
    slope, size = length_of(here.g), length_of(here.x)
    length = min(max(slope, 1e-3 * size), max(size, 1.0))
    return here.g * (-length / slope) if slope > 0 else -here.g


def cauchy_step(g: Array, curvature: float, radius: float) -> tuple[Array, float]:
    """The best step along -g, no longer than the radius, for a model with g'Hg = `curvature`."""
    length = length_of(g)
    if not length > 0:
        return -g, 0.0
    t = radius / length
    if curvature > 0:
        t = min(t, length / curvature * length)
    return -t * g, t * length * length - 0.5 * t * curvature * t


def is_finite(x: Array) -> bool:
    return bool(namespace(x).isfinite(x).all())


def clearly(x: Any) -> float:
    """How small a part counts as clearly not rounding: sqrt(eps)."""
    return math.sqrt(float(np.finfo(x.dtype).eps))
