"""The arguments of `backward`, `grad` and `push`, checked: tensors of the graph, and cotangents that fit them."""

from __future__ import annotations

from typing import Any

from minigrad.autograd.errors import GradientError, ShapeError
from minigrad.autograd.node import Node
from minigrad.autograd.tensor import Tensor, as_tensor
from minigrad.autograd.types import Operand
from minigrad.backend import kernels, namespace


def as_list(value: Any) -> list[Any]:
    """A tuple or list as a list; anything else as a list of it."""
    return list(value) if isinstance(value, (tuple, list)) else [value]


def node_of(tensor: Tensor, purpose: str) -> Node:
    """The node of a tensor that takes part in derivatives; for others an error that says why they do not."""
    if not isinstance(tensor, Tensor):
        hint = f"; call it first, as in {purpose}(model(x))" if callable(tensor) else ""
        raise TypeError(f"{purpose}: expected a Tensor, got {type(tensor).__name__}{hint}.")
    if tensor.node is None and tensor.dtype.kind != "f":
        raise GradientError(
            f"{purpose}: a tensor of {tensor.dtype} and shape {tensor.shape}; only floating-point numbers have "
            "gradients, and integers, comparisons and indices pass none on. Use .astype(float) on what you made."
        )
    if tensor.node is None:
        raise GradientError(
            f"{purpose}: a tensor of shape {tensor.shape} that needs no gradient, nor was computed from one. "
            "Create the tensors you want gradients of with requires_grad=True, outside of no_grad()."
        )
    return tensor.node


def seed(tensor: Tensor, gradient: Any, create_graph: bool, read_only: bool = False) -> Any:
    """The gradient to start from: ones for a single number, otherwise what the caller gave, checked.

    With `read_only` nobody will write to it or keep it. On a GPU it is then an array made once, which spares a launch.
    """
    if gradient is None:
        if tensor.size != 1:
            raise GradientError(
                f"backward from a tensor of shape {tensor.shape}: only a single number has a gradient of its own. "
                "Reduce it first, as in tensor.sum().backward(), or pass the gradient to start from."
            )
        if read_only and not tensor.shape:
            return kernels(tensor.data).one(tensor.data)
        one = namespace(tensor.data).ones(tensor.shape, tensor.dtype)
        return Tensor(one) if create_graph else one
    return like(tensor, gradient, "gradient", create_graph)


def for_each(
    inputs: list[Tensor], found: list[Any], allow_unused: bool | None, materialize_grads: bool
) -> tuple[Any, ...]:
    """What `grad` returns, of what it found: for an input that is not used None, zeros, or an error, as asked for."""
    unused = [i for i, gradient in enumerate(found) if gradient is None]
    if materialize_grads and allow_unused is False:
        raise ValueError("grad: materialize_grads=True gives zeros for unused inputs; leave allow_unused=False away.")
    if unused and not (allow_unused or materialize_grads):
        raise GradientError(
            f"grad: the outputs do not depend on input number {unused[0]} (counted from 0). "
            "Pass allow_unused=True to get None for it, or materialize_grads=True to get zeros."
        )
    for i in unused if materialize_grads else ():
        found[i] = namespace(inputs[i].data).zeros_like(inputs[i].data)
    return tuple(None if gradient is None else as_tensor(gradient) for gradient in found)


def like(tensor: Tensor, value: Operand, what: str, create_graph: bool) -> Any:
    """A given cotangent or tangent of `tensor`, as an array, or as a Tensor where a graph is to be made of it."""
    value = as_tensor(value, device=tensor.device)
    if value.shape != tensor.shape:
        raise ShapeError(
            f"a {what} of shape {value.shape} for a tensor of shape {tensor.shape}; they must be the same."
        )
    if value.dtype != tensor.dtype:
        value = value.astype(tensor.dtype)
    return value if create_graph else value.data
