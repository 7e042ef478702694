"""Into `vmap` and out of it: the four ops at the border of a level, each linear, so that gradients cross it too.

After this file you know what becomes of a value that all examples share: its gradient is the sum of theirs, as that of
a broadcast value is the sum over its copies. The engine takes that sum where it undoes broadcasting. In the derivative
of such a sum each example gets the same gradient: it must stay batched, or the next backward pass would miss the sum
over examples.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from minigrad import backend
from minigrad.autograd.primitive import primitive
from minigrad.autograd.tensor import array_of
from minigrad.autograd.types import Operand
from minigrad.backend import BatchedArray, Level, newest_level


@primitive(symbol="each", local="1", kind="linear", view=True)
def enter_level(x: Operand, *, axis: int, level: Level) -> Any:
    """x, whose `axis` counts examples, as one example."""
    return backend.enter(x, axis, level)


@primitive(symbol="all", local="1", kind="linear", view=True)
def leave_level(x: Operand, *, axis: int, level: Level) -> Any:
    """One example, as an array with all of them along `axis`."""
    return backend.leave(x, axis, level)


@primitive(symbol="sum of all", local="1", kind="linear")
def sum_examples(x: Operand, *, level: Level) -> Any:
    """The sum over all examples."""
    return backend.sum_examples(x, level)


@primitive(symbol="same for all", local="1", kind="linear", view=True)
def give_to_all(x: Operand, *, level: Level) -> Any:
    """x for every example."""
    return backend.give_to_all(x, level)


enter_level.defvjp(x=lambda g, axis, level: leave_level(g, axis=axis, level=level))
leave_level.defvjp(x=lambda g, axis, level: enter_level(g, axis=axis, level=level))
sum_examples.defvjp(x=lambda g, level: give_to_all(g, level=level))
give_to_all.defvjp(x=lambda g, level: sum_examples(g, level=level))


def levels_of(x: Operand) -> Iterator[Level]:
    """The levels of a Tensor's or array's examples, the newest first."""
    array: Any = array_of(x)
    while array.__class__ is BatchedArray:
        yield array.level
        array = array.array


def is_batched(*arrays: Any) -> bool:
    """Whether one of these arrays holds a value for each example of a `vmap`."""
    return newest_level(*arrays) is not None


def sum_what_was_shared(gradient: Any, shape: tuple[int, ...]) -> Any:
    """The gradient of a value of this shape, summed over the examples that shared the value.

    Within a level that is still open each example has a gradient of its own, even of what they share.
    """
    own = getattr(shape, "levels", ())  # of a value that differs from example to example
    for level in list(levels_of(gradient)):
        if not level.open and level not in own:
            gradient = sum_examples(gradient, level=level)
    return gradient
