"""Matrix products: matmul with all of NumPy's shapes, linear layers, einsum, and products composed of them.

After this file you know the two lines behind every neural network, dA = G B' and dB = A' G, and that einsum's
derivative is an einsum with the letters exchanged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain

import numpy as np

from minigrad.autograd.errors import ShapeError
from minigrad.autograd.primitive import composite, primitive
from minigrad.autograd.tensor import Tensor
from minigrad.autograd.types import TensorLike
from minigrad.backend import kernels, total
from minigrad.ops.shapes import broadcast_to, check_axis, diagonal, transpose

# --- matmul ---


@primitive(symbol="@", local="b', a'", kind="linear")
def matmul(a: TensorLike, b: TensorLike) -> Tensor:
    """a @ b: the last axis of a against the second last of b (a vector's only one); batch axes broadcast."""
    if not (getattr(a, "ndim", 0) and getattr(b, "ndim", 0)):
        raise ShapeError("matmul: expected tensors with at least one axis each; multiply by numbers with *.")
    inner = b.shape[-2] if b.ndim > 1 else b.shape[0]
    if a.shape[-1] != inner:
        hint = (
            "; a Linear layer's weight is (out, in): did you mean x @ weight.T?" if b.shape[-1] == a.shape[-1] else ""
        )
        raise ShapeError(
            f"matmul: cannot multiply {a.shape} by {b.shape}: inner sizes {a.shape[-1]} and {inner} differ{hint}"
        )
    return product(a, b)


def product(a, b):
    """a @ b for use in rules: of Tensors, or of arrays, whose large products go to our own threads."""
    if type(a) is np.ndarray and a.size < 8192 and type(b) is np.ndarray and a.ndim <= 2 and b.ndim <= 2:
        return a.dot(b)  # too small for threads, and dot starts 0.5 us sooner than @
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return matmul(a, b)
    return kernels(a, b).matmul(a, b)


def _matmul_left(g, a_shape, b):
    if len(a_shape) == 1:
        g = g[..., None, :] if b.ndim > 1 else g[..., None, None]
    elif b.ndim == 1:
        g = g[..., None]
    columns = b if b.ndim > 1 else b[:, None]
    left = product(g, columns.swapaxes(-1, -2))
    return left if len(a_shape) > 1 else left[..., 0, :]


def _matmul_right(g, a, b_shape):
    if len(b_shape) == 1:
        g = g[..., None] if a.ndim > 1 else g[..., None, None]
    elif a.ndim == 1:
        g = g[..., None, :]
    rows = a if a.ndim > 1 else a[None, :]
    right = product(rows.swapaxes(-1, -2), g)
    return right if len(b_shape) > 1 else right[..., 0]


matmul.defvjp(a=_matmul_left, b=_matmul_right)


@primitive(symbol="linear", local="w', x', 1")
def linear(x: TensorLike, weight: TensorLike, bias: TensorLike | None = None) -> Tensor:
    """x @ weight.T + bias: x (..., in), weight (out, in), bias (out,) or None; result (..., out)."""
    if x.ndim == 0 or weight.ndim != 2 or x.shape[-1] != weight.shape[1]:
        raise _does_not_fit(x, weight)
    out = product(x, weight.T)
    if bias is None:
        return out
    if out.dtype != bias.dtype:
        return out + bias
    out += bias
    return out


def _does_not_fit(x, weight) -> ShapeError:
    """The error of `linear` for shapes that do not fit."""
    if weight.ndim != 2:
        return ShapeError(f"linear: a weight of shape {weight.shape}; expected (out, in).")
    hint = "Flatten images first, as nn.Flatten() does."
    if x.size == weight.shape[1]:
        hint = "It has as many numbers as one example: is the batch axis missing, as in x.unsqueeze(0)?"
    return ShapeError(
        f"linear: input {x.shape} for a weight {weight.shape} (out, in): the input's last axis must have size "
        f"{weight.shape[-1]}. {hint}"
    )


def _rows(x):
    return x if x.ndim == 2 else x.reshape((math.prod(x.shape[:-1]), x.shape[-1]))


linear.defvjp(
    x=lambda g, weight: product(g, weight),
    weight=lambda g, x: product(_rows(g).T, _rows(x)),
    bias=lambda g: sum_rows(g),
)
linear.defjvp(
    x=lambda t, weight: product(t, weight.T),
    weight=lambda t, x: product(x, t.T),
    bias=lambda t: t,  # the engine repeats it over the batch
)


def sum_rows(g):
    """The sum over all axes but the last."""
    return total(_rows(g), 0)


@composite
def dot(a: TensorLike, b: TensorLike) -> Tensor:
    """numpy.dot: the product of numbers, inner product of vectors, matrix product (last by second last axis)."""
    if a.ndim == 0 or b.ndim == 0:
        return a * b
    if b.ndim <= 2:
        return matmul(a, b)
    return tensordot(a, b, axes=((-1,), (-2,)))


@composite
def outer(a: TensorLike, b: TensorLike) -> Tensor:
    """out[i, j] = a[i] b[j] of the flattened a and b."""
    return a.reshape((-1, 1)) * b.reshape((1, -1))


@composite
def tensordot(a: TensorLike, b: TensorLike, axes: int | tuple[int | Sequence[int], int | Sequence[int]] = 2) -> Tensor:
    """The sum of products over `axes`: so many last of a with first of b, or a pair of lists of axes (as NumPy)."""
    left: Sequence[int]
    right: Sequence[int]
    if isinstance(axes, int):
        left, right = range(a.ndim - axes, a.ndim), range(axes)
    else:
        left, right = (tuple(part) if isinstance(part, (tuple, list)) else (part,) for part in axes)
    left = [check_axis("tensordot", i, a.ndim) for i in left]
    right = [check_axis("tensordot", i, b.ndim) for i in right]
    if [a.shape[i] for i in left] != [b.shape[i] for i in right]:
        raise ShapeError(f"tensordot: axes {left} of {a.shape} and {right} of {b.shape} differ in size.")
    a_rest = [i for i in range(a.ndim) if i not in left]
    b_rest = [i for i in range(b.ndim) if i not in right]
    inner = math.prod(a.shape[i] for i in left)
    rows = transpose(a, axes=(*a_rest, *left)).reshape((math.prod(a.shape[i] for i in a_rest), inner))
    columns = transpose(b, axes=(*right, *b_rest)).reshape((inner, math.prod(b.shape[i] for i in b_rest)))
    return matmul(rows, columns).reshape(tuple(chain((a.shape[i] for i in a_rest), (b.shape[i] for i in b_rest))))


# --- einsum ---


@primitive(symbol="einsum", local="einsum of the others", view=True)
def _einsum(*operands: TensorLike, terms: tuple[str, ...], result: str) -> Tensor:
    """einsum of explicit terms, each of which names a letter at most once."""
    return kernels(*operands).einsum(f"{','.join(terms)}->{result}", *operands)


def _einsum_pull(g, operands, position, terms, result):
    """The same einsum with the gradient in the operand's place and their letters exchanged."""
    mine, shape = terms[position], operands[position].shape
    others = [(t, o) for i, (t, o) in enumerate(zip(terms, operands, strict=True)) if i != position]
    known = set(result).union(*(set(term) for term, _ in others))
    kept = "".join(letter for letter in mine if letter in known)
    part = _einsum(g, *(o for _, o in others), terms=(result, *(t for t, _ in others)), result=kept)
    if kept != mine:  # letters that only this operand has were summed: every element along them gets the same
        part = part.reshape(tuple(part.shape[kept.index(c)] if c in kept else 1 for c in mine))
    # an axis of size 1 in the others is broadcast to this one's
    sizes = tuple(n if size == 1 else size for size, n in zip(part.shape, shape, strict=True))
    return part if part.shape == sizes else broadcast_to(part, sizes)


def _einsum_push(t, operands, position, terms, result):
    return _einsum(*operands[:position], t, *operands[position + 1 :], terms=terms, result=result)


_einsum.defvjp(operands=_einsum_pull)
_einsum.defjvp(operands=_einsum_push)


@composite
def einsum(subscripts: str, *operands: TensorLike) -> Tensor:
    """Einstein summation as `numpy.einsum`, with explicit or implicit result, repeated letters and '...'."""
    left, arrow, result = subscripts.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(operands):
        raise ShapeError(f"einsum: {subscripts!r} has {len(terms)} terms for {len(operands)} operands.")
    letters = [c for c in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in subscripts]
    terms, dots = _spell_out_dots(subscripts, terms, operands, letters)
    if arrow:
        result = result.replace("...", dots)
    else:
        flat = "".join(terms)
        result = dots + "".join(sorted(c for c in set(flat) - set(dots) if flat.count(c) == 1))
    pairs = [_take_diagonals(term, x) for term, x in zip(terms, operands, strict=True)]
    return _einsum(*(x for _, x in pairs), terms=tuple(term for term, _ in pairs), result=result)


def _spell_out_dots(subscripts, terms, operands, letters):
    """Write letters in the place of '...'; returns the new terms and the letters of the longest '...'."""
    hidden = [x.ndim - len(term.replace("...", "")) for term, x in zip(terms, operands, strict=True)]
    for term, x, extra in zip(terms, operands, hidden, strict=True):
        if extra < 0 or (extra and "..." not in term):
            raise ShapeError(f"einsum: term {term!r} of {subscripts!r} does not fit an operand of shape {x.shape}.")
    dots = "".join(letters[: max(hidden, default=0)])
    return [term.replace("...", dots[len(dots) - n :]) for term, n in zip(terms, hidden, strict=True)], dots


def _take_diagonals(term, x):
    """An operand whose term repeats a letter, such as 'iij', as its diagonal with each letter once."""
    while len(set(term)) < len(term):
        letter = next(c for c in term if term.count(c) > 1)
        first = term.index(letter)
        second = term.index(letter, first + 1)
        if x.shape[first] != x.shape[second]:
            raise ShapeError(f"einsum: letter {letter!r} names axes of sizes {x.shape[first]} and {x.shape[second]}.")
        x = diagonal(x, 0, first, second)
        term = "".join(c for i, c in enumerate(term) if i not in (first, second)) + letter
    return term, x
