"""cuBLAS through a handle of our own: the seven functions that we need, called by ctypes.

CuPy's own matmul refuses to be captured into a CUDA graph, though cuBLAS does not. CuPy has loaded the library already;
this is a second handle of it, with a workspace of its own, so that nothing is allocated while a stream is captured.

After this file you can say how row-major matrices go through a column-major library. The memory of a row-major C
(m, n) is that of a column-major C' (n, m), and C' = B' A'. So the operands change places, and nothing is turned.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import c_double, c_float, c_int, c_longlong, c_size_t, c_void_p
from functools import cache
from typing import Any, NamedTuple

from minigrad.backend.arrays import Array
from minigrad.backend.device import namespace
from minigrad.backend.gpu.precision import tf32
from minigrad.backend.gpu.streams import address, place

KINDS = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 14}  # cudaDataType_t
COMPUTE_32F, COMPUTE_32F_FAST_TF32, COMPUTE_64F = 68, 77, 70  # cublasComputeType_t
DEFAULT_ALGORITHM = -1  # cublasGemmAlgo_t
NO_REDUCED_PRECISION = 16  # cublasMath_t: parts of sums of float16 are float32 too, where cuBLAS splits a sum
WORKSPACE = 32 << 20  # bytes: what NVIDIA advises for Hopper
LARGEST = 2**31 - 1  # of sizes and distances
FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "cublasGetProperty": (c_int, c_void_p),
    "cublasCreate_v2": (c_void_p,),
    "cublasSetStream_v2": (c_void_p, c_void_p),
    "cublasSetWorkspace_v2": (c_void_p, c_void_p, c_size_t),
    "cublasSetMathMode": (c_void_p, c_int),
    "cublasGemmEx": (
        c_void_p, c_int, c_int, c_int, c_int, c_int, c_void_p,  # handle, whether each is turned, m, n, k, alpha
        c_void_p, c_int, c_int, c_void_p, c_int, c_int, c_void_p,  # A, its dtype and leading distance, B, and beta
        c_void_p, c_int, c_int, c_int, c_int,  # C, compute type, algorithm
    ),
    "cublasGemmStridedBatchedEx": (
        c_void_p, c_int, c_int, c_int, c_int, c_int, c_void_p,
        c_void_p, c_int, c_int, c_longlong, c_void_p, c_int, c_int, c_longlong, c_void_p,
        c_void_p, c_int, c_int, c_longlong, c_int, c_int, c_int,
    ),
}  # fmt: skip
"""The parameters of what we call."""
STATUS = {
    1: "not initialized", 3: "allocation failed", 7: "invalid value", 8: "architecture mismatch", 11: "mapping error",
    13: "execution failed", 14: "internal error", 15: "not supported",
}  # fmt: skip


class CublasError(RuntimeError):
    """cuBLAS reported a failure."""


class Stored(NamedTuple):
    """Where a matrix, or a batch of them, lies in memory. Distances count elements."""

    at: int  # the address
    turned: bool  # the columns, not the rows, are contiguous
    leading: int  # the distance from one row (or column, if turned) to the next
    apart: int  # the distance from one matrix of the batch to the next; 0 for the same matrix each time


class Handle:
    """cuBLAS for one device and one stream."""

    def __init__(self, library: Any, like: Array, stream: int):
        self._library = library
        handle = c_void_p()
        self._workspace = namespace(like).empty(WORKSPACE, "uint8")
        self._constants = {c_float: (c_float(1), c_float(0)), c_double: (c_double(1), c_double(0))}
        self._call("cublasCreate_v2", ctypes.byref(handle))
        self._handle = handle
        self._call("cublasSetStream_v2", handle, stream)  # first: it drops the workspace
        self._call("cublasSetWorkspace_v2", handle, address(self._workspace), WORKSPACE)
        self._call("cublasSetMathMode", handle, NO_REDUCED_PRECISION)

    def multiply(
        self, a: Stored, b: Stored, c: Stored, sizes: tuple[int, int, int], dtype: str, to: str, batch: int = 1
    ) -> None:
        """c = a @ b, of sizes (m, k, n): a (m, k) and b (k, n) of `dtype`, c (m, n) of dtype `to`, not turned.

        With `batch`, so many such products; each operand says how far apart its matrices are.
        """
        m, k, n = sizes
        kind, result, compute = KINDS[dtype], KINDS[to], _compute(dtype)
        one, zero = map(ctypes.byref, self._constants[c_double if dtype == "float64" else c_float])
        head = self._handle, b.turned, a.turned, n, m, k, one
        if batch == 1:
            self._call(
                "cublasGemmEx",
                *head, b.at, kind, b.leading, a.at, kind, a.leading, zero,
                c.at, result, c.leading, compute, DEFAULT_ALGORITHM,
            )  # fmt: skip
            return
        self._call(
            "cublasGemmStridedBatchedEx",
            *head, b.at, kind, b.leading, b.apart, a.at, kind, a.leading, a.apart, zero,
            c.at, result, c.leading, c.apart, batch, compute, DEFAULT_ALGORITHM,
        )  # fmt: skip

    def _call(self, function: str, *args: Any) -> None:
        status = getattr(self._library, function)(*args)
        if status:
            raise CublasError(f"{function}: {STATUS.get(status, 'unknown failure')} (cuBLAS status {status}).")


def _compute(dtype: str) -> int:
    """What sums are taken in: float32, but float64 for float64."""
    if dtype == "float64":
        return COMPUTE_64F
    return COMPUTE_32F_FAST_TF32 if dtype == "float32" and tf32() else COMPUTE_32F


# --- the library and its handles ---

_handles: dict[tuple, Handle] = {}


def handle(like: Array) -> Handle | None:
    """The handle for the device of `like` and the current stream; None where there is no cuBLAS.

    A stream's first product makes its handle, so it has to come before the stream is captured.
    """
    library = find(namespace(like))
    if library is None:
        return None
    where = place(like)
    if where not in _handles:
        with like.device:
            _handles[where] = Handle(library, like, where[2])
    return _handles[where]


def find(xp: Any) -> Any | None:
    """The cuBLAS that an array library computes with, or None: anything but CuPy has none."""
    return _loaded()[0] if xp.__name__ == "cupy" else None


def why_not(xp: Any) -> str:
    """Why `find` gives None, in a few words; empty if it does not."""
    if find(xp) is not None:
        return ""
    return _loaded()[1] if xp.__name__ == "cupy" else f"the arrays are {xp.__name__}'s, not CuPy's"


def version(xp: Any) -> str:
    """The version of cuBLAS, as in "12.9.2"."""
    number, parts = c_int(), []
    for part in range(3):  # libraryPropertyType: major, minor, patch level
        find(xp).cublasGetProperty(part, ctypes.byref(number))  # type: ignore[union-attr]
        parts.append(str(number.value))
    return ".".join(parts)


@cache
def _loaded() -> tuple[Any | None, str]:
    try:
        from cupy.cuda import cublas  # noqa: F401  # has CuPy load the library, wherever it was installed
    except ImportError as error:
        return None, f"CuPy does not find cuBLAS ({error})"
    for name in ("libcublas.so.12", "libcublas.so.13"):
        try:
            return declare(ctypes.CDLL(name, mode=os.RTLD_NOLOAD)), ""  # only the one that is loaded
        except OSError:
            continue
    return None, "CuPy has loaded neither libcublas.so.12 nor libcublas.so.13"


def declare(library: ctypes.CDLL) -> ctypes.CDLL:
    """A cuBLAS whose functions know their parameters, so that ctypes converts Python's numbers as they need it."""
    for name, parameters in FUNCTIONS.items():
        getattr(library, name).argtypes = parameters
    return library
