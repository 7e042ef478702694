"""Paths downhill: one optimizer after another over a surface, and how many steps each takes.

After this file you know that an optimizer needs no model: a parameter that is a point, a closure with the loss, and
`step`. It also says which learning rates were found for the classic surfaces, and how they are looked for on another.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from surfaces import Function, Point, Surface

import minigrad as mg
from minigrad import optim

Method = Callable[[Function, Point, int, float], np.ndarray]
"""(function, start, steps, learning rate) to a path (steps + 1, 2)."""


class MethodError(ValueError):
    """An optimizer that is not there, or options that it has not."""


def follow(make: Callable[[list], Any], function: Function, start: Point, steps: int) -> np.ndarray:
    """The path of an optimizer over a function, with minigrad's gradients.

    Parameters
    ----------
    make : function
        From a list of parameters to the optimizer: `lambda params: optim.Adam(params, lr=0.1)`.
    function : function of two Tensors
    start : (x, y)
    steps : int

    Returns
    -------
    array (steps + 1, 2), float64
        The start and the point after each step; NaN from the first step that gave NaN.
    """
    # A row, not a vector: Muon refuses all but matrices, and to the others it is the same. What Muon does to a
    # matrix, bring its singular values near 1, gives a single row a length near 1: it walks by steps of size lr.
    point = mg.tensor([start], dtype=mg.float64, requires_grad=True)
    optimizer = make([point])

    def closure():
        optimizer.zero_grad()
        loss = function(point[0, 0], point[0, 1])
        loss.backward()
        return loss

    path = np.full((steps + 1, 2), np.nan)
    path[0] = start
    with np.errstate(all="ignore"):  # a rate that is too high overflows; the path says so
        for step in range(1, steps + 1):
            optimizer.step(closure)
            place = point.detach().numpy()[0]
            if not np.isfinite(place).all():
                break
            path[step] = place
    return path


# --- the methods, by name ---


def lookahead(params: Any, lr: float = 0.01, k: int = 5, alpha: float = 0.5, momentum: float = 0.9) -> optim.Lookahead:
    """Lookahead around SGD with momentum."""
    return optim.Lookahead(optim.SGD(params, lr=lr, momentum=momentum), k=k, alpha=alpha)


OPTIMIZERS: dict[str, Callable[..., Any]] = {
    "SGD": optim.SGD,
    "Momentum": partial(optim.SGD, momentum=0.9),
    "HeavyBall": optim.HeavyBall,
    "Nesterov": optim.Nesterov,
    "NAGC": optim.NAGC,
    "NAGSC": optim.NAGSC,
    "Adagrad": optim.Adagrad,
    "Adadelta": optim.Adadelta,
    "RMSprop": optim.RMSprop,
    "Adam": optim.Adam,
    "AMSGrad": partial(optim.Adam, amsgrad=True),
    "AdamW": optim.AdamW,
    "Adamax": optim.Adamax,
    "NAdam": optim.NAdam,
    "RAdam": optim.RAdam,
    "Lion": optim.Lion,
    "Muon": partial(optim.Muon, weight_decay=0),  # its default would draw every path towards (0, 0)
    "Lookahead": lookahead,
}


def by_steps(make: Callable[..., Any]) -> Method:
    """An optimizer as a method."""
    return lambda function, start, steps, lr: follow(partial(make, lr=lr), function, start, steps)


MINIMIZERS = {"CG": "cg", "BFGS": "bfgs", "L-BFGS": "l-bfgs", "Newton": "newton", "TrustNewton": "trust-exact"}
"""Methods of `optim.minimize`: they find the length of each step themselves, by a search or a trust region."""


def by_minimize(name: str) -> Method:
    """A method of `minimize`, which knows no learning rate; where it ends, the path stays."""

    def path(function: Function, start: Point, steps: int, lr: float) -> np.ndarray:
        options = {"maxiter": steps, "return_all": True}
        points = optim.minimize(lambda p: function(p[0], p[1]), np.array(start), method=name, options=options).allvecs
        return np.array(points + points[-1:] * (steps + 1 - len(points)))

    return path


METHODS: dict[str, Method] = {name: by_steps(make) for name, make in OPTIMIZERS.items()}
METHODS |= {name: by_minimize(method) for name, method in MINIMIZERS.items()}
"""What can be drawn, by name; a function of your own from (function, start, steps, lr) to a path may join."""


def find_method(label: str) -> Method:
    """The method that `Adam`, or with options `Adam(betas=(0.5, 0.9))`, means.

    Raises
    ------
    MethodError
        An unknown name, an option that the optimizer has not or that makes no sense.
    """
    name, _, rest = label.partition("(")
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}? " if near else ""
        raise MethodError(f"there is no optimizer {name!r}; {hint}There are {', '.join(METHODS)}.")
    if not rest:
        return METHODS[name]
    if name not in OPTIMIZERS:
        raise MethodError(f"{label}: {name} takes no options here.")
    try:
        options = {word.arg: ast.literal_eval(word.value) for word in ast.parse(label, mode="eval").body.keywords}
        make = partial(OPTIMIZERS[name], **options)
        make([mg.zeros((1, 2), requires_grad=True)])
    except (SyntaxError, TypeError, ValueError, AttributeError) as error:
        raise MethodError(f"{label}: {error}; options are written as in {name}(nonfinite='skip').") from None
    return by_steps(make)


# --- learning rates ---

GRID = tuple(float(f"{digit}e{power}") for power in range(-5, 1) for digit in (1, 2, 5)) + (10.0,)
"""The learning rates that are tried, 1e-5 to 10."""

COLUMNS = ("beale", "rosenbrock", "himmelblau", "ravine", "saddle")
FOUND = {
    "SGD": (0.0005, 0.002, 0.02, 0.01, 0.5),
    "Momentum": (0.0001, 0.002, 0.005, 0.005, 0.1),
    "HeavyBall": (0.0001, 0.002, 0.005, 0.005, 0.1),
    "Nesterov": (5e-05, 0.001, 0.01, 0.01, 0.5),
    "NAGC": (0.0005, 0.001, 0.005, 0.01, 0.5),
    "NAGSC": (1e-05, 0.001, 0.01, 0.01, 0.5),
    "Adagrad": (5, 1, 1, 2, 1),
    "Adadelta": (0.5, 0.2, 2, 2, 2),
    "RMSprop": (0.02, 0.005, 0.02, 0.05, 0.1),
    "Adam": (1, 0.1, 1, 0.5, 1),
    "AMSGrad": (1, 0.5, 1, 0.5, 0.1),
    "AdamW": (1, 0.1, 2, 2, 1),
    "Adamax": (2, 1, 1, 0.5, 1),
    "NAdam": (1, 0.02, 0.2, 0.2, 0.1),
    "RAdam": (0.0001, 0.005, 0.05, 0.02, 0.5),
    "Lion": (0.005, 0.002, 0.02, 0.02, 0.01),
    "Muon": (0.05, 0.005, 0.05, 0.02, 0.02),
    "Lookahead": (5e-05, 0.002, 0.002, 0.01, 0.1),
}

RATES = {
    name: {label: row[i] for label, row in FOUND.items()} | dict.fromkeys(MINIMIZERS, 1.0)
    for i, name in enumerate(COLUMNS)
}
"""For each surface the rate of each method, from the surface's own starts. By `python examples/optimizer_paths.py
--function beale --optimizers all --find-rates --steps 2000`; rosenbrock too with 2000 steps, the others with 500."""


def find_rate(label: str, surface: Surface, steps: int, tolerance: float) -> float:
    """The learning rate of the grid with which a method does best from all the surface's starts together.

    That is: stays among numbers from the most starts; then stays in the view from the most; then settles within the
    tolerance of the least value from the most; then in the fewest steps; then ends lowest, in its last tenth.
    """
    method, lowest = find_method(label), lowest_value(surface)
    if label in MINIMIZERS:
        return 1.0

    def badness(rate: float) -> tuple:
        score = np.zeros(5)
        for start in surface.starts:
            try:
                path = method(surface.function, start, steps, rate)
            except ValueError:  # NAGSC refuses rates above 1 over the least curvature
                return (np.inf,)
            values = surface.values(path)
            reached = settled_within(values, lowest, tolerance)
            score += (
                not np.isfinite(values[-1]),
                not surface.holds(path).all(),
                reached is None,
                steps if reached is None else reached,
                np.nan_to_num(values[-1 - steps // 10 :], nan=np.inf).max(),
            )
        return tuple(score)

    return min(GRID, key=badness)


# --- how far, how soon ---


@dataclass(frozen=True)
class Walk:
    """A path, and what made it."""

    label: str
    rate: float
    start: Point
    path: np.ndarray


def lowest_value(surface: Surface, walks: Iterable[Walk] = ()) -> float:
    """f*: the value at the known minima, or the lowest seen in the view, on a grid and on the paths."""
    if surface.minima:
        return float(surface.values(surface.minima).min())
    seen = [surface.grid(), *(walk.path[surface.holds(walk.path)] for walk in walks)]
    return min(float(np.nanmin(surface.values(points))) for points in seen if len(points))


def first_within(values: np.ndarray, lowest: float, tolerance: float) -> int | None:
    """After how many steps a path's values (steps + 1,) first are within the tolerance of the lowest; None: never."""
    there = values - lowest <= tolerance  # not so for NaN
    return int(there.argmax()) if there.any() else None


def settled_within(values: np.ndarray, lowest: float, tolerance: float) -> int | None:
    """After how many steps a path's values (steps + 1,) are within the tolerance of the lowest, for good.

    That is: to the path's end, and for a tenth of the path at least, for one that leaps about may be there by chance
    just then. None if that is never so.
    """
    away = np.flatnonzero(~(values - lowest <= tolerance))
    settled = int(away[-1]) + 1 if away.size else 0
    return settled if settled <= 0.9 * (len(values) - 1) else None


def distance_to_minimum(surface: Surface, point: np.ndarray) -> float:
    """How far a point (2,) is from the nearest of the known minima."""
    return float(np.hypot(*(np.asarray(surface.minima) - point).T).min())


def remark(surface: Surface, path: np.ndarray) -> str:
    """What is to be said of a path that did not stay in the picture; empty if it did."""
    lost = np.isnan(path).any(axis=1)
    if lost.any():
        return f"diverged: no numbers from step {lost.argmax()} on"
    if not surface.holds(path[-1]):
        last_inside = np.flatnonzero(surface.holds(path))[-1]
        return f"left the picture at step {last_inside + 1}"
    return ""
