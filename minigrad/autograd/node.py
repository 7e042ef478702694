"""The record: what is remembered of a computation, and when.

After this file you know what a node is, why a graph needs no garbage collector, and the one clock that everything about
the record is told by: creation numbers.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from itertools import count
from typing import Any

from minigrad.backend import Array


class _GradMode(threading.local):
    enabled: Any = True
    opened: list | None = None  # where a checkpointed function's vmaps are noted
    replayed: Iterator | None = None  # and where its second run finds them


grad_mode = _GradMode()

# What `grad_mode.enabled` is, instead of True, while they are: a number taken out of a Tensor is then a term lost.
IN_RULES: Any = "derivative rules are being recorded"

# Creation numbers fall, so that a heap hands out the latest node first.
creation_number = count(0, -1).__next__

recipes: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
"""For nodes whose saved values a checkpoint took away: a function that brings them back."""

writes = [1]  # the number, on the same clock, of the last write in place to any leaf


class Node:
    """One recorded op, or a leaf (a tensor you made): where gradients arrive and how they travel on.

    A Tensor points to its node and nodes point to their parents' nodes; back to a Tensor there is at most a weak
    reference, so a graph is freed as soon as its last Tensor is, without the garbage collector.

    plan : which rules to run; None for a leaf
    parents : the nodes of the arguments; None for an argument that needs no gradient
    saved : the values that the rules named, in the plan's order; None once freed
    order : creation number: smaller is later
    shape, dtype : of the value
    keeper : weak reference to the Tensor in whose `.grad` the gradient is kept: a leaf, or one that asked for it
    hooks : functions that see the gradient, by number; None where there are none
    version : when a leaf's array was last written in place, on the clock of `order`
    name : for pictures and messages
    """

    __slots__ = "plan parents saved order shape dtype keeper hooks version name __weakref__".split()

    def __init__(self, plan, parents, saved, shape, dtype):
        self.plan = plan
        self.parents = parents
        self.saved = saved
        self.order = self.version = creation_number()
        self.shape = shape
        self.dtype = dtype
        self.keeper = self.hooks = self.name = None

    @property
    def op(self) -> Any:
        """The op that made this value; None for a leaf."""
        return None if self.plan is None else self.plan.op

    def __repr__(self):
        return f"<{self.op.name if self.op else 'leaf'} {self.shape} {self.dtype}>"


def leaf(array: Array) -> Node:
    """The node of a tensor that is made, not computed."""
    return Node(None, (), None, array.shape, array.dtype)


class HookHandle:
    """What registering a hook gives back: `handle.remove()` takes the hook off again."""

    def __init__(self, remove):
        self.remove = remove
