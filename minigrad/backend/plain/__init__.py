"""The kernels as whole-batch array code, in their shortest form: what each computes, without how it is made fast.

Run on NumPy arrays they are what the tests compare both the CPU's kernels and the GPU's with. On a GPU they serve where
we have no CUDA kernel of our own, and for dtypes that ours do not take.
"""

from minigrad.backend.plain.bias import bias_relu, bias_relu_backward
from minigrad.backend.plain.constants import one
from minigrad.backend.plain.convolution import conv2d, conv2d_input_grad, conv2d_weight_grad
from minigrad.backend.plain.dropout import drop, drop_factors
from minigrad.backend.plain.losses import add_metrics, softmax_cross_entropy, softmax_cross_entropy_backward
from minigrad.backend.plain.normalization import (
    batch_norm,
    batch_norm_backward,
    batch_norm_inference,
    batch_norm_inference_backward,
    channel_sum,
)
from minigrad.backend.plain.pooling import (
    avg_pool2d,
    avg_pool2d_input_grad,
    max_pool2d,
    max_pool2d_gather,
    max_pool2d_scatter,
)
from minigrad.backend.plain.products import einsum, matmul
from minigrad.backend.scatter import put, update

__all__ = [
    "add_metrics",
    "avg_pool2d",
    "avg_pool2d_input_grad",
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_inference",
    "batch_norm_inference_backward",
    "bias_relu",
    "bias_relu_backward",
    "channel_sum",
    "conv2d",
    "conv2d_input_grad",
    "conv2d_weight_grad",
    "drop",
    "drop_factors",
    "einsum",
    "matmul",
    "max_pool2d",
    "max_pool2d_gather",
    "max_pool2d_scatter",
    "one",
    "put",
    "softmax_cross_entropy",
    "softmax_cross_entropy_backward",
    "update",
]


def __dir__() -> list[str]:
    return sorted(__all__)
