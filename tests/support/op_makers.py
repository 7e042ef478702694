"""What several tests of single ops need: gradients in float64, and comparisons with numbers worked out by hand."""

import numpy as np

import minigrad as mg


def gradient(f, *values, seed=None):
    """The gradients of f's (summed) result; a failing comparison names the op by its test."""
    xs = [mg.tensor(np.asarray(v, float), requires_grad=True) for v in values]
    y = f(*xs)
    (y.sum() if seed is None else y).backward(seed)
    grads = [x.grad.numpy() for x in xs]
    return grads[0] if len(grads) == 1 else grads


def equal(found, expected):
    np.testing.assert_array_equal(found, np.asarray(expected, float))


def close(found, expected):
    np.testing.assert_allclose(found, np.asarray(expected, float), rtol=1e-12, atol=1e-14)
