"""The array kernels on the CPU: NumPy, block by block in cache, on a pool of threads."""

from minigrad.backend.cpu.convolution import conv2d, conv2d_input_grad, conv2d_weight_grad
from minigrad.backend.cpu.normalization import (
    batch_norm,
    batch_norm_backward,
    batch_norm_inference,
    channel_sum,
)
from minigrad.backend.cpu.pooling import (
    avg_pool2d,
    avg_pool2d_input_grad,
    max_pool2d,
    max_pool2d_gather,
    max_pool2d_scatter,
)
from minigrad.backend.cpu.products import einsum
from minigrad.backend.memory import keep_freed_memory
from minigrad.backend.plain import batch_norm_inference_backward, bias_relu, bias_relu_backward, drop, drop_factors, one
from minigrad.backend.plain.losses import add_metrics, softmax_cross_entropy, softmax_cross_entropy_backward
from minigrad.backend.scatter import put, update
from minigrad.backend.threads import matmul

keep_freed_memory()

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
