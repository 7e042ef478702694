"""Every elementwise function with its first two derivatives to 60 digits, and where in a dtype's range to ask.

One table: a row names the op and gives value, slope and curvature as mpmath has them, written so that nothing cancels.
`python -m tests.support.exact` prints the worst error of each op in units in the last place, and the exceptions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np
from mpmath import mp, mpf

import minigrad as mg
from minigrad import autograd

DIGITS = 60
FLOATS = ("f2", "f4", "f8")
INF = math.inf


@dataclass(frozen=True)
class Row:
    """One function of one or two arguments.

    op : the function of Tensors
    exact : the function and its partial derivatives in mpmath; of x: f, f', f''; of (a, b): f, fa, fb, faa, fab, fbb
    domain : where an argument may lie; a pair of them for two arguments
    near : points of which the neighbours are asked too: roots, ends, seams
    limit : how many units in the last place the result may be off
    """

    op: Callable[..., Any]
    exact: tuple[Callable[..., Any], ...]
    domain: tuple[Any, ...] = (-INF, INF)
    near: tuple[float, ...] = (0.0, 1.0)
    limit: float = 4

    @property
    def arguments(self) -> int:
        return 1 if len(self.exact) == 3 else 2


def _sigmoid(x):
    e = mp.exp(-abs(x))
    return (1 if x >= 0 else e) / (1 + e)


def _density(x):
    e = mp.exp(-abs(x))
    return e / (1 + e) ** 2


def _softplus(x):
    return max(x, mpf(0)) + mp.log1p(mp.exp(-abs(x)))


def _normal(x):
    return mp.erfc(-max(-1000, min(1000, x)) / mp.sqrt(2)) / 2


def _bell(x):
    return mp.exp(-x * x / 2) / mp.sqrt(2 * mp.pi)


def _sech2(x):
    return 4 * _density(2 * x)


def _share(a, b):
    return _sigmoid(a - b)


def _tanh_argument(x, order=0):
    c, k = mp.sqrt(8 / mp.pi), mpf(0.044715)
    return (c * (x + k * x**3), c * (1 + 3 * k * x * x), c * 6 * k * x)[order]


def _gelu_tanh(x):
    return x * _sigmoid(_tanh_argument(x))


def _gelu_tanh_slope(x):
    u, du = _tanh_argument(x), _tanh_argument(x, 1)
    return _sigmoid(u) + x * _density(u) * du


def _gelu_tanh_curvature(x):
    u, du, ddu = (_tanh_argument(x, order) for order in range(3))
    return _density(u) * (2 * du + x * ddu - x * du * du * mp.tanh(u / 2))


def _subnormal_power(info, a, b):
    return info.smallest_normal * (1 + mp.log(a) ** 2 + abs(b) * (1 + abs(mp.log(a))) * max(1, 1 / a))


def _of_rounded_distance(exact, power):
    """What a derivative may be off by where the distance h it is divided by is infinite, or subnormal."""

    def scale(info, x, y):
        h = mp.hypot(x, y)
        size = abs(exact(x, y))
        return mpf(2) ** info.maxexp if h > float(info.max) else size * power * max(1, info.smallest_normal / h)

    return scale


def _zero(*_):
    return mpf(0)


def _power_slopes():
    def entry(a, b):
        return b * a ** (b - 1)

    return (
        lambda a, b: a**b,
        entry,
        lambda a, b: a**b * mp.log(a),
        lambda a, b: b * (b - 1) * a ** (b - 2),
        lambda a, b: a ** (b - 1) * (1 + b * mp.log(a)),
        lambda a, b: a**b * mp.log(a) ** 2,
    )


def _fixed_power(p):
    """x ** p for a number p, which stands beside x as a number of x's dtype."""
    return (
        lambda x, dtype=None: x ** mpf(p),
        lambda x: p * x ** (mpf(p) - 1),
        lambda x: p * (mpf(p) - 1) * x ** (mpf(p) - 2),
    )


