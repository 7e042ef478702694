"""Forward mode: tangents pushed along the graph, oldest node first.

After this file you know that one recorded forward pass serves both directions: where reverse mode takes the latest
node and pulls its gradient back with vjp rules, forward mode takes the oldest and pushes its tangent on with jvp rules.
An op that is elementwise or linear needs no rule of its own for it (see `Primitive.rule`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minigrad.autograd.arguments import as_list, like, node_of
from minigrad.autograd.grad_mode import running_rules
from minigrad.autograd.node import Node, nodes_between
from minigrad.autograd.saved import check_versions, restored, run_reference, saved_as_tensors
from minigrad.autograd.tensor import Tensor, as_tensor
from minigrad.backend import namespace


def push(
    outputs: Tensor | Sequence[Tensor], inputs: Tensor | Sequence[Tensor], tangents: Any, *, create_graph: bool = False
) -> tuple[Tensor | None, ...]:
    """Tangents of `outputs` when the `inputs` move along `tangents`: a Jacobian-vector product over the graph.

    Takes and returns one Tensor (or array) per input and output; None for an output that does not depend on the inputs.
    The graph stays usable: several tangents can be pushed, at about the cost of one forward pass each.
    """
    outputs, inputs, tangents = as_list(outputs), as_list(inputs), as_list(tangents)
    if len(tangents) != len(inputs):
        raise ValueError(f"push: {len(inputs)} inputs but {len(tangents)} tangents; give one for each input.")
    sources = [node_of(tensor, "push from an input") for tensor in inputs]
    sinks = [tensor.node for tensor in outputs if tensor.node is not None]
    moving = {
        node: like(tensor, tangent, "tangent", create_graph)
        for node, tensor, tangent in zip(sources, inputs, tangents, strict=True)
    }
    with running_rules(recorded=create_graph):
        for node in nodes_between(moving, sinks):
            if node not in moving:
                moving[node] = push_through(node, moving, create_graph)
    found = (moving.get(tensor.node) for tensor in outputs)
    return tuple(None if tangent is None else as_tensor(tangent) for tangent in found)


def push_through(node: Node, moving: dict[Node, Any], create_graph: bool, count: int | None = None) -> Any:
    """The tangent of one node, from those of its parents.

    With a `count`, of an elementwise op alone, tangents and result have so many directions along a leading axis.
    """
    plan = node.plan
    if node.saved is None:
        restored(node)
    check_versions(node)
    if plan.op.reference:
        result, copies = run_reference(node, connect=create_graph)
        used = {i: copy for i, copy in copies.items() if node.parents[i] in moving}
        (tangent,) = push(
            result, list(used.values()), [moving[node.parents[i]] for i in used], create_graph=create_graph
        )
        return tangent if create_graph or tangent is None else tangent.data
    saved = saved_as_tensors(node) if create_graph else node.saved
    total = None
    for position, rule, pick in plan.jvp_steps:
        tangent = moving.get(node.parents[position])
        if tangent is not None:
            if count is not None:
                tangent = _aligned(tangent, 1 + len(node.shape))
            part = rule(tangent, *(saved if pick is None else pick(saved)))
            if part is None:
                raise TypeError(f"{plan.op.name}: its jvp rule for {plan.op.argument_name(position)!r} returned None.")
            total = part if total is None else total + part
    shape = node.shape if count is None else (count, *node.shape)
    if total is not None and total.shape != shape:  # an argument that the op broadcast
        total = total.broadcast_to(shape) if create_graph else namespace(total).broadcast_to(total, shape)
    return total


def _aligned(tangents: Any, ndim: int) -> Any:
    """Many tangents with axes of size 1 behind the first, so that each broadcasts as a single one would."""
    shape = tangents.shape
    return tangents if len(shape) == ndim else tangents.reshape(shape[:1] + (1,) * (ndim - len(shape)) + shape[1:])
