"""checkpoint: compute again in the backward pass instead of keeping what the forward pass computed.

After this file you know that the record needs two things of an op, its place in the graph and the arrays that its rules
asked for, and that only the arrays are large. A checkpointed function leaves its nodes in the graph and takes their
arrays away; the first rule that misses one has the function run again, and the new record's arrays put in their places.
So gradients of any order, forward mode, closures and dropout work as without (Chen et al. 2016).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import wraps
from typing import Any

from minigrad.autograd import enable_grad, is_grad_enabled
from minigrad.creation import remember_generators
from minigrad.errors import GradientError
from minigrad.record import Node, creation_number, grad_mode, recipes
from minigrad.tensor import Tensor
from minigrad.trees import flatten


def checkpoint(f: Callable) -> Callable:
    """The same function, computed a second time in the backward pass, so that nothing in it is kept meanwhile.

    Takes the time of one more forward pass and saves the memory of all that f keeps; its arguments stay. f must do the
    same both times: random numbers of minigrad are repeated and running statistics counted once, but what else f
    writes or draws is up to you. Raises GradientError where the second run records other ops than the first.
    """

    @wraps(f, assigned=("__name__", "__doc__"))
    def checkpointed(*args, **kwargs):
        if not is_grad_enabled():
            return f(*args, **kwargs)
        recipe = Recipe(f, args, kwargs)
        out, nodes = recipe.run()
        recipe.take_from(nodes)
        return out

    return checkpointed


def is_recomputing() -> bool:
    """Whether a checkpointed function is being run for the second time: what it counts has been counted."""
    return grad_mode.replayed is not None


class Recipe:
    """How to make the saved values of some nodes again: a function, its arguments, its random numbers."""

    def __init__(self, f: Callable, args: tuple, kwargs: dict):
        self.f, self.args, self.kwargs = f, args, kwargs
        devices = {x.device for x in flatten((args, kwargs))[0] if isinstance(x, Tensor)}
        self.generators = remember_generators(devices | {"cpu"})
        self.levels: list = []  # those of the vmaps inside, so that the second run has the same ones
        self.ops: list = []
        self.nodes: list[weakref.ref[Node]] = []

    def run(self) -> tuple[Any, list[Node]]:
        """Call the function; its result, and the nodes it left, oldest first."""
        outside, grad_mode.opened = grad_mode.opened, self.levels
        start = creation_number()
        try:
            out = self.f(*self.args, **self.kwargs)
        finally:
            grad_mode.opened = outside
        if outside is not None:
            outside.extend(self.levels)
        return out, _recorded_since(start, flatten(out)[0])

    def take_from(self, nodes: list[Node]) -> None:
        """Drop what the nodes saved; whoever needs it calls `refill`."""
        self.ops = [node.op for node in nodes]
        self.nodes = [weakref.ref(node) for node in nodes]
        for node in nodes:
            if node.saved:
                node.saved, recipes[node] = None, self.refill

    def refill(self) -> None:
        """Run the function again and give the nodes the values that it saves this time."""
        outside, grad_mode.replayed = grad_mode.replayed, iter(self.levels)
        try:
            with self.generators(), enable_grad():
                start = creation_number()
                fresh = _recorded_since(start, flatten(self.f(*self.args, **self.kwargs))[0])
        finally:
            grad_mode.replayed = outside
        if [node.op for node in fresh] != self.ops:
            raise GradientError(
                f"checkpoint of {getattr(self.f, '__name__', self.f)!r}: run again for the backward pass, it recorded "
                f"{len(fresh)} ops that are not the {len(self.ops)} of the first run. "
                "It must do the same each time: no randomness or state of its own, no change of what it reads."
            )
        for reference, twin in zip(self.nodes, fresh, strict=True):
            node = reference()
            if node is not None and node.saved is None:
                node.saved = twin.saved


def _recorded_since(start: int, leaves: list) -> list[Node]:
    """The nodes made after `start` on the clock that the tensors among `leaves` lead to, oldest first."""
    stack = [x.node for x in leaves if isinstance(x, Tensor) and x.node is not None]
    found: set[Node] = set()
    while stack:
        node = stack.pop()
        if node not in found and node.order < start and node.plan is not None:
            found.add(node)
            stack.extend(parent for parent in node.parents if parent is not None)
    return sorted(found, key=lambda node: -node.order)
