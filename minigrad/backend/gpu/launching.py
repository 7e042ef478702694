"""From the text of a `.cu` file to a launch.

A file is compiled once for each dtype that it is used with, by the array library's `RawModule` (CuPy's asks NVIDIA's
runtime compiler, and keeps what was compiled on disk). In the text `REAL` is the dtype of the arrays, `WIDE` what is
computed with: double for double, float for everything else. Arguments must have the exact size of the kernel's
parameters: a Python float would arrive as eight bytes, so scalars are given as `int32(...)`, `float32(...)` and so on.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from minigrad.backend.arrays import Array
from minigrad.backend.device import namespace

HERE = Path(__file__).parent
REALS = {"float32": "float", "float64": "double", "float16": "__half", "bfloat16": "__nv_bfloat16"}
"""The dtypes that kernels are compiled for, and what CUDA calls them."""

THREADS = 256  # of a block: eight warps, enough to hide the wait for memory, few enough that many blocks fit
MOST_BLOCKS = 132 * 8  # of a launch whose threads go on to the next element: eight on each multiprocessor of an H100
NULL = np.uintp(0)  # the null pointer; CuPy 13 makes an empty slot of None


class Source:
    """A `.cu` file of this folder, and its compiled forms."""

    def __init__(self, file: str):
        self.file = file

    def takes(self, *arrays: Array | None) -> bool:
        """Whether the kernels can be compiled for these arrays: one dtype, which is in `REALS`."""
        dtypes = {array.dtype.name for array in arrays if array is not None}
        return len(dtypes) == 1 and dtypes <= REALS.keys()

    def launch(self, entry: str, like: Array, grid: tuple, block: tuple, *args: Any, shared_mem: int = 0) -> None:
        """Run the kernel called `entry`, compiled for the dtype of `like`, on its device. None is a null pointer.

        A grid without blocks launches nothing, as an empty array has nothing to compute.
        """
        if 0 in grid:
            return
        kernel = compiled(namespace(like), self.file, like.dtype.name, entry)
        with like.device:
            kernel(grid, block, tuple(NULL if arg is None else arg for arg in args), shared_mem=shared_mem)


@cache
def compiled(xp: Any, file: str, dtype: str, entry: str) -> Any:
    """The kernel `entry` of a file, for a dtype."""
    return _module(xp, file, dtype).get_function(entry)


@cache
def _module(xp: Any, file: str, dtype: str) -> Any:
    return xp.RawModule(code=text_of(file), options=options_for(dtype), backend="nvrtc")


def text_of(file: str) -> str:
    """A `.cu` file with the headers of this folder written into it.

    They stand in the text itself because the library's cache of compiled code knows the text, not the headers.
    """
    lines = (HERE / file).read_text(encoding="utf-8").splitlines()
    own = [line for line in lines if line.startswith('#include "')]
    for line in own:
        lines[lines.index(line)] = text_of(line.split('"')[1])
    return "\n".join(lines) + "\n"


def options_for(dtype: str) -> tuple[str, ...]:
    """The compiler's options for arrays of a dtype."""
    return "-std=c++17", f"-DREAL={REALS[dtype]}", f"-DWIDE={'double' if dtype == 'float64' else 'float'}"


def blocks_for(elements: int, most: int = MOST_BLOCKS) -> tuple[int]:
    """The grid for a kernel with one thread an element, whose threads go on where there are more elements."""
    return (min(most, -(-elements // THREADS)),)


def channels_last(x: Array) -> Array:
    """x (N, C, ...) as a contiguous (N, ..., C): a view if it lies so in memory, else a copy."""
    xp = namespace(x)
    return xp.ascontiguousarray(xp.moveaxis(x, 1, -1))


def channels_first(x: Array) -> Array:
    """The view (N, C, ...) of an (N, ..., C)."""
    return namespace(x).moveaxis(x, -1, 1)
