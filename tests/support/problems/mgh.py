"""The test problems of Moré, Garbow and Hillstrom: 35 sums of squares in 42 sizes, with their known minima.

Source: J. J. Moré, B. S. Garbow, K. E. Hillstrom, Testing unconstrained optimization software, ACM Transactions on
Mathematical Software 7(1), 1981, 17-41; numbers are those of the paper, minima with more digits than it prints. The
formulas are in `mgh_formulas.py`. Minimisers are judged on these; `solved` says when one has solved a problem.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import minigrad as mg

from . import mgh_formulas as the

# --- the constants ---

_BARD = [0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34, 2.10, 4.39]
_GAUSSIAN = [0.0009, 0.0044, 0.0175, 0.0540, 0.1295, 0.2420, 0.3521, 0.3989]
_MEYER = [34780, 28610, 23650, 19630, 16370, 13720, 11540, 9744, 8261, 7030, 6005, 5147, 4427, 3820, 3307, 2872]
_KOWALIK = (
    [0.1957, 0.1947, 0.1735, 0.1600, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246],
    [4, 2, 1, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625],
)
# fmt: off
_OSBORNE1 = [
    0.844, 0.908, 0.932, 0.936, 0.925, 0.908, 0.881, 0.850, 0.818, 0.784, 0.751, 0.718, 0.685, 0.658, 0.628, 0.603,
    0.580, 0.558, 0.538, 0.522, 0.506, 0.490, 0.478, 0.467, 0.457, 0.448, 0.438, 0.431, 0.424, 0.420, 0.414, 0.411,
    0.406,
]
_OSBORNE2 = [
    1.366, 1.191, 1.112, 1.013, 0.991, 0.885, 0.831, 0.847, 0.786, 0.725, 0.746, 0.679, 0.608, 0.655, 0.616, 0.606,
    0.602, 0.626, 0.651, 0.724, 0.649, 0.649, 0.694, 0.644, 0.624, 0.661, 0.612, 0.558, 0.533, 0.495, 0.500, 0.423,
    0.395, 0.375, 0.372, 0.391, 0.396, 0.405, 0.428, 0.429, 0.523, 0.562, 0.607, 0.653, 0.672, 0.708, 0.633, 0.668,
    0.645, 0.632, 0.591, 0.559, 0.597, 0.625, 0.739, 0.710, 0.729, 0.720, 0.636, 0.581, 0.428, 0.292, 0.162, 0.098,
    0.054,
]
# fmt: on


def _counted(n: int) -> np.ndarray:
    """1, 2, ..., n."""
    return np.arange(1.0, n + 1)


def _bard_constants():
    u = _counted(15)
    return np.array(_BARD), u, 16 - u, np.minimum(u, 16 - u)


def _gulf_constants():
    t = _counted(99) / 100
    return t, 25 + (-50 * np.log(t)) ** (2 / 3)


def _box3d_constants():
    t = _counted(10) / 10
    return t, np.exp(-t) - np.exp(-10 * t)


def _brown_constants():
    t = _counted(20) / 5
    return t, np.exp(t), np.sin(t), np.cos(t)


def _osborne1_constants():
    return np.array(_OSBORNE1), 10 * _counted(33) - 10


def _biggs_constants():
    t = _counted(13) / 10
    return np.exp(-t) - 5 * np.exp(-10 * t) + 3 * np.exp(-4 * t), t


def _watson_constants(n):
    t, j = _counted(29)[:, None] / 29, np.arange(n)
    return j * t ** np.maximum(j - 1, 0), t**j


def _penalty2_constants(n):
    i = _counted(n)[1:]
    return np.exp(i / 10) + np.exp((i - 1) / 10), n + 1 - _counted(n)


def _boundary_constants(n):
    h = 1 / (n + 1)
    return 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1), h * _counted(n), np.float64(h)


def _integral_constants(n):
    h = 1 / (n + 1)
    t = h * _counted(n)
    return h / 2 * np.where(t[:, None] >= t, (1 - t[:, None]) * t, t[:, None] * (1 - t)), t


def _banded_neighbours(n):
    ones = np.ones((n, n))
    return np.triu(np.tril(ones, 1), -5) - np.eye(n)


def _linear_matrix(number, n, m):
    if number == 32:
        return np.eye(m, n) - 2 / m
    rows, columns = _counted(m), _counted(n)
    if number == 33:
        return np.outer(rows, columns)
    rows, columns = rows - 1, columns.copy()
    rows[-1] = columns[0] = columns[-1] = 0
    return np.outer(rows, columns)


def _chebyquad_constants(n):
    i = _counted(n)
    return (np.where(i % 2 == 0, -1 / np.where(i == 1, np.inf, i * i - 1), 0.0),)


# --- a problem ---


@dataclass(frozen=True)
class MghProblem:
    """One size of one problem: minimise the sum of squares of `residuals(x)`, (m,), over `x` (n,), from `x0`.

    `residuals` takes a NumPy array and gives one, takes a Tensor and gives one. `minima` are the known sums of
    squares, without a factor 1/2: the global one, then the values of local minima and of minima at infinity.
    """

    number: int
    name: str
    formula: Callable
    x0: np.ndarray
    minima: tuple[float, ...]
    constants: tuple = ()
    _tensors: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def n(self) -> int:
        return self.x0.size

    @property
    def m(self) -> int:
        return self.residuals(self.x0).size

    def residuals(self, x):
        if not isinstance(x, mg.Tensor):
            return self.formula(np, x, *self.constants)
        if x.device not in self._tensors:  # the constants as Tensors where x lies, made once
            self._tensors[x.device] = [mg.tensor(c, device=x.device) for c in self.constants]
        return self.formula(mg, x, *self._tensors[x.device])

    def __str__(self) -> str:
        return f"{self.number} {self.name} n={self.n}"


def _sized(number: int, name: str, formula: Callable, x0, minima, *constants) -> MghProblem:
    arrays = tuple(np.asarray(c, dtype=float) for c in constants)
    return MghProblem(number, name, formula, np.array(x0, dtype=float), tuple(minima), arrays)


def _fixed() -> list[MghProblem]:
    """Those whose size the formula fixes."""
    osborne2 = (1.3, 0.65, 0.65, 0.7, 0.6, 3, 5, 7, 2, 4.5, 5.5)
    gaussian = _GAUSSIAN + _GAUSSIAN[-2::-1], (8 - _counted(15)) / 2
    kowalik = 0.0003075056038492378, 0.00102734  # the second lies at infinity, as Bard's does
    return [
        _sized(1, "Rosenbrock", the.rosenbrock, (-1.2, 1), [0]),
        _sized(2, "Freudenstein and Roth", the.freudenstein_roth, (0.5, -2), (0, 48.98425367924002)),
        _sized(3, "Powell badly scaled", the.powell_badly_scaled, (0, 1), [0]),
        _sized(4, "Brown badly scaled", the.brown_badly_scaled, (1, 1), [0]),
        _sized(5, "Beale", the.beale, (1, 1), [0], (1.5, 2.25, 2.625), _counted(3)),
        _sized(6, "Jennrich and Sampson", the.jennrich_sampson, (0.3, 0.4), [124.36218235561485], _counted(10)),
        _sized(7, "Helical valley", the.helical_valley, (-1, 0, 0), [0]),
        _sized(8, "Bard", the.bard, (1, 1, 1), (0.00821487730657898, 17.4286), *_bard_constants()),
        _sized(9, "Gaussian", the.gaussian, (0.4, 1, 0), [1.1279327696190113e-08], *gaussian),
        _sized(10, "Meyer", the.meyer, (0.02, 4000, 250), [87.94585517085112], _MEYER, 45 + 5 * _counted(16)),
        _sized(11, "Gulf research", the.gulf, (5, 2.5, 0.15), [0], *_gulf_constants()),
        _sized(12, "Box three-dimensional", the.box3d, (0, 10, 20), [0], *_box3d_constants()),
        _sized(13, "Powell singular", the.powell_singular, (3, -1, 0, 1), [0]),
        _sized(14, "Wood", the.wood, (-3, -1, -3, -1), [0]),
        _sized(15, "Kowalik and Osborne", the.kowalik_osborne, (0.25, 0.39, 0.415, 0.39), kowalik, *_KOWALIK),
        _sized(16, "Brown and Dennis", the.brown_dennis, (25, 5, -5, -1), [85822.20162635631], *_brown_constants()),
        _sized(
            17, "Osborne 1", the.osborne1, (0.5, 1.5, -1, 0.01, 0.02), [5.4648946974829e-05], *_osborne1_constants()
        ),
        # the second of Biggs is a saddle, the best that a run can do which keeps the symmetry of the start
        _sized(18, "Biggs EXP6", the.biggs_exp6, (1, 2, 1, 1, 1, 1), (0, 0.005655649925499941), *_biggs_constants()),
        _sized(19, "Osborne 2", the.osborne2, osborne2, [0.040137736293547756], _OSBORNE2, _counted(65) / 10 - 0.1),
    ]


def _in_tens() -> list[MghProblem]:
    """Those of any size that are asked in one: ten parameters, or for Powell's fours twelve."""
    ones, count, t = np.ones(10), _counted(10), _counted(10) / 11
    on_a_grid = t * (t - 1)
    shifts = np.eye(10, k=-1) + 2 * np.eye(10, k=1)
    return [
        _sized(21, "Extended Rosenbrock", the.extended_rosenbrock, (-1.2, 1) * 5, [0]),
        _sized(22, "Extended Powell singular", the.powell_singular, (3, -1, 0, 1) * 3, [0]),
        _sized(25, "Variably dimensioned", the.variably_dimensioned, 1 - count / 10, [0], count),
        _sized(26, "Trigonometric", the.trigonometric, ones / 10, (0, 2.7950561218794563e-05), count),
        _sized(27, "Brown almost-linear", the.brown_almost_linear, ones / 2, (0, 1)),
        _sized(28, "Discrete boundary value", the.boundary_value, on_a_grid, [0], *_boundary_constants(10)),
        _sized(29, "Discrete integral equation", the.integral_equation, on_a_grid, [0], *_integral_constants(10)),
        _sized(30, "Broyden tridiagonal", the.broyden_tridiagonal, -ones, [0], shifts),
        _sized(31, "Broyden banded", the.broyden_banded, -ones, [0], _banded_neighbours(10)),
        _sized(32, "Linear, full rank", the.linear, ones, [10], _linear_matrix(32, 10, 20)),
        _sized(33, "Linear, rank 1", the.linear, ones, [4.634146341463414], _linear_matrix(33, 10, 20)),
        _sized(34, "Linear, rank 1 with zeros", the.linear, ones, [6.135135135135135], _linear_matrix(34, 10, 20)),
    ]


