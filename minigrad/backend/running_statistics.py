"""The running mean and variance of a batch-norm layer, which move towards those of each batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from minigrad.backend.arrays import Array

Observer: TypeAlias = Callable[[Array, Array], object]
"""Called with a batch's mean and biased variance."""


@dataclass
class RunningStatistics:
    """An observer that a kernel may take over: a GPU moves the statistics in the launch that finds the moments.

    Attributes
    ----------
    mean, variance : arrays (C,), written to
    number : int
        How many values a channel of the batch has; the variance that is kept is the unbiased one.
    momentum : float or None
        How far they move towards the batch's (Ioffe & Szegedy 2015, algorithm 2); None for the mean over all batches.
    batches : array of one int64, or None
        On a GPU how many batches there were, which this one is added to. Needed where momentum is None.
    """

    mean: Array
    variance: Array
    number: int
    momentum: float | None
    batches: Array | None = None

    def __call__(self, mean: Array, variance: Array) -> None:
        momentum = self.momentum
        if self.batches is not None:
            self.batches += 1  # type: ignore[operator, assignment]
            momentum = 1 / self.batches if momentum is None else momentum
        for running, observed in ((self.mean, mean), (self.variance, variance * (self.number / (self.number - 1)))):
            running *= 1 - momentum  # type: ignore[operator, assignment]
            running += momentum * observed  # type: ignore[operator, assignment]
