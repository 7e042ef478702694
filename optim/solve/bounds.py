"""Bounds on the unknowns, lower <= x <= upper, read from the two forms in which SciPy takes them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad.backend import Array
from minigrad.transforms.trees import flatten

from .variables import Variables


class Box:
    """lower <= x <= upper, for flat vectors (n,)."""

    def __init__(self, lower: Array, upper: Array, xp: Any):
        self.lower, self.upper, self.xp = lower, upper, xp

    @property
    def is_everything(self) -> bool:
        """Whether all bounds are infinite."""
        return not bool(self.xp.isfinite(self.lower).any()) and not bool(self.xp.isfinite(self.upper).any())

    def clip(self, x: Array) -> Array:
        """The point of the box nearest to x."""
        return self.xp.clip(x, self.lower, self.upper)

    def active(self, x: Array) -> Array:
        """-1 where x lies on its lower bound, 1 on its upper one, else 0, as in SciPy's active_mask."""
        return (x >= self.upper).astype(int) - (x <= self.lower)

    def pressed(self, x: Array, g: Array, near: float = 0.0) -> Array:
        """(n,) bools: which variables rest on a bound that descent would have them cross, or lie as `near` to it."""
        return ((x <= self.lower + near) & (g > 0)) | ((x >= self.upper - near) & (g < 0))

    def projected(self, x: Array, g: Array) -> Array:
        """The gradient (n,), with 0 where it only presses x against a bound: zero where x is stationary in the box."""
        return self.xp.where(self.pressed(x, g), 0, g)


# --- least_squares: (lower, upper) ---


def box_between(bounds: Any, variables: Variables, owner: str) -> Box:
    """The box of `bounds=(lower, upper)`, each a number or in the form of x0; or of an object with `lb` and `ub`.

    Raises ValueError for bounds of another form or in the wrong order, and for an x0 outside.
    """
    if hasattr(bounds, "lb") and hasattr(bounds, "ub"):
        bounds = bounds.lb, bounds.ub
    if not isinstance(bounds, (tuple, list)) or len(bounds) != 2:
        raise ValueError(f"{owner}: bounds={bounds!r}; expected (lower, upper), each a number or in the form of x0.")
    lower, upper = (variables.spread(bound, f"{owner}: a bound") for bound in bounds)
    if not bool((lower < upper).all()):
        raise ValueError(
            f"{owner}: each lower bound must be below its upper bound; to fix a variable leave it out of x0."
        )
    if bool(((variables.start < lower) | (variables.start > upper)).any()):
        raise ValueError(f"{owner}: x0 lies outside the bounds; start from a point between them.")
    return Box(lower, upper, variables.xp)


# --- minimize: a pair for each variable ---


def box_of_pairs(bounds: Any, variables: Variables, owner: str) -> Box:
    """The box of a pair (lowest, highest) for each number of x0, None for no bound; see `minimize` for other forms."""
    if hasattr(bounds, "lb") and hasattr(bounds, "ub"):
        ends = [bounds.lb, bounds.ub]
    elif isinstance(bounds, dict):
        ends = _ends_of_dict(bounds, variables, owner)
    else:
        ends = _ends_of_pairs(list(bounds), variables, owner)
    lower, upper = (np.broadcast_to(np.asarray(end, dtype=float), variables.size) for end in ends)
    if not (lower <= upper).all():
        at = int(np.argmin(lower <= upper))
        raise ValueError(f"{owner}: bound {at} is ({lower[at]}, {upper[at]}); expected lowest <= highest, and no NaN.")
    xp, dtype = variables.xp, variables.start.dtype
    return Box(xp.asarray(lower.astype(dtype)), xp.asarray(upper.astype(dtype)), xp)


def _ends_of_pairs(pairs: list, variables: Variables, owner: str) -> list[list[float]]:
    if len(pairs) != variables.size or not all(np.size(pair) == 2 for pair in pairs):
        raise ValueError(
            f"{owner}: bounds are {pairs!r}; expected {variables.size} pairs (low, high), one for each number of x0."
        )
    return [
        [-math.inf if low is None else float(low) for low, _ in pairs],
        [math.inf if high is None else float(high) for _, high in pairs],
    ]


def _ends_of_dict(pairs: dict, variables: Variables, owner: str) -> list[Array]:
    """The lowest and the highest x, where a pair for an entry of a dict x0 holds for all numbers of that entry."""
    if not isinstance(variables.tree, dict) or set(pairs) - set(variables.tree):
        raise ValueError(f"{owner}: bounds are a dict with {', '.join(map(str, pairs))}; expected keys of a dict x0.")
    ends: list[Array] = []
    for side, without in ((0, -math.inf), (1, math.inf)):
        filled = {}
        for name, tree in variables.tree.items():
            end = pairs.get(name, (None, None))[side]
            filled[name] = _filled(tree, without if end is None else float(end))
        ends.append(np.concatenate([leaf.reshape(-1) for leaf in flatten(filled)[0]]))
    return ends


def _filled(tree: Any, value: float) -> Any:
    """The same tree with this value everywhere, as arrays on the host."""
    leaves, rebuild = flatten(tree)
    return rebuild([np.full(np.shape(leaf) if not hasattr(leaf, "shape") else leaf.shape, value) for leaf in leaves])
