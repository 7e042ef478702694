"""What a loss counts: which labels it leaves out, and what its mean divides by.

The mean over a data set is that of its batches, and the loss of a batch that of its chunks, each weighed by its
denominator: samples; or, for losses with an `ignore_index`, the labels that are not ignored, by the weights of classes.
The options are read off the loss: a module's attributes, a `functools.partial`'s keywords, a function's defaults. Of
any other function the denominators are measured.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.autograd.grad_mode import enable_grad
from minigrad.autograd.reverse import grad
from minigrad.autograd.tensor import Tensor
from minigrad.backend import to_device
from minigrad.data.microbatching import counted_labels, sizes_of

Loss = Callable[[Tensor, Tensor], Tensor]
OPTIONS = ("reduction", "ignore_index", "weight")


class Counting:
    """How a loss counts, as far as its options say.

    Attributes
    ----------
    known : bool
        Whether it is one of `minigrad.nn`, of whose mean we know what it divides by.
    reduction : str
        "mean", unless it says otherwise.
    ignore_index : int or None
        The label that is left out; None for a loss without one.
    weight : Tensor or None
        Weights of classes by whose sum the mean divides; None for a loss that divides by the number of samples.
    """

    def __init__(self, loss: Loss):
        options, owner = options_of(loss)
        self.known = "reduction" in options and owner.startswith("minigrad.nn")
        self.reduction = options.get("reduction", "mean")
        self.ignore_index = options.get("ignore_index")
        # Other losses have weights too, but divide by the number of samples.
        self.weight = options.get("weight") if self.ignore_index is not None else None

    def denominator(self, target: Tensor) -> float:
        """What the mean over these targets divides by; of a sum, how many there are that count."""
        if not target.ndim:
            return 1.0
        return counted_labels(target, self.ignore_index, None if self.reduction == "sum" else self.weight)

    def predictions(self, output: Tensor, target: Tensor) -> tuple[int, int]:
        """How many predicted classes are right, and of how many: those whose label is a class and not ignored."""
        if output.ndim < 2 or target.dtype.kind not in "iu" or target.ndim != output.ndim - 1:
            return 0, 0
        labels = target.data
        counts = (labels >= 0) & (labels < output.shape[1])
        if self.ignore_index is not None:
            counts &= labels != self.ignore_index
        right = (output.detach().argmax(axis=1).data == labels) & counts
        return int(right.sum()), int(counts.sum())


def options_of(loss: Any) -> tuple[dict[str, Any], str]:
    """The options of a loss by name, as far as they can be seen, and the module it is from."""
    given: dict[str, Any] = {}
    while isinstance(loss, functools.partial):
        given = {**loss.keywords, **given}
        loss = loss.func
    owner = getattr(loss, "__module__", None) or ""
    if not inspect.isroutine(loss):
        return {**{name: getattr(loss, name) for name in OPTIONS if hasattr(loss, name)}, **given}, owner
    try:
        parameters = inspect.signature(loss).parameters
    except (TypeError, ValueError):
        return given, owner
    defaults = {name: parameters[name].default for name in OPTIONS if name in parameters}
    return {**{k: v for k, v in defaults.items() if v is not inspect.Parameter.empty}, **given}, owner


def measured_shares(loss: Loss, output: Tensor, target: Tensor, places: list[slice]) -> list[float]:
    """By what the loss of each chunk is to be multiplied, so that their sum is the loss of the whole batch.

    A loss that is a sum over samples, divided by something, is known by its gradients: at the same outputs those of the
    whole are those of a chunk times its share. The outputs taken are rows of the first chunk's; a loss that
    couples the samples has no such shares, and is an error.
    """
    sizes = sizes_of(places)
    if not output.ndim or len(output) != sizes[0]:
        return [size / sum(sizes) for size in sizes]
    rows = np.random.default_rng(0).integers(0, sizes[0], sum(sizes))  # in no order, so that coupled samples are seen
    outputs = output.detach()[Tensor(to_device(rows, output.device))]
    whole = _gradient(loss, outputs, target)
    return [
        _share(loss, outputs[place], target[place], whole[place], size / sum(sizes))
        for place, size in zip(places, sizes, strict=True)
    ]


def _share(loss: Loss, output: Tensor, target: Tensor, whole: Tensor, by_size: float) -> float:
    seen = float((whole * whole).sum())
    try:
        alone = _gradient(loss, output, target)
    except ValueError:
        if seen:
            raise
        return 0.0  # every label of this chunk is ignored, and so has no mean
    own = float((alone * alone).sum())
    if not own > 0:
        return 0.0 if own != own else by_size  # NaN: as above. Flat here: nothing can be told.
    share = float((whole * alone).sum()) / own
    rest = whole - share * alone
    if float((rest * rest).sum()) > 1e-3 * seen:
        raise ValueError(
            "fit: micro_batches with a loss that does not add up over chunks: its gradients for a chunk are not those "
            "for the whole batch times a number. Use whole batches, or a loss that is a sum or mean over samples."
        )
    return share


def _gradient(loss: Loss, output: Tensor, target: Tensor) -> Tensor:
    with enable_grad():
        leaf = output.detach().clone().requires_grad_()
        (gradient,) = grad(loss(leaf, target), [leaf])
    gradient = gradient.detach()
    return gradient if gradient.dtype.itemsize >= 4 else gradient.astype("float32")