POSITIVE = (0, INF)
ROWS: dict[str, Row] = {
    "add": Row(mg.add, (lambda a, b: a + b, lambda a, b: mpf(1), lambda a, b: mpf(1), _zero, _zero, _zero)),
    "subtract": Row(mg.subtract, (lambda a, b: a - b, lambda a, b: mpf(1), lambda a, b: mpf(-1), _zero, _zero, _zero)),
    "multiply": Row(
        mg.multiply, (lambda a, b: a * b, lambda a, b: b, lambda a, b: a, _zero, lambda a, b: mpf(1), _zero)
    ),
    "divide": Row(
        mg.divide,
        (
            lambda a, b: a / b,
            lambda a, b: 1 / b,
            lambda a, b: -a / b**2,
            _zero,
            lambda a, b: -1 / b**2,
            lambda a, b: 2 * a / b**3,
        ),
    ),
    "power": Row(mg.power, _power_slopes(), (POSITIVE, (-INF, INF))),
    "power 3": Row(lambda x: x**3, _fixed_power(3)),
    "power -2": Row(lambda x: x**-2, _fixed_power(-2)),
    "power 0.5": Row(lambda x: x**0.5, _fixed_power(0.5), POSITIVE),
    "power 2.5": Row(lambda x: x**2.5, _fixed_power(2.5), POSITIVE),
    "power -0.25": Row(lambda x: x**-0.25, _fixed_power(-0.25), POSITIVE),
    "square": Row(mg.square, (lambda x: x * x, lambda x: 2 * x, lambda x: mpf(2))),
    "reciprocal": Row(mg.reciprocal, (lambda x: 1 / x, lambda x: -1 / x**2, lambda x: 2 / x**3)),
    "negative": Row(mg.negative, (lambda x: -x, lambda x: mpf(-1), _zero)),
    "abs": Row(mg.abs, (abs, mp.sign, _zero)),
    "exp": Row(mg.exp, (mp.exp,) * 3),
    "exp2": Row(
        mg.exp2, (lambda x: mpf(2) ** x, lambda x: mpf(2) ** x * mp.log(2), lambda x: mpf(2) ** x * mp.log(2) ** 2)
    ),
    "expm1": Row(mg.expm1, (mp.expm1, mp.exp, mp.exp)),
    "log": Row(mg.log, (mp.log, lambda x: 1 / x, lambda x: -1 / x**2), POSITIVE),
    "log2": Row(
        mg.log2,
        (lambda x: mp.log(x) / mp.log(2), lambda x: 1 / (x * mp.log(2)), lambda x: -1 / (x * x * mp.log(2))),
        POSITIVE,
    ),
    "log10": Row(
        mg.log10,
        (lambda x: mp.log(x) / mp.log(10), lambda x: 1 / (x * mp.log(10)), lambda x: -1 / (x * x * mp.log(10))),
        POSITIVE,
    ),
    "log1p": Row(mg.log1p, (mp.log1p, lambda x: 1 / (1 + x), lambda x: -1 / (1 + x) ** 2), (-1, INF), (0, -1, 1)),
    "sqrt": Row(mg.sqrt, (mp.sqrt, lambda x: 1 / (2 * mp.sqrt(x)), lambda x: -1 / (4 * x * mp.sqrt(x))), POSITIVE),
    "rsqrt": Row(
        mg.rsqrt,
        (
            lambda x: 1 / mp.sqrt(x),
            lambda x: -1 / (2 * x * mp.sqrt(x)),
            lambda x: 3 / (4 * x * x * mp.sqrt(x)),
        ),
        POSITIVE,
    ),
    "sin": Row(mg.sin, (mp.sin, mp.cos, lambda x: -mp.sin(x)), near=(0, math.pi, math.pi / 2)),
    "cos": Row(mg.cos, (mp.cos, lambda x: -mp.sin(x), lambda x: -mp.cos(x)), near=(0, math.pi, math.pi / 2)),
    "tan": Row(
        mg.tan,
        (mp.tan, lambda x: 1 / mp.cos(x) ** 2, lambda x: 2 * mp.tan(x) / mp.cos(x) ** 2),
        near=(0, math.pi, math.pi / 2),
    ),
    "arcsin": Row(
        mg.arcsin,
        (mp.asin, lambda x: 1 / mp.sqrt(1 - x * x), lambda x: x / mp.sqrt(1 - x * x) ** 3),
        (-1, 1),
    ),
    "arccos": Row(
        mg.arccos,
        (mp.acos, lambda x: -1 / mp.sqrt(1 - x * x), lambda x: -x / mp.sqrt(1 - x * x) ** 3),
        (-1, 1),
    ),
    "arctan": Row(mg.arctan, (mp.atan, lambda x: 1 / (1 + x * x), lambda x: -2 * x / (1 + x * x) ** 2)),
    "arctan2": Row(
        mg.arctan2,
        (
            mp.atan2,
            lambda y, x: x / (x * x + y * y),
            lambda y, x: -y / (x * x + y * y),
            lambda y, x: -2 * x * y / (x * x + y * y) ** 2,
            lambda y, x: (y * y - x * x) / (x * x + y * y) ** 2,
            lambda y, x: 2 * x * y / (x * x + y * y) ** 2,
        ),
    ),
    "hypot": Row(
        mg.hypot,
        (
            mp.hypot,
            lambda x, y: x / mp.hypot(x, y),
            lambda x, y: y / mp.hypot(x, y),
            lambda x, y: y * y / mp.hypot(x, y) ** 3,
            lambda x, y: -x * y / mp.hypot(x, y) ** 3,
            lambda x, y: x * x / mp.hypot(x, y) ** 3,
        ),
    ),
    "sinh": Row(mg.sinh, (mp.sinh, mp.cosh, mp.sinh)),
    "cosh": Row(mg.cosh, (mp.cosh, mp.sinh, mp.cosh)),
    "tanh": Row(mg.tanh, (mp.tanh, _sech2, lambda x: -2 * mp.tanh(x) * _sech2(x))),
    "arcsinh": Row(mg.arcsinh, (mp.asinh, lambda x: 1 / mp.sqrt(1 + x * x), lambda x: -x / mp.sqrt(1 + x * x) ** 3)),
    "arccosh": Row(
        mg.arccosh, (mp.acosh, lambda x: 1 / mp.sqrt(x * x - 1), lambda x: -x / mp.sqrt(x * x - 1) ** 3), (1, INF)
    ),
    "arctanh": Row(mg.arctanh, (mp.atanh, lambda x: 1 / (1 - x * x), lambda x: 2 * x / (1 - x * x) ** 2), (-1, 1)),
    "erf": Row(
        mg.erf,
        (
            mp.erf,
            lambda x: 2 / mp.sqrt(mp.pi) * mp.exp(-x * x),
            lambda x: -4 * x / mp.sqrt(mp.pi) * mp.exp(-x * x),
        ),
        limit=8,
    ),
    "sigmoid": Row(mg.sigmoid, (_sigmoid, _density, lambda x: -_density(x) * mp.tanh(x / 2)), near=(0, 1, -1), limit=8),
    "softplus": Row(mg.softplus, (_softplus, _sigmoid, _density), limit=8),
    "softplus beta=2": Row(
        lambda x: mg.softplus(x, beta=2.0),
        (lambda x: _softplus(2 * x) / 2, lambda x: _sigmoid(2 * x), lambda x: 2 * _density(2 * x)),
        limit=8,
    ),
    "logaddexp": Row(
        mg.logaddexp,
        (
            lambda a, b: max(a, b) + mp.log1p(mp.exp(-abs(a - b))),
            _share,
            lambda a, b: _share(b, a),
            lambda a, b: _density(a - b),
            lambda a, b: -_density(a - b),
            lambda a, b: _density(a - b),
        ),
        limit=8,
    ),
    "log_loss": Row(
        mg.log_loss,
        (
            lambda p, t: -(t * mp.log(p) + (1 - t) * mp.log1p(-p)),
            lambda p, t: (p - t) / (p * (1 - p)),
            lambda p, t: mp.log1p(-p) - mp.log(p),
            lambda p, t: t / p**2 + (1 - t) / (1 - p) ** 2,
            lambda p, t: -1 / (p * (1 - p)),
            _zero,
        ),
        ((0, 1), (0, 1.00001)),
        limit=8,
    ),
    "logistic_loss": Row(
        mg.logistic_loss,
        (
            lambda x, t: (1 - t) * _softplus(x) + t * _softplus(-x),
            lambda x, t: (1 - t) * _sigmoid(x) - t * _sigmoid(-x),
            lambda x, t: -x,
            lambda x, t: _density(x),
            lambda x, t: mpf(-1),
            _zero,
        ),
        ((-INF, INF), (0, 1.00001)),
        limit=8,
    ),
    "relu": Row(mg.relu, (lambda x: max(x, mpf(0)), lambda x: mpf(x > 0), _zero)),
    "leaky_relu": Row(
        lambda x: mg.leaky_relu(x, 0.125),
        (lambda x: x if x > 0 else x / 8, lambda x: mpf(1) if x > 0 else mpf(1) / 8, _zero),
    ),
    "elu": Row(
        mg.elu,
        (
            lambda x: x if x > 0 else mp.expm1(x),
            lambda x: mpf(1) if x > 0 else mp.exp(x),
            lambda x: mpf(0) if x > 0 else mp.exp(x),
        ),
    ),
    "silu": Row(
        mg.silu,
        (
            lambda x: x * _sigmoid(x),
            lambda x: _sigmoid(x) * (1 + x * _sigmoid(-x)),
            lambda x: _density(x) * (2 - x * mp.tanh(x / 2)),
        ),
        near=(0, 1, -1.2784645427610738, 2.399357280515468),
        limit=8,
    ),
    "gelu": Row(
        mg.gelu,
        (
            lambda x: x * _normal(x),
            lambda x: _normal(x) + x * _bell(x),
            lambda x: (2 - x * x) * _bell(x),
        ),
        near=(0, 1, -0.7517915246935645, math.sqrt(2), -math.sqrt(2)),
        limit=8,
    ),
    "gelu tanh": Row(
        lambda x: mg.gelu(x, "tanh"),
        (_gelu_tanh, _gelu_tanh_slope, _gelu_tanh_curvature),
        near=(0, 1, -0.7524614220710162),
    ),
}


