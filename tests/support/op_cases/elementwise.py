"""Cases of arithmetic, comparisons and elementary functions."""

import numpy as np
import scipy.special
from hypothesis import strategies as st

from minigrad.backend.plain.dropout import Place
from tests.support import philox
from tests.support.op_cases.case import Call, Case, boxes, calls, partners
from tests.support.strategies import between_integers, booleans, broadcastable_shapes, distinct, integers, uniform

ALL = ("f2", "f4", "f8", "i4", "i8")
FLOAT = ("f2", "f4", "f8")
POSITIVE, INSIDE, ABOVE_ONE, ANY = (0.3, 3.0), (-0.9, 0.9), (1.3, 4.0), (-2.0, 2.0)
PROPER = (0.1, 0.9)


def smooth(reference, domain=ANY, complex_reference=None, dtypes=FLOAT):
    """A function of one argument, analytic on its domain; NumPy's ufuncs take complex numbers themselves."""
    return Case(calls(uniform(boxes(), *domain)), reference, complex_reference or reference, dtypes)


def bent(reference, values=distinct, dtypes=ALL, complex_reference=None):
    """A function of one argument with kinks or jumps, which `values` avoid."""
    return Case(calls(values(boxes())), reference, complex_reference, dtypes)


@st.composite
def pairs(draw, first, second, number=2):
    """Two arguments whose shapes broadcast together."""
    a, b = draw(partners())
    return Call((draw(first(a)), draw(second(b))))


@st.composite
def distinct_pairs(draw):
    """Two arguments that are nowhere equal or nearly so."""
    a, b = draw(partners())
    return Call((draw(distinct(a)), draw(distinct(b)) + 0.05))


def real(domain=ANY):
    return lambda shape: uniform(shape, *domain)


def binary(reference, first=ANY, second=ANY, analytic=True, dtypes=ALL, complex_reference=None):
    complex_reference = complex_reference or (reference if analytic else None)
    return Case(pairs(real(first), real(second)), reference, complex_reference, dtypes)


@st.composite
def quotients(draw):
    """a and b with a / b away from the integers."""
    a_shape, b_shape = draw(partners(min_side=1))
    shape = np.broadcast_shapes(a_shape, b_shape)
    b = draw(uniform(b_shape, 0.5, 2)) * (1 if draw(st.booleans()) else -1)
    return Call((draw(between_integers(shape)) * b, b))


@st.composite
def choices(draw):
    condition, a, b = draw(broadcastable_shapes(3))
    return Call((draw(booleans(condition)), draw(uniform(a)), draw(uniform(b))))


@st.composite
def masked(draw):
    kept, x = draw(partners())
    return Call((draw(booleans(kept)), draw(uniform(x))))


@st.composite
def held(draw):
    """Values on both sides of the bounds, which stand at multiples of the gap between the values, away from all."""
    low, high = draw(st.sampled_from([(-0.1, 0.1), (None, 0.0), (0.0, None), (0.1, 0.1), (-0.1, 0.11)]))
    return Call((draw(distinct(boxes())),), {"low": low, "high": high})


@st.composite
def held_between_arrays(draw):
    if draw(st.booleans()):
        return draw(held())
    x, low, high = draw(broadcastable_shapes(3))
    return Call((draw(distinct(x)) + 0.02, draw(uniform(low, -0.1, -0.08)), draw(uniform(high, 0.1, 0.12))))


def _clip(x, low=None, high=None):
    return np.clip(x, low, high)


@st.composite
def compared(draw):
    """Two arguments with many ties between them."""
    a, b = draw(partners())
    return Call((draw(integers(a, -2, 3)) * 0.5, draw(integers(b, -2, 3)) * 0.5))


@st.composite
def bits(draw, number=2):
    kind = draw(st.sampled_from([np.int64, np.int8, np.uint8, bool]))
    given = draw(broadcastable_shapes(number))
    return Call(tuple(draw(integers(shape, 0, 2 if kind is bool else 100)).astype(kind) for shape in given))


@st.composite
def odd_values(draw):
    """Zeros, infinities and NaN among ordinary numbers."""
    table = np.array([0.0, -0.0, 1.5, -2.0, np.inf, -np.inf, np.nan])
    return Call((table[draw(integers(boxes(), 0, len(table)))],))


@st.composite
def truths(draw):
    shape = draw(boxes())
    x = draw(integers(shape, 0, 2)) * 1.5
    axis = draw(st.one_of(st.none(), *([st.integers(-len(shape), len(shape) - 1)] if shape else [])))
    return Call((x,), {"axis": axis, "keepdims": draw(st.booleans())})


def silent(reference, call_strategy, dtypes=ALL):
    """An op whose result carries no gradient."""
    return Case(call_strategy, reference, dtypes=dtypes, differentiable=False)


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _density(x):
    return np.exp(-x) / (1 + np.exp(-x)) ** 2


def _log_loss(p, t):
    return -(t * np.log(p) + (1 - t) * np.log1p(-p))


def _over_square(x, y):
    return x / (x * x + y * y)


