"""Softmax, its logarithm, and cross-entropy: what turns scores into probabilities and probabilities into a loss.

After this file you know why the three are ops of their own and not compositions: the largest score is taken out before
anything is exponentiated, and the gradient of cross-entropy is simply softmax minus the truth.
"""

from __future__ import annotations

import math

import numpy as np

from minigrad.autograd.errors import ShapeError
from minigrad.autograd.primitive import primitive
from minigrad.autograd.tensor import Tensor
from minigrad.autograd.types import Axis, TensorLike
from minigrad.backend import namespace, read
from minigrad.ops.arithmetic import where
from minigrad.ops.elementary import exp
from minigrad.ops.indexing import check_range
from minigrad.ops.reductions import keep_axes, sum


@primitive(local="softmax(x)")
def logsumexp(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """log(sum(exp(x))) over `axis`, without overflow: the largest value is taken out first."""
    xp = namespace(x)
    largest = x.max(axis=axis, keepdims=True)
    largest = xp.where(xp.isfinite(largest), largest, 0)
    out = xp.log(xp.exp(x - largest).sum(axis=axis, keepdims=True)) + largest
    return out if keepdims else out.reshape(x.max(axis=axis).shape)


def _share_of_sum(x, out, axis):
    whole = keep_axes(out, axis, x.shape)
    return exp(x - where(whole == -math.inf, 0, whole))


logsumexp.defvjp(x=lambda g, x, out, axis: keep_axes(g, axis, x.shape) * _share_of_sum(x, out, axis))
logsumexp.defjvp(x=lambda t, x, out, axis, keepdims: sum(t * _share_of_sum(x, out, axis), axis=axis, keepdims=keepdims))


@primitive(local="s (g - g.s)")
def softmax(x: TensorLike, axis: int | tuple[int, ...] = -1) -> Tensor:
    """exp(x) / sum(exp(x)) along `axis`."""
    powers = namespace(x).exp(x - x.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


def _softmax_rule(g, out, axis):  # the Jacobian diag(s) - s s' is symmetric: one rule for both directions
    return out * (g - sum(g * out, axis=axis, keepdims=True))


softmax.defvjp(x=_softmax_rule)
softmax.defjvp(x=_softmax_rule)


@primitive(local="g - softmax(x) sum(g)")
def log_softmax(x: TensorLike, axis: int | tuple[int, ...] = -1) -> Tensor:
    """log(softmax(x)) along `axis`, without overflow or underflow."""
    xp = namespace(x)
    shifted = x - x.max(axis=axis, keepdims=True)
    return shifted - xp.log(xp.exp(shifted).sum(axis=axis, keepdims=True))


log_softmax.defvjp(x=lambda g, out, axis: g - exp(out) * sum(g, axis=axis, keepdims=True))
log_softmax.defjvp(x=lambda t, out, axis: t - sum(exp(out) * t, axis=axis, keepdims=True))


def _cross_entropy_composed(scores, target):
    """The composite reference: the same from single ops, differentiated when Tensors flow through the rule."""
    return -log_softmax(scores, axis=1)[np.arange(target.shape[0]), target]


@primitive(
    symbol="cross-entropy", local="softmax(x) - truth", residuals=("probabilities",), reference=_cross_entropy_composed
)
def softmax_cross_entropy(scores: TensorLike, target: TensorLike) -> Tensor:
    """-log softmax(scores)[target], row by row: scores (N, C), target (N,) integers; result (N,)."""
    if scores.ndim != 2 or target.shape != scores.shape[:1] or target.dtype.kind not in "iu":
        raise ShapeError(
            f"softmax_cross_entropy: scores {scores.shape} and {target.dtype} targets {target.shape}; "
            "expected (N, classes) and (N,) integers."
        )
    xp = namespace(scores, target)
    if xp is np:  # on a GPU the check would wait for the device
        check_range("softmax_cross_entropy", target, scores.shape[1], "class")
    shifted = scores - scores.max(axis=1, keepdims=True)
    powers = xp.exp(shifted)
    total = powers.sum(axis=1, keepdims=True)
    chosen = read(shifted, (xp.arange(target.shape[0]), target))
    return xp.log(total[:, 0]) - chosen, powers / total  # type: ignore[return-value]  # the second is a residual


def _softmax_minus_truth(g, probabilities, target):
    difference = probabilities * g[:, None]
    difference[namespace(g).arange(len(target)), target] -= g
    return difference, None


softmax_cross_entropy.defvjp_fused(_softmax_minus_truth)