# --- where to ask ---


def points(row: Row, dtype: str, argument: int, random: np.random.Generator, thorough: int = 1) -> np.ndarray:
    """Numbers of a dtype over its whole range: all powers of two, the range of exponentials, neighbours of `near`."""
    kind = np.dtype(dtype)
    info = np.finfo(kind)
    low, high = row.domain if not isinstance(row.domain[0], tuple) else row.domain[argument]
    exponents = np.linspace(math.log2(info.smallest_subnormal), math.log2(info.max) - 1e-3, 40 * thorough)
    with np.errstate(over="ignore", under="ignore"):
        magnitudes = np.exp2((exponents + random.uniform(-0.5, 0, exponents.size)).astype(np.longdouble))
        reach = 1.1 * math.log(info.max) + math.log(1 / info.eps)
        spread = random.uniform(-1, 1, 40 * thorough) * reach
        inner = random.uniform(-6, 6, 30 * thorough)
        close = [
            sign * (p + d * max(abs(p), info.smallest_normal))
            for p in row.near
            for sign in (1, -1)
            for d in (0, *(s * info.eps * 2.0**k for s in (1, -1) for k in (0, 1, 4, 8)), -1e-3, 1e-2)
        ]
        x = np.concatenate([magnitudes, -magnitudes, spread, inner, close]).astype(kind)
    x = np.unique(x[np.isfinite(x) & (x > low) & (x < high)])
    return x[x != 0]


