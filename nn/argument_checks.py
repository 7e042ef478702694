"""Checks of what layers and losses are given, with errors that say what does not fit.

Labels are checked at little cost: read as unsigned integers, negative labels are huge, so that one maximum tells
whether every label names a class.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec

import numpy as np
from numpy.typing import ArrayLike

import minigrad as mg
from minigrad import ShapeError, Tensor

P = ParamSpec("P")
REDUCTIONS = ("mean", "sum", "none")
UNSIGNED = {np.dtype(f"{sign}{size}"): np.dtype(f"u{size}") for sign in "iu" for size in (1, 2, 4, 8)}


# --- layers ---


def expect_floats(layer: object, x: Tensor, weight: Tensor) -> None:
    """Raise TypeError unless x has the dtype of the layer's weight: NumPy would silently widen the whole network."""
    if not hasattr(x, "dtype"):
        raise TypeError(
            f"{type(layer).__name__}: expected a Tensor, got a {type(x).__name__}; make one with minigrad.tensor(...)."
        )
    if mg.ops.autocasting.is_on() and x.dtype.kind == "f":
        return  # the layer's op casts what it is given
    if x.dtype != weight.dtype:
        other = f" or model.to({str(x.dtype)!r})" if x.dtype.kind == "f" else ""
        raise TypeError(
            f"{type(layer).__name__}: the input is {x.dtype}, the weights are {weight.dtype}; "
            f"convert {'one' if other else 'the input'}, as in x.astype({str(weight.dtype)!r}){other}."
        )


def positive(layer: object, **sizes: object) -> None:
    """Raise ValueError for a size that is not an integer of at least 1."""
    for name, size in sizes.items():
        if not isinstance(size, (int, np.integer)) or isinstance(size, bool) or size < 1:
            raise ValueError(f"{type(layer).__name__}: {name}={size!r}; expected an integer of at least 1.")


def check_number(owner: str, name: str, value: object, low: float = -math.inf, high: float = math.inf) -> None:
    """Raise unless `value` is a number from `low` to `high`, and not NaN."""
    if not isinstance(value, (int, float, np.integer, np.floating)) or isinstance(value, bool):
        raise TypeError(f"{owner}: {name}={value!r}; expected a number.")
    if not low <= value <= high:
        bounds = (
            "" if low == -math.inf else f" of at least {low:g}" if high == math.inf else f" from {low:g} to {high:g}"
        )
        raise ValueError(f"{owner}: {name}={value}; expected a number{bounds}.")


def sizes(owner: object, name: str, value: object, axes: int, at_least: int) -> tuple[int, ...]:
    """An integer for each of the axes, given as one for all or one for each; ValueError for others."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    values = values * axes if len(values) == 1 else values
    whole = all(isinstance(v, (int, np.integer)) and not isinstance(v, bool) and v >= at_least for v in values)
    if len(values) != axes or not whole:
        many = "" if axes == 1 else f", or {axes} of them"
        raise ValueError(f"{type(owner).__name__}: {name}={value!r}; expected an integer of at least {at_least}{many}.")
    return tuple(map(int, values))


def check_windows(layer: object, kernel_size: object, stride: object, padding: object, dilation: object = 1) -> None:
    """Raise ValueError unless integers say where the windows are; a stride of None is the kernel's."""
    sizes(layer, "kernel_size", kernel_size, 2, 1)
    sizes(layer, "stride", kernel_size if stride is None or stride == () else stride, 2, 1)
    sizes(layer, "padding", padding, 2, 0)
    sizes(layer, "dilation", dilation, 2, 1)


def check_probability(owner: str, p: float) -> None:
    """Raise ValueError for a probability of dropping outside of [0, 1], TypeError for what is no number."""
    if isinstance(p, bool) or not isinstance(p, (int, float, np.integer, np.floating)):
        raise TypeError(f"{owner}: p must be a number, got {p!r}.")
    if not 0 <= p <= 1:
        raise ValueError(f"{owner}: p={p}; the probability of dropping lies between 0 and 1.")


# --- losses ---


