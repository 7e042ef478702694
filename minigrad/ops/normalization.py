"""Batch normalisation: each channel brought to mean 0 and variance 1 over the batch, then scaled and shifted.

After this file you know the seven-op composition that batch-norm is (`batch_norm_composed`, its explanation), and that
the fused op on arrays is an optimisation only: differentiated twice, it is the composition that is differentiated.
Source: Ioffe & Szegedy 2015, algorithm 1; the gradient of all three arguments from the equations of their section 3.
"""

from __future__ import annotations

import math

from minigrad.autograd.errors import ShapeError
from minigrad.autograd.primitive import composite, primitive
from minigrad.autograd.tensor import Tensor
from minigrad.autograd.types import TensorLike
from minigrad.backend import kernels
from minigrad.backend.running_statistics import Observer, RunningStatistics  # noqa: F401  (nn takes it from here)
from minigrad.ops.activations import relu
from minigrad.ops.elementary import rsqrt
from minigrad.ops.reductions import mean


def batch_norm_composed(x, weight=None, bias=None, *, eps, observe=None):
    """The composite reference: the same from single ops, differentiated when Tensors flow through the rule."""
    axes = (0, *range(2, x.ndim))
    centred = x - mean(x, axis=axes, keepdims=True)
    variance = mean(centred * centred, axis=axes, keepdims=True)
    normal = centred * rsqrt(variance + eps)
    return scale_and_shift(normal, weight, bias)


def scale_and_shift(x, weight, bias):
    """x * weight + bias with one weight and bias for each channel (axis 1); either may be None."""
    shape = (1, -1) + (1,) * (x.ndim - 2)
    if weight is not None:
        x = x * weight.reshape(shape)
    return x if bias is None else x + bias.reshape(shape)


@primitive(
    symbol="batch norm",
    local="w/s (g - mean g - y mean(g y))",
    residuals=("mean", "inv_std"),
    reference=batch_norm_composed,
)
def _batch_norm(
    x: TensorLike,
    weight: TensorLike | None = None,
    bias: TensorLike | None = None,
    *,
    eps: float,
    observe: Observer | None = None,
):
    y, mean, _, inv_std = kernels(x, weight, bias).batch_norm(x, weight, bias, eps, False, observe)
    return y, mean, inv_std


_batch_norm.defvjp_fused(
    lambda g, x, weight, mean, inv_std: kernels(x).batch_norm_backward(g, x, weight, mean, inv_std)
)


@primitive(
    symbol="batch norm, relu",
    local="w/s (h - mean h - z mean(h z)), h = g where y > 0",
    residuals=("mean", "inv_std"),
    reference=lambda *args, **options: relu(batch_norm_composed(*args, **options)),
)
def _batch_norm_relu(
    x: TensorLike,
    weight: TensorLike | None = None,
    bias: TensorLike | None = None,
    *,
    eps: float,
    observe: Observer | None = None,
):
    y, mean, _, inv_std = kernels(x, weight, bias).batch_norm(x, weight, bias, eps, True, observe)
    return y, mean, inv_std


_batch_norm_relu.defvjp_fused(
    lambda g, out, x, weight, mean, inv_std: kernels(x).batch_norm_backward(g, x, weight, mean, inv_std, out)
)


@composite
def batch_norm(
    x: TensorLike,
    weight: TensorLike | None = None,
    bias: TensorLike | None = None,
    eps: float = 1e-5,
    observe: Observer | None = None,
) -> Tensor:
    """x (N, C, ...) with each channel at mean 0 and (biased) variance 1 over the batch, times weight, plus bias (C,).

    `observe`, if given, is called with the batch's mean and biased variance, arrays (C,): for running averages.
    """
    _check(x, weight, bias, eps)
    return _batch_norm(x, weight, bias, eps=eps, observe=observe)


@composite
def batch_norm_relu(
    x: TensorLike,
    weight: TensorLike | None = None,
    bias: TensorLike | None = None,
    eps: float = 1e-5,
    observe: Observer | None = None,
) -> Tensor:
    """relu(batch_norm(x, ...)) as one op: on a GPU it is what a layer and the ReLU behind it are run as."""
    _check(x, weight, bias, eps)
    return _batch_norm_relu(x, weight, bias, eps=eps, observe=observe)


