"""Cases of what arranges, repeats, pads, joins and cuts: all linear, so the reference takes complex numbers too."""

import numpy as np
from hypothesis import strategies as st

from tests.support.op_cases.case import Call, Case, boxes, calls
from tests.support.strategies import axes, shapes, single_axis, uniform

ALL = ("f2", "f4", "f8", "i4", "i8")


def linear(strategy, reference, **flags):
    """An op of which the reference is its own derivative."""
    return Case(strategy, reference, reference, ALL, **flags)


@st.composite
def reshaped(draw):
    x = draw(uniform(boxes()))
    divisors = [n for n in range(1, x.size + 1) if x.size % n == 0] if x.size else [0]
    n = draw(st.sampled_from(divisors))
    forms = [x.shape[::-1], (x.size,), (*x.shape, 1), (-1,)] + ([(n, -1), (-1, 1, n)] if x.size else [])
    return Call((x,), {"shape": draw(st.sampled_from(forms))})


@st.composite
def ordered(draw, name="axes", none=True):
    x = draw(uniform(boxes()))
    order = tuple(a - x.ndim * draw(st.integers(0, 1)) for a in draw(st.permutations(range(x.ndim))))
    return Call((x,), {name: None if none and draw(st.booleans()) else order})


@st.composite
def rolled(draw):
    x = draw(uniform(boxes()))
    axis = draw(axes(x.ndim).filter(lambda axis: axis != ()))
    shift = st.integers(-5, 5)
    if axis is None and draw(st.booleans()):
        return Call((x,), {"shift": (draw(shift), draw(shift))})
    return Call((x,), {"shift": draw(st.tuples(*[shift] * len(axis)) if type(axis) is tuple else shift), "axis": axis})


@st.composite
def broadcast(draw):
    shape = draw(shapes(max_side=3))
    x = draw(uniform(tuple(1 if draw(st.booleans()) else n for n in shape)))
    return Call((x,), {"shape": (*draw(shapes(max_dims=2, max_side=2)), *shape)})


def _widths(ndim, most):
    pair = st.tuples(st.integers(0, most), st.integers(0, most))
    return st.tuples(*[pair] * ndim)


@st.composite
def padded(draw, public=False):
    """Padding; for modes that repeat the tensor's own values it is not empty."""
    mode = draw(st.sampled_from(["constant", "edge", "reflect", "symmetric", "wrap"])) if public else "constant"
    x = draw(uniform(boxes(min_side=0 if mode == "constant" else 1)))
    if not public:
        return Call((x,), {"widths": draw(_widths(x.ndim, 3)), "value": draw(st.sampled_from([0, 1.5]))})
    width = draw(
        st.one_of(
            st.integers(0, 3),
            st.tuples(st.integers(0, 3), st.integers(0, 2)),
            _widths(x.ndim, 5) if x.ndim else st.just(1),
        )
    )
    constant = {"constant_values": draw(st.sampled_from([0, 2]))} if mode == "constant" else {}
    return Call((x, width), {"mode": mode} | constant)


def _pad(x, width, mode="constant", **options):
    return np.pad(x, np.broadcast_to(np.asarray(width), (x.ndim, 2)).tolist(), mode, **options) if x.ndim else x


def _pad_constant(x, widths, value):
    return np.pad(x, widths, constant_values=value) if widths else x


@st.composite
def joined(draw, spread=False):
    """Tensors that agree in all but one axis: as a list, or spread over the arguments as the primitive takes them."""
    shape = draw(boxes(min_dims=1))
    axis = draw(single_axis(len(shape)))
    sizes = draw(st.lists(st.integers(0, 3), min_size=1, max_size=4))
    parts = []
    for size in sizes:
        own = list(shape)
        own[axis] = size
        parts.append(draw(uniform(tuple(own))))
    if not spread and draw(st.integers(0, 5)) == 0:
        axis = None
    return Call(tuple(parts) if spread else (parts,), {"axis": axis})


@st.composite
def stacked(draw):
    shape = draw(boxes())
    parts = [draw(uniform(shape)) for _ in range(draw(st.integers(1, 3)))]
    return Call((parts,), {"axis": draw(single_axis(len(shape) + 1))})


@st.composite
def cut(draw):
    x = draw(uniform(boxes(min_dims=1)))
    axis = draw(single_axis(x.ndim))
    size = x.shape[axis]
    equal = st.sampled_from([n for n in range(1, 5) if size % n == 0])
    places = st.lists(st.integers(0, size), max_size=3).map(sorted)
    return Call((x, draw(st.one_of(equal, places))), {"axis": axis})


