"""Functions of two numbers on which optimizers are watched: their formulas, minima, starts and views, and your own.

After this file you know what each classic surface is hard for, and how a function is evaluated on a whole grid by the
same minigrad ops that give its gradient at a point.
"""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import Tensor

Function = Callable[[Tensor, Tensor], Tensor]
Point = tuple[float, float]


class SurfaceError(ValueError):
    """A function that is not there, or cannot be drawn."""


@dataclass(frozen=True)
class Surface:
    """A function of x and y, and where to look at it.

    Attributes
    ----------
    name : str
    function : function of two Tensors
        Elementwise, of minigrad's ops: x and y of shape () at a point, of shape (rows, columns) on a grid.
    starts : tuple of (x, y)
        Where paths begin if nothing else is asked for.
    view : (left, right, bottom, top)
    minima : tuple of (x, y)
        All places where the function is least; empty if they are not known.
    """

    name: str
    function: Function
    starts: tuple[Point, ...]
    view: tuple[float, float, float, float]
    minima: tuple[Point, ...] = ()

    def values(self, points: Any) -> np.ndarray:
        """The function at points (..., 2), in one call: an array of shape (...)."""
        points = np.asarray(points, np.float64)
        with mg.no_grad(), np.errstate(all="ignore"):  # far away it may overflow, and is then infinite
            return self.function(mg.tensor(points[..., 0]), mg.tensor(points[..., 1])).numpy()

    def grid(self, size: int = 200) -> np.ndarray:
        """Points (size, size, 2) that fill the view."""
        left, right, bottom, top = self.view
        return np.stack(np.meshgrid(np.linspace(left, right, size), np.linspace(bottom, top, size)), axis=-1)

    def holds(self, points: np.ndarray, margin: float = 0.0) -> np.ndarray:
        """Which of the points (..., 2) are in the view, widened on each side by `margin` times its size."""
        low, high = np.array(self.view[::2]), np.array(self.view[1::2])
        wider = margin * (high - low)
        return ((points >= low - wider) & (points <= high + wider)).all(axis=-1)


# --- the classics ---


def beale(x: Tensor, y: Tensor) -> Tensor:
    """Steep corners around a flat cross (Beale 1958; Moré, Garbow & Hillstrom 1981, problem 5)."""
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


def rosenbrock(x: Tensor, y: Tensor) -> Tensor:
    """A bent valley, easy to find and long to walk along (Rosenbrock 1960)."""
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def himmelblau(x: Tensor, y: Tensor) -> Tensor:
    """Four minima of the same value: which one is found depends on the path (Himmelblau 1972)."""
    return (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2


def ravine(x: Tensor, y: Tensor) -> Tensor:
    """A quadratic fifty times as steep in one direction as in the other: condition number 50."""
    return x**2 + 50 * y**2


def saddle(x: Tensor, y: Tensor) -> Tensor:
    """A saddle at (0, 0), where the slope vanishes, between two minima of value -1/4.

    Near the saddle it is x^2 - y^2 / 2. The fourth power gives the way down an end, so that "how soon" has an answer.
    """
    return x**2 - y**2 / 2 + y**4 / 4


HIMMELBLAU_MINIMA = (
    (3.0, 2.0),
    (-2.805118086952745, 3.131312518250573),
    (-3.779310253377747, -3.2831859912861696),
    (3.5844283403304917, -1.8481265269644034),
)  # where both brackets are 0; the last three by Newton's method to the last digit

SURFACES = {
    surface.name: surface
    for surface in (
        Surface("beale", beale, ((2.0, -2.0), (-3.0, 3.0)), (-4.5, 4.5, -4.5, 4.5), ((3.0, 0.5),)),
        Surface("rosenbrock", rosenbrock, ((-1.2, 1.0),), (-2.0, 2.0, -1.0, 3.0), ((1.0, 1.0),)),
        Surface("himmelblau", himmelblau, ((0.0, -4.0), (-0.5, 0.5)), (-5.0, 5.0, -5.0, 5.0), HIMMELBLAU_MINIMA),
        Surface("ravine", ravine, ((3.0, 1.0),), (-4.0, 4.0, -2.0, 2.0), ((0.0, 0.0),)),
        Surface("saddle", saddle, ((1.5, 0.001),), (-2.0, 2.0, -1.6, 1.6), ((0.0, 1.0), (0.0, -1.0))),
    )
}


# --- your own ---


def find_surface(text: str) -> Surface:
    """The surface that a name, a `lambda x, y: ...` or a `path/to/file.py:name` means.

    A lambda may use every name of minigrad (`sin`, `exp`, `abs` ...) without a prefix.

    Raises
    ------
    SurfaceError
        No such surface, file or name, or something that is no function of two numbers made of minigrad's ops.
    """
    if text in SURFACES:
        return SURFACES[text]
    in_file = re.fullmatch(r"(.+\.py):(\w+)", text)
    if in_file:
        function = _from_file(Path(in_file[1]), in_file[2])
    elif text.lstrip().startswith("lambda"):
        function = _from_text(text)
    else:
        raise SurfaceError(
            f"--function {text!r} is not known; expected one of {', '.join(SURFACES)}, "
            "'lambda x, y: ...', or path/to/file.py:name."
        )
    _check(function, text)
    return Surface(text, function, ((2.0, 2.0),), (-3.0, 3.0, -3.0, 3.0))


def _from_text(text: str) -> Function:
    try:
        return eval(text, {**vars(mg), "mg": mg})
    except SyntaxError as error:
        raise SurfaceError(f"--function {text!r} is no Python: {error.msg}; expected 'lambda x, y: ...'.") from None


def _from_file(path: Path, name: str) -> Function:
    if not path.is_file():
        raise SurfaceError(f"--function: there is no file {path}; expected path/to/file.py:name.")
    names = runpy.run_path(str(path))
    if not callable(names.get(name)):
        there = ", ".join(key for key, value in names.items() if callable(value) and not key.startswith("_"))
        raise SurfaceError(f"--function: {path} has no function {name!r}; it has {there or 'none'}.")
    return names[name]


def _check(function: Function, text: str) -> None:
    """Try the function on a grid of 2 x 3 numbers, and its gradient."""
    x, y = (mg.full((2, 3), 0.5, dtype=mg.float64, requires_grad=True) for _ in range(2))
    ask = "expected a function of two Tensors x and y, elementwise, made of operators and minigrad's ops (mg.sin, ...)."
    try:
        value = function(x, y)
    except Exception as error:
        raise SurfaceError(f"--function {text}: {type(error).__name__}: {error}; {ask}") from error
    if not isinstance(value, Tensor) or not value.requires_grad:
        raise SurfaceError(f"--function {text}: its value, a {type(value).__name__}, has no gradient; {ask}")
    if value.shape != (2, 3):
        raise SurfaceError(f"--function {text}: of numbers of shape (2, 3) it makes {value.shape}; {ask}")
