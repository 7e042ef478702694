"""What several tests of linear algebra need: every function with matrices that it takes, and their derivatives.

RANDOM, SQUARE ... : matrices far from where the functions are not smooth, in batches of two
FUNCTIONS : every function with such matrices
REPEATED : a symmetric matrix with an eigenvalue that stands twice
"""

import itertools

import numpy as np

import minigrad as mg
from minigrad import autograd
from minigrad import linalg as la

RANDOM = np.random.default_rng(8)
SQUARE = RANDOM.standard_normal((2, 4, 4)) + 2 * np.eye(4)
TALL, WIDE = RANDOM.standard_normal((2, 5, 3)), RANDOM.standard_normal((2, 3, 5))
SYMMETRIC = SQUARE + np.swapaxes(SQUARE, -1, -2)
POSITIVE = SQUARE @ np.swapaxes(SQUARE, -1, -2) + np.eye(4)
RIGHT, RIGHT3 = RANDOM.standard_normal((2, 4, 3)), RANDOM.standard_normal((2, 5, 2))

FUNCTIONS = {  # name -> (function of tensors, arrays in a batch of two)
    "inv": (la.inv, [SQUARE]),
    "solve": (la.solve, [SQUARE, RIGHT]),
    "solve_triangular": (la.solve_triangular, [SQUARE, RIGHT]),
    "solve_triangular, lower, unit": (
        lambda a, b: la.solve_triangular(a, b, lower=True, unit_diagonal=True),
        [SQUARE, RIGHT],
    ),
    "cholesky": (la.cholesky, [POSITIVE]),
    "qr, tall": (la.qr, [TALL]),
    "qr, wide": (la.qr, [WIDE]),
    "eigh": (la.eigh, [SYMMETRIC]),
    "eigvalsh": (la.eigvalsh, [SYMMETRIC]),
    "svd, tall": (la.svd, [TALL]),
    "svd, wide": (la.svd, [WIDE]),
    "svdvals": (la.svdvals, [SQUARE]),
    "det": (la.det, [SQUARE]),
    "slogdet": (la.slogdet, [SQUARE]),
    "lstsq, tall": (la.lstsq, [TALL, RIGHT3]),
    "lstsq, wide": (la.lstsq, [WIDE, RIGHT[:, :3]]),
    "pinv, tall": (la.pinv, [TALL]),
    "pinv, wide": (la.pinv, [WIDE]),
    "matrix_power, 5": (lambda a: la.matrix_power(a, 5), [SQUARE]),
    "matrix_power, -2": (lambda a: la.matrix_power(a, -2), [SQUARE]),
    "expm": (la.expm, [SQUARE]),
    "expm, large": (lambda a: la.expm(4 * a), [SQUARE]),
}

ROTATION = np.linalg.qr(np.random.default_rng(4).standard_normal((3, 3)))[0]
REPEATED = ROTATION @ np.diag([2.0, 2.0, 5.0]) @ ROTATION.T


def tracked(array, device="cpu"):
    """A leaf in float64."""
    return mg.tensor(np.asarray(array, float), device=device, requires_grad=True)


def gradient(f, array):
    x = tracked(array)
    (g,) = autograd.grad(f(x), x)
    return g.numpy()


def hessian(f, array):
    """By rows, from a gradient that has a graph."""
    x = tracked(array)
    (g,) = autograd.grad(f(x), x, create_graph=True)
    rows = [autograd.grad(g[place], x, retain_graph=True)[0].numpy() for place in np.ndindex(x.shape)]
    return np.reshape(rows, 2 * x.shape)


def all_tracked(*arrays):
    return [mg.tensor(np.asarray(a), requires_grad=True) for a in arrays]


def results(y) -> list:
    return list(y) if isinstance(y, (tuple, list)) else [y]


def gradients(f, arrays, dtype="f8"):
    """Gradients of a random combination of f's results."""
    xs = all_tracked(*(np.asarray(a, dtype) for a in arrays))
    ys = results(f(*xs))
    weights = np.random.default_rng(0)
    return [g.numpy() for g in autograd.grad(ys, xs, [weights.standard_normal(y.shape) for y in ys])]


def second_derivative_of_det(a):
    """d2 det / da_ij da_kl is, up to a sign, the minor without rows i, k and columns j, l."""
    n = len(a)
    found = np.zeros((n, n, n, n))
    for i, j, k, m in itertools.product(range(n), repeat=4):
        if i != k and j != m:
            rest = np.delete(np.delete(a, [i, k], 0), [j, m], 1)
            found[i, j, k, m] = (-1) ** (i + j + k + m + (k > i) + (m > j)) * np.linalg.det(rest)
    return found
