"""The quadratic model's minimum within a radius, about, from products with the Hessian alone (Steihaug 1983)."""

from __future__ import annotations

import math
from collections.abc import Callable

from minigrad.backend import Array, namespace

from ..solve.vectors import length_of

Product = Callable[[Array], Array]
"""v -> H v for the Hessian, or another symmetric matrix, at one point."""


def steihaug(product: Product, g: Array, radius: float, eta: float, limit: int) -> tuple[Array, float]:
    """A p, |p| <= radius, that makes the model g'p + p'Hp / 2 low, and by how much (Steihaug 1983).

    Conjugate gradients from 0, whose iterates become longer and the model lower with every step; where the next one
    would leave the region, or the curvature is not positive, p goes on to the border and ends there. NaN if a
    product is NaN.
    """
    size = length_of(g)
    if not size > 0:
        return -g, 0.0
    p, predicted = _steihaug(product, g / size, radius / size, eta, limit)
    return size * p, size * predicted * size


def _steihaug(product: Product, g: Array, radius: float, eta: float, limit: int) -> tuple[Array, float]:
    """The same for a g of length 1, whose squares do not overflow."""
    p, r, d = namespace(g).zeros_like(g), g, -g
    rr, predicted = float(r @ r), 0.0
    for _ in range(limit):
        if rr <= eta * eta:
            break
        Hd = product(d)
        curvature = float(d @ Hd)
        if not math.isfinite(curvature):
            return p + math.nan, math.nan
        t = rr / curvature if curvature > 0 else math.inf
        edge = to_border(p, d, radius)
        if t >= edge:
            return p + edge * d, predicted + edge * rr - 0.5 * edge * edge * curvature
        p, r = p + t * d, r + t * Hd
        predicted += 0.5 * t * rr
        before, rr = rr, float(r @ r)
        d = (rr / before) * d - r
    return p, predicted


def to_border(p: Array, d: Array, radius: float) -> float:
    """The t >= 0 with |p + t d| = radius, for |p| <= radius."""
    a, b, c = float(d @ d), float(p @ d), max(radius * radius - float(p @ p), 0.0)
    root = math.sqrt(b * b + a * c)
    return c / (b + root) if b > 0 else (root - b) / a
