"""Cases of reductions, running forms, and softmax with its kin."""

import numpy as np
import scipy.special
from hypothesis import strategies as st

from tests.support.op_cases.case import Call, Case, boxes
from tests.support.strategies import axes, distinct, integers, single_axis, uniform

FLOAT = ("f2", "f4", "f8")
ALL = (*FLOAT, "i4", "i8")


@st.composite
def reduced(draw, values=uniform, min_side=0, many=True, **further):
    """A tensor, and the axes in any form, and whether they stay."""
    x = draw(values(boxes(min_side=min_side)))
    options = {"axis": draw(axes(x.ndim, many=many)), "keepdims": draw(st.booleans())}
    return Call((x,), options | {name: draw(strategy) for name, strategy in further.items()})


@st.composite
def along(draw, values=uniform, min_side=0):
    """A tensor of at least one axis, and one of them."""
    x = draw(values(boxes(min_dims=1, min_side=min_side)))
    return Call((x,), {"axis": draw(single_axis(x.ndim))})


def reduction(reference, values=uniform, min_side=0, complex_reference=None, dtypes=ALL, **flags):
    return Case(reduced(values, min_side), reference, complex_reference, dtypes, **flags)


@st.composite
def _with_zeros(draw, shape):
    """Numbers of which up to three are exactly 0. (With five a product is so flat that differences see nothing.)"""
    x = draw(uniform(shape, 0.5, 1.5)).copy()
    for _ in range(draw(st.integers(0, 3)) if x.size else 0):
        x.flat[draw(st.integers(0, x.size - 1))] = 0
    return x


@st.composite
def _distinct_in_size(draw, shape, gap=0.1):
    """Numbers of either sign, no two equally far from 0."""
    shape = draw(shape)
    size, random = int(np.prod(shape)), np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    lengths = random.permutation(size) + 0.6 + random.uniform(-0.2, 0.2, size)
    return (gap * lengths * random.choice([-1, 1], size)).reshape(shape)


@st.composite
def stepped(draw):
    """Factors and summands of y[k] = a[k] y[k-1] + b[k]."""
    shape = draw(boxes(min_dims=1))
    return Call((draw(_with_zeros(shape)), draw(uniform(shape))))


def _recurrence(a, b):
    y = np.zeros_like(a * b)
    for k in range(y.shape[-1]):
        y[..., k] = b[..., k] + (a[..., k] * y[..., k - 1] if k else 0)
    return y


def _positive(shape):
    return uniform(shape, 0.5, 2.0)


def _norm(x, axis=None, keepdims=False):
    return np.sqrt(np.sum(x * x, axis=axis, keepdims=keepdims))


def _p_norm(x, ord=2, axis=None, keepdims=False):
    if ord in (np.inf, -np.inf):
        return (np.max if ord > 0 else np.min)(np.abs(x), axis=axis, keepdims=keepdims)
    if ord == 0:
        return np.sum(x != 0, axis=axis, keepdims=keepdims).astype(x.dtype)
    return np.sum(np.abs(x) ** ord, axis=axis, keepdims=keepdims) ** (1 / ord)


def _var(x, axis=None, correction=0, keepdims=False):
    """The variance in a form that takes complex numbers as they are (NumPy's takes their length)."""
    distance = x - x.mean(axis=axis, keepdims=True)
    rest = (distance * distance).mean(axis=axis, keepdims=keepdims)
    count = x.size / max(1, x.mean(axis=axis).size)
    return rest * (count / (count - correction))


def _std(x, **options):
    return np.sqrt(_var(x, **options))


@st.composite
def spreads(draw, values):
    """Calls of var and std with more elements to a variance than the correction takes away."""
    x = draw(values(boxes(min_dims=1, min_side=2)))
    options = {"axis": draw(axes(x.ndim).filter(lambda axis: axis != ())), "keepdims": draw(st.booleans())}
    return Call((x,), options | {"correction": draw(st.sampled_from([0, 1]))})


def _logsumexp(x, axis=None, keepdims=False):
    return np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims))


def _softmax(x, axis=-1):
    powers = np.exp(x)
    return powers / powers.sum(axis=axis, keepdims=True)


def _log_softmax(x, axis=-1):
    return x - np.log(np.exp(x).sum(axis=axis, keepdims=True))


@st.composite
def classified(draw):
    """Scores (N, C), and a class for each row."""
    rows, classes = draw(st.integers(0, 4)), draw(st.integers(1, 4))
    return Call((draw(uniform((rows, classes))), draw(integers((rows,), 0, classes))))


def _cross_entropy(scores, target):
    return -_log_softmax(scores, axis=1)[np.arange(len(target)), target]


OPS = {
    "sum": reduction(np.sum, complex_reference=np.sum),
    "mean": reduction(np.mean, min_side=1, complex_reference=np.mean),
    "norm2": reduction(_norm, _positive, complex_reference=_norm, dtypes=FLOAT),
    "prod": reduction(np.prod, _with_zeros, complex_reference=np.prod),
    "max": reduction(np.max, distinct, min_side=1, distinct=True),
    "min": reduction(np.min, distinct, min_side=1, distinct=True),
    "argmax": Case(reduced(distinct, 1, many=False), np.argmax, differentiable=False, dtypes=ALL),
    "argmin": Case(reduced(distinct, 1, many=False), np.argmin, differentiable=False, dtypes=ALL),
    "cumsum": Case(along(), np.cumsum, np.cumsum, ALL),
    "cumprod": Case(along(_with_zeros), np.cumprod, np.cumprod, ALL),
    "recurrence": Case(stepped(), _recurrence, _recurrence, mixed=False),
    "logsumexp": reduction(_logsumexp, min_side=1, complex_reference=_logsumexp, dtypes=FLOAT),
    "softmax": Case(along(min_side=1), scipy.special.softmax, _softmax),
    "log_softmax": Case(along(min_side=1), scipy.special.log_softmax, _log_softmax),
    "softmax_cross_entropy": Case(classified(), _cross_entropy, _cross_entropy),
}

COMPOSITES = {
    "var": Case(spreads(uniform), _var, _var, ALL),
    "std": Case(spreads(distinct), _std, _std, FLOAT, distinct=True),
    "norm": Case(
        reduced(_distinct_in_size, 1, ord=st.sampled_from([1, 2, np.inf, 3, 2.5, -np.inf, -1.5, 0])),
        _p_norm,
        dtypes=FLOAT,
        distinct=True,
    ),
    "amax": reduction(np.amax, distinct, min_side=1, distinct=True),
    "amin": reduction(np.amin, distinct, min_side=1, distinct=True),
}