def arguments(row: Row, dtype: str, random: np.random.Generator, thorough: int = 1) -> list[np.ndarray]:
    """One array of points for each argument: for two of them random pairs, half of them of like size."""
    lists = [points(row, dtype, i, random, thorough) for i in range(row.arguments)]
    if row.arguments == 1:
        return lists
    n = 150 * thorough
    a, b = (random.choice(values, n) for values in lists)
    low, high = row.domain[1] if isinstance(row.domain[1], tuple) else row.domain
    with np.errstate(over="ignore"):
        alike = (a * random.uniform(0.2, 3, n)).astype(dtype) * random.choice(np.asarray([1, -1], dtype), n)
    use = (random.random(n) < 0.5) & np.isfinite(alike) & (alike > low) & (alike < high) & (alike != 0)
    return [a, np.where(use, alike, b)]


# --- what we find, and how far it is off ---


def derivatives(op: Callable[..., Any], arrays: list[np.ndarray]) -> list[np.ndarray]:
    """f and all its partial derivatives to second order, in the order of `Row.exact`, by reverse mode."""
    xs = [mg.tensor(x, requires_grad=True) for x in arrays]
    y = op(*xs)
    found = [y]
    slopes = autograd.grad(y.sum(), xs, create_graph=True)
    found += slopes
    for i, slope in enumerate(slopes):
        more = [None] * len(xs)
        if slope.requires_grad:
            more = autograd.grad(slope.sum(), xs, retain_graph=True, allow_unused=True)
        found += [mg.zeros_like(y) if g is None else g for g in more[i:]]
    return [np.asarray(value.detach().numpy()) for value in found]


