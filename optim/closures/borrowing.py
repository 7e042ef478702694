"""Parameters lent to a search: for each point that it looks at they get arrays of their own.

What a closure computed at a point keeps its graph when the parameters go on to the next one. At the end they get their
own arrays back, and only then is anything written over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from minigrad import Tensor, enable_grad
from minigrad.backend import Array

from ..solve.variables import Variables


class ClosureProblem(Protocol):
    """What a closure computes, as a function of the parameters in one flat vector.

    fun : the closure
    first_loss : the loss at the first point, which a step returns
    went_backward : whether the closure calls backward
    """

    fun: Callable[[], Any]
    params: Sequence[Tensor]
    variables: Variables
    owner: str
    nfev: int
    first_loss: Tensor | float
    went_backward: bool


@contextmanager
def borrowed(params: Sequence[Tensor]) -> Iterator[None]:
    """Within the block the parameters may be sent anywhere; at its end they get their arrays and gradients back."""
    kept = [(p.data, p.node, p.grad) for p in params]
    try:
        yield
    finally:
        for p, (data, node, gradient) in zip(params, kept, strict=True):
            p.data, p.node = data, node
            p.grad = gradient


def send(p: Tensor, array: Array) -> Tensor:
    """Let the parameter be this array, as a new leaf. Returns what stays there: the array and its node."""
    hooks = p.node.hooks
    p.replace_data(array)
    p.node.hooks = hooks
    return Tensor(array, p.node)


def call_at(problem: ClosureProblem, x: Array) -> tuple[list[Tensor], Any]:
    """The parameters at x, as Tensors that stay there, and what the closure returns when the model has them."""
    arrays = problem.variables.leaves(x)
    inputs = [send(p, array) for p, array in zip(problem.params, arrays, strict=True)]
    with enable_grad():
        return inputs, problem.fun()
