"""The tape: a formula run once on symbols, which write down every operation that is done to them.

So `minigrad` makes the graph of a computation with Tensors, to differentiate it. Here the operations are run again by
other means: as passes over NumPy arrays (`passes.py`), or as a CUDA kernel (`kernel_text.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from .formula import Formula, arguments

OF_ARRAYS = """
    add subtract multiply divide negative positive sqrt absolute exp log tanh sign maximum minimum
""".split()
"""What a formula may do to arrays: the names of NumPy's functions. `x**2` is `x * x`."""

WHOLE_ARRAYS = (
    "For a condition use maximum, minimum or sign. A formula that needs whole arrays, or other functions, says "
    "elementwise = False in its class."
)

RESERVED = {*OF_ARRAYS, "flat", "parts", "i", "n", "T"}
"""Names that an argument of a formula cannot have: the text of the passes or of the kernel uses them otherwise."""

OF_COEFFICIENTS = {
    "add": "({} + {})",
    "subtract": "({} - {})",
    "multiply": "({} * {})",
    "divide": "({} / {})",
    "power": "({} ** {})",
    "negative": "(-{})",
    "absolute": "abs({})",
    "maximum": "max({}, {})",
    "minimum": "min({}, {})",
    "sqrt": "sqrt({})",
    "exp": "exp({})",
    "log": "log({})",
}
"""What a formula may do to coefficients, and the same as Python text."""


class Operation(NamedTuple):
    """`result = name(*operands)`. Operands are names of arrays, of earlier results and of numbers."""

    result: str
    name: str
    operands: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Tape:
    """A formula's operations on arrays, in their order.

    Attributes
    ----------
    arrays : tuple of str
        "p", "g" and the buffers.
    numbers : tuple of str
        The numbers that operations take. `evaluate(**coefficients)` computes them, in double precision, as a tuple.
    operations : tuple of Operation
    results : tuple of str
        What p becomes, and each buffer: a result of its own, or the array itself if it does not change.
    """

    name: str
    arrays: tuple[str, ...]
    numbers: tuple[str, ...]
    evaluate: Callable[..., tuple[float, ...]]
    operations: tuple[Operation, ...]
    results: tuple[str, ...]


@lru_cache(maxsize=1024)
def trace(formula: Formula, choices: tuple[tuple[str, Any], ...] = ()) -> Tape:
    """Run a formula once on symbols, with the `choices` (name and value) it is to make.

    Raises
    ------
    TypeError
        The formula does to arrays what is not in `OF_ARRAYS`, branches on a value, does not return p and every buffer,
        or has an argument with a reserved name.
    """
    buffers, coefficients, _ = arguments(formula)
    name = formula.__name__ if formula.__name__.isidentifier() else "formula"  # that of a lambda is none
    reserved = [a for a in (*buffers, *coefficients) if a in RESERVED or a.startswith(("scratch_", "number_"))]
    if reserved:
        raise TypeError(f"the formula {name} has an argument called {reserved[0]}, which is reserved; rename it.")
    arrays = {array: Symbol("", (), array) for array in ("p", "g", *buffers)}
    returned = formula(*arrays.values(), **{c: Scalar(c) for c in coefficients}, **dict(choices))
    becomes = list(returned) if isinstance(returned, tuple) else [returned]
    if len(becomes) != 1 + len(buffers) or not all(isinstance(x, Symbol) for x in becomes):
        raise TypeError(
            f"the formula {name} returned {len(becomes)} values; expected arrays: what p becomes"
            + "".join(f", {buffer}" for buffer in buffers)
            + "."
        )
    targets = [arrays["p"], *(arrays[buffer] for buffer in buffers)]
    seen: set[int] = set()
    for i, (symbol, target) in enumerate(zip(becomes, targets, strict=True)):
        if symbol is not target and (symbol.name or symbol.position in seen):  # another array, or a result used twice
            becomes[i] = Symbol("positive", (symbol,))
        seen.add(becomes[i].position)
    order = sorted((symbol for symbol in _behind(becomes) if symbol.operation), key=lambda symbol: symbol.position)
    for i, symbol in enumerate(order):
        symbol.name = f"_{i}"
    texts = dict.fromkeys(x.text for symbol in order for x in symbol.operands if isinstance(x, Scalar))
    numbers = {text: text if text.isidentifier() else f"number_{i}" for i, text in enumerate(texts)}
    operations = tuple(
        Operation(
            symbol.name,
            symbol.operation,
            tuple(numbers[x.text] if isinstance(x, Scalar) else x.name for x in symbol.operands),
        )
        for symbol in order
    )
    results = tuple(symbol.name for symbol in becomes)
    return Tape(name, tuple(arrays), tuple(numbers.values()), _evaluation(formula, texts), operations, results)


