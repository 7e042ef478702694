"""NIST's Statistical Reference Datasets for nonlinear regression: 27 curve fits with certified answers.

Source: NIST/ITL StRD, Nonlinear Regression, https://www.itl.nist.gov/div898/strd/ (a work of the United States
government, in the public domain). The numbers lie in `nist.json`; those of the 27 that are not there are read from
NIST's own files with `load(directory)`. Every formula is written once, for NumPy and for minigrad: its first argument
is the module whose functions it uses. A problem says what is to be fitted, from where, and how many digits of the
certified answer a solver found.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import minigrad as mg

MOST_DIGITS = 11
"""The certified values are given to 11 digits."""


# --- the models ---


def _exponential_rise(xp, b, x):
    return b[0] * (1 - xp.exp(-b[1] * x))


def _misra1b(xp, b, x):
    return b[0] * (1 - (1 + b[1] * x / 2) ** -2)


def _misra1c(xp, b, x):
    return b[0] * (1 - (1 + 2 * b[1] * x) ** -0.5)


def _misra1d(xp, b, x):
    return b[0] * b[1] * x / (1 + b[1] * x)


def _chwirut(xp, b, x):
    return xp.exp(-b[0] * x) / (b[1] + b[2] * x)


def _lanczos(xp, b, x):
    return b[0] * xp.exp(-b[1] * x) + b[2] * xp.exp(-b[3] * x) + b[4] * xp.exp(-b[5] * x)


def _gauss(xp, b, x):
    first, second = (x - b[3]) / b[4], (x - b[6]) / b[7]
    return b[0] * xp.exp(-b[1] * x) + b[2] * xp.exp(-first * first) + b[5] * xp.exp(-second * second)


def _danwood(xp, b, x):
    return b[0] * x ** b[1]


def _kirby2(xp, b, x):
    return (b[0] + x * (b[1] + x * b[2])) / (1 + x * (b[3] + x * b[4]))


def _cubic_over_cubic(xp, b, x):
    return (b[0] + x * (b[1] + x * (b[2] + x * b[3]))) / (1 + x * (b[4] + x * (b[5] + x * b[6])))


def _nelson(xp, b, x):
    """Of the logarithm of the response, in two predictors: the rows of x."""
    return b[0] - b[1] * x[0] * xp.exp(-b[2] * x[1])


def _mgh17(xp, b, x):
    return b[0] + b[1] * xp.exp(-b[3] * x) + b[2] * xp.exp(-b[4] * x)


def _roszman1(xp, b, x):
    return b[0] - b[1] * x - xp.arctan(b[2] / (x - b[3])) / math.pi


def _enso(xp, b, x):
    year, first, second = 2 * math.pi / 12 * x, 2 * math.pi * x / b[3], 2 * math.pi * x / b[6]
    annual = b[0] + b[1] * xp.cos(year) + b[2] * xp.sin(year)
    return annual + b[4] * xp.cos(first) + b[5] * xp.sin(first) + b[7] * xp.cos(second) + b[8] * xp.sin(second)


def _mgh09(xp, b, x):
    return b[0] * (x * (x + b[1])) / (x * (x + b[2]) + b[3])


def _rat42(xp, b, x):
    return b[0] / (1 + xp.exp(b[1] - b[2] * x))


def _rat43(xp, b, x):
    return b[0] / (1 + xp.exp(b[1] - b[2] * x)) ** (1 / b[3])


def _mgh10(xp, b, x):
    return b[0] * xp.exp(b[1] / (x + b[2]))


def _eckerle4(xp, b, x):
    scaled = (x - b[2]) / b[1]
    return b[0] / b[1] * xp.exp(-0.5 * scaled * scaled)


def _bennett5(xp, b, x):
    return b[0] * (b[1] + x) ** (-1 / b[2])


MODELS: dict[str, Callable] = {
    "Misra1a": _exponential_rise,
    "Chwirut2": _chwirut,
    "Chwirut1": _chwirut,
    "Lanczos3": _lanczos,
    "Gauss1": _gauss,
    "Gauss2": _gauss,
    "DanWood": _danwood,
    "Misra1b": _misra1b,
    "Kirby2": _kirby2,
    "Hahn1": _cubic_over_cubic,
    "Nelson": _nelson,
    "MGH17": _mgh17,
    "Lanczos1": _lanczos,
    "Lanczos2": _lanczos,
    "Gauss3": _gauss,
    "Misra1c": _misra1c,
    "Misra1d": _misra1d,
    "Roszman1": _roszman1,
    "ENSO": _enso,
    "MGH09": _mgh09,
    "Thurber": _cubic_over_cubic,
    "BoxBOD": _exponential_rise,
    "Rat42": _rat42,
    "MGH10": _mgh10,
    "Eckerle4": _eckerle4,
    "Rat43": _rat43,
    "Bennett5": _bennett5,
}
"""The formula of each of the 27, in NIST's order of difficulty."""

RESPONSE: dict[str, Callable] = {"Nelson": np.log}
"""What is fitted where it is not the response itself."""


# --- a problem ---


