"""What a node saved for its rules, when they ask for it: still there, still the same, and as Tensors if need be.

After this file you know what can go wrong between the forward pass and the backward one, that the values were freed or
an argument was overwritten, and how a rule comes to be run on Tensors.
"""

from __future__ import annotations

import weakref

import numpy as np

from minigrad.autograd.errors import GradientError
from minigrad.autograd.node import Node, creation_number, recipes, writes
from minigrad.autograd.primitive import Primitive
from minigrad.autograd.tensor import Tensor
from minigrad.backend import Array, is_array


def restored(node: Node) -> tuple:
    """The saved values of a node that has none any more: computed again if a checkpoint took them."""
    if node not in recipes:
        raise GradientError(
            f"derivative through {node.op.name}: its saved values were freed by an earlier backward pass. "
            "Pass retain_graph=True to that pass to go through the graph twice."
        )
    recipes[node]()
    return node.saved


_written: dict[int, list] = {}
"""When memory was last written to in place: by the id of the array that owns it, [a weak reference to it, the time]."""


def note_write(array: Array) -> int:
    """Remember that an array was written to now, and return the time, on the clock of creation numbers."""
    now = writes[-1] = creation_number()
    owner = array if array.base is None else owner_of(array)
    entry = _written.get(id(owner))
    if entry is not None:
        entry[1] = now
    elif not isinstance(owner, np.generic):  # a NumPy scalar is not written to, but replaced
        key = id(owner)
        _written[key] = [weakref.ref(owner, lambda _: _written.pop(key, None)), now]
    return now


def owner_of(array: Array) -> Array:
    """The array in whose memory this one lies: for a view, such as x.T, that of the whole."""
    while is_array(base := getattr(array, "base", None)):
        array = base
    return array


def check_versions(node: Node) -> None:
    """Raise if an array that was saved for the backward pass has been written to since.

    Memory is what counts: a view, or what detach() cut off, changes with the tensor that it was taken from.
    """
    if writes[-1] > node.order:  # the clock runs downwards: smaller is later
        return
    for name, value in zip(node.plan.names, node.saved, strict=True):
        for array in value if isinstance(value, tuple) else (value,):
            _, last = _written.get(id(owner_of(array)), (None, 1))
            if last < node.order:
                what = "result" if name == "out" else f"argument {name!r}{_name_of_leaf(node, name)}"
                raise GradientError(
                    f"derivative through {node.op.name}: its {what} {array.shape} was changed in place after the "
                    "forward pass (by an optimizer step, copy_ or touch); run the forward pass again, or change it "
                    "after backward."
                )


def _name_of_leaf(node: Node, argument: str) -> str:
    """The user's own name of the tensor that was this argument, in brackets, if it has one."""
    names = node.op.argument_names
    parent = node.parents[names.index(argument)] if argument in names and not node.op.variadic else None
    name = None if parent is None else whose_memory(parent).name
    return f" ({name})" if name else ""


def whose_memory(node: Node) -> Node:
    """The node whose array this one's lies in: for a view, such as x.T, that of x."""
    while node.plan is not None and node.plan.op.view and len(node.parents) == 1:
        node = node.parents[0]
    return node


def saved_as_tensors(node: Node) -> tuple:
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

    def residual(*arguments):
        return value

    def refuse(g):
        raise GradientError(
            f"{node.op.name} has no second derivative: its rule uses the residual {name!r}, of which nobody stated "
            "a derivative. Compute it in the rule, from the arguments, or give the op a composite reference. "
            "A residual that is constant, as a mask or an index is, should be of bools or integers."
        )

    op = Primitive(residual)
    op.defvjp(arguments=refuse)
    op.defjvp(arguments=refuse)
    return op(*(Tensor(value, parent) for parent in node.parents if parent is not None))
