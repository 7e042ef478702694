"""The graph: what is remembered of a computation, and when.

After this file you know what a node is, why a graph needs no garbage collector, and the one clock that tells which of
two nodes came first and whether memory was written to after a node saved it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from minigrad.backend import Array, is_array

if TYPE_CHECKING:
    from minigrad.autograd.plan import Op, Plan

tick = count(1).__next__
"""The clock of the graph: each call gives the next whole number. A node is created after its parents."""

recipes: weakref.WeakKeyDictionary[Node, Callable[[], None]] = weakref.WeakKeyDictionary()
"""For nodes whose saved values a checkpoint took away: a function that computes them again."""


class Node:
    """One recorded op, or a leaf (a tensor you made): where gradients arrive and how they travel on.

    A Tensor points to its node and nodes point to their parents' nodes; back to a Tensor there is at most a weak
    reference, so a graph is freed as soon as its last Tensor is, without the garbage collector.

    plan : which rules to run; None for a leaf
    parents : the nodes of the arguments; None for an argument that needs no gradient
    saved : the values that the rules named, in the plan's order; None once freed
    order : when the node was created, on the clock `tick`
    shape, dtype : of the value
    grad_owner : weak reference to the Tensor whose `.grad` stores the gradient: a leaf, or one with `retain_grad()`
    hooks : functions that see the gradient, by number; None where there are none
    memory : of a leaf whose array was written to in place, when that was; None if it never was
    name : for pictures and messages
    """

    __slots__ = "plan parents saved order shape dtype grad_owner hooks memory name __weakref__".split()

    # Typed as they are where rules run; where one is None, which the lines above say, mypy is not told.
    plan: Plan
    parents: Sequence[Node]
    saved: Any
    order: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    grad_owner: weakref.ref[Any] | None
    hooks: dict[int, Callable[[Any], Any]] | None
    memory: Memory | None
    name: str | None

    def __init__(
        self,
        plan: Any,
        parents: Sequence[Any],
        saved: Any,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
    ) -> None:
        self.plan = plan
        self.parents = parents
        self.saved = saved
        self.order = tick()
        self.shape = shape
        self.dtype = dtype
        self.grad_owner = self.hooks = self.memory = self.name = None

    @property
    def op(self) -> Op:
        """The op that made this value; None for a leaf."""
        return None if self.plan is None else self.plan.op

    def __repr__(self) -> str:
        return f"<{self.op.name if self.op else 'leaf'} {self.shape} {self.dtype}>"


def leaf(array: Array) -> Node:
    """The node of a tensor that is made, not computed."""
    return Node(None, (), None, array.shape, array.dtype)


def nodes_between(sources: Iterable[Node], sinks: Sequence[Node]) -> dict[Node, None]:
    """The nodes on paths from `sources` to `sinks`, both included, oldest first (a dict as an ordered set)."""
    sources = set(sources)
    oldest = min((node.order for node in sources), default=0)
    found, stack = set(sinks), list(sinks)
    while stack:
        for parent in stack.pop().parents:
            if parent is not None and parent not in found and parent.order >= oldest:
                found.add(parent)
                stack.append(parent)
    between: dict[Node, None] = {}
    for node in sorted(found, key=lambda node: node.order):
        if node in sources or any(parent in between for parent in node.parents):
            between[node] = None
    return between


class HookHandle:
    """What registering a hook gives back: `handle.remove()` takes the hook off again."""

    def __init__(self, remove: Callable[[], None]) -> None:
        self.remove = remove

    def __reduce__(self) -> tuple[type[HookHandle], tuple[type[None]]]:
        return HookHandle, (type(None),)  # a copied or pickled tensor has no hooks, so its handle removes nothing


# --- writes in place ---


class Memory:
    """When the memory of an array was last written to in place. All arrays that lie in it share this object."""

    __slots__ = ("written",)

    def __init__(self) -> None:
        self.written = 0  # on the clock `tick`; 0: never


_memories: dict[int, tuple[weakref.ref[Any], Memory]] = {}
"""The memories that were written to, by the id of the array at the base of each, with a weak reference to it."""

latest_write = Memory()
"""The last write to any memory: nothing that was saved later than this needs to be checked."""


def note_write(array: Array) -> Memory:
    """Remember that an array was written to in place now; returns its memory."""
    now = tick()
    latest_write.written = max(now, latest_write.written)  # another thread may have been faster
    base = array if array.base is None else base_of(array)
    known = _memories.get(id(base))
    memory = Memory() if known is None else known[1]
    if known is None and not isinstance(base, np.generic):  # a NumPy scalar is not written to, but replaced
        key = id(base)
        entry = weakref.ref(base, lambda _: _memories.pop(key, None)), memory
        memory = _memories.setdefault(key, entry)[1]
    memory.written = now
    return memory


def was_written_since(array: Array, time: int) -> bool:
    """Whether the memory in which an array lies was written to after `time`.

    Memory is what counts: a view, or what `detach()` cut off, changes with the tensor that it was taken from.
    """
    known = _memories.get(id(base_of(array)))
    return known is not None and known[1].written > time


def base_of(array: Array) -> Array:
    """The array in whose memory this one lies: for a view, such as x.T, that of the whole."""
    while is_array(base := getattr(array, "base", None)):
        array = base
    return array


def viewed(node: Node) -> Node:
    """The node whose array this node's array lies in: for a view, such as x.T, that of x."""
    while node.plan is not None and node.plan.op.view and len(node.parents) == 1 and node.parents[0] is not None:
        node = node.parents[0]
    return node


def leaf_was_written_since(node: Node, time: int) -> bool:
    """Whether the leaf that a node is, or is a view of, was written to in place after `time`."""
    memory = viewed(node).memory
    return memory is not None and memory.written > time
