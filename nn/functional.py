"""Losses and layers as functions, without state: PyTorch's `torch.nn.functional` in small.

After this file you know each loss as the one or two lines of mathematics that it is, and the care around them: targets
are checked against the scores, logarithms are taken so that nothing overflows, and means divide by the sum of the
weights.
Most stateless layers are minigrad's ops under their own names, and only re-exported here.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

import minigrad as mg
from minigrad import (
    ShapeError,
    Tensor,
    adaptive_avg_pool2d,
    avg_pool2d,
    conv1d,
    conv2d,
    conv_transpose2d,
    elu,
    embedding,
    gelu,
    leaky_relu,
    linear,
    max_pool2d,
    one_hot,
    sigmoid,
    silu,
    softmax_cross_entropy,
    tanh,
)

from .argument_checks import (
    REDUCTIONS,
    Labels,
    check_ignore_index,
    check_labels,
    check_number,
    check_probability,
    check_smoothing,
    class_weight,
    reduce,
    rounded_once,
    same_shape,
    scores_and_labels,
    weighed,
)

__all__ = [
    "adaptive_avg_pool2d",
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "conv1d",
    "conv2d",
    "conv_transpose2d",
    "cross_entropy",
    "dropout",
    "dropout1d",
    "dropout2d",
    "elu",
    "embedding",
    "gelu",
    "huber_loss",
    "l1_loss",
    "leaky_relu",
    "linear",
    "log_softmax",
    "max_pool2d",
    "mse_loss",
    "multi_margin_loss",
    "nll_loss",
    "one_hot",
    "relu",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "softmax",
    "softplus",
    "stochastic_depth",
    "tanh",
]


def __dir__() -> list[str]:
    return sorted(__all__)


explained, deferred = mg.autograd.explained, mg.ops.deferred


# --- layers ---


@explained
def relu(x: Tensor) -> Tensor:
    """max(x, 0), elementwise; slope 0 at 0."""
    return mg.relu(x)


@explained
def dropout(x: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Each element zero with probability p, the others divided by 1 - p; x itself outside of training."""
    return mg.dropout(x, p, training)


@explained
def softmax(x: Tensor, dim: int) -> Tensor:
    """Probabilities along `dim`."""
    return mg.softmax(x, axis=dim)


@explained
def log_softmax(x: Tensor, dim: int) -> Tensor:
    """Logarithms of the softmax along `dim`."""
    return mg.log_softmax(x, axis=dim)


@explained
def softplus(x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta x)) / beta; x itself where beta x > threshold."""
    check_number("softplus", "threshold", threshold)
    if not beta > 0:
        raise ValueError(f"softplus: beta={beta}; expected a positive number.")
    smooth = mg.softplus(x, beta=beta)
    if threshold >= 20:  # from there on the two differ by less than exp(-20), and the smooth one is right
        return smooth
    return mg.where(x * beta > threshold, x, smooth)


@explained
def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Each channel of x (N, C, ...) normalised, in training by the batch's statistics, else by the running ones.

    In training the running statistics, where given, move a fraction `momentum` towards the batch's, in place; the
    variance they see is the unbiased one (Ioffe & Szegedy 2015, algorithm 2).
    """
    check_number("batch_norm", "momentum", momentum, 0, 1)
    if not training:
        if running_mean is None or running_var is None:
            raise TypeError("batch_norm: training=False needs running_mean and running_var; got None.")
        return mg.batch_norm_inference(x, running_mean, running_var, weight, bias, eps)
    return batch_norm_in_training(x, running_mean, running_var, weight, bias, momentum, eps)


