"""Products and lengths of flat vectors, as Python floats.

After this file you know two things that a plain `a @ b` does not take care of: squares that overflow, and the threads
of BLAS, which on a busy machine wait for each other longer than a product takes.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext

from minigrad.backend import Array
from minigrad.backend.threads import single_threaded_blas

TINY = 1e-300
LONG = 10_000
"""From so many numbers on, BLAS takes more than one thread for a product of vectors."""


def dot(a: Array, b: Array) -> float:
    """a'b."""
    if a.size <= LONG:
        return float(a @ b)
    with single_threaded_blas():
        return float(a @ b)


def length_of(v: Array) -> float:
    """The Euclidean norm; squares that leave the range of numbers do no harm."""
    squared = dot(v, v)
    if TINY < squared < math.inf:
        return math.sqrt(squared)
    largest = float(abs(v).max())
    return largest * math.sqrt(dot(v / largest, v / largest)) if 0 < largest < math.inf else largest


def norm(v: Array) -> float:
    """The same, above zero so that one can divide by it."""
    return max(length_of(v), TINY)


def one_thread(v: Array) -> AbstractContextManager:
    """Within the block BLAS takes one thread, if v is long: for many products in a row.

    On two busy cores, 79 steps of L-BFGS with 1e5 numbers took 11.6 s with BLAS's threads, and 0.8 s with one (extended
    Rosenbrock from its standard start).
    """
    return single_threaded_blas() if v.size > LONG else nullcontext()
