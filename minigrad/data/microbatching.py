"""Micro-batches: a batch in chunks that fit into memory, whose gradients add up to the batch's.

Each chunk has a share. The mean over the batch is the mean of the chunks' means, each weighed by what it divides by:
the number of its samples; or of its labels that are not ignored; or the sum of their classes' weights.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from minigrad.autograd.tensor import Tensor

from .dataset import DataError


class Sliceable(Protocol):
    """A field of a batch, a Tensor or an array: it has a length and can be sliced."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: slice, /) -> Any: ...


Field = TypeVar("Field", bound=Sliceable)


def micro_batches(
    batch: tuple[Field, ...],
    pieces: int,
    *,
    reduction: str = "mean",
    ignore_index: int | None = -100,
    weight: Any = None,
) -> Iterator[tuple[tuple[Field, ...], float]]:
    """Cut a batch into at most `pieces` chunks of nearly equal size; with each comes its share of the batch's loss.

    >>> optimizer.zero_grad()
    >>> for (images, labels), share in micro_batches(batch, 4):
    ...     (cross_entropy(model(images), labels) * share).backward()
    >>> optimizer.step()

    Parameters
    ----------
    batch : tuple of Tensor or array
        With the samples along the first axis. The last field is the target.
    pieces : int
        The number of chunks.
    reduction : {"mean", "sum"}
        The loss's: for a sum every share is 1.
    ignore_index : int, optional
        The label that the loss leaves out, where the target holds integers; None if it leaves out none.
    weight : array_like, shape (classes,), optional
        The loss's weights of classes, where its mean divides by their sum, as cross-entropy's does.

    Yields
    ------
    tuple, float
        The shares of a mean add up to 1. `backward` adds to the gradients that are there, so after the last chunk they
        are those of the loss over the whole batch: exactly, but for rounding, for a model that treats samples one by
        one (batch-norm does not). A chunk of which no label counts is left out.
    """
    if not isinstance(pieces, int) or isinstance(pieces, bool) or pieces < 1:
        raise DataError(f"micro_batches: pieces={pieces!r}; expected a whole number, 1 or more.")
    if reduction not in ("mean", "sum"):
        raise DataError(f"micro_batches: reduction={reduction!r}; expected 'mean' or 'sum', as the loss has it.")
    if pieces == 1:
        yield batch, 1.0
        return
    sizes = {len(field) for field in batch}
    if len(sizes) != 1:
        raise DataError(f"micro_batches: fields of {sorted(sizes)} samples; expected the same number in each.")
    (count,) = sizes
    places = chunks_of(count, pieces)
    counted = [counted_labels(batch[-1][place], ignore_index, weight) for place in places]
    total = sum(counted)
    if not total:  # nothing counts, or there is nothing: the loss of the whole says what it makes of that
        yield batch, 1.0
        return
    for place, amount in zip(places, counted, strict=True):
        if amount:
            yield tuple(field[place] for field in batch), 1.0 if reduction == "sum" else amount / total


def chunks_of(count: int, pieces: int) -> list[slice]:
    """range(count) in at most `pieces` chunks of nearly equal size."""
    chunks = max(1, min(pieces, count))
    return [slice(count * i // chunks, count * (i + 1) // chunks) for i in range(chunks)]


def counted_labels(target: Sliceable, ignore_index: int | None, weight: Any = None) -> float:
    """What a mean over these targets divides by: their number; of integers only of those that count, by weight."""
    labels: Any = target.data if isinstance(target, Tensor) else np.asarray(target)
    if labels.dtype.kind not in "iu" or (ignore_index is None and weight is None):
        return len(target)
    counts = labels == labels if ignore_index is None else labels != ignore_index
    if weight is None:
        return float(counts.sum())
    weights = _on_host(weight)
    named = _on_host(labels[counts])
    if named.size and not (named.min() >= 0 and named.max() < len(weights)):
        raise DataError(
            f"micro_batches: labels go from {named.min()} to {named.max()}; expected 0 to {len(weights) - 1}, one for "
            "each class weight."
        )
    return float(weights[named].sum(dtype=np.float64))


def _on_host(values: Any) -> np.ndarray:
    if isinstance(values, Tensor):
        return values.detach().numpy()
    return np.asarray(values.get() if hasattr(values, "get") else values)


def sizes_of(places: Sequence[slice]) -> list[int]:
    """How many samples are in each chunk."""
    return [place.stop - place.start for place in places]
