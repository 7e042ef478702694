"""A naive engine: what the random graphs of `laws/test_random_graphs.py` are compared with.

It has reverse mode, forward mode and derivatives of any order, from three kinds of op:

- `linear(f, x, ...)`: a NumPy function that is linear in its arguments, as the matrix that it is;
- `multiply(a, b)`: two arrays of one shape;
- `apply(f, x)`: an elementwise function of NumPy, whose derivative stands in the table `DERIVATIVES`.

Everything else is composed of these, and no rule below is longer than a line of an introduction to calculus. What
pulls a gradient back is made of the same three ops, so gradients can be differentiated again. Float64, no regard to
speed or memory: every gradient of every value is worked out in full.
"""

from functools import reduce
from itertools import count

import numpy as np

_number = count().__next__


class Value:
    """An array and how it came about.

    edges : a triple (argument, pull, push) for each argument that a derivative flows to: `pull` takes the gradient of
        this value to that of the argument, `push` the argument's tangent to this value's.
    """

    __array_ufunc__ = None  # so that `array + value` comes to us

    def __init__(self, data, edges=(), tracked=False):
        self.data = np.asarray(data, float)
        self.edges = [edge for edge in edges if edge[0].tracked]
        self.tracked = tracked or bool(self.edges)
        self.number = _number()

    @property
    def shape(self):
        return self.data.shape

    def __add__(self, other):
        return linear(np.add, self, other)

    def __sub__(self, other):
        return linear(np.subtract, self, other)

    def __mul__(self, other):
        return multiply(*broadcast(self, other))

    def __truediv__(self, other):
        return self * apply(np.reciprocal, value(other))

    def __neg__(self):
        return linear(np.negative, self)

    __radd__, __rmul__ = __add__, __mul__


def value(x):
    return x if isinstance(x, Value) else Value(x)


# --- the three kinds of op ---


def linear(f, *xs):
    """f(*xs), where f is linear in all its arguments together: the sum of one matrix times each."""
    xs = [value(x) for x in xs]
    zeros = [np.zeros(x.shape) for x in xs]
    shape = np.shape(f(*zeros))
    parts = []
    for i, x in enumerate(xs):
        units = np.eye(x.data.size).reshape(x.data.size, *x.shape)
        columns = [np.ravel(f(*zeros[:i], unit, *zeros[i + 1 :])) for unit in units]
        matrix = np.array(columns).reshape(x.data.size, int(np.prod(shape))).T
        parts.append(_times(matrix, x, shape))
    return reduce(_plus, parts)


def _times(matrix, x, shape):
    out = (matrix @ x.data.ravel()).reshape(shape)
    return Value(out, [(x, lambda g: _times(matrix.T, g, x.shape), lambda t: _times(matrix, t, shape))])


def _plus(a, b):
    def same(g):
        return g

    return Value(a.data + b.data, [(a, same, same), (b, same, same)])


def multiply(a, b):
    """a * b of one shape; the product rule."""

    def times_b(g):
        return multiply(g, b)

    def times_a(g):
        return multiply(g, a)

    return Value(a.data * b.data, [(a, times_b, times_b), (b, times_a, times_a)])


DERIVATIVES = {
    np.sin: lambda x: apply(np.cos, x),
    np.cos: lambda x: -apply(np.sin, x),
    np.exp: lambda x: apply(np.exp, x),
    np.log: lambda x: apply(np.reciprocal, x),
    np.tanh: lambda x: 1 + -square(apply(np.tanh, x)),
    np.sqrt: lambda x: 0.5 * apply(np.reciprocal, apply(np.sqrt, x)),
    np.reciprocal: lambda x: -square(apply(np.reciprocal, x)),
}


def apply(f, x):
    """f(x), elementwise; the chain rule."""

    def times_slope(g):
        return multiply(g, DERIVATIVES[f](x))

    return Value(f(x.data), [(x, times_slope, times_slope)])


# --- the two modes ---