@dataclass(frozen=True)
class NistProblem:
    """One data set: `x` (k,) or, with two predictors, (2, k); `y` (k,) what is fitted; two starts; the certified fit.

    `model` and `residuals` take NumPy arrays and give NumPy arrays, take Tensors and give Tensors.
    """

    name: str
    level: str
    x: np.ndarray
    y: np.ndarray
    starts: tuple[np.ndarray, np.ndarray]
    certified: np.ndarray
    deviations: np.ndarray
    rss: float
    _tensors: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def dof(self) -> int:
        """Degrees of freedom, counted: the header of Rat43 states 9, and its own deviations belong to 11."""
        return self.y.size - self.certified.size

    def model(self, b, x=None):
        """What the model predicts at `x` (the data's own where none is given) with the parameters `b` (n,)."""
        if isinstance(b, mg.Tensor):
            return MODELS[self.name](mg, b, self._data(b)[0] if x is None else x)
        return MODELS[self.name](np, b, self.x if x is None else x)

    def curve(self, x, *b):
        """The same as `curve_fit` asks for it: the parameters are numbers, or Tensors of one."""
        return MODELS[self.name](mg if isinstance(b[0], mg.Tensor) else np, b, x)

    def residuals(self, b):
        """Predicted less observed, (k,)."""
        if isinstance(b, mg.Tensor):
            x, y = self._data(b)
            return MODELS[self.name](mg, b, x) - y
        return MODELS[self.name](np, b, self.x) - self.y

    def digits(self, b) -> float:
        """The certified digits that `b` agrees in, of its worst parameter: from 0 to 11."""
        return lre(b, self.certified)

    def deviation_digits(self, deviations) -> float:
        """The same for the standard deviations of the parameters."""
        return lre(deviations, self.deviations)

    def _data(self, b):
        """x and y as Tensors where `b` lies, made once."""
        if b.device not in self._tensors:
            x = mg.tensor(self.x, device=b.device)
            rows = x if x.ndim == 1 else (x[0], x[1])  # two predictors: read once, not in every evaluation
            self._tensors[b.device] = rows, mg.tensor(self.y, device=b.device)
        return self._tensors[b.device]


def lre(found, certified) -> float:
    """Log relative error -log10(|found - certified| / |certified|) of the worst entry, held between 0 and 11."""
    found = np.asarray(found.numpy() if isinstance(found, mg.Tensor) else found, dtype=float)
    if not np.isfinite(found).all():
        return 0.0
    worst = np.max(np.abs(found - certified) / np.abs(certified))
    return float(MOST_DIGITS) if worst == 0 else float(np.clip(-np.log10(worst), 0, MOST_DIGITS))


# --- where the numbers come from ---


def _problem(name: str, numbers: dict) -> NistProblem:
    rows = np.array(numbers["data"], dtype=float).T  # response first
    x = rows[1] if len(rows) == 2 else rows[1:]
    y = RESPONSE[name](rows[0]) if name in RESPONSE else rows[0]
    first, second, certified, deviations = np.array(numbers["parameters"], dtype=float).T.copy()
    return NistProblem(name, numbers["level"], x, y, (first, second), certified, deviations, float(numbers["rss"]))


def parse(text: str) -> tuple[str, dict]:
    """The name and the numbers of one of NIST's .dat files.

    Raises
    ------
    ValueError
        For a text without one of the parts, of an unknown problem, or with fewer rows than its header announces.
    """
    number = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[EeDd][-+]?\d+)?"
    name = _found(r"Dataset Name:\s*(\w+)", text, "a line 'Dataset Name:'")
    names = {known.lower(): known for known in MODELS}
    if name.lower() not in names:
        raise ValueError(
            f"the file names {name!r}, which is none of NIST's 27 nonlinear problems: {', '.join(MODELS)}."
        )
    level = _found(r"(Lower|Average|Higher) Level of Difficulty", text, "its level of difficulty")
    rss = _found(rf"Residual Sum of Squares:\s*({number})", text, "the residual sum of squares")
    expected = int(_found(r"Number of Observations:\s*(\d+)", text, "the number of observations"))
    parameters = re.findall(rf"^\s*b\d+\s*=\s*({number})\s+({number})\s+({number})\s+({number})", text, re.MULTILINE)
    body = text[list(re.finditer(r"^Data:.*$", text, re.MULTILINE))[-1].end() :]
    data = [[_real(word) for word in line.split()] for line in body.splitlines() if line.strip()]
    if not parameters or len(data) != expected:
        raise ValueError(f"{name}: found {len(parameters)} parameters and {len(data)} of {expected} observations.")
    numbers = {"level": level, "parameters": [[_real(word) for word in line] for line in parameters]}
    return names[name.lower()], numbers | {"rss": _real(rss), "data": data}


def _found(pattern: str, text: str, what: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise ValueError(f"this is no data file of NIST's nonlinear set: {what} is missing.")
    return match[1]


def _real(word: str) -> float:
    return float(word.lower().replace("d", "e"))


def load(directory: str | Path) -> dict[str, NistProblem]:
    """The problems of all NIST files (*.dat) in a directory, in NIST's order."""
    found = dict(parse(path.read_text(errors="replace")) for path in sorted(Path(directory).glob("*.dat")))
    return {name: _problem(name, found[name]) for name in MODELS if name in found}


def _kept() -> dict[str, NistProblem]:
    numbers = json.loads((Path(__file__).with_name("nist.json")).read_text())["problems"]
    return {name: _problem(name, numbers[name]) for name in MODELS if name in numbers}


PROBLEMS = _kept() if Path(__file__).with_name("nist.json").exists() else {}
"""The problems whose numbers lie here, by name."""
