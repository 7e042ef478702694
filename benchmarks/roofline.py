"""What the machine can do: its bandwidth for arrays of several sizes, and its rate of matrix products.

No kernel can be faster than its bytes at that bandwidth, nor than its operations at that rate: the larger of the two
times is the *roofline* (Williams, Waterman and Patterson 2009). Here bytes count each array read or written once. Of
operations only those of convolutions are counted, two for each multiplication and addition: the other layers are bound
by their bytes. Both libraries are asked, and the better figure counts.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch

from minigrad.backend import cpu, threads

SIZES = (2**16, 2**18, 2**20, 2**22, 2**24, 2**26, 2**28)
"""Bytes read and written, together, of the copies that measure bandwidth: from within a core's cache to far beyond."""
SIDE = 1024
"""Rows and columns of the matrices that measure the rate of products."""


@dataclass(frozen=True)
class Machine:
    """bandwidth: GB/s by bytes moved. products: GFLOP/s by dtype."""

    bandwidth: dict[int, float]
    products: dict[str, float]

    @classmethod
    def measured(cls) -> Machine:
        """This machine, with the threads that both libraries are set to. Takes some two seconds."""
        return cls(
            {size: size / best_seconds(copies(size)) / 1e9 for size in SIZES},
            {
                dtype: 2 * SIDE**3 / best_seconds(products(dtype), least=3) / 1e9
                for dtype in ("float32", "float64")
            },
        )  # fmt: skip

    @classmethod
    def from_json(cls, found: dict) -> Machine:
        return cls({int(size): rate for size, rate in found["bandwidth"].items()}, found["products"])

    def as_json(self) -> dict:
        return asdict(self)

    def seconds(self, bytes_moved: int, operations: int, dtype: str) -> float:
        """The roofline: the least time for moving these bytes and doing these operations."""
        nearest = min(self.bandwidth, key=lambda size: abs(math.log(size / max(bytes_moved, 1))))
        return max(bytes_moved / self.bandwidth[nearest] / 1e9, operations / self.products[dtype] / 1e9)

    def __str__(self) -> str:
        rates = ", ".join(f"{size / 2**20:g} MiB {rate:.0f}" for size, rate in self.bandwidth.items())
        products = ", ".join(f"{dtype} {rate:.0f}" for dtype, rate in self.products.items())
        return f"bandwidth in GB/s: {rates}; products in GFLOP/s: {products}"


def copies(size: int) -> list[Callable[[], object]]:
    """A copy that reads size/2 bytes and writes as many: PyTorch's, and NumPy's in chunks on minigrad's threads."""
    source, target = np.ones(size // 8, np.float32), np.zeros(size // 8, np.float32)
    chunks = threads.cut(len(source), -(-len(source) // threads.get_num_threads()))

    def in_chunks() -> None:
        threads.parallel(lambda chunk: np.copyto(target[chunk], source[chunk]), chunks)

    theirs, ours = torch.from_numpy(target), torch.from_numpy(source)
    return [in_chunks, lambda: theirs.copy_(ours)]


def products(dtype: str) -> list[Callable[[], object]]:
    a = np.random.default_rng(0).standard_normal((SIDE, SIDE)).astype(dtype)
    b = torch.from_numpy(a)
    return [lambda: cpu.matmul(a, a), lambda: b @ b]


def best_seconds(functions: list[Callable[[], object]], least: int = 5, budget: float = 0.15) -> float:
    """The least time of any call, over `budget` seconds and at least `least` calls of each function."""
    best = math.inf
    for function in functions:
        function()
        calls, end = 0, time.perf_counter() + budget
        while calls < least or time.perf_counter() < end:
            start = time.perf_counter()
            function()
            best = min(best, time.perf_counter() - start)
            calls += 1
    return best
