"""Micro-batches: a batch in chunks that fit into memory, whose gradients add up to the batch's.

Each chunk has a share: the mean over the batch is the mean of the chunks' means, weighted by their sizes.
"""

from collections.abc import Iterator
from typing import Any, Protocol, TypeVar

from .dataset import DataError


class Sliceable(Protocol):
    """A field of a batch, a Tensor or an array: it has a length and can be sliced."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: slice, /) -> Any: ...


Field = TypeVar("Field", bound=Sliceable)


def micro_batches(batch: tuple[Field, ...], pieces: int) -> Iterator[tuple[tuple[Field, ...], float]]:
    """Cut a batch into at most `pieces` chunks of nearly equal size; with each comes its share of the samples.

    >>> optimizer.zero_grad()
    >>> for (images, labels), share in micro_batches(batch, 4):
    ...     (cross_entropy(model(images), labels) * share).backward()
    >>> optimizer.step()

    Parameters
    ----------
    batch : tuple of Tensor or array
        With the samples along the first axis.
    pieces : int
        The number of chunks.

    Yields
    ------
    tuple, float
        The shares add up to 1. `backward` adds to the gradients that are there, so after the last chunk they are those
        of the mean loss over the whole batch: exactly, but for rounding, for a model that treats samples one by
        one (batch-norm does not).
    """
    if not isinstance(pieces, int) or isinstance(pieces, bool) or pieces < 1:
        raise DataError(f"micro_batches: pieces={pieces!r}; expected a whole number, 1 or more.")
    if pieces == 1:
        yield batch, 1.0
        return
    sizes = {len(field) for field in batch}
    if len(sizes) != 1:
        raise DataError(f"micro_batches: fields of {sorted(sizes)} samples; expected the same number in each.")
    (count,) = sizes
    chunks = max(1, min(pieces, count))
    for i in range(chunks):
        start, stop = count * i // chunks, count * (i + 1) // chunks
        yield tuple(field[start:stop] for field in batch), (stop - start) / count if count else 1.0
