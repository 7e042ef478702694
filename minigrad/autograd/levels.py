"""Into `vmap` and out of it: the four ops at the border of a level, each linear, so that gradients cross it too.

After this file you know what becomes of a value that all examples share: its gradient is the sum of theirs, as that of
a broadcast value is the sum over its copies. The engine takes that sum where it undoes broadcasting. Going back through
such a sum, each example gets the same: it has to be marked as theirs, or nobody would sum over them the next time.
"""

from __future__ import annotations

from minigrad import backend
from minigrad.autograd.errors import GradientError
from minigrad.autograd.primitive import primitive
from minigrad.autograd.tensor import array_of
from minigrad.backend import BatchedArray


@primitive(symbol="each", local="1", kind="linear", view=True)
def enter_level(x, *, axis, level):
    """x, whose `axis` counts examples, as one example."""
    return backend.enter(x, axis, level)


@primitive(symbol="all", local="1", kind="linear", view=True)
def leave_level(x, *, axis, level):
    """One example, as an array with all of them along `axis`."""
    return backend.leave(x, axis, level)


@primitive(symbol="sum of all", local="1", kind="linear")
def sum_examples(x, *, level):
    """The sum over all examples."""
    return backend.sum_examples(x, level)


@primitive(symbol="same for all", local="1", kind="linear", view=True)
def give_to_all(x, *, level):
    """x for every example."""
    return backend.give_to_all(x, level)


enter_level.defvjp(x=lambda g, axis, level: leave_level(g, axis=axis, level=level))
leave_level.defvjp(x=lambda g, axis, level: enter_level(g, axis=axis, level=level))
sum_examples.defvjp(x=lambda g, level: give_to_all(g, level=level))
give_to_all.defvjp(x=lambda g, level: sum_examples(g, level=level))


def levels_of(x):
    """The levels of a Tensor's or array's examples, the newest first."""
    x = array_of(x)
    while x.__class__ is BatchedArray:
        yield x.level
        x = x.array


def refuse_to_leak(gradient, order: int) -> None:
    """Raise if a gradient of single examples would be kept by a value made at `order`, outside of their `vmap`."""
    if any(level.order < order for level in levels_of(gradient)):
        raise GradientError(
            "backward() inside vmap would leave a gradient for each example in a tensor from outside. "
            "Take gradients with minigrad.grad, or go backward from what vmap returns."
        )


def sum_what_was_shared(gradient, shape: tuple[int, ...]):
    """The gradient of a value of this shape, summed over the examples that shared the value.

    Within a level that is still open each example has a gradient of its own, even of what they share.
    """
    own = getattr(shape, "levels", ())  # of a value that differs from example to example
    for level in list(levels_of(gradient)):
        if not level.open and level not in own:
            gradient = sum_examples(gradient, level=level)
    return gradient
