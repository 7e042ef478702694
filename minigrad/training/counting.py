"""What a loss counts: which labels it leaves out, and what its mean divides by.

The mean over a data set is that of its batches, and the loss of a batch that of its chunks, each weighed by its
denominator: samples; or, for losses with an `ignore_index`, the labels that are not ignored, by the weights of classes.
The options are read off the loss: a module's attributes, a `functools.partial`'s keywords, a function's defaults. Of
any other function the denominators are measured.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from minigrad.autograd.grad_mode import enable_grad
from minigrad.autograd.reverse import grad
from minigrad.autograd.tensor import Tensor, as_tensor
from minigrad.backend import namespace, to_device
from minigrad.data.microbatching import counted_labels, sizes_of

Loss = Callable[[Tensor, Tensor], Tensor]
OPTIONS = ("reduction", "ignore_index", "weight")
REFUSED = (
    "fit: micro_batches with a loss that does not add up over chunks: its gradients for a chunk are not those for the "
    "whole batch times a number. So it is with a root, logarithm or square of a mean, with samples that are compared, "
    "and with the sum of means that divide by different numbers, as that over labels which are not ignored and that of "
    "a penalty on all outputs. Use micro_batches=1, or a loss that is one sum or mean over samples (sums divided by "
    "a fixed number add up)."
)


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
        self.reduction = options.get("reduction", "mean")
        stated = "reduction" in options and self.reduction in ("mean", "sum")
        self.known = stated and owner.startswith("minigrad.nn")
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
        right, classified = self.counted_predictions(output, target)
        return int(right), int(classified)

    def counted_predictions(self, output: Tensor, target: Tensor) -> tuple[Any, Any]:
        """The same where the predictions are: two arrays without axes, of a GPU too."""
        if not are_scores_of_classes(output, target):
            return 0, 0
        labels = target.data
        counts = (labels >= 0) & (labels < output.shape[1])
        if self.ignore_index is not None:
            counts &= labels != self.ignore_index
        right = (output.detach().argmax(axis=1).data == labels) & counts
        return right.sum(), counts.sum()

    def denominator_there(self, target: Tensor) -> Any:
        """What the mean over targets on a GPU divides by: a number, or an array without axes, not waited for."""
        weight = None if self.reduction == "sum" else self.weight
        if not target.ndim or target.dtype.kind not in "iu" or (self.ignore_index is None and weight is None):
            return len(target) if target.ndim else 1
        xp, labels = namespace(target.data), target.data
        counts = labels == labels if self.ignore_index is None else labels != self.ignore_index
        if weight is None:
            return counts.sum()
        weights = as_tensor(weight).to(target.device).data
        counts &= (labels >= 0) & (labels < len(weights))  # the loss has noted labels that name no class
        return xp.where(counts, weights[xp.where(counts, labels, 0)].astype("float64", copy=False), 0).sum()


def are_scores_of_classes(output: Tensor, target: Tensor) -> bool:
    """Whether outputs are scores (N, classes, ...) and targets integer labels (N, ...)."""
    return output.ndim >= 2 and target.dtype.kind in "iu" and target.ndim == output.ndim - 1


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
    whole are those of a chunk times its share, and the share does not depend on the outputs. Two sets of outputs are
    tried: rows of the first chunk's, and the same moved, in each chunk by another amount. A loss that couples the
    samples, or is no linear function of a mean, as its square root is not, has no such shares, and is an error.
    """
    sizes = sizes_of(places)
    if not output.ndim or len(output) != sizes[0]:
        return [size / sum(sizes) for size in sizes]
    rows = np.random.default_rng(0).integers(0, sizes[0], sum(sizes))  # in no order, so that coupled samples are seen
    outputs = output.detach()[Tensor(to_device(rows, output.device))]
    tried = [(outputs, _gradient(loss, outputs, target))]
    moved = _moved(outputs, target, sizes)
    # Where the loss is not defined, nothing can be told; the outputs as they are will say it again in training.
    with suppress(ValueError, ArithmeticError), np.errstate(all="ignore"):
        tried.append((moved, _gradient(loss, moved, target)))
    return [
        _share(loss, [(at[place], whole[place]) for at, whole in tried], target[place], size / sum(sizes))
        for place, size in zip(places, sizes, strict=True)
    ]


def _moved(outputs: Tensor, target: Tensor, sizes: list[int]) -> Tensor:
    """Other outputs, in each chunk moved by another amount, and within the bounds that outputs usually have.

    Numbers go towards their targets, which is far where outputs are small beside them; scores of classes towards 0,
    from some distance. Both leave probabilities probabilities, and keep signs.
    """
    random = np.random.default_rng(1)
    part = np.repeat(np.linspace(0.2, 0.8, len(sizes)), sizes).reshape(-1, *[1] * (outputs.ndim - 1))
    amount = Tensor(to_device((part * random.uniform(0.5, 1, outputs.shape)).astype(outputs.dtype), outputs.device))
    if target.shape == outputs.shape and target.dtype.kind == "f":
        return outputs + amount * (target.detach() - outputs)
    peak = float(abs(outputs).max())
    larger = 0.9 / peak if 1e-6 < peak < 0.9 else 1.0  # losses at scores near 0 are nearly the same in every chunk
    return outputs * (larger * (1 - amount)) + 0.5 * amount * (outputs == 0)


def _share(loss: Loss, tried: list[tuple[Tensor, Tensor]], target: Tensor, by_size: float) -> float:
    """The share of one chunk, by the gradients of the whole in it at each of the outputs that were tried."""
    found = []
    for output, whole in tried:
        seen = _square(whole)
        if not math.isfinite(seen):
            continue
        try:
            alone = _gradient(loss, output, target)
        except ValueError as error:
            if seen:
                raise ValueError(f"{REFUSED} A chunk alone has no loss: {error}") from error
            return 0.0  # every label of this chunk is ignored, and so has no mean
        own = _square(alone)
        if not math.isfinite(own):
            if seen:
                raise ValueError(f"{REFUSED} A chunk alone has the gradient NaN.")
            return 0.0  # as above
        found.append((whole, alone, seen, own))
    total = sum(own for *_, own in found)
    if not total and not any(seen for _, _, seen, _ in found):
        return by_size  # flat here, or NaN: nothing can be told
    share = sum(float((whole * alone).sum()) for whole, alone, _, _ in found) / total if total else 0.0
    half = tried[0][0].dtype.itemsize < 4
    for whole, alone, seen, _ in found:
        if _square(whole - share * alone) > (1e-3 if half else 1e-7) * seen:
            raise ValueError(REFUSED)
    return share


def _square(gradient: Tensor) -> float:
    return float((gradient * gradient).sum())


def _gradient(loss: Loss, output: Tensor, target: Tensor) -> Tensor:
    with enable_grad():
        leaf = output.detach().clone().requires_grad_()
        (gradient,) = grad(loss(leaf, target), [leaf])
    gradient = gradient.detach()
    return gradient if gradient.dtype.itemsize >= 4 else gradient.astype("float32")
