"""What a node saved for its rules, when they ask for it: still there, still the same, and as Tensors if need be.

After this file you know what can go wrong between the forward pass and the backward one, that the values were freed or
an argument was overwritten, and how a rule comes to be run on Tensors.
"""

from __future__ import annotations

from typing import Any

from minigrad.autograd.definitions import need_reference
from minigrad.autograd.errors import GradientError
from minigrad.autograd.grad_mode import recording
from minigrad.autograd.node import Node, latest_write, leaf, recipes, viewed, was_written_since
from minigrad.autograd.primitive import Primitive
from minigrad.autograd.tensor import Tensor
from minigrad.backend import Array, is_array


def restored(node: Node) -> tuple[Any, ...]:
    """The saved values of a node that has none any more: computed again if a checkpoint took them."""
    if node not in recipes:
        raise GradientError(
            f"derivative through {node.op.name}: its saved values were freed by an earlier backward pass. "
            "Pass retain_graph=True to that pass to go through the graph twice."
        )
    recipes[node]()
    saved: tuple[Any, ...] = node.saved
    return saved


def check_versions(node: Node) -> None:
    """Raise if an array that was saved for the backward pass has been written to since."""
    if latest_write.written < node.order:
        return
    for name, value in zip(node.plan.names, node.saved, strict=True):
        for array in value if isinstance(value, tuple) else (value,):
            if was_written_since(array, node.order):
                what = "result" if name == "out" else f"argument {name!r}{_name_of_leaf(node, name)}"
                raise GradientError(
                    f"derivative through {node.op.name}: its {what} {array.shape} was changed in place after the "
                    "forward pass (by an optimizer step, copy_ or mark_dirty); run the forward pass again, or change "
                    "it after backward."
                )


def _name_of_leaf(node: Node, argument: str) -> str:
    """The user's own name of the tensor that was this argument, in brackets, if it has one."""
    names = node.op.argument_names
    parent = node.parents[names.index(argument)] if argument in names and not node.op.variadic else None
    name = None if parent is None else viewed(parent).name
    return f" ({name})" if name else ""


def saved_as_tensors(node: Node) -> tuple[Any, ...]:
    """A node's saved values with arrays turned back into the Tensors they were: rules run on these are recorded."""
    op, parents, values = node.plan.op, node.parents, []
    for name, value in zip(node.plan.names, node.saved, strict=True):
        if name == "out":
            value = Tensor(value, node)
        elif op.variadic and name == op.argument_names[0]:
            value = tuple(a if p is None else Tensor(a, p) for a, p in zip(value, parents, strict=True))
        elif not op.variadic and name in op.argument_names:
            parent = parents[op.argument_names.index(name)]
            value = value if parent is None else Tensor(value, parent)
        elif name in op.residuals and is_array(value) and value.dtype.kind == "f":
            value = _not_differentiable_again(node, name, value)
        values.append(value)
    return tuple(values)


def _not_differentiable_again(node: Node, name: str, value: Array) -> Tensor:
    """A residual where Tensors flow: it depends on the arguments, but no rule says how: its derivative is an error."""

    def residual(*arguments: Any) -> Array:
        return value

    def refuse(g: Any) -> None:
        raise GradientError(
            f"{node.op.name} has no second derivative: its rule uses the residual {name!r}, which has no derivative "
            "rule. Compute it in the rule, from the arguments, or give the op a composite reference. A residual that "
            "is constant, as a mask or an index is, should be of bools or integers."
        )

    op = Primitive(residual)
    op.defvjp(arguments=refuse)
    op.defjvp(arguments=refuse)
    return op(*(Tensor(value, parent) for parent in node.parents if parent is not None))


def run_reference(node: Node, connect: bool) -> tuple[Tensor, dict[int, Tensor]]:
    """Run the composite reference of a fused op on its saved arguments: (result, tracked arguments by position).

    The arguments are detached copies, so that a walk from the result ends at them. With `connect` each is a recorded
    copy of the original, through which second derivatives reach the rest of the graph.
    """
    op, reference = node.plan.op, need_reference(node.plan.op)
    saved = dict(zip(node.plan.names, node.saved, strict=True))
    arguments = [saved[name] for name in op.argument_names]
    copies = {}
    for position, parent in enumerate(node.parents):
        if parent is not None:
            value = arguments[position]
            copy = Tensor(value, parent).clone() if connect else Tensor(value, leaf(value))
            arguments[position] = copies[position] = copy
    with recording():
        return reference(*arguments, **{name: saved[name] for name in op.options}), copies