def pull_back(outputs, cotangents, factors=None):
    """The gradient of every Value that `outputs` were computed from, as a dict.

    `factors` says by which number the complete gradient of a Value is multiplied on its way (what a hook does).
    """
    arrived = {}

    def arrive(at, gradient):
        arrived[at] = arrived[at] + gradient if at in arrived else gradient

    for output, cotangent in zip(outputs, cotangents, strict=True):
        arrive(output, value(cotangent))
    for x in reversed(ancestors(outputs)):
        if factors and x in factors:
            arrived[x] = arrived[x] * factors[x]
        for argument, pull, _ in x.edges:
            arrive(argument, pull(arrived[x]))
    return arrived


def push_forward(outputs, inputs, tangents):
    """The tangent of every Value on the way from `inputs`, which move along `tangents`, to `outputs`, as a dict."""
    moving = {x: value(t) for x, t in zip(inputs, tangents, strict=True)}
    for x in ancestors(outputs):
        parts = [push(moving[argument]) for argument, _, push in x.edges if argument in moving]
        if parts and x not in moving:
            moving[x] = reduce(_plus, parts)
    return moving


def ancestors(outputs):
    """All tracked Values that these were computed from, themselves included, in the order they were made."""
    found, stack = set(outputs), list(outputs)
    while stack:
        new = {argument for argument, _, _ in stack.pop().edges} - found
        found |= new
        stack += new
    return sorted((x for x in found if x.tracked), key=lambda x: x.number)


# --- composed ---


def square(x):
    return multiply(x, x)


def broadcast(*xs):
    """The arguments, all in the shape that they broadcast to."""
    xs = [value(x) for x in xs]
    shape = np.broadcast_shapes(*(x.shape for x in xs))
    return [x if x.shape == shape else linear(lambda z: np.broadcast_to(z, shape), x) for x in xs]


def sigmoid(x):
    return apply(np.reciprocal, 1 + apply(np.exp, -x))


def softplus(x):
    return apply(np.log, 1 + apply(np.exp, x))


def where(condition, a, b):
    return linear(lambda a, b: np.where(condition, a, b), a, b)


def relu(x):
    """Away from 0, relu is the linear map that takes some elements and leaves others; max is alike, away from ties."""
    return linear(lambda z: np.where(x.data > 0, z, 0), x)


def total(x, axis=None, keepdims=False):
    return linear(lambda z: z.sum(axis=axis, keepdims=keepdims), x)


def mean(x, axis=None, keepdims=False):
    return linear(lambda z: z.mean(axis=axis, keepdims=keepdims), x)


def largest(x, axis=None, keepdims=False):
    where_largest = x.data == x.data.max(axis=axis, keepdims=True)
    return linear(lambda z: (z * where_largest).sum(axis=axis, keepdims=keepdims), x)


def variance(x, axis=None, keepdims=False):
    return mean(square(x - mean(x, axis, keepdims=True)), axis, keepdims)


def logsumexp(x, axis=None, keepdims=False):
    return apply(np.log, total(apply(np.exp, x), axis, keepdims))


def softmax(x, axis):
    powers = apply(np.exp, x)
    return powers / total(powers, axis, keepdims=True)


def prod(x, axis):
    parts = [linear(lambda z, i=i: np.take(z, i, axis), x) for i in range(x.shape[axis])]
    return reduce(multiply, parts, Value(np.ones(np.delete(x.shape, axis))))


def matmul(a, b):
    """Every row times every column, and the sum of each."""
    rows = linear(lambda z: (z[None] if z.ndim == 1 else z)[..., :, :, None], a)
    columns = linear(lambda z: (z[:, None] if z.ndim == 1 else z)[..., None, :, :], b)
    places = ([-2] if len(a.shape) == 1 else []) + ([-1] if len(b.shape) == 1 else [])
    return linear(lambda z: np.squeeze(z.sum(axis=-2), tuple(places)), rows * columns)


def cross_entropy(scores, target):
    rows = np.arange(len(target))
    return logsumexp(scores, axis=1) - linear(lambda z: z[rows, target], scores)


def batch_norm(x, weight, bias, eps):
    """x, weight and bias (N, C), (C,), (C,)."""
    centred = x - mean(x, 0)
    return centred / apply(np.sqrt, mean(square(centred), 0) + eps) * weight + bias
