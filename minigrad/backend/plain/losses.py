"""Softmax-cross-entropy as array code, and the errors of labels that do not fit.

After this file you know the whole of it: the largest score is taken out before anything is exponentiated, and the
gradient is softmax minus the truth.
"""

from minigrad.backend.batched.indexing import read
from minigrad.backend.device import namespace
from minigrad.backend.sums import total, wide

__all__ = ["softmax_cross_entropy", "softmax_cross_entropy_backward"]


def softmax_cross_entropy(scores, target, label_smoothing, reduction, ignore_index):
    """(losses, probabilities, how many rows count) of scores (N, C) and a label for each row.

    The losses are those of the rows, or, by `reduction`, their "sum" or "mean". A row with the label `ignore_index` has
    none. The other two are for `softmax_cross_entropy_backward`, which the CUDA kernel hands other numbers.
    """
    xp, given, scores = namespace(scores, target), scores, wide(scores)
    counts, target = _counted(xp, target, ignore_index)
    shifted = scores - scores.max(axis=1, keepdims=True)
    powers = xp.exp(shifted)
    whole = total(powers, 1, True)
    chosen = read(shifted, (xp.arange(target.shape[0]), target))
    losses = xp.log(whole[:, 0]) - chosen
    if label_smoothing:
        evenly = xp.log(whole[:, 0]) - total(shifted, 1) / scores.shape[1]
        losses = (1 - label_smoothing) * losses + label_smoothing * evenly
    losses = losses if counts is None else xp.where(counts, losses, 0)
    amount = target.shape[0] if counts is None else counts.sum()
    if reduction != "none":
        losses = total(losses) / amount if reduction == "mean" else total(losses)
    same = given.dtype.kind != "f" or losses.dtype == given.dtype
    return losses if same else losses.astype(given.dtype), powers / whole, amount


def softmax_cross_entropy_backward(g, probabilities, amount, target, label_smoothing, reduction, ignore_index):
    """The gradient in the scores: softmax - truth, times g of each row, or of the sum or mean of all."""
    xp = namespace(g, probabilities, target)
    counts, target = _counted(xp, target, ignore_index)
    g = wide(g) / amount if reduction == "mean" else g
    g = g if reduction == "none" else xp.broadcast_to(g, target.shape)
    g = g if counts is None else xp.where(counts, g, 0)
    difference = probabilities * g[:, None]
    if label_smoothing:
        difference -= (label_smoothing / probabilities.shape[1]) * g[:, None]
    difference[xp.arange(target.shape[0]), target] -= (1 - label_smoothing) * g if label_smoothing else g
    return difference


def _counted(xp, target, ignore_index):
    """Which rows count, None where all do; and labels that can be an index for those that do not."""
    if ignore_index is None:
        return None, target
    counts = target != ignore_index
    return counts, xp.where(counts, target, 0)


def no_such_class(op, classes, ignore_index, label, _=0):
    """The error of a label that names no class."""
    ignored = "" if ignore_index is None else f" (and {ignore_index} to ignore)"
    return IndexError(
        f"{op}: label {label} for scores of {classes} classes; labels go from 0 to {classes - 1}{ignored}. "
        "Does the last layer have as many outputs as there are classes?"
    )


def nothing_to_average(op, *_):
    """The error of a mean over labels of which none counts."""
    return ValueError(
        f"{op}: nothing to average, as every label is ignored or has weight 0; "
        "leave such a batch out, or use reduction='sum'."
    )
