"""Many tangents pushed through one graph at once: the columns of a Jacobian.

All columns together cost little more than one. The directions stand along a leading axis; an elementwise rule
broadcasts over it, so that each step is one array operation for all of them, and any other rule sees them as the
examples of a `vmap`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minigrad import backend
from minigrad.autograd import forward
from minigrad.autograd.grad_mode import set_grad_enabled
from minigrad.autograd.node import Node, nodes_between
from minigrad.autograd.tensor import Tensor
from minigrad.backend import Array, Level
from minigrad.transforms.vectorization import new_level


def push_together(outputs: Sequence[Tensor], source: Tensor, directions: Array) -> list[Array | None]:
    """The tangents of `outputs` when `source` moves along each of the directions, arrays (k, *its shape).

    The results are arrays (k, *output's shape), or None for an output that does not depend on the source. They are not
    recorded, and the graph can be used again.
    """
    moving: dict[Node | None, Any] = {source.node: directions}
    sinks = [y.node for y in outputs if y.node is not None]
    with new_level(len(directions)) as level, set_grad_enabled(False):
        for node in nodes_between([source.node], sinks):
            if node not in moving:
                moving[node] = _pushed(node, moving, level)
    return [moving.get(y.node) for y in outputs]


def _pushed(node: Node, moving: dict, level: Level) -> Array | None:
    if node.plan.op.kind == "elementwise" and node.shape.__class__ is tuple:  # that is, not inside another vmap
        return forward.push_through(node, moving, False, level.size)
    entered = {p: backend.enter(moving[p], 0, level) for p in node.parents if moving.get(p) is not None}
    tangent = forward.push_through(node, entered, False)
    return None if tangent is None else backend.leave(tangent, 0, level)