def _dropped(x, p, place):
    factor = 1 / (1 - p) if p < 1 else 0
    return x * np.where(philox.dropped(np.shape(x), p, place.seed, place.position), 0, factor).astype(x.dtype)


def _gelu_tanh(x):
    return x * _sigmoid(_cubic(x))


def _cubic(x):
    return np.sqrt(8 / np.pi) * (x + 0.044715 * x**3)


def _gelu_tanh_slope(x):
    slope = np.sqrt(8 / np.pi) * (1 + 3 * 0.044715 * x**2)
    return _sigmoid(_cubic(x)) + x * _density(_cubic(x)) * slope


def _bell(x):
    return np.exp(-x * x / 2) / np.sqrt(2 * np.pi)


def _normal(x):
    return 0.5 * (1 + scipy.special.erf(x * np.sqrt(0.5)))


def _softplus(x, beta=1.0):
    return np.log1p(np.exp(beta * x)) / beta


def _elu(x, alpha=1.0):
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _gelu(x, approximate="none"):
    return _gelu_tanh(x) if approximate == "tanh" else x * _normal(x)


def _dtype_option(result):
    return lambda *_, result=result: result


OPS = {
    "add": binary(np.add),
    "subtract": binary(np.subtract),
    "multiply": binary(np.multiply),
    "divide": binary(np.divide, second=POSITIVE, dtypes=FLOAT),
    "power": binary(np.power, POSITIVE, dtypes=FLOAT),
    "remainder": Case(quotients(), np.remainder, dtypes=FLOAT),
    "floor_divide": silent(np.floor_divide, quotients(), FLOAT),
    "negative": smooth(np.negative, dtypes=ALL),
    "square": smooth(np.square, dtypes=ALL),
    "reciprocal": smooth(lambda x: 1.0 / x, POSITIVE),
    "abs": bent(np.abs),
    "sign": bent(np.sign),
    "zeros_like": silent(np.zeros_like, calls(uniform(boxes()))),
    "floor": bent(np.floor, between_integers),
    "ceil": bent(np.ceil, between_integers),
    "trunc": bent(np.trunc, lambda shape: between_integers(shape)),
    "round": bent(np.round, lambda shape: between_integers(shape, half=True)),
    "maximum": Case(distinct_pairs(), np.maximum, dtypes=ALL, distinct=True),
    "minimum": Case(distinct_pairs(), np.minimum, dtypes=ALL, distinct=True),
    "where": Case(choices(), np.where, np.where, ALL),
    "clip": Case(held(), _clip, dtypes=FLOAT),
    "less": silent(np.less, compared()),
    "less_equal": silent(np.less_equal, compared()),
    "greater": silent(np.greater, compared()),
    "greater_equal": silent(np.greater_equal, compared()),
    "equal": silent(np.equal, compared()),
    "not_equal": silent(np.not_equal, compared()),
    "bitwise_and": silent(np.bitwise_and, bits()),
    "bitwise_or": silent(np.bitwise_or, bits()),
    "bitwise_xor": silent(np.bitwise_xor, bits()),
    "bitwise_not": silent(np.bitwise_not, bits(1)),
    "logical_not": silent(np.logical_not, odd_values(), FLOAT),
    "isnan": silent(np.isnan, odd_values(), FLOAT),
    "isfinite": silent(np.isfinite, odd_values(), FLOAT),
    "any": silent(np.any, truths()),
    "all": silent(np.all, truths()),
    "clone": smooth(np.copy, dtypes=ALL),
    "cast": Case(
        calls(uniform(boxes()), dtype=st.just(np.dtype("f8"))),
        lambda x, dtype: x.astype(dtype),
        lambda x, dtype: x.copy(),
        ALL,
        _dtype_option(np.dtype("f8")),
    ),
    "cast_to_integer": silent(
        lambda x, dtype: x.astype(dtype),
        calls(between_integers(boxes(), 0, 9), dtype=st.sampled_from([np.dtype("i4"), np.dtype("u1"), np.dtype("?")])),
    ),
    "to_device": Case(
        calls(uniform(boxes()), device="cpu", origin="cpu"),
        lambda x, device, origin: x.copy(),
        lambda x, device, origin: x.copy(),
        ALL,
    ),
    "exp": smooth(np.exp),
    "exp2": smooth(np.exp2),
    "expm1": smooth(np.expm1),
    "log": smooth(np.log, POSITIVE),
    "log2": smooth(np.log2, POSITIVE),
    "log10": smooth(np.log10, POSITIVE),
    "log1p": smooth(np.log1p, INSIDE),
    "logaddexp": binary(np.logaddexp, dtypes=FLOAT, complex_reference=lambda a, b: np.log(np.exp(a) + np.exp(b))),
    "sqrt": smooth(np.sqrt, POSITIVE),
    "rsqrt": smooth(lambda x: 1 / np.sqrt(x), POSITIVE),
    "sin": smooth(np.sin),
    "cos": smooth(np.cos),
    "tan": smooth(np.tan, (-1.2, 1.2)),
    "arcsin": smooth(np.arcsin, INSIDE),
    "arccos": smooth(np.arccos, INSIDE),
    "arctan": smooth(np.arctan),
    "arctan2": binary(np.arctan2, first=POSITIVE, analytic=False, dtypes=FLOAT),
    "sinh": smooth(np.sinh),
    "cosh": smooth(np.cosh),
    "tanh": smooth(np.tanh),
    "arcsinh": smooth(np.arcsinh),
    "arccosh": smooth(np.arccosh, ABOVE_ONE),
    "arctanh": smooth(np.arctanh, INSIDE),
    "dropped": Case(
        calls(uniform(boxes()), p=st.sampled_from([0.25, 1.0]), place=st.builds(Place, st.just(3), st.integers(0, 9))),
        lambda x, p, place: _dropped(x, p, place),
        lambda x, p, place: _dropped(x, p, place),
        FLOAT,
    ),
    "erf": smooth(scipy.special.erf),
    "gauss": Case(
        calls(uniform(boxes()), factor=st.sampled_from([1.0, 0.5])),
        lambda x, factor: np.exp(-factor * x * x),
        lambda x, factor: np.exp(-factor * x * x),
        FLOAT,
    ),
    "hypot": binary(np.hypot, POSITIVE, POSITIVE, complex_reference=lambda x, y: np.sqrt(x * x + y * y), dtypes=FLOAT),
    "over_distance": binary(lambda x, y: x / np.sqrt(x * x + y * y), POSITIVE, POSITIVE, dtypes=FLOAT),
    "over_square": binary(_over_square, POSITIVE, POSITIVE, dtypes=FLOAT),
    "share_of_first": binary(lambda a, b: scipy.special.expit(a - b), complex_reference=lambda a, b: _sigmoid(a - b)),
    "slope_of_share": binary(lambda a, b: _density(a - b)),
    "sigmoid_slope": smooth(_density),
    "tanh_slope": smooth(lambda x: 1 / np.cosh(x) ** 2),
    "arcsin_slope": smooth(lambda x: 1 / np.sqrt(1 - x * x), INSIDE),
    "arctan_slope": smooth(lambda x: 1 / (1 + x * x)),
    "arcsinh_slope": smooth(lambda x: 1 / np.sqrt(1 + x * x)),
    "arccosh_slope": smooth(lambda x: 1 / np.sqrt(x * x - 1), ABOVE_ONE),
    "arctanh_slope": smooth(lambda x: 1 / (1 - x * x), INSIDE),
    "silu": smooth(lambda x: x * scipy.special.expit(x), complex_reference=lambda x: x * _sigmoid(x)),
    "silu_slope": smooth(lambda x: _sigmoid(x) * (1 + x * _sigmoid(-x))),
    "silu_curvature": smooth(lambda x: _density(x) * (2 - x * np.tanh(x / 2))),
    "gelu": smooth(_gelu),
    "gelu_slope": smooth(lambda x: _normal(x) + x * _bell(x)),
    "gelu_curvature": smooth(lambda x: (2 - x * x) * _bell(x)),
    "gelu_tanh": smooth(_gelu_tanh),
    "gelu_tanh_slope": smooth(_gelu_tanh_slope),
    "log_loss": binary(_log_loss, PROPER, PROPER, dtypes=FLOAT),
    "log_loss_slope": binary(lambda p, t: (p - t) / p / (1 - p), PROPER, PROPER, dtypes=FLOAT),
    "logistic_loss": binary(
        lambda x, t: np.logaddexp(0, x) - t * x, ANY, PROPER, complex_reference=lambda x, t: _softplus(x) - t * x
    ),
    "logistic_residual": binary(lambda x, t: _sigmoid(x) - t, ANY, PROPER),
    "keep_where": Case(masked(), lambda kept, x: np.where(kept, x, 0.0), lambda kept, x: np.where(kept, x, 0.0), FLOAT),
    "relu": bent(lambda x: np.maximum(x, 0)),
    "sigmoid": smooth(scipy.special.expit, complex_reference=_sigmoid),
    "softplus": Case(calls(uniform(boxes()), beta=st.sampled_from([1.0, 0.5, 3])), _softplus, _softplus),
}

COMPOSITES = {
    "clip": Case(held_between_arrays(), _clip, dtypes=FLOAT, distinct=True),
    "astype": Case(
        calls(uniform(boxes()), st.sampled_from([np.dtype("f8"), "float64", np.float64])),
        lambda x, dtype: x.astype(dtype),
        lambda x, dtype: x.copy(),
        ALL,
        _dtype_option(np.dtype("f8")),
    ),
    "leaky_relu": Case(
        calls(distinct(boxes()), st.sampled_from([0.01, 0.3])), lambda x, slope: np.where(x > 0, x, x * slope)
    ),
    "elu": Case(calls(distinct(boxes()), st.sampled_from([1.0, 0.7])), _elu),
    "gelu": Case(calls(uniform(boxes()), st.sampled_from(["none", "tanh"])), _gelu, _gelu),
}