def units(found: Any, exact: Any, dtype: str, scale: Any = 0) -> float:
    """The distance in units in the last place of the exact value (or of `scale`, if larger).

    Beyond the largest number stands infinity, one unit above it; below the normal numbers the unit stays the same.
    """
    info = np.finfo(dtype)
    if mpmath.isnan(exact) or np.isnan(found):
        return 0.0 if mpmath.isnan(exact) and np.isnan(found) else INF
    top = mpf(2) ** info.maxexp
    value = max(-top, min(top, mpf(float(found)) if not np.isinf(found) else mpf("inf") * np.sign(float(found))))
    target = max(-top, min(top, exact))
    size = max(min(abs(target), float(info.max)), abs(scale))
    exponent = mpmath.frexp(size)[1] - 1 if size else info.minexp
    unit = mpf(2) ** (max(exponent, info.minexp) - info.nmant)
    return float(abs(value - target) / unit)


@dataclass(frozen=True)
class Finding:
    """The worst error of one quantity of one op in one dtype."""

    name: str
    dtype: str
    order: int
    error: float
    at: tuple[float, ...]
    found: float
    exact: float


def findings(name: str, dtype: str, thorough: int = 1, seed: int = 0) -> Iterator[Finding]:
    """For value and each derivative of an op: where over the range of the dtype it is worst."""
    row = ROWS[name]
    arrays = arguments(row, dtype, np.random.default_rng(seed), thorough)
    with np.errstate(all="ignore"):
        results = derivatives(row.op, arrays)
    with mp.workdps(DIGITS):
        places = [tuple(mpf(float(v)) for v in place) for place in zip(*arrays, strict=True)]
        for order, (exact, values) in enumerate(zip(row.exact, results, strict=True)):
            worst = Finding(name, dtype, order, -1.0, (), 0.0, 0.0)
            scale = SCALES.get((name, order), (_zero, ""))[0]
            for place, value in zip(places, values, strict=True):
                truth = exact(*place)
                error = units(value, truth, dtype, scale(np.finfo(dtype), *place))
                if order and not np.isfinite(value) and abs(truth) > float(np.finfo(dtype).max) / 8:
                    error = 0.0  # a factor below 1 that comes last comes too late
                if error > worst.error:
                    at = tuple(float(v) for v in place)
                    worst = Finding(name, dtype, order, error, at, float(value), float(truth))
            yield worst


def _largest(*terms):
    return max(abs(term) for term in terms)


