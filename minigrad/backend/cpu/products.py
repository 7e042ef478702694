"""einsum on the CPU: pair by pair, each as one product of matrices, or as elementwise products and a sum.

NumPy's own adds term after term, slowly and, in float32, with an error that grows with their number; and over a product
of three operands it loops over all letters at once. After this file you know how any sum of products of two arrays is
a batch of matrix products: letters of both that stay are the batch, letters of both that go are the inner axis.
"""

from __future__ import annotations

import math

import numpy as np

from minigrad.backend.sums import total, wide
from minigrad.backend.threads import matmul

__all__ = ["einsum"]

FEW = 4096  # products up to which NumPy's loop is the quickest, and its sums short
SHORT = 128  # terms of an inner product up to which the same holds


def einsum(subscripts: str, *operands: np.ndarray) -> np.ndarray:
    """`numpy.einsum` of terms that name a letter at most once, with an explicit result; float16 in float32."""
    terms, _, result = subscripts.partition("->")
    letters = terms.split(",")
    dtype = np.result_type(*operands)
    if dtype == np.float16:
        return einsum(subscripts, *map(wide, operands)).astype(dtype)
    sizes = {
        letter: n for term, x in zip(letters, operands, strict=True) for letter, n in zip(term, x.shape, strict=True)
    }
    if dtype.kind != "f" or math.prod(sizes.values()) <= FEW or (len(operands) == 1 and len(letters[0]) == len(result)):
        return np.einsum(subscripts, *operands)
    term, x = letters[0], operands[0].astype(dtype, copy=False)
    for place in range(1, len(operands)):
        later = set(result).union(*letters[place + 1 :])
        term, x = _contract(term, x, letters[place], operands[place].astype(dtype, copy=False), later)
    term, x = _without(term, x, set(result))
    return x.transpose([term.index(letter) for letter in result])


def _contract(a_term: str, a: np.ndarray, b_term: str, b: np.ndarray, later: set[str]) -> tuple[str, np.ndarray]:
    """The product of two operands, summed over the letters that neither the result nor a later operand has."""
    a_term, a = _without_repeated_ones(a_term, a, b_term, b)
    b_term, b = _without_repeated_ones(b_term, b, a_term, a)
    a_term, a = _without(a_term, a, later | set(b_term))
    b_term, b = _without(b_term, b, later | set(a_term))
    both = [letter for letter in a_term if letter in b_term]
    batch, inner = ("".join(c for c in both if (c in later) is stays) for stays in (True, False))
    left, right = ("".join(c for c in term if c not in both) for term in (a_term, b_term))
    sizes = dict(zip(a_term, a.shape, strict=True)) | dict(zip(b_term, b.shape, strict=True))
    if not inner or not (left or right):
        kept, terms = batch + left + right, batch + left + right + inner
        if math.prod(sizes[c] for c in inner) <= SHORT:
            return kept, np.einsum(f"{a_term},{b_term}->{kept}", a, b)
        product = _spread(a_term, a, terms) * _spread(b_term, b, terms)
        return _without(terms, product, later)
    rows, columns = _matrices(a_term, a, batch, left, inner), _matrices(b_term, b, batch, inner, right)
    return batch + left + right, matmul(rows, columns).reshape([sizes[c] for c in batch + left + right])


def _without_repeated_ones(term: str, x: np.ndarray, other_term: str, other: np.ndarray) -> tuple[str, np.ndarray]:
    """x without the axes of size 1 that broadcast to the other operand's: the letter is then the other's alone."""
    axes = tuple(i for i, c in enumerate(term) if c in other_term and x.shape[i] == 1)
    axes = tuple(i for i in axes if other.shape[other_term.index(term[i])] != 1)
    return "".join(c for i, c in enumerate(term) if i not in axes), x.squeeze(axes)


def _without(term: str, x: np.ndarray, wanted: set[str]) -> tuple[str, np.ndarray]:
    """x summed over the letters that are not wanted."""
    axes = tuple(i for i, letter in enumerate(term) if letter not in wanted)
    return "".join(c for c in term if c in wanted), total(x, axes) if axes else x


def _spread(term: str, x: np.ndarray, terms: str) -> np.ndarray:
    """x with its axes in the order of `terms`, and axes of size 1 for the letters it lacks."""
    ordered = x.transpose(sorted(range(x.ndim), key=lambda i: terms.index(term[i])))
    sizes = dict(zip(term, x.shape, strict=True))
    return ordered.reshape([sizes.get(letter, 1) for letter in terms])


def _matrices(term: str, x: np.ndarray, batch: str, rows: str, columns: str) -> np.ndarray:
    """x as a matrix for each batch index, contiguous or transposed, as BLAS takes it."""
    sizes = dict(zip(term, x.shape, strict=True))
    shape = [math.prod(sizes[c] for c in group) for group in (rows, columns)]
    ordered = x.transpose([term.index(letter) for letter in batch + rows + columns])
    if not batch:
        return ordered.reshape(shape)
    return np.ascontiguousarray(ordered).reshape([*(sizes[c] for c in batch), *shape])
