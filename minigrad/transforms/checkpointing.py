"""checkpoint: compute again in the backward pass instead of storing what the forward pass computed.

After this file you know that the graph stores two things of an op, its place and the arrays that its rules asked for,
and that only the arrays are large. A checkpointed function leaves its nodes in the graph without their arrays; the
first rule that needs one has the function run again, and the arrays of the new nodes are moved to the old ones. So
gradients of any order, forward mode, closures and dropout work as without it (Chen et al. 2016).
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

from minigrad.autograd.errors import GradientError
from minigrad.autograd.grad_mode import enable_grad, grad_mode, is_grad_enabled
from minigrad.autograd.node import Node, leaf_was_written_since, recipes, tick, viewed
from minigrad.autograd.saved import restored
from minigrad.autograd.tensor import Tensor
from minigrad.generators import Draws
from minigrad.transforms.trees import flatten, map_leaves

P = ParamSpec("P")
R = TypeVar("R")


def checkpoint(f: Callable[P, R]) -> Callable[P, R]:
    """The same function, computed a second time in the backward pass, so that its values are not stored in between.

    It costs the time of one more forward pass and saves the memory of the values inside f; its arguments are stored.
    f must do the same both times: minigrad's random numbers are repeated and running statistics counted once, but other
    state that f reads or writes is yours to repeat. Raises GradientError if the second run records other ops than the
    first, or if a leaf was written to in between.
    """

    @wraps(f, assigned=("__name__", "__doc__"))
    def checkpointed(*args: P.args, **kwargs: P.kwargs) -> R:
        if not is_grad_enabled():
            return f(*args, **kwargs)
        recipe = Recipe(f, args, kwargs)
        out, nodes = recipe.run(args, kwargs)
        recipe.take_from(nodes)
        return out

    return checkpointed


def is_recomputing() -> bool:
    """Whether a checkpointed function is running for the second time, so that it must not count a batch again."""
    return grad_mode.replayed is not None


# --- the contexts around a checkpointed function ---


class _Surroundings(threading.local):
    active: tuple[Callable[[], AbstractContextManager], ...] = ()


_surroundings = _Surroundings()


@contextmanager
def surrounded_by(enter: Callable[[], AbstractContextManager]) -> Iterator[None]:
    """Run the block inside `enter()`, and the second runs of the checkpoints in it inside `enter()` again.

    For contexts that change what a function sees during a call, such as other parameters of a model.
    """
    outside = _surroundings.active
    _surroundings.active = (*outside, enter)
    try:
        with enter():
            yield
    finally:
        _surroundings.active = outside


@contextmanager
def _back_in(surroundings: tuple[Callable[[], AbstractContextManager], ...]) -> Iterator[None]:
    outside, _surroundings.active = _surroundings.active, surroundings
    try:
        with ExitStack() as stack:
            for enter in surroundings:
                stack.enter_context(enter())
            yield
    finally:
        _surroundings.active = outside


# --- running a function again ---


class Recipe:
    """How to compute the saved values of some nodes again: a function, its arguments, its random numbers.

    nodes : weak references to those nodes, oldest first
    steps : op, shape and dtype of each node, to compare with the second run
    """

    def __init__(self, f: Callable, args: tuple, kwargs: dict):
        self.f = f
        self.args, self.kwargs = map_leaves(_with_present_array, (args, kwargs))
        self.draws = Draws()
        self.surroundings = _surroundings.active
        self.levels: list = []  # those of the vmaps inside, so that the second run has the same ones
        self.steps: list[tuple] = []
        self.nodes: list[weakref.ref[Node]] = []
        self.done = 0  # when the first run ended, on the clock of creation numbers

    def run(self, args: tuple, kwargs: dict) -> tuple[Any, list[Node]]:
        """Call the function for the first time: its result, and the nodes it made, oldest first."""
        outside, grad_mode.opened = grad_mode.opened, self.levels
        start = tick()
        try:
            with self.draws.noted():
                out = self.f(*args, **kwargs)
        finally:
            grad_mode.opened = outside
        if outside is not None:
            outside.extend(self.levels)
        self.done = tick()
        return out, _nodes_since(start, flatten(out)[0])

    def take_from(self, nodes: list[Node]) -> None:
        """Drop what the nodes saved, or the recipes of checkpoints inside; a rule that needs it calls `restore`."""
        self.steps = [_step(node) for node in nodes]
        self.nodes = [weakref.ref(node) for node in nodes]
        for node in nodes:
            if node.saved or node in recipes:
                self.answer_for(node)
                node.saved = None

    def answer_for(self, node: Node) -> None:
        recipes[node] = partial(self.restore, weakref.ref(node))

    def restore(self, reference: weakref.ref[Node]) -> None:
        """Compute again what a node saved; if it comes from a checkpoint inside, run that again too."""
        self.refill()
        node = reference()
        if node is not None and node.saved is None:
            restored(node)

    def refill(self) -> None:
        """Run the function again and give the nodes the values that it saves this time."""
        self.check_memory()
        outside = grad_mode.opened, grad_mode.replayed
        grad_mode.opened, grad_mode.replayed = None, iter(self.levels)
        try:
            with self.draws.repeated(), _back_in(self.surroundings), enable_grad():
                start = tick()
                fresh = _nodes_since(start, flatten(self.f(*self.args, **self.kwargs))[0])
        finally:
            grad_mode.opened, grad_mode.replayed = outside
        self.compare(fresh)
        originals = dict(zip(fresh, self.nodes, strict=True))
        for copy, reference in originals.items():
            node = reference()
            if node is None or node.saved is not None:
                continue
            node.saved, _ = copy.saved, recipes.pop(node, None)  # backward then frees them, as without checkpoint
            if copy.saved is None and (recipe := recipes.get(copy)):  # from a checkpoint inside
                inner = recipe.func.__self__  # type: ignore[attr-defined]  # the partial of `answer_for`
                inner.nodes = [originals.get(other(), other) for other in inner.nodes]  # it restores the originals now
                inner.answer_for(node)

    def check_memory(self) -> None:
        """Raise if a leaf was written to since the first run: the second one would see other values."""
        for reference in self.nodes:
            node = reference()
            for parent in node.parents if node is not None else ():
                if parent is not None and leaf_was_written_since(parent, self.done):
                    root = viewed(parent)
                    raise GradientError(
                        f"checkpoint of {self.name}: {root.name or 'a tensor'} {root.shape} was changed in place "
                        "(by an optimizer step or copy_) before the backward pass could run it again; change it after."
                    )

    def compare(self, fresh: list[Node]) -> None:
        """Raise if the second run recorded other ops than the first."""
        steps = [_step(node) for node in fresh]
        if steps != self.steps:
            pairs = zip(steps, self.steps, strict=False)
            place = next((i for i, (new, old) in enumerate(pairs) if new != old), min(len(steps), len(self.steps)))
            raise GradientError(
                f"checkpoint of {self.name}: run again for the backward pass, it recorded {_words(steps, place)} as op "
                f"number {place} (from 0) where the first run had {_words(self.steps, place)}. "
                "It must do the same each time: no randomness or state of its own, no change of what it reads."
            )

    @property
    def name(self) -> str:
        return repr(getattr(self.f, "__name__", self.f))


def _with_present_array(x: Any) -> Any:
    """An argument for the second run, with its present array: copy_ may give the Tensor another."""
    return Tensor(x.data, x.node) if isinstance(x, Tensor) else x


def _step(node: Node) -> tuple:
    return node.op, tuple(parent is not None for parent in node.parents), node.shape, node.dtype


def _words(steps: list[tuple], place: int) -> str:
    if place == len(steps):
        return "no more"
    op, tracked, shape, dtype = steps[place]
    numbers = ", ".join(str(i) for i, needed in enumerate(tracked) if needed)
    return f"{op.name} {shape} {dtype} (gradients for arguments {numbers})"


def _nodes_since(start: int, leaves: list) -> list[Node]:
    """The nodes made after `start` on the clock that the tensors among `leaves` lead to, oldest first."""
    stack = [x.node for x in leaves if isinstance(x, Tensor) and x.node is not None]
    found: set[Node] = set()
    while stack:
        node = stack.pop()
        if node not in found and node.order > start and node.plan is not None:
            found.add(node)
            stack.extend(parent for parent in node.parents if parent is not None)
    return sorted(found, key=lambda node: node.order)