# size: the global minimum
_WATSON = {6: 0.0022876700535524, 9: 1.3997601380937e-06, 12: 4.7223811069e-10}
_PENALTY1 = {4: 2.2499775008999372e-05, 10: 7.087651467090369e-05}
_PENALTY2 = {4: 9.376293007355442e-06, 10: 0.000293660537456746}
_CHEBYQUAD = {6: 0, 7: 0, 8: 0.0035168737256779303, 9: 0}


def _in_sizes() -> list[MghProblem]:
    """Those that are asked in several sizes, because their minimum or their difficulty changes with it."""
    watson = [_sized(20, "Watson", the.watson, np.zeros(n), [m], *_watson_constants(n)) for n, m in _WATSON.items()]
    first = [_sized(23, "Penalty I", the.penalty1, _counted(n), [m]) for n, m in _PENALTY1.items()]
    second = [
        _sized(24, "Penalty II", the.penalty2, np.full(n, 0.5), [m], *_penalty2_constants(n))
        for n, m in _PENALTY2.items()
    ]
    chebyquad = [
        _sized(35, "Chebyquad", the.chebyquad, _counted(n) / (n + 1), [m], *_chebyquad_constants(n))
        for n, m in _CHEBYQUAD.items()
    ]
    return [*watson, *first, *second, *chebyquad]


PROBLEMS: list[MghProblem] = sorted(
    [*_fixed(), *_in_tens(), *_in_sizes()], key=lambda problem: (problem.number, problem.n)
)
"""All sizes, in the paper's order."""


RELATIVE, ABSOLUTE = 1e-6, 5e-9


def solved(problem: MghProblem, sum_of_squares: float) -> str | None:
    """ "global" or "local", the known minimum that a run's last sum of squares belongs to, or None.

    It belongs to a minimum that it misses by at most 1e-6 of it plus 5e-9. The second part decides where the minimum is
    zero, and for Watson with 12 parameters, whose 4.7e-10 no solver with default tolerances tells from zero. By these
    numbers SciPy's trust-exact ends at 40 of the 42 global minima, its BFGS at 32, with gtol=1e-9 at 39
    (`python benchmarks/second_order.py --sets mgh --quick`).
    """
    for kind, minimum in zip(("global", "local", "local"), problem.minima, strict=False):
        if abs(sum_of_squares - minimum) <= RELATIVE * minimum + ABSOLUTE:
            return kind
    return None