def _behind(symbols: list[Symbol]) -> Iterator[Symbol]:
    """The symbols, and all that they were computed from."""
    waiting, seen = list(symbols), set()
    while waiting:
        symbol = waiting.pop()
        if symbol.position not in seen:
            seen.add(symbol.position)
            yield symbol
            waiting += [x for x in symbol.operands if isinstance(x, Symbol)]


def _evaluation(formula: Formula, texts: Iterable[str]) -> Callable[..., tuple[float, ...]]:
    """The function from the keywords of a formula to the values of these texts."""
    _, coefficients, choices = arguments(formula)
    keywords = [*coefficients, *(f"{choice}=None" for choice in choices)]
    given = ", ".join(["*", *keywords] if keywords else [])
    text = f"def evaluate({given}): return ({''.join(f'{text}, ' for text in texts)})"
    namespace: dict[str, Any] = {name: getattr(math, name) for name in ("sqrt", "exp", "log", "inf", "nan")}
    exec(text, namespace)
    return namespace["evaluate"]


# --- what a formula is run on ---


class Traced(NDArrayOperatorsMixin):
    """What writes down the operations done to it: NumPy's functions, and Python's operators, which call them."""

    __hash__ = None  # type: ignore[assignment]

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *operands: Any, **options: Any) -> Symbol | Scalar:
        if "out" in options:
            raise TypeError(f"a formula writes in place ({ufunc.__name__}); write `p = p - step` for `p -= step`.")
        if method != "__call__" or options:
            raise TypeError(f"a formula calls {ufunc.__name__}.{method} with {list(options)}; expected a plain call.")
        return recorded(ufunc.__name__, [x if isinstance(x, (Symbol, Scalar)) else constant(x) for x in operands])

    def __array_function__(self, function: Callable[..., Any], *_: Any) -> None:
        """Whole-array functions, such as `np.mean`: on symbols NumPy would take each for a single number."""
        raise TypeError(f"a formula calls {function.__name__}; expected one of {', '.join(OF_ARRAYS)}. {WHOLE_ARRAYS}")

    def __bool__(self) -> bool:
        raise TypeError(
            "a formula branches on the value of an array or a coefficient, which is known only when it runs. Use "
            "maximum, minimum or sign, or make the condition a keyword with a default, known when it is traced."
        )


class Scalar(Traced):
    """A coefficient, a Python number, or arithmetic of both such as `1 - beta1`: Python text, evaluated once a step."""

    def __init__(self, text: str):
        self.text = text


class Symbol(Traced):
    """An array: p, g, a buffer, or the result of an operation."""

    _positions = count()

    def __init__(self, operation: str, operands: tuple[Symbol | Scalar, ...], name: str = ""):
        self.operation, self.operands, self.name = operation, operands, name
        self.position = next(self._positions)


def constant(x: Any) -> Scalar:
    """A Python number in a formula."""
    if not isinstance(x, (int, float, np.integer, np.floating)):
        raise TypeError(f"a formula computes with a {type(x).__name__}; expected arrays, coefficients and numbers.")
    return Scalar(repr(int(x) if isinstance(x, (int, np.integer)) else float(x)))


def recorded(name: str, operands: list[Symbol | Scalar]) -> Symbol | Scalar:
    """The result of an operation: a Symbol if one of the operands is, a Scalar otherwise."""
    texts = [x.text for x in operands if isinstance(x, Scalar)]
    of_coefficients = len(texts) == len(operands)
    if name == "power" and isinstance(operands[0], Symbol) and texts in (["2"], ["2.0"]):
        name, operands = "multiply", [operands[0], operands[0]]
    known = OF_COEFFICIENTS if of_coefficients else OF_ARRAYS
    if name not in known:
        what = "coefficients" if of_coefficients else "arrays"
        raise TypeError(f"a formula does {name} to {what}; expected one of {', '.join(known)}. {WHOLE_ARRAYS}")
    if of_coefficients:
        return Scalar(OF_COEFFICIENTS[name].format(*texts))
    if name == "add":  # of a negative is one subtraction
        for one, other in (operands, operands[::-1]):
            if isinstance(other, Symbol) and other.operation == "negative":
                return Symbol("subtract", (one, *other.operands))
    return Symbol(name, tuple(operands))