@st.composite
def triangle(draw):
    return Call((draw(uniform(boxes(min_dims=2))),), {"k": draw(st.integers(-3, 3))})


@st.composite
def diagonals(draw):
    x = draw(uniform(boxes(min_dims=2)))
    first = draw(single_axis(x.ndim))
    second = draw(single_axis(x.ndim).filter(lambda a: a % x.ndim != first % x.ndim))
    return Call((x,), {"offset": draw(st.integers(-2, 2)), "axis1": first, "axis2": second})


@st.composite
def moved(draw):
    x = draw(uniform(boxes()))
    source = draw(axes(x.ndim, none=False))
    if type(source) is int:
        return Call((x, source, draw(single_axis(x.ndim))))
    return Call((x, source, tuple(draw(st.permutations(range(x.ndim)))[: len(source)])))


@st.composite
def swapped(draw):
    x = draw(uniform(boxes(min_dims=1)))
    return Call((x, draw(single_axis(x.ndim)), draw(single_axis(x.ndim))))


@st.composite
def squeezed(draw):
    x = draw(uniform(shapes(max_dims=4, max_side=2)))
    ones = [i for i, n in enumerate(x.shape) if n == 1]
    some = tuple(a - x.ndim * draw(st.integers(0, 1)) for a in ones if draw(st.booleans()))
    return Call((x,), {"axis": draw(st.sampled_from([None, some, *ones]))})


@st.composite
def widened(draw):
    x = draw(uniform(boxes()))
    axis = draw(single_axis(x.ndim + 1))
    return Call((x, draw(st.sampled_from([axis, (axis,), (0, -1)]))))


@st.composite
def flattened(draw):
    x = draw(uniform(shapes(max_dims=4)))
    if not x.ndim:
        return Call((x,))
    first, last = sorted((draw(st.integers(0, x.ndim - 1)), draw(st.integers(0, x.ndim - 1))))
    return Call((x, first - x.ndim * draw(st.integers(0, 1)), last))


def _flatten(x, first=0, last=-1):
    if not x.ndim:
        return x.reshape(1)
    first, last = first % x.ndim, last % x.ndim
    return x.reshape(*x.shape[:first], int(np.prod(x.shape[first : last + 1])), *x.shape[last + 1 :])


@st.composite
def tiled(draw):
    reps = draw(st.one_of(st.integers(0, 3), st.lists(st.integers(0, 2), max_size=4).map(tuple)))
    return Call((draw(uniform(shapes(max_side=3))), reps))


@st.composite
def repeated(draw):
    x = draw(uniform(boxes(min_dims=1)))
    axis = draw(axes(x.ndim, many=False))
    size = x.size if axis is None else x.shape[axis]
    each = st.lists(st.integers(0, 3), min_size=size, max_size=size)
    return Call((x, draw(st.one_of(st.integers(0, 3), each)), axis))


@st.composite
def flipped(draw):
    x = draw(uniform(boxes()))
    return Call((x,), {"axis": draw(axes(x.ndim))})


OPS = {
    "reshape": linear(reshaped(), lambda x, shape: np.reshape(x, shape)),
    "transpose": linear(ordered(), np.transpose),
    "flip": linear(flipped(), np.flip),
    "roll": linear(rolled(), np.roll),
    "broadcast_to": linear(broadcast(), np.broadcast_to),
    "pad_constant": linear(padded(), _pad_constant),
    "concatenate": linear(joined(spread=True), lambda *parts, axis: np.concatenate(parts, axis)),
    "tril": linear(triangle(), np.tril),
    "triu": linear(triangle(), np.triu),
}

COMPOSITES = {
    "permute": linear(ordered("dims", none=False), lambda x, dims: np.transpose(x, dims)),
    "moveaxis": linear(moved(), np.moveaxis),
    "swapaxes": linear(swapped(), np.swapaxes),
    "squeeze": linear(squeezed(), np.squeeze),
    "expand_dims": linear(widened(), np.expand_dims),
    "flatten": linear(flattened(), _flatten),
    "ravel": linear(calls(uniform(boxes())), np.ravel),
    "tile": linear(tiled(), np.tile),
    "repeat": linear(repeated(), np.repeat),
    "pad": linear(padded(public=True), _pad),
    "concatenate": linear(joined(), np.concatenate),
    "stack": linear(stacked(), np.stack),
    "split": linear(cut(), np.split),
    "diagonal": linear(diagonals(), np.diagonal),
    "trace": linear(diagonals(), np.trace, result_dtype=lambda dtype: np.sum(np.zeros(1, dtype)).dtype),
}
