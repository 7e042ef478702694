"""What may be wrong with what a closure returned, and the errors that say so."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import Tensor
from minigrad.autograd.node import nodes_between
from minigrad.transforms.trace import Graph
from minigrad.transforms.trees import flatten

from .borrowing import ClosureProblem


def check_loss(loss: Any, owner: str, has_graph: bool) -> None:
    """Raise unless the closure returned one number; `has_graph` says that the gradient is to come from its graph."""
    if isinstance(loss, Tensor) and loss.size != 1:
        raise ValueError(f"{owner}: the closure returned shape {loss.shape}; expected the loss, a single number.")
    if not isinstance(loss, (Tensor, int, float, np.number)):
        raise TypeError(
            f"{owner}: the closure returned {_described(loss)}; expected the loss. End the closure with `return loss`."
        )
    if has_graph and not isinstance(loss, Tensor):
        raise TypeError(
            f"{owner}: the closure returned the number {loss!r} and called no backward, so there is no gradient; "
            "return the loss as a Tensor."
        )


def check_residuals(returned: Any, owner: str) -> list[Tensor]:
    """The leaves of what the closure returned, which must be Tensors of numbers that can be differentiated."""
    found: list[Any] = [None] if returned is None else flatten(returned)[0]
    for y in found:
        if not isinstance(y, Tensor) or y.dtype.kind != "f":
            raise TypeError(
                f"{owner}: the closure returned {_described(y)}; expected residuals, a Tensor of floats "
                "(or a tuple, list or dict of them)."
            )
    if len(found) == 1 and not found[0].ndim:
        raise ValueError(
            f"{owner}: the closure returned a single number; expected residuals, one for each observation, such as "
            "model(x) - y: their squares are summed here."
        )
    if not sum(y.size for y in found):
        raise ValueError(f"{owner}: the closure returned no residuals; expected one for each observation.")
    return found


def check_reach(graph: Graph, problem: ClosureProblem, what: str) -> None:
    """Raise at the first point if what was returned does not depend on any of the parameters."""
    sinks = [y.node for y in graph.outputs if y.node is not None]
    if problem.nfev == 1 and not nodes_between([x.node for x in graph.inputs], sinks):
        raise ValueError(
            f"{problem.owner}: the {what} that the closure returned does not depend on any of the parameters. Was it "
            "computed under no_grad or detached, or are these the parameters of another model?"
        )


def went_backward_in_vain(owner: str, what: str) -> str:
    return (
        f"{owner}: the closure called backward, which used up the graph of the {what} that this method "
        f"differentiates itself. Leave out backward() and return the {what}; zero_grad() is not needed either."
    )


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a Tensor of {value.dtype}"
    return "nothing" if value is None else f"a {type(value).__name__}"
