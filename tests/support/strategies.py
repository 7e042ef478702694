"""What the property tests draw: arrays in every shape, dtype and layout; axes in every form; indices; directions.

Shapes, axes, layouts and indices are drawn by hypothesis, which shrinks them. The numbers inside come from a NumPy
generator whose seed hypothesis draws: that is fast, and gives numbers in general position, as derivatives need.
"""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

FLOATS = ("f2", "f4", "f8")
INTEGERS = ("i1", "i4", "i8", "u1")
LAYOUTS = ("C", "Fortran", "channels last", "negative strides", "every other", "broadcast view")

# How far a value may lie from the exact one, relative to the largest: some tens of roundings.
TOLERANCE = {np.dtype("f2"): 2e-2, np.dtype("f4"): 2e-5, np.dtype("f8"): 1e-11}


def seeds():
    """A NumPy generator in a state that hypothesis chose."""
    return st.integers(0, 2**32 - 1).map(np.random.default_rng)


# --- shapes ---


def shapes(min_dims=0, max_dims=3, min_side=0, max_side=4):
    """Shapes with, unless told otherwise, 0-d and size-0 ones among them."""
    return hnp.array_shapes(min_dims=min_dims, max_dims=max_dims, min_side=min_side, max_side=max_side)


def broadcastable_shapes(number=2, min_side=0, max_side=3, max_dims=3):
    """`number` shapes that broadcast together."""
    return hnp.mutually_broadcastable_shapes(
        num_shapes=number, min_side=min_side, max_side=max_side, max_dims=max_dims
    ).map(lambda result: result.input_shapes)


# --- values ---


@st.composite
def uniform(draw, shape, low=-2.0, high=2.0):
    """Numbers between low and high in general position; `shape` may be a strategy."""
    shape = draw(shape) if isinstance(shape, st.SearchStrategy) else shape
    return np.asarray(draw(seeds()).uniform(low, high, shape))


@st.composite
def distinct(draw, shape, gap=0.1):
    """Numbers of which no two, and none and 0, are closer than about half a gap: no ties, no kinks."""
    shape = draw(shape) if isinstance(shape, st.SearchStrategy) else shape
    random, size = draw(seeds()), int(np.prod(shape))
    places = random.permutation(size) - size // 2 + 0.5 + random.uniform(-0.2, 0.2, size)
    return (gap * places).reshape(shape)


@st.composite
def between_integers(draw, shape, low=-3, high=3, edge=0.1, half=False):
    """Numbers at least `edge` away from every integer, and with `half` from every half too."""
    shape = draw(shape) if isinstance(shape, st.SearchStrategy) else shape
    random = draw(seeds())
    part = random.uniform(edge, 0.5 - edge if half else 1 - edge, shape)
    return np.asarray(random.integers(low, high, shape) + part + (0.5 * random.integers(0, 2, shape) if half else 0))


@st.composite
def integers(draw, shape, low=0, high=10):
    """Integers from low to high - 1."""
    shape = draw(shape) if isinstance(shape, st.SearchStrategy) else shape
    return np.asarray(draw(seeds()).integers(low, high, shape))


@st.composite
def booleans(draw, shape):
    """True and False, about equally many."""
    shape = draw(shape) if isinstance(shape, st.SearchStrategy) else shape
    return np.asarray(draw(seeds()).integers(0, 2, shape) == 1)


def directions(shape):
    """Random directions (never ones, which hide errors that cancel in sums)."""
    return seeds().map(lambda random: np.asarray(random.standard_normal(shape)))


# --- layouts ---


def laid_out(array: np.ndarray, layout: str) -> np.ndarray:
    """The same values, otherwise in memory. (A broadcast view repeats the first entry along axis 0: other values.)"""
    array = np.asarray(array)
    if array.ndim == 0 or layout == "C":
        return np.ascontiguousarray(array).reshape(array.shape)
    if layout == "Fortran":
        return np.asfortranarray(array)
    if layout == "channels last":
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1) if array.ndim > 1 else array.copy()
    if layout == "negative strides":
        return np.ascontiguousarray(array[::-1])[::-1]
    if layout == "every other":
        wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
        wide[..., ::2] = array
        return wide[..., ::2]
    if layout == "broadcast view":
        return np.broadcast_to(array[:1], array.shape) if len(array) else array
    raise ValueError(f"no layout {layout!r}; expected one of {LAYOUTS}")


def layouts(repeating=True):
    """Names of layouts; without `repeating` only those that keep the values distinct."""
    return st.sampled_from(LAYOUTS if repeating else LAYOUTS[:-1])


@st.composite
def arrays(draw, shape=None, dtypes=FLOATS, repeating=True):
    """Arrays of any shape, dtype and layout."""
    array = draw(uniform(shapes() if shape is None else shape, -5, 5))
    array = np.abs(array) if (dtype := np.dtype(draw(st.sampled_from(dtypes)))).kind == "u" else array
    return laid_out(array.astype(dtype), draw(layouts(repeating)))


# --- axes ---


@st.composite
def single_axis(draw, ndim):
    """An axis, counted from either end."""
    return draw(st.integers(-ndim, ndim - 1))


@st.composite
def axes(draw, ndim, none=True, many=True):
    """None, an axis, or a tuple of axes, the empty one too, counted from either end."""
    forms = (["none"] if none else []) + (["one"] if ndim else []) + (["many"] if many else [])
    form = draw(st.sampled_from(forms))
    if form == "none":
        return None
    if form == "one":
        return draw(single_axis(ndim))
    chosen = draw(st.lists(st.integers(0, ndim - 1), unique=True, max_size=ndim)) if ndim else []
    return tuple(a - ndim if draw(st.booleans()) else a for a in chosen)


# --- indices ---


@st.composite
def indices(draw, shape, distinct_elements=False):
    """Anything that x[...] takes for this shape: ints, slices, ..., None, integer and bool arrays, lists, mixtures.

    With `distinct_elements` no element is named twice.
    """
    kinds = ["basic", "mask", "empty"]
    if shape and all(shape):
        kinds += ["integer arrays", "mixture", "list"] if not distinct_elements else []
    kind = draw(st.sampled_from(kinds))
    if kind == "mask":
        axes_masked = draw(st.integers(0, len(shape)))
        return draw(booleans(shape[:axes_masked]))
    if kind == "empty":
        return draw(st.sampled_from([(), Ellipsis, None, (Ellipsis, None), (None, Ellipsis)]))
    if kind == "integer arrays":
        return draw(hnp.integer_array_indices(shape, result_shape=hnp.array_shapes(max_dims=2, max_side=4)))
    if kind == "list":
        return draw(st.lists(st.integers(-shape[0], shape[0] - 1), max_size=4))
    if kind == "mixture":
        parts = [draw(_index_part(size)) for size in shape[: draw(st.integers(1, len(shape)))]]
        return tuple(parts)
    return draw(hnp.basic_indices(shape, allow_newaxis=True))


def _index_part(size):
    """A part of a mixed index for an axis of this size; arrays have three elements, to fit together."""
    in_range = st.integers(-size, size - 1)
    return st.one_of(
        in_range,
        in_range.map(np.int64),
        st.slices(size),
        st.lists(in_range, min_size=3, max_size=3),
        st.lists(in_range, min_size=3, max_size=3).map(np.asarray),
    )
