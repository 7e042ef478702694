"""The kernels as whole-batch array code, for CuPy; on NumPy arrays it is what the tests compare the CPU's with."""

from minigrad.backend.gpu.convolution import conv2d, conv2d_input_grad, conv2d_weight_grad
from minigrad.backend.gpu.normalization import batch_norm, batch_norm_backward, channel_sum
from minigrad.backend.gpu.pooling import (
    avg_pool2d,
    avg_pool2d_input_grad,
    max_pool2d,
    max_pool2d_gather,
    max_pool2d_scatter,
)
from minigrad.backend.gpu.products import einsum, matmul
from minigrad.backend.scatter import put, update

__all__ = [
    "avg_pool2d",
    "avg_pool2d_input_grad",
    "batch_norm",
    "batch_norm_backward",
    "channel_sum",
    "conv2d",
    "conv2d_input_grad",
    "conv2d_weight_grad",
    "einsum",
    "matmul",
    "max_pool2d",
    "max_pool2d_gather",
    "max_pool2d_scatter",
    "put",
    "update",
]


def __dir__() -> list[str]:
    return sorted(__all__)