def rounded_once(loss: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """A loss that computes with float32 where its input is float16, and rounds the result to float16.

    Under `autocast` it stays float32: a scaled loss would overflow.
    """

    @wraps(loss)
    def run(*args: P.args, **options: P.kwargs) -> Tensor:
        given = args[0] if args else options.get("input")
        if getattr(given, "dtype", None) != np.float16:
            return loss(*args, **options)
        wide: Any = [_in_float32(arg) for arg in args]
        named: Any = {name: _in_float32(option) for name, option in options.items()}
        result = loss(*wide, **named)
        return result if mg.ops.autocasting.is_on() else result.astype(np.float16)

    return run


def _in_float32(value: Any) -> Any:
    return value.astype(np.float32) if getattr(value, "dtype", None) == np.float16 else value


def check_reduction(op: str, reduction: str) -> None:
    """Raise ValueError for a reduction that is not 'mean', 'sum' or 'none'."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"{op}: reduction={reduction!r}; expected 'mean', 'sum' or 'none'.")


def reduce(op: str, losses: Tensor, reduction: str) -> Tensor:
    """The losses themselves, their sum or their mean. The mean of an empty batch is an error."""
    if reduction == "mean":
        if not losses.size:
            raise ValueError(f"{op}: an empty batch has no mean loss; leave it out, or use reduction='sum'.")
        return losses.mean()
    check_reduction(op, reduction)
    return losses.sum() if reduction == "sum" else losses


def same_shape(op: str, input: ArrayLike, target: ArrayLike) -> tuple[Tensor, Tensor]:
    """Both as Tensors of one shape and of floats: integers become floats like the other side, two of them float64."""
    input, target = mg.as_tensor(input), mg.as_tensor(target)
    if input.shape != target.shape:
        raise ShapeError(
            f"{op}: input {input.shape} and target {target.shape} must have the same shape; broadcasting would compare "
            "elements that do not belong together. Use reshape, squeeze or unsqueeze."
        )
    if input.dtype.kind != "f":
        input = input.astype(target.dtype if target.dtype.kind == "f" else np.float64)
    return input, target if target.dtype.kind == "f" else target.astype(input.dtype)


def weighed(op: str, losses: Tensor, weight: ArrayLike | None) -> Tensor:
    """The losses times a weight that broadcasts to their shape; unchanged where the weight is None."""
    if weight is None:
        return losses
    weight = as_weight(weight, losses)
    try:
        fits = np.broadcast_shapes(losses.shape, weight.shape) == losses.shape
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(f"{op}: a weight of shape {weight.shape} does not broadcast to the losses' {losses.shape}.")
    return losses * weight


def as_weight(weight: ArrayLike, like: Tensor) -> Tensor:
    """A weight as a Tensor of the dtype of `like`."""
    weight = mg.as_tensor(weight)
    return weight if weight.dtype == like.dtype else weight.astype(like.dtype)


def class_weight(op: str, weight: ArrayLike, scores: Tensor, axis: int) -> Tensor:
    """A weight for each class of the scores, whose classes lie along `axis`."""
    weight = as_weight(weight, scores)
    if weight.shape != (scores.shape[axis],):
        raise ShapeError(
            f"{op}: a class weight of shape {weight.shape} for scores {scores.shape}; "
            f"expected ({scores.shape[axis]},), one for each class."
        )
    return weight


def scores_and_labels(op: str, input: ArrayLike, target: ArrayLike) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """Scores (N, C, d...) and labels (N, d...) as rows (M, C) and (M,), and the shape that the losses have.

    Scores (C,) with a single label are one row.
    """
    input, target = mg.as_tensor(input), mg.as_tensor(target)
    if input.dtype.kind != "f":
        raise TypeError(
            f"{op}: the scores are {input.dtype}; expected floating-point numbers, as in scores.astype('float32')."
        )
    if target.dtype not in UNSIGNED:
        raise TypeError(
            f"{op}: {target.dtype} targets of shape {target.shape} for scores {input.shape}. Class labels must be "
            'integers, as in labels.astype("int64").'
        )
    expected = (*input.shape[:1], *input.shape[2:]) if input.ndim > 1 else ()
    if not input.ndim or target.shape != expected:
        raise ShapeError(
            f"{op}: scores {input.shape} and labels {target.shape}; expected (N, C) and (N,), or (N, C, d...) and "
            "(N, d...), or (C,) and a single label. One-hot labels become numbers with labels.argmax(axis=1)."
        )
    if input.ndim == 2:
        return input, target, expected
    classes = input.shape[1 if input.ndim > 1 else 0]
    rows = input if input.ndim == 1 else mg.moveaxis(input, 1, -1)
    return rows.reshape((-1, classes) if input.size else (target.size, classes)), target.reshape((-1,)), expected


@dataclass(frozen=True)
class Labels:
    """Labels that were checked.

    Attributes
    ----------
    index : Tensor
        Integers that name a class, each, so that scores can be read there; 0 where the label names none.
    counts : Tensor or None
        One bool a label, False where it is to be ignored. None where every label counts.
    wrong : Tensor or None
        One bool a label, True where it should name a class and does not, so that the loss is NaN. On a CPU always None:
        a wrong label is an error there.
    """

    index: Tensor
    counts: Tensor | None
    wrong: Tensor | None

    def applied(self, losses: Tensor) -> Tensor:
        """The losses, with 0 for labels that do not count and NaN for those that are wrong."""
        losses = losses if self.wrong is None else mg.where(self.wrong, math.nan, losses)
        return losses if self.counts is None else mg.where(self.counts, losses, 0)


def check_labels(op: str, labels: Tensor, classes: int, ignore_index: int | None) -> Labels:
    """The labels as an index, and which of them count.

    Raises IndexError for a label that names no class. A GPU is not waited for: there such a label is noted as a fault,
    and the error is raised when the host next reads from the device.
    """
    if labels.device != "cpu":
        return _checked_on_the_device(op, labels, classes, ignore_index)
    data = mg.transforms.all_examples(labels)
    if not data.size:
        return Labels(labels, None, None)
    positive = np.iinfo(data.dtype).max + 1  # in the unsigned view the negative labels begin here
    in_range = int(data.view(UNSIGNED[data.dtype]).max()) < min(classes, positive)
    if in_range and (ignore_index is None or not 0 <= ignore_index < classes):
        return Labels(labels, None, None)
    data = _in_64_bits(data)
    counted = data == data if ignore_index is None else data != ignore_index
    wrong = data[counted & ((data < 0) | (data >= classes))]
    if wrong.size:
        raise mg.ops.deferred.no_such_class(op, classes, ignore_index, int(wrong[0]))
    if bool(counted.all()):
        return Labels(labels, None, None)
    counts = _in_64_bits(labels) != ignore_index
    return Labels(mg.where(counts, labels, 0), counts, None)


def _checked_on_the_device(op: str, labels: Tensor, classes: int, ignore_index: int | None) -> Labels:
    labels = _in_64_bits(labels)
    wrong = (labels < 0) | (labels >= classes)
    counts = None if ignore_index is None else labels != ignore_index
    wrong = wrong if counts is None else wrong & counts
    every, data = mg.transforms.all_examples(wrong), mg.transforms.all_examples(labels)
    if every.size:
        first = every.reshape(-1).argmax()  # of the first that is wrong
        error = mg.ops.deferred.no_such_class
        label = data.reshape(-1)[first]
        mg.ops.deferred.raise_later(every.any(), error, op, classes, ignore_index, first=label)
    is_class = (labels >= 0) & (labels < classes)
    is_class = is_class if counts is None else is_class & counts
    return Labels(mg.where(is_class, labels, 0), counts, wrong)


def _in_64_bits(labels: Any) -> Any:
    """Labels beside which the number of classes and `ignore_index` can stand: 300 has no place beside an int8."""
    return labels if labels.dtype.itemsize == 8 else labels.astype(np.int64)


def check_ignore_index(op: str, ignore_index: object) -> None:
    """Raise TypeError for a label to ignore that is no integer, and so could never be met."""
    if not isinstance(ignore_index, (int, np.integer)) or isinstance(ignore_index, bool):
        raise TypeError(f"{op}: ignore_index={ignore_index!r}; expected an integer.")


def check_smoothing(op: str, label_smoothing: float) -> None:
    """Raise ValueError for a label smoothing outside of [0, 1]."""
    check_number(op, "label_smoothing", label_smoothing)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"{op}: label_smoothing={label_smoothing}; expected 0 to 1.")
