"""Steps on a GPU: one launch for all parameters of a cohort.

`tables` has the numbers of a step in the form that the kernel takes, and `Launches` launches it.

How many steps were skipped is known on the device at once, and to the host only when it waits. The numbers of a step
depend on it where they depend on the count of steps, as Adam's corrections of the bias do. So the host sends one row of
numbers for each possible count: row k holds if k steps were skipped since it last knew. With `ROWS` rows it must find
out after as many steps less one, at the latest; that is exact, whatever the formula and the schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigrad.backend import Array
from minigrad.backend.gpu.many_tensors import batches, launch

from .formula import Formula, arguments
from .kernel_text import defines, layout_for, row_length
from .tape import Tape, trace

ROWS = 16
"""How many counts of skipped steps are provided for, where steps may be skipped."""

Coefficients = Callable[[int, dict[str, float]], tuple[Formula, dict[str, Any]]]
"""From the number of a step and the scalar state before it, which is updated, to the formula and its keywords."""


def tape_for(formula: Formula, coefficients: dict[str, Any]) -> Tape:
    """The tape of a formula that makes the choices among these keywords."""
    choices = arguments(formula).choices
    return trace(formula, tuple((name, coefficients.get(name, default)) for name, default in choices.items()))


def tables(
    coefficients: Coefficients, step: int, before: Sequence[dict[str, float]], known: int, rows: int
) -> tuple[dict[Tape, np.ndarray], dict[str, float]]:
    """For each tape that a step may follow its numbers, as the struct `Numbers` of optimizer.cu has them.

    Parameters
    ----------
    coefficients : Coefficients
    step : int
        The number of this step if none was skipped since the host last knew.
    before : sequence of dict
        The scalar state before it, if 0, 1, 2, ... steps were skipped since. Is not changed.
    known : int
        How many skipped steps the host knows of.
    rows : int
        How many rows the tables have.

    Returns
    -------
    tables, and the scalar state after this step if none was skipped
    """
    found: dict[Tape, np.ndarray] = {}
    states = [dict(scalars) for scalars in before]
    for row, scalars in enumerate(states):
        formula, keywords = coefficients(step - row, scalars)
        tape = tape_for(formula, keywords)
        if tape not in found:
            found[tape] = empty_table(tape, known, rows)
        length = row_length(tape)
        found[tape][1 + row * length : 1 + (row + 1) * length] = 1, *tape.evaluate(**keywords)
    return found, states[0]


def empty_table(tape: Tape, known: int, rows: int) -> np.ndarray:
    """The numbers with which a kernel does nothing."""
    table = np.zeros(1 + rows * row_length(tape))
    table[0] = known
    return table


class Launches:
    """The launches that follow one tape for some parameters, and their buffers."""

    def __init__(self, tape: Tape, rows: int, params: Sequence[Array], buffers: Sequence[Sequence[Array]]):
        self.tape, self.defines, self.like = tape, defines(tape, rows), params[0]
        columns = [list(column) for column in zip(*buffers, strict=True)] if buffers[0] else []
        self.batches = batches(layout_for(tape, rows), [params, params, *columns])

    def run(
        self, gradients: Sequence[Array], table: np.ndarray, changing: Array | None, verdict: Array | None, scale: Any
    ) -> None:
        """Take the step. `gradients` lie in memory as their parameters do."""
        numbers, first = table.view([("table", "f8", table.shape)])[0:1].reshape(()), 0
        for batch in self.batches:
            batch.point(1, gradients[first : first + batch.count])
            launch("optimizer.cu", "update", self.defines, self.like, batch, numbers, changing, verdict, scale)
            first += batch.count
