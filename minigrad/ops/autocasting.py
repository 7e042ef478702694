"""Which dtype ops compute in while `minigrad.amp.autocast` is on: the lists, and the one place where operands are cast.

Products and convolutions, where nearly all the work is, take float32 operands in half precision. What loses its digits
or overflows there takes half-precision operands as float32. All other ops compute in the dtype that they are given.

Ops do not know about it. When the first `autocast` of a program is entered, the ops of the lists get a call that looks
at the switch first; before, they are as they were, and cost nothing more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from minigrad.autograd import is_grad_enabled
from minigrad.autograd.primitive import OPS
from minigrad.autograd.tensor import Tensor

LOWER = "bias_relu conv2d conv2d_input_grad conv2d_weight_grad einsum linear matmul".split()
RAISE = """
    arccos arcsin batch_norm batch_norm_inference batch_norm_inference_relu batch_norm_relu cosh cumprod cumsum
    exp exp2 expm1 log log10 log1p log2 log_softmax
    logaddexp logsumexp log_loss logistic_loss norm2 power prod reciprocal rsqrt sinh softmax softmax_cross_entropy
    softplus square sum tan
""".split()
HALF = ("float16", "bfloat16")


class Switch(threading.local):
    """Of one thread: the dtype to compute in, None if autocast is off; on which kind of device; casts of leaves."""

    dtype: np.dtype | None = None
    device: str = ""
    casts: dict[int, tuple[Any, Any, Any]] | None = None


switch = Switch()


def is_on() -> bool:
    """Whether autocast is on in this thread."""
    return switch.dtype is not None


def lowered(*operands: Any) -> tuple[Any, ...]:
    """The operands of a product or convolution: under autocast those of float32 in half precision."""
    if switch.dtype is None:
        return operands
    return tuple(_cast(x) if _is_here(x) and x.dtype == np.float32 else x for x in operands)


def raised(*operands: Any) -> tuple[Any, ...]:
    """The operands of an op that needs digits and range: under autocast those of half precision as float32."""
    if switch.dtype is None:
        return operands
    return tuple(x.astype(np.float32) if _is_here(x) and x.dtype.name in HALF else x for x in operands)


def _is_here(x: Any) -> bool:
    return isinstance(x, Tensor) and x.device.partition(":")[0] == switch.device


def _cast(x: Tensor) -> Tensor:
    """x in half precision. Of a leaf with gradients, a parameter, the cast is kept until autocast is left.

    A parameter is used again and again where layers share it; its gradients then meet in half precision once.
    """
    if switch.casts is None or not (x.is_leaf and x.requires_grad and is_grad_enabled()):
        return x.astype(switch.dtype)
    written = _last_written(x)
    found = switch.casts.get(id(x))
    if found is None or found[0] is not x.data or found[1] != written:
        found = switch.casts[id(x)] = x.data, written, x.astype(switch.dtype)
    return found[2]


def _last_written(leaf: Any) -> int:
    """When the array of a leaf was last written to in place, on the graph's clock."""
    memory = leaf.node.memory
    return 0 if memory is None else memory.written


@cache
def install() -> None:
    """Have the ops of the lists look at the switch, once and for all."""
    for names, change in ((LOWER, lowered), (RAISE, raised)):
        for name in names:
            OPS[name].__class__ = _looking(OPS[name].__class__, change)


def _looking(kind: type, change: Callable[..., tuple[Any, ...]]) -> type:
    """The class of an op, with a call that changes the operands first."""
    call: Callable[..., Any] = kind.__call__  # type: ignore[operator]

    def changed(self: Any, *operands: Any, **options: Any) -> Any:
        if switch.dtype is None:
            return call(self, *operands, **options)
        named = dict(zip(options, change(*options.values()), strict=True))
        return call(self, *change(*operands), **named)

    return type(kind.__name__, (kind,), {"__call__": changed})
