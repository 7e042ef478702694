"""Curvature pairs: what a step teaches about the Hessian, and how products with its inverse are made of a few of them.

A pair is a step s and the change y of the gradient along it, y = H s for a quadratic. The two-loop recursion gives the
BFGS matrix of some pairs times a vector, without the matrix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from minigrad.backend import Array

from ..solve.vectors import dot, norm, one_thread


class CurvaturePair(NamedTuple):
    """A step s, the change y of the gradient along it, and the curvature y's."""

    s: Array
    y: Array
    curvature: float

    @property
    def inverse_curvature(self) -> float:
        """y's / y'y: the inverse Hessian along the step, as one number."""
        return self.curvature / norm(self.y) / norm(self.y)


def curvature_pair(s: Array, y: Array, eps: float) -> CurvaturePair | None:
    """The pair of a step, or None unless y's > eps |y| |s|: without curvature the matrix would lose its definiteness.

    The test is relative, and so the same in all units of x and of the function.
    """
    curvature = dot(s, y)
    return CurvaturePair(s, y, curvature) if eps * norm(y) * norm(s) < curvature < math.inf else None


def two_loops(pairs: Sequence[CurvaturePair], v: Array, scale: float | None = None) -> Array:
    """H v (Nocedal and Wright, algorithm 7.4).

    Parameters
    ----------
    pairs : at least one, oldest first
    scale : float, optional
        H before all updates is this times the identity; y's / y'y of the last pair if not given
    """
    with one_thread(v):
        shares = []
        for s, y, curvature in reversed(pairs):
            share = dot(s, v) / curvature
            v = v - share * y
            shares.append(share)
        if scale is None:
            scale = pairs[-1].inverse_curvature
        v = scale * v
        for (s, y, curvature), share in zip(pairs, reversed(shares), strict=True):
            v = v + (share - dot(y, v) / curvature) * s
    return v
