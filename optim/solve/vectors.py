"""Products and lengths of flat vectors, as Python floats.

A plain `a @ b` leaves two things aside: squares that overflow, and the threads of BLAS, which on a busy machine wait
for each other longer than a product takes.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from minigrad.backend import Array, namespace
from minigrad.backend.threads import single_threaded_blas

TINY = 1e-300
LONG = 10_000
"""From this length on, BLAS takes more than one thread for a product of vectors."""


def dot(a: Array, b: Array) -> float:
    """a'b."""
    if a.size <= LONG:
        return float(a @ b)
    with single_threaded_blas():
        return float(a @ b)


def length_of(v: Array) -> float:
    """The Euclidean norm, correct also where the squares overflow or vanish."""
    squared = dot(v, v)
    if TINY < squared < math.inf:
        return math.sqrt(squared)
    largest = float(abs(v).max())
    return largest * math.sqrt(dot(v / largest, v / largest)) if 0 < largest < math.inf else largest


def norm(v: Array) -> float:
    """The Euclidean norm, kept above zero so that one can divide by it."""
    return max(length_of(v), TINY)


def one_thread(v: Array) -> AbstractContextManager:
    """Within the block BLAS takes one thread, if v is long: for many products in a row.

    On two busy cores, 79 steps of L-BFGS in 1e5 variables took 11.6 s with BLAS's threads, and 0.8 s with one (extended
    Rosenbrock from its standard start).
    """
    return single_threaded_blas() if v.size > LONG else nullcontext()


def is_finite(x: Array) -> bool:
    """Whether every component is finite."""
    return bool(namespace(x).isfinite(x).all())


def root_of_rounding(x: Array) -> float:
    """sqrt(eps) of the dtype: relative to the whole, a part above this is more than rounding."""
    return math.sqrt(float(np.finfo(x.dtype).eps))


def column_norms(J: Array) -> Array:
    """The length of each column, (n,), correct also where squares overflow or vanish; NaN or infinite where J is."""
    xp = namespace(J)
    norms = xp.sqrt((J * J).sum(axis=0))
    edge = float(xp.finfo(J.dtype).tiny) ** 0.4
    if float(norms.min()) > edge and float(norms.max()) < 1 / edge:
        return norms
    largest = abs(J).max(axis=0)
    unit = xp.where(largest > 0, largest, 1)
    return largest * xp.sqrt(((J / unit) ** 2).sum(axis=0))
