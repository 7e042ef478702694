"""vmap: a function of one example, on a batch of them at once.

After this file you know that there is no loop in it: the examples are hidden in a leading axis (`BatchedArray`), the
function runs once, and every op works on all examples. Since the derivative rules are ops too, `vmap` of a gradient
gives a gradient for each example, and the gradient of a `vmap` needs nothing special.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from numbers import Integral
from typing import Any, ParamSpec, TypeAlias, TypeVar

from minigrad.autograd.errors import ShapeError
from minigrad.autograd.grad_mode import grad_mode
from minigrad.autograd.levels import enter_level, leave_level, levels_of
from minigrad.autograd.node import tick
from minigrad.autograd.tensor import Tensor, as_tensor
from minigrad.backend import Array, Level, bare
from minigrad.transforms.checkpointing import surrounded_by
from minigrad.transforms.trees import Tree, flatten, spread_prefix

P = ParamSpec("P")
R = TypeVar("R")
Axes: TypeAlias = int | Tree | None
"""The axis of the examples for all arguments, or a tree of axes, as `vmap` takes them."""


@contextmanager
def new_level(size: int) -> Iterator[Level]:
    """A level for `size` examples, open inside the with-block."""
    if grad_mode.replayed is not None:  # a checkpoint's second run has the levels of the first
        level = next(grad_mode.replayed)
    else:
        level = Level(size, tick())
    if grad_mode.opened is not None:
        grad_mode.opened.append(level)
    with surrounded_by(partial(_opened, level)):
        yield level


@contextmanager
def _opened(level: Level) -> Iterator[None]:
    before, level.open = level.open, True
    try:
        yield
    finally:
        level.open = before


def vmap(f: Callable[P, R], in_axes: Axes = 0, out_axes: Axes = 0) -> Callable[P, R]:
    """The function that runs `f`, written for one example, on all examples along an axis of the arguments at once.

    Parameters
    ----------
    in_axes : the axis of each argument that counts examples: an int for all, or a tuple with an entry for each
        argument, an int, None (the same for all examples), or a tree of these in the form of the argument
    out_axes : where the results' axis of examples goes, likewise; None for a result that is the same for all examples

    Keyword arguments are mapped over their axis 0; others can be bound with functools.partial. A loop over the
    examples gives the same result, more slowly:

        vmap(f)(xs) == stack([f(x) for x in xs])

    Inside, Python cannot branch on values: use `where` instead of `if`. Random numbers drawn by `dropout` differ from
    example to example; those of `randn` and the like are the same for all.
    Raises ShapeError if the arguments disagree in the number of examples, ValueError if out_axes is None for a result
    that differs between examples.
    """

    @wraps(f, assigned=("__name__", "__doc__"))
    def mapped(*args: P.args, **kwargs: P.kwargs) -> R:
        prefix = tuple(in_axes) if isinstance(in_axes, list) else in_axes
        leaves, rebuild = flatten((args, kwargs))
        axes = spread_prefix(prefix, args, "vmap: in_axes") + [0] * len(flatten(kwargs)[0])
        _check_axes("in_axes", axes)
        leaves = [x if axis is None else as_tensor(x) for x, axis in zip(leaves, axes, strict=True)]
        with new_level(_examples(leaves, axes)) as level:
            inside = [
                x if axis is None else enter_level(x, axis=_axis(x, axis), level=level)
                for x, axis in zip(leaves, axes, strict=True)
            ]
            positional, named = rebuild(inside)
            out = f(*positional, **named)
            results, rebuild_out = flatten(out)
            places = spread_prefix(out_axes, out, "vmap: out_axes")
            _check_axes("out_axes", places)
            return rebuild_out([_leave(y, axis, level) for y, axis in zip(results, places, strict=True)])

    return mapped


def all_examples(x: Tensor) -> Array:
    """The array of all examples of x inside vmap, with the axes that vmap hides in front; elsewhere x's own array.

    For checks of every example at once, such as whether all labels are in range.
    """
    return bare(x.data)


def _leave(y: Any, axis: int | None, level: Level) -> Tensor:
    y = as_tensor(y)
    if axis is None:
        if level in levels_of(y):
            raise ValueError(
                f"vmap: out_axes None for a result of shape {y.shape} that differs between the {level.size} examples; "
                "say where the axis of the examples goes, or reduce it outside."
            )
        return y
    if not -y.ndim - 1 <= axis <= y.ndim:
        raise ShapeError(f"vmap: out_axes {axis} for a result of shape {y.shape}; expected {-y.ndim - 1} to {y.ndim}.")
    return leave_level(y, axis=axis % (y.ndim + 1), level=level)


def _axis(x: Tensor, axis: int) -> int:
    return axis % x.ndim


def _check_axes(what: str, axes: list) -> None:
    for axis in axes:
        if axis is not None and not isinstance(axis, Integral):
            raise TypeError(f"vmap: {what} holds {axis!r}; expected integers, None, or a tuple or dict of these.")


def _examples(leaves: list, axes: list) -> int:
    """The number of examples, which must be the same in all arguments."""
    sizes = []
    for x, axis in zip(leaves, axes, strict=True):
        if axis is not None:
            if not -x.ndim <= axis < x.ndim:
                raise ShapeError(
                    f"vmap: in_axes {axis} for an argument of shape {x.shape}; it has no such axis. An argument "
                    "that all examples share has None in in_axes, or is bound with functools.partial."
                )
            sizes.append(x.shape[axis])
    if not sizes:
        raise ValueError("vmap: every entry of in_axes is None, so there are no examples to run over.")
    if len(set(sizes)) > 1:
        raise ShapeError(f"vmap: the arguments hold {', '.join(map(str, sizes))} examples; they must agree.")
    return sizes[0]