def batch_norm_in_training(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float | None,
    eps: float,
    batches: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    """Each channel of x normalised by the batch's statistics, towards which the running ones, where given, move.

    `batches`, on a GPU, is a counter that is moved there too, and `relu` puts a ReLU behind it, in the same launches.
    """
    normalize = mg.batch_norm_relu if relu else mg.batch_norm
    if running_mean is None or running_var is None:
        return normalize(x, weight, bias, eps)
    if mg.transforms.is_recomputing():  # a checkpoint's second run; the first one has counted this batch
        return normalize(x, weight, bias, eps)
    if mg.transforms.all_examples(x).ndim > x.ndim:
        raise ValueError(
            "batch_norm: inside vmap each example would move the running statistics, which all share; "
            "call model.eval() first, or use layers with track_running_stats=False."
        )
    number = x.size // (x.shape[1] or 1)
    counter = None if batches is None else batches.data
    moving = mg.ops.normalization.RunningStatistics(running_mean.data, running_var.data, number, momentum, counter)
    y = normalize(x, weight, bias, eps, moving)
    for moved in (running_mean, running_var, *([] if batches is None else [batches])):
        moved.touch()
    return y


# --- dropout ---


@explained
def dropout1d(x: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Whole channels of x (N, C, L) or (C, L) zero with probability p, the others divided by 1 - p. See `Dropout2d`."""
    return _drop_channels("dropout1d", x, p, training, spatial=1, ranks={3: "(N, C, L)", 2: "(C, L)"})


@explained
def dropout2d(x: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Whole channels of x (N, C, H, W) zero with probability p, the others divided by 1 - p. See `Dropout2d`."""
    return _drop_channels("dropout2d", x, p, training, spatial=2, ranks={4: "(N, C, H, W)"})


def _drop_channels(op: str, x: Tensor, p: float, training: bool, spatial: int, ranks: dict[int, str]) -> Tensor:
    check_probability(op, p)
    if x.ndim not in ranks:
        raise ShapeError(f"{op}: got shape {x.shape}; expected {' or '.join(ranks.values())}.")
    if not training or p == 0:
        return x
    return x * _mask(x, p, x.ndim - spatial)


@explained
def stochastic_depth(x: Tensor, p: float, mode: str = "row", training: bool = True) -> Tensor:
    """x zero with probability p, else divided by 1 - p: all of it (mode "batch"), or each row by itself ("row").

    Arguments and meaning are torchvision's. See `StochasticDepth`.
    """
    check_probability("stochastic_depth", p)
    if mode not in ("batch", "row"):
        raise ValueError(f"stochastic_depth: mode={mode!r}; expected 'batch' or 'row'.")
    if not training or p == 0:
        return x
    if mode == "row" and not x.ndim:
        raise ShapeError("stochastic_depth: got a single number; mode 'row' needs rows, an axis of samples.")
    return x * _mask(x, p, 1 if mode == "row" else 0)


def _mask(x: Tensor, p: float, axes: int) -> Tensor:
    """Dropout's factors along the first `axes` axes of x, the same along the others."""
    first = mg.as_tensor(x).detach()[
        (slice(None),) * axes + (slice(1),) * (x.ndim - axes)
    ]  # of x, so that a vmap is seen
    return mg.dropout_mask(first, p)


# --- losses between numbers ---


@explained
@rounded_once
def mse_loss(input: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """(input - target)^2, elementwise."""
    input, target = same_shape("mse_loss", input, target)
    return reduce("mse_loss", mg.square(input - target), reduction)


@explained
@rounded_once
def l1_loss(input: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """|input - target|, elementwise."""
    input, target = same_shape("l1_loss", input, target)
    return reduce("l1_loss", mg.abs(input - target), reduction)


@explained
@rounded_once
def huber_loss(input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """d^2 / 2 where d = |input - target| is at most delta, delta (d - delta / 2) beyond (Huber 1964)."""
    if not delta > 0:
        raise ValueError(f"huber_loss: delta={delta}; expected a positive number.")
    input, target = same_shape("huber_loss", input, target)
    return reduce("huber_loss", _huber(input - target, delta), reduction)


@explained
@rounded_once
def smooth_l1_loss(input: Tensor, target: Tensor, *, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """The Huber loss over its delta, here `beta`: slope 1 far out; |input - target| for 0 (Girshick 2015, eq. 3)."""
    if not beta >= 0:
        raise ValueError(f"smooth_l1_loss: beta={beta}; expected at least 0.")
    if beta == 0:
        return l1_loss(input, target, reduction=reduction)
    input, target = same_shape("smooth_l1_loss", input, target)
    return reduce("smooth_l1_loss", _huber(input - target, beta, unit=beta), reduction)


def _huber(difference: Tensor, delta: float, unit: float = 1.0) -> Tensor:
    """The Huber loss over `unit`."""
    distance = mg.abs(difference)
    near = mg.clip(distance, high=delta)
    return (near if unit == 1 else near / unit) * (distance - 0.5 * near)


# --- losses between probabilities of two classes ---


@explained
def binary_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, *, reduction: str = "mean"
) -> Tensor:
    """-(t log(p) + (1 - t) log(1 - p)), elementwise; logarithms end at -100, slopes at 1e12, as in PyTorch.

    Raises ValueError for a probability outside of [0, 1]. From scores, `binary_cross_entropy_with_logits` is exact.
    """
    op = "binary_cross_entropy"
    p, t = same_shape(op, input, target)
    edge = 2e-5 if p.dtype == np.float16 else 1e-12  # float16 has no larger slope than 65504
    inside = [_are_probabilities(op, what, values, edge) for what, values in (("input", p), ("target", t))]
    losses = mg.log_loss(p, t) if inside[0] else _bounded_cross_entropy(p, t, edge)
    return reduce(op, weighed(op, losses, weight), reduction)


def _are_probabilities(op: str, what: str, p: Tensor, edge: float) -> bool:
    """Whether all are known to be farther than `edge` from 0 and 1. ValueError for one outside of [0, 1].

    A GPU is not waited for: nothing is known then, and the error is raised when the host next reads from the device.
    """
    if not p.size:
        return True
    values = mg.transforms.all_examples(p)
    lowest, highest = values.min(), values.max()
    if p.device != "cpu":
        bits = [x.astype(np.float64).reshape(1).view(np.int64)[0] for x in (lowest, highest)]
        outside = ~((lowest >= 0) & (highest <= 1))
        deferred.raise_later(outside, _no_probabilities_in_bits, op, what, first=bits[0], second=bits[1])
        return False
    if not (lowest >= 0 and highest <= 1):
        raise _no_probabilities(op, what, float(lowest), float(highest))
    return bool(lowest > 2 * edge and highest < 1 - 2 * edge)


def _no_probabilities(op: str, what: str, lowest: float, highest: float) -> ValueError:
    return ValueError(
        f"{op}: the {what} goes from {lowest:.6g} to {highest:.6g}; probabilities lie between 0 and 1. "
        "For raw scores use binary_cross_entropy_with_logits."
    )


def _no_probabilities_in_bits(op: str, what: str, lowest: int, highest: int) -> ValueError:
    """The error for two numbers that come as the bits of their float64."""
    return _no_probabilities(op, what, *np.array([lowest, highest]).view(np.float64).tolist())


def _bounded_cross_entropy(p: Tensor, t: Tensor, edge: float) -> Tensor:
    """For probabilities that may be 0 or 1: where p (1 - p) < edge, a line with PyTorch's value and slope."""
    fixed = p.detach()
    at_an_end = fixed * (1 - fixed) < edge
    inside = mg.where(at_an_end, 0.5, p)
    losses = mg.log_loss(inside, t)
    value = -(t * _bounded(mg.log, fixed, fixed == 0) + (1 - t) * _bounded(mg.log1p, -fixed, fixed == 1))
    slope = (fixed - t) / edge
    return mg.where(at_an_end, value + (p - fixed) * slope, losses)


def _bounded(logarithm: Callable[[Tensor], Tensor], x: Tensor, is_infinite: Tensor) -> Tensor:
    return mg.where(is_infinite, -100, mg.clip(logarithm(mg.where(is_infinite, 0.5, x)), low=-100.0))


@explained
@rounded_once
def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """Binary cross-entropy of sigmoid(x) against t, elementwise, from the scores x: softplus(x) - t x.

    Nothing overflows or cancels. `pos_weight` weighs the positive class: (1-t) softplus(x) + pos_weight t softplus(-x).
    """
    op = "binary_cross_entropy_with_logits"
    x, t = same_shape(op, input, target)
    if pos_weight is None:
        losses = mg.logistic_loss(x, t)
    else:
        losses = (1 - t) * mg.softplus(x) + weighed(op, t, pos_weight) * mg.softplus(-x)
    return reduce(op, weighed(op, losses, weight), reduction)


# --- losses between scores and classes ---


@explained
def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-log softmax(input)[target]; shapes, options and errors as for `CrossEntropyLoss`."""
    op = "cross_entropy"
    check_ignore_index(op, ignore_index)
    if label_smoothing:
        check_smoothing(op, label_smoothing)
    target = mg.as_tensor(target)
    if target.dtype.kind == "f" and target.shape == input.shape:
        return _against_probabilities(op, input, target, weight, ignore_index, reduction, label_smoothing)
    scores, labels, shape = scores_and_labels(op, input, target)
    if weight is None and labels.size and reduction in REDUCTIONS and _lie_on_a_gpu(scores, labels):
        losses = softmax_cross_entropy(
            scores, labels, label_smoothing=label_smoothing, reduction=reduction, ignore_index=ignore_index
        )
        return _shaped(losses, shape) if reduction == "none" else losses
    return _against_labels(scores, labels, weight, shape, ignore_index, reduction, label_smoothing)


def _lie_on_a_gpu(*tensors: Tensor) -> bool:
    """Whether these are arrays of a GPU, and not the batched ones of `vmap`, which kernels would have to take apart."""
    arrays = [(t.device, t.data, mg.transforms.all_examples(t)) for t in tensors]
    return all(device != "cpu" and data is whole for device, data, whole in arrays)


@rounded_once
def _against_labels(
    scores: Tensor,
    labels: Tensor,
    weight: ArrayLike | None,
    shape: tuple[int, ...],
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> Tensor:
    """Cross-entropy of scores (M, C) with labels (M,), composed of ops; `shape` is that of the losses."""
    op = "cross_entropy"
    checked = check_labels(op, labels, scores.shape[1], ignore_index)
    weight = None if weight is None else class_weight(op, weight, scores, 1)
    losses = softmax_cross_entropy(scores, checked.index)
    losses = losses if weight is None else losses * weight[checked.index]
    if label_smoothing:
        evenly = -mg.log_softmax(scores, axis=1)
        evenly = (evenly if weight is None else evenly * weight).mean(axis=1)
        losses = (1 - label_smoothing) * losses + label_smoothing * evenly
    return _average(op, losses, checked, weight, shape, reduction)


@rounded_once
def _against_probabilities(
    op: str,
    input: Tensor,
    target: Tensor,
    weight: ArrayLike | None,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> Tensor:
    """Cross-entropy with a whole distribution as the target of each row of scores."""
    if ignore_index >= 0 or not input.ndim:
        raise ValueError(
            f"{op}: probability targets of shape {target.shape} with ignore_index={ignore_index}; ignore_index is for "
            "class labels, and scores need an axis of classes."
        )
    axis = 1 if input.ndim > 1 else 0
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / input.shape[axis]
    if weight is not None:
        target = target * class_weight(op, weight, input, axis).reshape((-1,) + (1,) * (input.ndim - axis - 1))
    logarithms = mg.log_softmax(input, axis=axis)
    impossible = (target == 0) & (logarithms == -np.inf)  # a class of probability 0 that must not occur: 0 log(0) = 0
    return reduce(op, -(target * mg.where(impossible, 0, logarithms)).sum(axis=axis), reduction)


@explained
@rounded_once
def nll_loss(
    input: Tensor, target: Tensor, weight: Tensor | None = None, *, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """-input[target] of log-probabilities; shapes, options and errors as for `NLLLoss`.

    Warns of values above 0, which are no logarithms of probabilities (on a CPU; a GPU would have to be waited for).
    """
    op = "nll_loss"
    check_ignore_index(op, ignore_index)
    scores, labels, shape = scores_and_labels(op, input, target)
    _expect_log_probabilities(op, scores)
    checked = check_labels(op, labels, scores.shape[1], ignore_index)
    losses = -_chosen(scores, checked.index)
    if weight is not None:
        weight = class_weight(op, weight, scores, 1)
        losses = losses * weight[checked.index]
    return _average(op, losses, checked, weight, shape, reduction)


def _expect_log_probabilities(op: str, scores: Tensor) -> None:
    if scores.device == "cpu" and (mg.transforms.all_examples(scores) > 0.01).any():
        warnings.warn(
            f"{op}: some values are above 0, and log-probabilities are not. Give it log_softmax(scores), or give the "
            "scores themselves to cross_entropy.",
            stacklevel=5,  # past `rounded_once` and `explained`
        )


@explained
@rounded_once
def multi_margin_loss(
    input: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    *,
    reduction: str = "mean",
) -> Tensor:
    """The multiclass hinge loss; shapes, options and errors as for `MultiMarginLoss`."""
    op = "multi_margin_loss"
    if p not in (1, 2):
        raise ValueError(f"{op}: p={p}; expected 1 or 2.")
    check_number(op, "margin", margin)
    scores, labels, shape = scores_and_labels(op, input, target)
    if input.ndim > 2:
        raise ShapeError(f"{op}: scores {input.shape}; expected (N, C) or (C,).")
    classes = scores.shape[1]
    checked = check_labels(op, labels, classes, None)
    labels = checked.index
    others = labels.reshape((-1, 1)) != mg.arange(classes, device=labels.device)
    excess = mg.where(others, mg.relu(margin - _chosen(scores, labels).reshape((-1, 1)) + scores), 0)
    losses = (excess if p == 1 else mg.square(excess)).mean(axis=1)
    losses = losses if weight is None else losses * class_weight(op, weight, scores, 1)[labels]
    return reduce(op, _shaped(checked.applied(losses), shape), reduction)


def _chosen(scores: Tensor, labels: Tensor) -> Tensor:
    """The score of each row's label."""
    return scores[mg.arange(scores.shape[0], device=scores.device), labels]


def _shaped(losses: Tensor, shape: tuple[int, ...]) -> Tensor:
    return losses if losses.shape == shape else losses.reshape(shape)


def _average(
    op: str, losses: Tensor, labels: Labels, weight: Tensor | None, shape: tuple[int, ...], reduction: str
) -> Tensor:
    """Reduce losses of which only some count: 'mean' divides by the sum of the weights of those."""
    losses, counts = labels.applied(losses), labels.counts
    if reduction != "mean" or (counts is None and weight is None) or not losses.size:
        return reduce(op, _shaped(losses, shape), reduction)
    share = mg.ones_like(losses.detach()) if weight is None else weight[labels.index]
    total = (share if counts is None else mg.where(counts, share, 0)).sum()
    every = mg.transforms.all_examples(total)
    if total.device != "cpu":
        deferred.raise_later((every == 0).any(), deferred.nothing_to_average, op)
    elif not every.all():
        raise deferred.nothing_to_average(op)
    return losses.sum() / total
