"""The formulas of Moré, Garbow and Hillstrom's problems, each written once for NumPy and for minigrad.

`xp` is the module whose functions a formula uses, `x` (n,) the point; then come the problem's constants, which
`mgh.py` makes.
"""

import math


def rosenbrock(xp, x):
    return xp.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]])


def freudenstein_roth(xp, x):
    a, b = x[0], x[1]
    return xp.stack([a - 13 + ((5 - b) * b - 2) * b, a - 29 + ((b + 1) * b - 14) * b])


def powell_badly_scaled(xp, x):
    e = xp.exp(-x)
    return xp.stack([1e4 * x[0] * x[1] - 1, e[0] + e[1] - 1.0001])


def brown_badly_scaled(xp, x):
    return xp.stack([x[0] - 1e6, x[1] - 2e-6, x[0] * x[1] - 2])


def beale(xp, x, y, power):
    return y - x[0] * (1 - x[1] ** power)


def jennrich_sampson(xp, x, i):
    return 2 + 2 * i - (xp.exp(i * x[0]) + xp.exp(i * x[1]))


def helical_valley(xp, x):
    turn = xp.arctan(x[1] / x[0]) / (2 * math.pi) + xp.where(x[0] < 0, 0.5, 0.0)
    return xp.stack([10 * (x[2] - 10 * turn), 10 * ((x[0] ** 2 + x[1] ** 2) ** 0.5 - 1), x[2]])


def bard(xp, x, y, u, v, w):
    return y - (x[0] + u / (v * x[1] + w * x[2]))


def gaussian(xp, x, y, t):
    return x[0] * xp.exp(-x[1] * (t - x[2]) ** 2 / 2) - y


def meyer(xp, x, y, t):
    return x[0] * xp.exp(x[1] / (t + x[2])) - y


def gulf(xp, x, t, y):
    """|y - x2|^x3 written as a power of the square, which has derivatives in the complex plane too."""
    return xp.exp(-(((y - x[1]) ** 2) ** (x[2] / 2)) / x[0]) - t


def box3d(xp, x, t, difference):
    return xp.exp(-t * x[0]) - xp.exp(-t * x[1]) - x[2] * difference


def powell_singular(xp, x):
    """For any number of fours: four numbers in, four residuals out."""
    a, b, c, d = x[0::4], x[1::4], x[2::4], x[3::4]
    rows = [a + 10 * b, math.sqrt(5) * (c - d), (b - 2 * c) ** 2, math.sqrt(10) * (a - d) ** 2]
    return xp.stack(rows, axis=1).reshape(-1)


def wood(xp, x):
    a, b, c, d = x[0], x[1], x[2], x[3]
    first = [10 * (b - a**2), 1 - a, math.sqrt(90) * (d - c**2), 1 - c]
    return xp.stack([*first, math.sqrt(10) * (b + d - 2), (b - d) / math.sqrt(10)])


def kowalik_osborne(xp, x, y, u):
    return y - x[0] * (u * (u + x[1])) / (u * (u + x[2]) + x[3])


def brown_dennis(xp, x, t, exponential, sine, cosine):
    return (x[0] + t * x[1] - exponential) ** 2 + (x[2] + x[3] * sine - cosine) ** 2


def osborne1(xp, x, y, t):
    return y - (x[0] + x[1] * xp.exp(-t * x[3]) + x[2] * xp.exp(-t * x[4]))


def biggs_exp6(xp, x, y, t):
    return x[2] * xp.exp(-t * x[0]) - x[3] * xp.exp(-t * x[1]) + x[5] * xp.exp(-t * x[4]) - y


def osborne2(xp, x, y, t):
    """A decay and three peaks, the peaks as rows."""
    peaks = x[1:4, None] * xp.exp(-((t - x[8:11, None]) ** 2) * x[5:8, None])
    return y - (x[0] * xp.exp(-t * x[4]) + peaks.sum(0))


def watson(xp, x, slopes, values):
    inner = slopes @ x - (values @ x) ** 2 - 1
    return xp.concatenate([inner, xp.stack([x[0], x[1] - x[0] ** 2 - 1])])


def extended_rosenbrock(xp, x):
    odd, even = x[0::2], x[1::2]
    return xp.stack([10 * (even - odd**2), 1 - odd], axis=1).reshape(-1)


def penalty1(xp, x):
    return xp.concatenate([math.sqrt(1e-5) * (x - 1), (x @ x - 0.25).reshape(1)])


def penalty2(xp, x, y, weights):
    a, e = math.sqrt(1e-5), xp.exp(x / 10)
    middle = [a * (e[1:] + e[:-1] - y), a * (e[1:] - math.exp(-0.1))]
    return xp.concatenate([x[:1] - 0.2, *middle, (weights @ (x * x) - 1).reshape(1)])


def variably_dimensioned(xp, x, j):
    total = (j @ (x - 1)).reshape(1)
    return xp.concatenate([x - 1, total, total**2])


def trigonometric(xp, x, i):
    cosine = xp.cos(x)
    return len(x) - cosine.sum() + i * (1 - cosine) - xp.sin(x)


def brown_almost_linear(xp, x):
    return xp.concatenate([x[:-1] + x.sum() - (len(x) + 1), (x.prod() - 1).reshape(1)])


def boundary_value(xp, x, second_difference, t, h):
    return second_difference @ x + h * h / 2 * (x + t + 1) ** 3


def integral_equation(xp, x, kernel, t):
    return x + kernel @ (x + t + 1) ** 3


def broyden_tridiagonal(xp, x, neighbours):
    return (3 - 2 * x) * x - neighbours @ x + 1


def broyden_banded(xp, x, neighbours):
    return x * (2 + 5 * x * x) + 1 - neighbours @ (x * (1 + x))


def linear(xp, x, matrix):
    """Full rank, rank 1, and rank 1 with empty rows and columns: they differ in the matrix."""
    return matrix @ x - 1


def chebyquad(xp, x, integrals):
    """Means of the Chebyshev polynomials, shifted to [0, 1], less their integrals."""
    t = 2 * x - 1
    rows = [t, 2 * t * t - 1]
    while len(rows) < len(x):
        rows.append(2 * t * rows[-1] - rows[-2])
    return xp.stack(rows[: len(x)]).mean(1) - integrals
