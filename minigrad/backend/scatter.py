"""Adding and writing at an index, on every array library.

An embedding's gradient sorts its rows first, so that each row is added to once; on a GPU integers are added as uint64.
"""

from __future__ import annotations

import numpy as np

from minigrad.backend.device import is_array, namespace


def put(values, index, shape):
    """Zeros of `shape` with the values added at `index`; an element named twice gets the sum."""
    buffer = namespace(values).zeros(shape, values.dtype)
    add_at(buffer, values, index)
    return buffer


def update(x, value, index):
    """A copy of x with the value written at `index`."""
    out = namespace(x).array(x)  # of a NumPy scalar a copy that can be written to
    out[index] = value
    return out


MOST_AXES_OF_AT = 32  # NumPy's ufunc.at writes past its memory where arrays have more (2.4: a segmentation fault)


def add_at(buffer, values, index) -> None:
    """buffer[index] += values, where an element named several times is added to several times."""
    if max(part.ndim for part in (buffer, values, *index) if is_array(part)) > MOST_AXES_OF_AT:
        _add_flat(buffer, values, index)
    elif not any(is_array(part) and part.dtype != bool and part.ndim for part in index):
        buffer[index] += values  # slices, single numbers and masks name each element once
    elif buffer.dtype == np.float16:  # a running total of float16 stands still at 2048 ones
        whole = namespace(buffer).zeros(buffer.shape, np.float32)
        add_at(whole, values.astype(np.float32), index)
        buffer += whole.astype(np.float16)
    elif len(index) == 1 and index[0].ndim == 1 and buffer.ndim == 2 and namespace(buffer) is np:
        _add_rows(buffer, values, index[0])
    elif buffer.dtype.kind == "f" or namespace(buffer) is np:
        namespace(buffer).add.at(buffer, index, values)
    else:  # CUDA adds atomically to floats and to uint64, of which every integer is a part, modulo its size
        wide = namespace(buffer).zeros(buffer.shape, np.uint64)
        namespace(buffer).add.at(wide, index, values.astype(np.uint64))
        buffer += wide.astype(buffer.dtype)


def _add_flat(buffer, values, index) -> None:
    """The same by the places in the flattened buffer, for arrays of any number of axes."""
    xp = namespace(buffer)
    places = xp.arange(buffer.size).reshape(buffer.shape)[index]
    flat = xp.zeros(buffer.size, buffer.dtype)
    add_at(flat, xp.broadcast_to(values, places.shape).reshape(-1), (xp.asarray(places).reshape(-1),))
    buffer += flat.reshape(buffer.shape)


def _add_rows(buffer, rows, index) -> None:
    """The same for whole rows, as an embedding needs it: sorted and summed in runs, which ufunc.at does one by one."""
    if not index.size:
        return
    index = index.astype(np.intp, copy=False) % len(buffer)  # -1 and the last row are one row
    order = np.argsort(index, kind="stable")
    ordered = index[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    buffer[ordered[starts]] += np.add.reduceat(rows[order], starts, axis=0, dtype=buffer.dtype)
