"""The kernels on a GPU: CUDA of our own in the `.cu` files, and array code of `plain/` where there is none.

Read `launching` first: how the text of a `.cu` file becomes a launch. Then a pair: `channel_sums.cu`, what each thread
does, and `normalization.py`, which prepares the arrays and launches it. `common.cuh` is shared by all `.cu` files.
"""

from minigrad.backend.gpu.bias import bias_relu, bias_relu_backward, channel_sum
from minigrad.backend.gpu.convolution import conv2d, conv2d_input_grad, conv2d_weight_grad
from minigrad.backend.gpu.dropout import drop, drop_factors
from minigrad.backend.gpu.losses import add_metrics, softmax_cross_entropy, softmax_cross_entropy_backward
from minigrad.backend.gpu.normalization import (
    batch_norm,
    batch_norm_backward,
    batch_norm_inference,
    batch_norm_inference_backward,
)
from minigrad.backend.gpu.pooling import (
    avg_pool2d,
    avg_pool2d_input_grad,
    max_pool2d,
    max_pool2d_gather,
    max_pool2d_scatter,
)
from minigrad.backend.gpu.products import einsum, matmul
from minigrad.backend.gpu.workspace import one
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
