"""Cases of reading and writing parts, and of sorting."""

import numpy as np
from hypothesis import strategies as st

from tests.support.op_cases.case import Call, Case, boxes
from tests.support.strategies import distinct, indices, integers, shapes, single_axis, uniform

ALL = ("f2", "f4", "f8", "i4", "i8")


@st.composite
def read(draw, as_option=True):
    x = draw(uniform(boxes()))
    index = draw(indices(x.shape))
    if not as_option:
        return Call((x, index))
    return Call((x,), {"index": _library_index(index)})


def _library_index(index) -> tuple:
    """An index as the primitives get it: a tuple with arrays for lists."""
    parts = index if isinstance(index, tuple) else (index,)
    return tuple(np.asarray(part, np.intp) if isinstance(part, list) else part for part in parts)


def _read(x, index):
    return x[tuple(index) if isinstance(index, tuple) else index]


@st.composite
def put(draw):
    shape = draw(boxes())
    index = _library_index(draw(indices(shape)))
    return Call((draw(uniform(np.zeros(shape)[index].shape)),), {"index": index, "shape": shape})


def _put(g, index, shape):
    out = np.zeros(shape, g.dtype)
    np.add.at(out, index, g)
    return out


@st.composite
def written(draw, primitive=False):
    """x, an index that names nothing twice, and a value that may have to be broadcast."""
    x = draw(uniform(boxes()))
    index = draw(indices(x.shape, distinct_elements=True))
    value = draw(uniform(_broadcasting_to(draw, x[index].shape)))
    if primitive:
        return Call((x, value), {"index": _library_index(index)})
    return Call((x, index, value))


def _broadcasting_to(draw, shape):
    """A shape that broadcasts to this one."""
    kept = tuple(1 if n != 1 and draw(st.integers(0, 3)) == 0 else n for n in shape)
    return kept[draw(st.integers(0, len(kept))) :] if draw(st.booleans()) else kept


def _write(x, index, value):
    out = np.array(x, np.result_type(x, value) if np.iscomplexobj(value) else x.dtype)
    out[index] = value
    return out


@st.composite
def added(draw):
    x = draw(uniform(boxes()))
    index = draw(indices(x.shape))
    return Call((x, index, draw(uniform(_broadcasting_to(draw, x[index].shape)))))


def _add(x, index, value):
    out = np.array(x, np.result_type(x, value))
    np.add.at(out, index, np.broadcast_to(value, out[index].shape))
    return out


@st.composite
def taken(draw):
    x = draw(uniform(boxes(min_dims=1, min_side=1)))
    axis = draw(st.one_of(st.none(), single_axis(x.ndim)))
    size = x.size if axis is None else x.shape[axis]
    return Call((x, draw(integers(shapes(max_dims=2), -size, size)), axis))


@st.composite
def taken_along(draw):
    """Indices of x's shape but for `axis`; there, and in axes of size 1 on either side, sizes may differ."""
    shape = draw(boxes(min_dims=1, min_side=1))
    axis = draw(single_axis(len(shape)))
    x_shape = tuple(1 if draw(st.integers(0, 4)) == 0 else n for n in shape)
    own = [1 if draw(st.integers(0, 4)) == 0 else n for n in shape]
    own[axis] = draw(st.integers(0, 4))
    n = x_shape[axis]
    return Call((draw(uniform(x_shape)), draw(integers(tuple(own), -n, n)), axis))


@st.composite
def gathered(draw, writing=False):
    """PyTorch's form: the index may be smaller than x along the other axes, and src larger than the index."""
    shape = draw(boxes(min_dims=1, min_side=1))
    axis = draw(single_axis(len(shape)))
    own = [draw(st.integers(0, n)) for n in shape]
    own[axis] = draw(st.integers(0, 5))
    x, index = draw(uniform(shape)), draw(integers(tuple(own), 0, shape[axis]))
    if not writing:
        return Call((x, axis, index))
    return Call((x, axis, index, draw(uniform(tuple(n + draw(st.integers(0, 1)) for n in own)))))


def _places(axis, index):
    places = list(np.indices(index.shape))
    places[axis] = index
    return tuple(places)


def _gather(x, dim, index):
    return x[_places(dim, index)]


def _scatter_add(x, dim, index, src):
    return _add(x, _places(dim, index), src[tuple(slice(0, n) for n in index.shape)])


@st.composite
def embedded(draw):
    words, features = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    return Call((draw(integers(shapes(max_dims=2), 0, words)), draw(uniform((words, features)))))


@st.composite
def classes(draw):
    count = draw(st.integers(1, 5))
    return Call(
        (draw(integers(shapes(), 0, count)),),
        {"num_classes": count, "dtype": draw(st.sampled_from([np.float32, np.float64, np.int64]))},
    )


@st.composite
def sorting(draw, none=True):
    x = draw(distinct(boxes(min_dims=1)))
    return Call((x,), {"axis": draw(st.one_of(st.none(), single_axis(x.ndim)) if none else single_axis(x.ndim))})


@st.composite
def ranked(draw):
    x = draw(distinct(boxes(min_dims=1)))
    axis = draw(single_axis(x.ndim))
    return Call((x, draw(st.integers(0, x.shape[axis]))), {"axis": axis, "largest": draw(st.booleans())})


def _topk(x, k, axis=-1, largest=True):
    order = np.argsort(-x if largest else x, axis=axis, kind="stable")
    order = np.take(order, np.arange(k), axis=axis)
    return np.take_along_axis(x, order, axis), order


OPS = {
    "getitem": Case(read(), _read, _read, ALL),
    "put": Case(put(), _put, _put, ALL),
    "index_update": Case(
        written(primitive=True),
        lambda x, value, index: _write(x, index, value),
        lambda x, value, index: _write(x, index, value),
        ALL,
        lambda x, *value: x,
    ),
    "one_hot": Case(
        classes(), lambda indices, num_classes, dtype: np.eye(num_classes, dtype=dtype)[indices], differentiable=False
    ),
    "argsort": Case(
        sorting(), lambda x, axis: np.argsort(x, axis=axis, kind="stable"), differentiable=False, dtypes=ALL
    ),
}

COMPOSITES = {
    "getitem": Case(read(as_option=False), _read, _read, ALL),
    "index_update": Case(written(), _write, _write, ALL, lambda x, *value: x),
    "index_add": Case(added(), _add, _add, ALL),
    "take": Case(taken(), lambda x, i, axis: np.take(x, i, axis), lambda x, i, axis: np.take(x, i, axis), ALL),
    "take_along_axis": Case(taken_along(), np.take_along_axis, np.take_along_axis, ALL),
    "gather": Case(gathered(), _gather, _gather, ALL),
    "scatter_add": Case(gathered(writing=True), _scatter_add, _scatter_add, ALL),
    "embedding": Case(embedded(), lambda indices, weight: weight[indices], lambda i, w: w[i]),
    "sort": Case(sorting(), lambda x, axis: np.sort(x, axis=axis), dtypes=ALL, distinct=True),
    "topk": Case(ranked(), _topk, dtypes=("f4", "f8"), distinct=True),
}
