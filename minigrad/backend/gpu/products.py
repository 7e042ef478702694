"""Products of matrices on the GPU, by cuBLAS (`cublas.py`), with all of NumPy's shapes; and einsum, which they make up.

The matrices of an operand may lie in memory in any way that cuBLAS can be told: rows or columns contiguous, batches at
any one distance. Only what it cannot be told is copied first.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np

from minigrad.backend.arrays import Array
from minigrad.backend.device import namespace
from minigrad.backend.gpu import cublas
from minigrad.backend.gpu.cublas import LARGEST, Stored
from minigrad.backend.gpu.streams import address
from minigrad.backend.sums import total, wide

__all__ = ["einsum", "matmul", "multiply"]


def matmul(a: Array, b: Array) -> Array:
    """numpy.matmul: the last axis of a against the second last of b (a vector's only one); batch axes broadcast.

    float32, float64, float16 and bfloat16 go to cuBLAS; integers, and anything where there is no cuBLAS, to the array
    library.
    """
    if not _ours(a, b):
        return a @ b
    xp = namespace(a)
    dtype = a.dtype if a.dtype == b.dtype else xp.result_type(a, b)
    rows, columns = a if a.ndim > 1 else a[None, :], b if b.ndim > 1 else b[:, None]
    rows, columns = rows.astype(dtype, copy=False), columns.astype(dtype, copy=False)
    batch = np.broadcast_shapes(rows.shape[:-2], columns.shape[:-2])
    out = xp.empty((*batch, rows.shape[-2], columns.shape[-1]), dtype)
    multiply(rows, columns, out)
    if a.ndim == 1:
        out = out[..., 0, :]
    return out if b.ndim > 1 else out[..., 0]


def _ours(a: Array, b: Array) -> bool:
    """Whether these are operands for cuBLAS. The array library has the right error for those that do not fit."""
    if type(a) is not type(b) or not (a.ndim and b.ndim) or a.device.id != b.device.id:
        return False
    if not {a.dtype.name, b.dtype.name} <= cublas.KINDS.keys() or max(*a.shape, *b.shape) > LARGEST:
        return False
    return a.shape[-1] == b.shape[-2 if b.ndim > 1 else 0] and cublas.find(namespace(a)) is not None


def multiply(a: Array, b: Array, out: Array) -> None:
    """out[...] = a @ b: a (..., m, k) and b (..., k, n) of one float dtype, broadcast to out (..., m, n).

    The rows of `out` are contiguous, the matrices of its batch at one distance from each other. Its dtype is that of
    the operands, or float32 for those of 16 bits.
    """
    handle = cublas.handle(a)
    if handle is None:
        out[...] = a @ b
        return
    if not out.size:
        return
    (m, n), k, batch = out.shape[-2:], a.shape[-1], out.shape[:-2]
    if not k:
        out[...] = 0
        return
    left, a = _stored(a, batch)
    right, b = _stored(b, batch)
    into, _ = _stored(out, batch)
    count = math.prod(batch)
    if 1 < count <= LARGEST // m and _is_one_matrix(left, into, right, m):
        m, count = m * count, 1
    with a.device:
        handle.multiply(left, right, into, (m, k, n), a.dtype.name, out.dtype.name, count)


def _is_one_matrix(left: Stored, into: Stored, right: Stored, m: int) -> bool:
    """Whether a batch of products with one and the same right matrix is the product of one tall matrix with it."""
    tall = all(not x.turned and x.apart == m * x.leading for x in (left, into))
    return tall and right.apart == 0


def _stored(x: Array, batch: tuple[int, ...]) -> tuple[Stored, Array]:
    """How x (..., rows, columns), broadcast to `batch`, lies in memory; and x, or the copy of it that lies so."""
    xp: Any = namespace(x)
    if _lies(x) is None:
        x = xp.ascontiguousarray(x)
    apart = _one_distance(x, batch)
    if apart is None:
        x = xp.ascontiguousarray(xp.broadcast_to(x, (*batch, *x.shape[-2:])))
        apart = x.shape[-2] * x.shape[-1]
    turned, leading = _lies(x)  # type: ignore[misc]
    return Stored(address(x), turned, leading, apart), x


def _lies(x: Array) -> tuple[bool, int] | None:
    """Of the matrices in x's last two axes: whether they lie turned, and the distance of rows (columns, if turned)."""
    (rows, columns), (down, right) = x.shape[-2:], (s // x.dtype.itemsize for s in x.strides[-2:])  # type: ignore[attr-defined]
    if (right == 1 or columns == 1) and (rows == 1 or columns <= down <= LARGEST):
        return False, down if rows > 1 else columns
    if (down == 1 or rows == 1) and (columns == 1 or rows <= right <= LARGEST):
        return True, right if columns > 1 else rows
    return None


def _one_distance(x: Array, batch: tuple[int, ...]) -> int | None:
    """The distance, in elements, between neighbours of a batch, if all its axes can be walked as one, else None."""
    missing = len(batch) - (x.ndim - 2)
    steps = [
        0 if i < missing or x.shape[i - missing] == 1 else x.strides[i - missing] // x.dtype.itemsize  # type: ignore[attr-defined]
        for i in range(len(batch))
    ]
    axes = [(size, step) for size, step in zip(batch, steps, strict=True) if size != 1]
    for (_, outer), (size, inner) in pairwise(axes):
        if outer != size * inner:
            return None
    distance = axes[-1][1] if axes else 0
    return distance if distance >= 0 else None


# --- einsum ---


def einsum(subscripts: str, *operands: Array) -> Array:
    """numpy.einsum of terms that name a letter at most once, with an explicit result: pair by pair, as `matmul`.

    The array library's own would multiply by its own matmul, which cannot be captured.
    """
    terms, _, result = subscripts.partition("->")
    letters = terms.split(",")
    term, x = letters[0], operands[0]
    for place in range(1, len(operands)):
        later = set(result).union(*letters[place + 1 :])
        term, x = _contract(term, x, letters[place], operands[place], later)
    return namespace(x).einsum(f"{term}->{result}", x)


def _contract(a_term: str, a: Array, b_term: str, b: Array, later: set[str]) -> tuple[str, Array]:
    """The product of two operands, summed over the letters that neither the result nor a later operand has."""
    a_term, a = _summed(a_term, a, later | set(b_term))
    b_term, b = _summed(b_term, b, later | set(a_term))
    both = [c for c in a_term if c in b_term]
    left, right = ("".join(c for c in term if c not in both) for term in (a_term, b_term))
    batch, inner = ("".join(c for c in both if (c in later) is stays) for stays in (True, False))
    sizes = dict(zip(a_term, a.shape, strict=True)) | dict(zip(b_term, b.shape, strict=True))
    fits = all(a.shape[a_term.index(c)] == b.shape[b_term.index(c)] for c in both)
    if not (fits and inner and (left or right)):  # nothing to gain by a product of matrices
        terms = batch + left + right + inner
        dtype = namespace(a).result_type(a, b)
        a, b = _spread(a_term, a, terms), _spread(b_term, b, terms)
        kept, x = _summed(terms, a * b if dtype.kind in "iub" else wide(a) * wide(b), later)
        return kept, x.astype(dtype, copy=False)
    rows, columns = _matrices(a_term, a, batch, left, inner), _matrices(b_term, b, batch, inner, right)
    kept = batch + left + right
    return kept, matmul(rows, columns).reshape(tuple(sizes[c] for c in kept))


def _summed(term: str, x: Array, wanted: set[str]) -> tuple[str, Array]:
    """x summed over the letters that are not wanted, in its dtype (a plain sum of int32 would be int64)."""
    axes = tuple(i for i, c in enumerate(term) if c not in wanted)
    return "".join(c for c in term if c in wanted), total(x, axes).astype(x.dtype, copy=False) if axes else x


def _spread(term: str, x: Array, terms: str) -> Array:
    """x with its axes in the order of `terms`, and axes of size 1 for the letters that it lacks."""
    ordered = x.transpose(tuple(sorted(range(x.ndim), key=lambda i: terms.index(term[i]))))
    sizes = dict(zip(term, x.shape, strict=True))
    return ordered.reshape(tuple(sizes.get(c, 1) for c in terms))


def _matrices(term: str, x: Array, batch: str, rows: str, columns: str) -> Array:
    """x with the letters of `batch` as axes, and those of rows and of columns as one axis each."""
    sizes = dict(zip(term, x.shape, strict=True))
    ordered = x.transpose(tuple(term.index(c) for c in batch + rows + columns))
    shape = (math.prod(sizes[c] for c in group) for group in (rows, columns))
    return ordered.reshape((*(sizes[c] for c in batch), *shape))
