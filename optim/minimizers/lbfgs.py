"""L-BFGS: BFGS from the last few steps alone, for many variables.

The product with the inverse Hessian is made of a handful of vectors, in the two loops of `curvature_pairs`.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from minigrad.backend import Array, namespace

from ..solve.objective import Point
from .curvature_pairs import CurvaturePair, curvature_pair, two_loops
from .direction import OneStep
from .steepest_descent import SteepestDirection


class LBFGSDirection(OneStep):
    """The direction -H g, with H the BFGS matrix of the last `memory` steps, begun from y's / y'y (of the last step)
    times the identity. Memory: 2 `memory` vectors. (Nocedal and Wright, section 7.2; Liu and Nocedal 1989.)

    pairs : the remembered steps, oldest first
    steepest : the direction where none is remembered
    """

    def __init__(self, memory: int = 20, steepest: SteepestDirection | None = None):
        if not memory >= 1:
            raise ValueError(f"L-BFGS: memory={memory!r}; expected the number of steps to remember, at least 1.")
        self.pairs: deque[CurvaturePair] = deque(maxlen=int(memory))
        self.steepest = steepest or SteepestDirection()

    def along(self, here: Point) -> Array:
        return -two_loops(self.pairs, here.g) if self.pairs else self.steepest.along(here)

    def learn(self, old: Point, new: Point) -> None:
        self.steepest.learn(old, new)
        pair = curvature_pair(new.x - old.x, new.g - old.g, old.objective.eps)
        if pair is not None:
            self.pairs.append(pair)

    def forget(self) -> None:
        self.pairs.clear()
        self.steepest.forget()

    @property
    def hess_inv(self) -> InverseHessian | None:
        return InverseHessian(list(self.pairs)) if self.pairs else None


class InverseHessian:
    """An estimate of the inverse Hessian as a linear operator: `hess_inv @ v`, or `todense()` for the matrix.

    shape : (n, n)
    """

    def __init__(self, pairs: list[CurvaturePair]):
        self.pairs = pairs
        n = pairs[-1].s.size
        self.shape, self.dtype = (n, n), pairs[-1].s.dtype

    def matvec(self, v: Array) -> Array:
        """H v, (n,)."""
        if v.shape != self.shape[:1]:
            raise ValueError(f"hess_inv: got a vector of shape {v.shape}, expected {self.shape[:1]}.")
        return two_loops(self.pairs, v)

    def __matmul__(self, v: Array) -> Array:
        """H times a vector (n,) or a matrix (n, k)."""
        if v.ndim == 1:
            return self.matvec(v)
        return namespace(v).stack([self.matvec(column) for column in v.T], axis=1)

    def todense(self) -> Array:
        """The matrix, (n, n)."""
        xp = namespace(self.pairs[-1].s)
        return self @ xp.eye(self.shape[0], dtype=self.dtype)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self.todense(), dtype=dtype)

    def __repr__(self) -> str:
        return f"<inverse Hessian, {self.shape[0]} by {self.shape[1]}, of {len(self.pairs)} steps>"
