"""Forty curve fits with known answers from starts that know nothing: parameters of one, or far from the answer.

x reaches from 1e-6 to 1e6, so that at the start exponentials have died out, saturations are straight lines, and peaks
lie beside the data: columns of J are of very different lengths, alike, or zero. Nothing was taken out for being
unsolved, and some are beyond every local method (a frequency ten thousand times too low). Data are formulas: the model
at `truth`, plus, where `noise` is not 0, a fixed sequence of that size that looks like noise. The known answer is the
minimum that belongs to `truth`, found from there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

import minigrad as mg

# --- the models: `xp` is the module whose functions they use ---


def decay(xp, x, a, b, c):
    return a * xp.exp(-b * x) + c


def rise(xp, x, a, b):
    return a * (1 - xp.exp(-b * x))


def growth(xp, x, a, b):
    return a * xp.exp(b * x)


def two_decays(xp, x, a, b, c, d):
    return a * xp.exp(-b * x) + c * xp.exp(-d * x)


def stretched(xp, x, a, b, c):
    return a * xp.exp(-((x / b) ** c))


def logistic(xp, x, a, b, c):
    return a / (1 + xp.exp(-b * (x - c)))


def logistic_between(xp, x, a, b, c, d):
    return d + (a - d) / (1 + xp.exp(-b * (x - c)))


def gompertz(xp, x, a, b, c):
    return a * xp.exp(-b * xp.exp(-c * x))


def gaussian(xp, x, a, b, c, d):
    return a * xp.exp(-0.5 * ((x - b) / c) ** 2) + d


def lorentzian(xp, x, a, b, c):
    return a / (1 + ((x - b) / c) ** 2)


def power(xp, x, a, b):
    return a * x**b


def power_above(xp, x, a, b, c):
    return a * x**b + c


def michaelis_menten(xp, x, a, b):
    return a * x / (b + x)


def hill(xp, x, a, b, c):
    return a * x**c / (b**c + x**c)


def hill_above(xp, x, a, b, c, d):
    return d + a * x**c / (b**c + x**c)


def sine(xp, x, a, b, c, d):
    return a * xp.sin(b * x + c) + d


def damped_sine(xp, x, a, b, c, d):
    return a * xp.exp(-b * x) * xp.sin(c * x + d)


# --- a problem ---


@dataclass(frozen=True)
class BadStart:
    """One fit. `x`, `y` (m,); `start`, `truth` (n,); `noise`: the size of the errors in y."""

    name: str
    model: Callable
    x: np.ndarray
    truth: tuple[float, ...]
    noise: float
    start: tuple[float, ...]

    @cached_property
    def y(self) -> np.ndarray:
        k = np.arange(self.x.size)
        return self.model(np, self.x, *self.truth) + self.noise * np.sin(1.7 * k * k + 0.3)

    def curve(self, x, *p):
        """The model as `curve_fit` asks for it, for Tensors and for arrays."""
        return self.model(mg if isinstance(x, mg.Tensor) else np, x, *p)

    def residuals(self, p) -> Any:
        """Predicted less observed, (m,)."""
        if not isinstance(p, mg.Tensor):
            return self.model(np, self.x, *p) - self.y
        x, y = mg.Tensor(self.x), mg.Tensor(self.y)
        return self.model(mg, x, *(p[i] for i in range(p.size))) - y

    def cost(self, p) -> float:
        """Half the sum of squares at `p`; infinite where it is no number."""
        with np.errstate(all="ignore"):
            r = self.residuals(np.asarray(p, dtype=float))
            cost = 0.5 * float(r @ r)
        return cost if cost < np.inf else np.inf

    def cosine(self, p) -> float:
        """The largest cosine between the residuals and a column of J at `p`: zero where the cost is stationary."""
        p = np.asarray(p, dtype=float)
        with np.errstate(all="ignore"):
            r, J = self.residuals(p), mg.transforms.jacobian(self.residuals)(mg.Tensor(p)).numpy()
            lengths, size = np.linalg.norm(J, axis=0), np.linalg.norm(r)
            return float(np.max(np.abs(r @ J) / np.where(lengths > 0, lengths, 1)) / size) if size else 0.0

    @cached_property
    def minimum(self) -> float:
        """The cost at the known answer."""
        p = np.asarray(self.truth, dtype=float)
        if not self.noise:
            return 0.0
        for _ in range(100):  # Gauss-Newton from the truth, which is as near as the noise is small
            J = mg.transforms.jacobian(self.residuals)(mg.Tensor(p)).numpy()
            lengths = np.linalg.norm(J, axis=0)
            step = np.linalg.lstsq(J / lengths, -self.residuals(p))[0] / lengths
            while self.cost(p + step) > self.cost(p) * (1 + 1e-9):
                step = step / 2
            p = p + step
        return self.cost(p)

    def is_solved(self, p) -> bool:
        """Whether the cost at `p` is the known minimum's, to 1e-6 of it or, in exact data, to 1e-12 of y'y."""
        allowed = self.minimum * (1 + 1e-6) if self.noise else 1e-12 * 0.5 * float(self.y @ self.y)
        return self.cost(p) <= allowed

    def is_stationary(self, p) -> bool:
        """Whether `p` may be called a minimum: the gradient is zero, for residuals of size and columns of length one,
        and the residuals tell all parameters; or the cost is at rounding."""
        if self.is_solved(p):
            return True
        p = np.asarray(p, dtype=float)
        with np.errstate(all="ignore"):
            J = mg.transforms.jacobian(self.residuals)(mg.Tensor(p)).numpy()
        lengths = np.linalg.norm(J, axis=0)
        return bool(np.isfinite(J).all() and (lengths > 0).all() and self.cosine(p) <= 1e-5)


def _even(low: float, high: float, count: int) -> np.ndarray:
    return np.linspace(low, high, count)


def _geometric(low: float, high: float, count: int) -> np.ndarray:
    return np.geomspace(low, high, count)


ONES2, ONES3, ONES4 = (1.0,) * 2, (1.0,) * 3, (1.0,) * 4

PROBLEMS = [
    BadStart("decay, x to 300", decay, _even(0, 300, 61), (50, 0.02, 5), 0.5, ONES3),
    BadStart("decay, x to 3000", decay, _even(0, 3000, 50), (2.5, 1 / 400, 0.5), 0.02, ONES3),
    BadStart("decay, x to 1e6", decay, _even(0, 1e6, 40), (7, 4e-6, 1), 0, ONES3),
    BadStart("decay, x to 1e-6", decay, _even(0, 1e-6, 40), (3, 2.5e6, 0.2), 0.01, ONES3),
    BadStart("decay, x from 400", decay, _even(400, 5700, 30), (164, 1 / 1030, -1), 0, (100, 1, 0)),
    BadStart("decay, x from 500 to 800", decay, _even(500, 800, 31), (120, 0.004, 3), 0.1, ONES3),
    BadStart("rise, x to 500", rise, _even(0, 500, 25), (210, 0.012), 2, ONES2),
    BadStart("rise, x to 1e-3", rise, _even(0, 1e-3, 30), (5, 4000), 0, ONES2),
    BadStart("growth, x to 200", growth, _even(0, 200, 30), (3, 0.02), 0.5, ONES2),
    BadStart("growth, x to 300, falling", growth, _even(0, 300, 30), (40, -0.01), 0.5, ONES2),
    BadStart("two decays", two_decays, _even(0, 100, 60), (10, 0.3, 5, 0.03), 0, (1, 1, 1, 2)),
    BadStart("stretched decay", stretched, _geometric(1, 1e4, 40), (2, 300, 0.6), 0.01, ONES3),
    BadStart("logistic, nine points", logistic, _even(10, 90, 9), (1.5, 0.12, 45), 0.05, ONES3),
    BadStart("logistic, x to 100", logistic, _even(0, 100, 30), (100, 0.1, 50), 1, ONES3),
    BadStart("logistic, years", logistic, _even(1900, 2000, 21), (250, 0.04, 1955), 1, ONES3),
    BadStart("logistic, x to 2e-4", logistic, _even(0, 2e-4, 30), (3, 6e4, 1e-4), 0, ONES3),
    BadStart("logistic, x to 1e4", logistic, _even(0, 1e4, 25), (40, 0.001, 4000), 0, (1, 0.1, 1)),
    BadStart("logistic between", logistic_between, _even(-50, 50, 40), (10, 0.2, 5, 2), 0.1, (1, 1, 1, 0)),
    BadStart("Gompertz", gompertz, _even(0, 60, 30), (80, 5, 0.12), 0.5, ONES3),
    BadStart("Gaussian, peak at 70", gaussian, _even(0, 100, 101), (8, 70, 6, 1), 0.1, (5, 0, 0.5, 0)),
    BadStart("Gaussian, peak at 20", gaussian, _even(0, 50, 51), (3, 20, 5, 0), 0.05, ONES4),
    BadStart("Gaussian, x to 1000", gaussian, _even(0, 1000, 80), (12, 400, 60, 2), 0.2, (1, 100, 10, 0)),
    BadStart("Gaussian, x to 1e-5", gaussian, _even(0, 1e-5, 60), (1, 4e-6, 8e-7, 0.1), 0.01, ONES4),
    BadStart("Gaussian, wave numbers", gaussian, _even(1500, 1700, 80), (30, 1602, 12, 4), 0.5, (10, 1550, 5, 0)),
    BadStart("Lorentzian", lorentzian, _even(0, 200, 80), (10, 120, 8), 0.1, ONES3),
    BadStart("power, x to 1e6", power, _geometric(1, 1e6, 30), (3, 0.7), 0.5, ONES2),
    BadStart("power, x from 1e-6", power, _geometric(1e-6, 1e-3, 30), (2e5, 1.5), 0, ONES2),
    BadStart("power, falling", power, _geometric(10, 1e4, 30), (500, -1.2), 0.05, (1, 2)),
    BadStart("power above", power_above, _even(1, 1000, 30), (0.02, 1.8, 5), 20, ONES3),
    BadStart("power above, exponent 5", power_above, _even(1, 1000, 30), (3, 0.5, 2), 0.1, (1, 5, 1)),
    BadStart("Michaelis-Menten, x to 5000", michaelis_menten, _even(0, 5000, 20), (120, 800), 1, ONES2),
    BadStart("Michaelis-Menten, x to 1e-6", michaelis_menten, _even(0, 1e-6, 20), (4, 2e-7), 0, ONES2),
    BadStart("Michaelis-Menten, far", michaelis_menten, _even(0, 10, 15), (2, 1.5), 0.02, (100, 1e4)),
    BadStart("Hill", hill, _geometric(0.1, 1000, 25), (10, 30, 2), 0.1, ONES3),
    BadStart("Hill, x from 1e-9", hill, _geometric(1e-9, 1e-5, 25), (1, 2e-7, 1.4), 0, ONES3),
    BadStart("Hill above", hill_above, _geometric(1, 1e5, 30), (100, 900, 1.2, 5), 1, (1, 1, 1, 0)),
    BadStart("sine", sine, _even(0, 20, 60), (3, 1.1, 0.5, 1), 0.2, ONES4),
    BadStart("sine, x to 200", sine, _even(0, 200, 100), (2, 0.11, 0.3, 0), 0.1, (1, 0.1, 0, 0)),
    BadStart("sine, x to 1e-3", sine, _even(0, 1e-3, 80), (5, 12566, 0.4, 1), 0, ONES4),
    BadStart("damped sine", damped_sine, _even(0, 50, 100), (4, 0.08, 1.3, 0.2), 0.02, ONES4),
]
