"""A bias for each channel, and ReLU behind it, as one op: on a GPU it is one launch each way.

A layer with a ReLU behind it, run on a GPU, is its product and this op (see `nn.Sequential`).
"""

from __future__ import annotations

from minigrad.autograd.primitive import primitive
from minigrad.autograd.tensor import Tensor
from minigrad.autograd.types import TensorLike
from minigrad.backend import kernels
from minigrad.ops.activations import relu


def _bias_relu_composed(x, bias):
    """The composite reference: the same from single ops, differentiated when Tensors flow through the rule."""
    return relu(x + bias.reshape((1, -1) + (1,) * (x.ndim - 2)))


@primitive(symbol="+ b, relu", local="g where y > 0, its sum", reference=_bias_relu_composed)
def bias_relu(x: TensorLike, bias: TensorLike) -> Tensor:
    """max(x + bias, 0) for x (N, C, ...) and one bias a channel, (C,); slope 0 at 0."""
    return kernels(x, bias).bias_relu(x, bias)


bias_relu.defvjp_fused(lambda g, out: kernels(g, out).bias_relu_backward(g, out))
