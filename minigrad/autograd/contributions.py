"""What becomes of one gradient between a rule and the node it is for: made to fit, looked at by hooks, stored.

This is where broadcasting is undone, once for all ops: what was repeated forward is summed backward.
"""

from __future__ import annotations

from typing import Any

from minigrad.autograd.errors import GradientError, ShapeError
from minigrad.autograd.grad_mode import is_grad_enabled, set_grad_enabled
from minigrad.autograd.levels import levels_of, sum_what_was_shared
from minigrad.autograd.node import Node
from minigrad.autograd.tensor import Tensor, as_tensor
from minigrad.backend import BatchedArray, total
from minigrad.locks import lock

_storing = lock()

MAYBE_BATCHED = frozenset({BatchedArray, Tensor})  # the types of a gradient that may hold one for each example


def fitted(gradient: Any, node: Node) -> Any:
    """A rule's gradient in the shape and dtype of the node's value."""
    if gradient.__class__ in MAYBE_BATCHED:
        gradient = sum_what_was_shared(gradient, node.shape)
    if gradient.shape != node.shape:
        gradient = unbroadcast(gradient, node.shape)
    if gradient.dtype is not node.dtype and gradient.dtype != node.dtype:
        gradient = gradient.astype(node.dtype)
    return gradient


def unbroadcast(gradient: Any, shape: tuple[int, ...]) -> Any:
    """Sum a gradient over the axes along which its argument, of this shape, was repeated by broadcasting."""
    extra = len(gradient.shape) - len(shape)
    padded = (1,) * extra + shape
    axes = tuple(i for i, size in enumerate(gradient.shape) if padded[i] == 1 and (size != 1 or i < extra))
    if extra < 0 or any(p not in (1, size) for p, size in zip(padded, gradient.shape, strict=True)):
        raise ShapeError(
            f"a rule gave a gradient of shape {gradient.shape} for an argument of shape {shape}; "
            "it must have that shape, or one that broadcasting made of it."
        )
    return total(gradient, axes).reshape(shape)


def its_own(contribution: Any, gradient: Any) -> Any:
    """A rule's result for a tensor that keeps it, to which an optimizer may write: copied if memory may be shared."""
    if isinstance(contribution, Tensor):
        return contribution.clone() if contribution is gradient or contribution.data.base is not None else contribution
    return contribution.copy() if contribution is gradient or contribution.base is not None else contribution


def run_hooks(node: Node, gradient: Any) -> Any:
    """Show the gradient to the tensor's hooks in turn; what a hook returns, if not None, takes its place."""
    is_tensor = isinstance(gradient, Tensor)
    shown = as_tensor(gradient)
    for hook in tuple((node.hooks or {}).values()):
        with set_grad_enabled(is_grad_enabled()):  # a hook is the user's code, not a rule: it may take numbers out
            replaced = hook(shown)
        if replaced is not None:
            replaced = as_tensor(replaced, shown.dtype, shown.device)
            if replaced.shape != shown.shape:
                raise ShapeError(
                    f"a gradient hook returned shape {replaced.shape} for a gradient of shape {shown.shape}; "
                    "return a gradient of the same shape, or None to leave it as it is."
                )
            shown = replaced
    return shown if is_tensor else shown.data


def store(node: Node, gradient: Any) -> None:
    """Add to `.grad`. A new Tensor each time: a gradient that the user kept does not change."""
    owner = None if node.grad_owner is None else node.grad_owner()
    if owner is None or owner.node is not node:
        return  # the Tensor is gone, or takes no gradient any more
    gradient = gradient if isinstance(gradient, Tensor) else Tensor(gradient)
    if any(level.order > node.order for level in levels_of(gradient)):
        raise GradientError(
            "backward() inside vmap would leave a gradient for each example in a tensor from outside. "
            "Take gradients with minigrad.grad, or go backward from what vmap returns."
        )
    with _storing:  # several threads may go backward into one leaf
        owner._grad = gradient if owner.grad is None else owner.grad + gradient