SCALES: dict[tuple[str, int], tuple[Callable[..., Any], str]] = {
    ("logaddexp", 0): (lambda _, a, b: max(abs(a), abs(b)), "the larger one and log1p(e^-|a-b|) may cancel"),
    ("log_loss", 2): (lambda _, p, t: max(-mp.log(p), mpf(0.5)), "log(1 - p) - log(p) has a root at 1/2"),
    ("logistic_loss", 1): (lambda _, x, t: t * _sigmoid(-x), "the root where the sigmoid is t is one of a difference"),
    ("silu", 1): (lambda _, x: x * _density(x), "the root at -1.28 is one of a difference"),
    ("silu", 2): (lambda _, x: x * _density(x), "the roots at 2.40 and -2.40 are those of a difference"),
    ("gelu", 1): (lambda _, x: x * _bell(x), "the root at -0.75 is one of a difference"),
    ("gelu", 2): (
        lambda info, x: 2 * _bell(x) + min(x * x, 1500) * info.smallest_normal,
        "the roots at 1.41 and -1.41 are those of a difference; a subnormal density is multiplied by x^2",
    ),
    ("gelu tanh", 1): (
        lambda _, x: x * _density(_tanh_argument(x)) * _tanh_argument(x, 1),
        "the root at -0.75 is one of a difference",
    ),
    ("power", 4): (
        lambda info, a, b: a ** (b - 1) * max(mpf(1), abs(b * mp.log(a))) + _subnormal_power(info, a, b),
        "a^(b-1) (1 + b log(a)) has a root; a subnormal power is multiplied by log(a) and b, or divided by a",
    ),
    **{
        ("hypot", order): (
            _of_rounded_distance(ROWS["hypot"].exact[order], 1 if order < 3 else 2),
            "the distance that it is divided by may be infinite or subnormal",
        )
        for order in range(1, 6)
    },
    ("power", 5): (_subnormal_power, "a subnormal power is multiplied by the square of the logarithm"),
}
"""Where a result is a difference, or a multiple of what was subnormal: errors count in units of this."""

LIMITS: dict[tuple[str, int], tuple[float, str]] = {
    **{("gelu tanh", order): (40, "e^-u multiplies the rounding error of u, a cubic in x, by u") for order in range(3)},
    ("tan", 2): (6, "2 t (1 + t^2) has three times the relative error of t, 1.5 units in float32 with AVX-512"),
    ("power", 3): (INF, "b a^b / a passes infinity on its way where a and b both are subnormal, and is derived so"),
    **{("arctan2", order): (8, "a product and a quotient of ten rounded numbers") for order in (3, 4, 5)},
}
"""Errors above the row's own limit, by op and place in `Row.exact`, each with its reason."""


def limit(finding: Finding) -> float:
    """How many units in the last place a result may be off."""
    return LIMITS.get((finding.name, finding.order), (ROWS[finding.name].limit, ""))[0]


def _print_table() -> None:
    print("op                dtype   " + "".join(f"{title:>12}" for title in ("value", "slopes", "curvatures")))
    for name, row in ROWS.items():
        for dtype in FLOATS:
            found = list(findings(name, dtype))
            first = 1 + row.arguments
            groups = found[:1], found[1:first], found[first:]
            worst = [max(group, key=lambda f: f.error) for group in groups]
            print(f"{name:18}{dtype:8}" + "".join(f"{f.error:12.3g}" for f in worst), end="")
            print("".join(f"  {f.found:.9g} not {f.exact:.9g} at {f.at}" for f in worst if f.error > limit(f)))
    print("Measured in units of a larger term:")
    for (name, order), (_, reason) in SCALES.items():
        print(f"  {name}, {_title(name, order)}: {reason}")
    print("Allowed more:")
    for (name, order), (most, reason) in LIMITS.items():
        print(f"  {name}, {_title(name, order)}, {most} units: {reason}")


def _title(name: str, order: int) -> str:
    """What stands at this place of `Row.exact`."""
    places = "f f' f''" if ROWS[name].arguments == 1 else "f fa fb faa fab fbb"
    return places.split()[order]


if __name__ == "__main__":
    _print_table()