def _check(x, weight, bias, eps: float) -> None:
    """Raise for what training cannot normalise."""
    check_channels(x, weight, bias)
    check_eps("batch_norm", eps)
    if x.shape[1] and not x.size:
        raise ShapeError(
            f"batch_norm: input {x.shape} is an empty batch, which has no mean. Leave it out, or use model.eval()."
        )
    if x.shape[1] and x.size // x.shape[1] < 2:
        raise ShapeError(
            f"batch_norm: input {x.shape} has a single value per channel, whose variance is zero. "
            "Train with larger batches, or call model.eval() first."
        )


# --- by given statistics ---


def batch_norm_inference_composed(x, mean, variance, weight=None, bias=None, *, eps):
    """The composite reference: the same from single ops, differentiated when Tensors flow through the rule."""
    scale = rsqrt(variance + eps)
    scale = scale if weight is None else scale * weight
    return scale_and_shift(scale_and_shift(x, None, -mean), scale, bias)


@primitive(symbol="batch norm", local="w/s", reference=batch_norm_inference_composed)
def _batch_norm_inference(
    x: TensorLike,
    mean: TensorLike,
    variance: TensorLike,
    weight: TensorLike | None = None,
    bias: TensorLike | None = None,
    *,
    eps: float,
):
    normalise = kernels(x, mean, variance, weight, bias).batch_norm_inference
    return normalise(x, mean, variance, weight, bias, eps)


_batch_norm_inference.defvjp_fused(
    lambda g, x, mean, variance, weight, eps: kernels(g).batch_norm_inference_backward(
        g, x, mean, variance, weight, eps
    )
)


@primitive(
    symbol="batch norm, relu",
    local="w/s where y > 0",
    reference=lambda *args, **options: relu(batch_norm_inference_composed(*args, **options)),
)
def _batch_norm_inference_relu(
    x: TensorLike,
    mean: TensorLike,
    variance: TensorLike,
    weight: TensorLike | None = None,
    bias: TensorLike | None = None,
    *,
    eps: float,
):
    normalise = kernels(x, mean, variance, weight, bias).batch_norm_inference
    return normalise(x, mean, variance, weight, bias, eps, True)


_batch_norm_inference_relu.defvjp_fused(
    lambda g, out, x, mean, variance, weight, eps: kernels(g).batch_norm_inference_backward(
        g, x, mean, variance, weight, eps, out
    )
)


@composite
def batch_norm_inference(
    x: TensorLike,
    mean: TensorLike,
    variance: TensorLike,
    weight: TensorLike | None = None,
    bias: TensorLike | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Batch normalisation of x (N, C, ...) by given statistics (C,), as a trained network uses it."""
    _check_inference(x, mean, variance, weight, bias, eps)
    return _batch_norm_inference(x, mean, variance, weight, bias, eps=eps)


@composite
def batch_norm_inference_relu(
    x: TensorLike,
    mean: TensorLike,
    variance: TensorLike,
    weight: TensorLike | None = None,
    bias: TensorLike | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """relu(batch_norm_inference(x, ...)) as one op: on a GPU it is what a layer and the ReLU behind it are run as."""
    _check_inference(x, mean, variance, weight, bias, eps)
    return _batch_norm_inference_relu(x, mean, variance, weight, bias, eps=eps)


def _check_inference(x, mean, variance, weight, bias, eps: float) -> None:
    check_channels(x, weight, bias)
    check_eps("batch_norm_inference", eps)
    for name, value in (("mean", mean), ("variance", variance)):
        if value.shape != (x.shape[1],):
            raise ShapeError(
                f"batch_norm_inference: {name} of shape {value.shape} for input {x.shape}; expected ({x.shape[1]},)."
            )


def check_eps(op: str, eps: float) -> None:
    """Raise ValueError for an epsilon under which the root may be of a negative number."""
    if not 0 <= eps < math.inf:
        raise ValueError(f"{op}: eps={eps}; expected a small number, 0 or more.")


def check_channels(x, weight, bias) -> None:
    """Raise unless x is (N, C, ...), of floats, and weight and bias are (C,) or None."""
    if x.dtype.kind != "f":
        raise TypeError(
            f"batch_norm: the input is {x.dtype}; expected floating-point numbers, as in x.astype('float32')."
        )
    if x.ndim < 2:
        raise ShapeError(f"batch_norm: input {x.shape}; expected (N, C) or (N, C, ...).")
    for name, value in (("weight", weight), ("bias", bias)):
        if value is not None and value.shape != (x.shape[1],):
            raise ShapeError(
                f"batch_norm: {name} of shape {value.shape} for input {x.shape}; expected ({x.shape[1]},)."
            )
