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
from minigrad.autograd.types import Axis, Operand, TensorLike
from minigrad.backend import kernels, namespace, total, wide
from minigrad.ops.arithmetic import where
from minigrad.ops.elementary import decay, exp, in_float32, log, log1p, sigmoid, sigmoid_slope
from minigrad.ops.indexing import check_range
from minigrad.ops.reductions import keep_axes, like, sum


@primitive(local="softmax(x)")
def logsumexp(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """log(sum(exp(x))) over `axis`, without overflow: the largest is taken out first. Of nothing it is -inf."""
    xp, scores = namespace(x), wide(x)
    if not x.size:
        return like(total(scores, axis, keepdims) - math.inf, x)
    largest = scores.max(axis=axis, keepdims=True)
    largest = xp.where(xp.isfinite(largest), largest, 0)
    out = xp.log(total(xp.exp(scores - largest), axis, True)) + largest
    return like(out if keepdims else out.reshape(x.max(axis=axis).shape), x)


def _share_of_sum(x, out, axis):
    if x.dtype == np.float16:  # whose steps near 16 are of 1.6 %: the exponent needs the unrounded value
        x = wide(x)
        out = logsumexp(x, axis=axis)
    whole = keep_axes(out, axis, x.shape)
    return exp(x - where(whole == -math.inf, 0, whole))


def _logsumexp_vjp(g, x, out, axis):
    return like(keep_axes(g, axis, x.shape) * _share_of_sum(x, out, axis), x)


def _logsumexp_jvp(t, x, out, axis, keepdims):
    return like(sum(t * _share_of_sum(x, out, axis), axis=axis, keepdims=keepdims), x)


logsumexp.defvjp(x=_logsumexp_vjp)
logsumexp.defjvp(x=_logsumexp_jvp)


@primitive(local="s (g - g.s)")
def softmax(x: TensorLike, axis: int | tuple[int, ...] = -1) -> Tensor:
    """exp(x) / sum(exp(x)) along `axis`; of integers in float64."""
    scores = wide(x)
    if not x.size:
        return like(scores - total(scores, axis, True), x)  # as empty; a wrong axis is an error here too
    powers = namespace(x).exp(scores - scores.max(axis=axis, keepdims=True))
    return like(powers / total(powers, axis, True), x)


def _softmax_rule(g, out, axis):  # the Jacobian diag(s) - s s' is symmetric: one rule for both directions
    g, s = wide(g), wide(out)
    return like(s * (g - sum(g * s, axis=axis, keepdims=True)), out)


softmax.defvjp(x=_softmax_rule)
softmax.defjvp(x=_softmax_rule)


@primitive(local="g - softmax(x) sum(g)")
def log_softmax(x: TensorLike, axis: int | tuple[int, ...] = -1) -> Tensor:
    """log(softmax(x)) along `axis`, without overflow or underflow; of integers in float64."""
    xp, scores = namespace(x), wide(x)
    if not x.size:
        return like(scores - total(scores, axis, True), x)  # as empty; a wrong axis is an error here too
    shifted = scores - scores.max(axis=axis, keepdims=True)
    return like(shifted - xp.log(total(xp.exp(shifted), axis, True)), x)


def _log_softmax_vjp(g, out, axis):
    g, s = wide(g), exp(wide(out))
    return like(g - s * sum(g, axis=axis, keepdims=True), out)


def _log_softmax_jvp(t, out, axis):
    t, s = wide(t), exp(wide(out))
    return like(t - sum(s * t, axis=axis, keepdims=True), out)


log_softmax.defvjp(x=_log_softmax_vjp)
log_softmax.defjvp(x=_log_softmax_jvp)


def _cross_entropy_composed(
    scores, target, *, label_smoothing: float = 0.0, reduction: str = "none", ignore_index: int | None = None
):
    """The composite reference: the same from single ops, differentiated when Tensors flow through the rule."""
    logarithms = log_softmax(scores, axis=1)
    counts = None if ignore_index is None else target != ignore_index
    labels = target if counts is None else where(counts, target, 0)
    losses = -logarithms[np.arange(target.shape[0]), labels]
    if label_smoothing:
        losses = (1 - label_smoothing) * losses - label_smoothing * logarithms.mean(axis=1)
    losses = losses if counts is None else where(counts, losses, 0)
    if reduction == "none":
        return losses
    amount = target.shape[0] if counts is None else counts.sum()
    return sum(losses) / amount if reduction == "mean" else sum(losses)


@primitive(
    symbol="cross-entropy",
    local="softmax(x) - truth",
    residuals=("probabilities", "amount"),
    reference=_cross_entropy_composed,
)
def softmax_cross_entropy(
    scores: TensorLike,
    target: TensorLike,
    *,
    label_smoothing: float = 0.0,
    reduction: str = "none",
    ignore_index: int | None = None,
) -> Tensor:
    """-log softmax(scores)[target], row by row: scores (N, C), target (N,) integers; result (N,).

    Parameters
    ----------
    scores : (N, C)
    target : (N,), integers
    label_smoothing : float
        The share of the truth that is spread evenly over all classes.
    reduction : {"none", "sum", "mean"}
        With "sum" or "mean" the result is a single number.
    ignore_index : int, optional
        Rows with this label have the loss 0, and the mean does not count them.
    """
    if scores.ndim != 2 or target.shape != scores.shape[:1] or target.dtype.kind not in "iu":
        raise ShapeError(
            f"softmax_cross_entropy: scores {scores.shape} and {target.dtype} targets {target.shape}; "
            "expected (N, classes) and (N,) integers."
        )
    if namespace(scores, target) is np and ignore_index is None:  # on a GPU the check would wait for the device
        check_range("softmax_cross_entropy", target, scores.shape[1], "class")
    return kernels(scores, target).softmax_cross_entropy(scores, target, label_smoothing, reduction, ignore_index)


def _softmax_minus_truth(g, probabilities, amount, target, label_smoothing, reduction, ignore_index):
    backward = kernels(g, probabilities, target).softmax_cross_entropy_backward
    return backward(g, probabilities, amount, target, label_smoothing, reduction, ignore_index), None


softmax_cross_entropy.defvjp_fused(_softmax_minus_truth)


# --- two classes, elementwise ---


def _real(x):
    """Integers and bools as float64: 1 - t of unsigned ones would wrap around."""
    return wide(x) if hasattr(x, "dtype") and x.dtype.kind in "iub" else x


@primitive(symbol="log-loss", local="(p-t)/(p (1-p)), log((1-p)/p)", kind="elementwise")
@in_float32
def log_loss(p: Operand, t: Operand) -> Tensor:
    """-(t log(p) + (1 - t) log(1 - p)), the cross-entropy of a probability p against t; elementwise, broadcasts."""
    xp, p, t = namespace(p, t), _real(p), _real(t)
    return -(t * xp.log(p) + (1 - t) * xp.log1p(-p))


@primitive(symbol="log-loss'", local="t/p^2+(1-t)/(1-p)^2, -1/(p (1-p))", kind="elementwise")
@in_float32
def _log_loss_slope(p: Operand, t: Operand) -> Tensor:
    """(p - t) / (p (1 - p)), where (1 - t)/(1 - p) - t/p would cancel for p near t."""
    return (p - t) / p / (1 - p)


log_loss.defvjp(p=lambda g, p, t: g * _log_loss_slope(p, t), t=lambda g, p: g * (log1p(-p) - log(p)))
_log_loss_slope.defvjp(p=lambda g, p, t: g * (t / p / p + (1 - t) / (1 - p) / (1 - p)), t=lambda g, p: -g / p / (1 - p))


@primitive(symbol="logistic", local="s(x)-t, -x", kind="elementwise")
@in_float32
def logistic_loss(x: Operand, t: Operand) -> Tensor:
    """The `log_loss` of the probability sigmoid(x) against t, from the score x: softplus(x) - t x.

    Computed as max(x, 0) - t x + log(1 + e^-|x|), in which nothing cancels for t from 0 to 1.
    """
    xp, x, t = namespace(x, t), _real(x), _real(t)
    return ((x > 0) - t) * x + xp.log1p(decay(x))


@primitive(symbol="s(x)-t", local="s(x) s(-x), -1", kind="elementwise")
@in_float32
def _logistic_residual(x: Operand, t: Operand) -> Tensor:
    """s(x) - t as (1 - t) s(x) - t s(-x): for t = 1 that is -s(-x), where s(x) has long rounded to 1."""
    return (1 - t) * sigmoid(x) - t * sigmoid(-x)


logistic_loss.defvjp(x=lambda g, x, t: g * _logistic_residual(x, t), t=lambda g, x: -g * x)
_logistic_residual.defvjp(x=lambda g, x: g * sigmoid_slope(x), t=lambda g: -g)
