"""What the host asks of the stand-in's GPU: work that it launches, and results that it waits for.

Everything that would run on a GPU goes through `launch`, under a name, and whatever makes the host wait through
`wait`. So a test can count both:

    with counted() as counts:
        step()
    assert counts.total <= 35 and not counts.waits and not counts.uploads
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

launches: Counter[str] = Counter()
"""What was launched, by name: calls of the array library that compute or copy, kernels, calls of cuBLAS and cuDNN.

A view, an array that is not filled, or a question about shapes and dtypes launches nothing. CuPy needs several launches
for a few of its functions (`var`, `einsum`); they are counted as one.
"""

traffic: Counter[str] = Counter()
"""How often the host had to wait for the device, by what for; and "upload", how often it sent an array there."""


def launch(name: str, work: Callable[[], Any]) -> Any:
    """Have the device do `work`, which writes into arrays that are there already."""
    launches[name] += 1
    return work()


def wait(name: str) -> None:
    """The host waits until all that was launched has run."""
    traffic[name] += 1


def upload() -> None:
    """The host sends an array, a list or a number to the device."""
    traffic["upload"] += 1


@dataclass
class Counts:
    """What a block of code launched, waited for (by name) and uploaded."""

    launches: Counter[str] = field(default_factory=Counter)
    waits: Counter[str] = field(default_factory=Counter)
    uploads: int = 0

    @property
    def total(self) -> int:
        """The number of launches."""
        return self.launches.total()


@contextmanager
def counted() -> Iterator[Counts]:
    """Count what the block launches, waits for and uploads; the counts stand when it has ended."""
    counts, launched, moved = Counts(), launches.copy(), traffic.copy()
    try:
        yield counts
    finally:
        counts.launches = launches - launched
        counts.waits = traffic - moved
        counts.uploads = counts.waits.pop("upload", 0)
