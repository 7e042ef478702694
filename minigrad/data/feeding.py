"""How batches get to a GPU: copied there while it computes, or gathered there from a data set that lies there whole.

A copy from ordinary memory makes the host wait. From *pinned* memory, which the system cannot move, the GPU copies by
itself, on a stream of its own beside the stream of the computations. Two things must then not happen too early: filling
a pinned buffer again whose copy is under way, and copying into memory that an earlier computation still reads. Events,
marks in a stream that others wait for, see to both.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minigrad.autograd.tensor import Tensor
from minigrad.backend import Array, as_array, namespace, to_device

from .dataset import DataError, Dataset, to_numpy

Arrays = tuple[np.ndarray, ...]
GIB = 2**30
MOST = 0.9  # of the free memory that a data set may take: the model needs some too


@dataclass
class _Slot:
    """Pinned memory for one batch, and when its last copy is done."""

    copied: Any
    memory: Any = None
    size: int = 0
    fields: list[np.ndarray] = field(default_factory=list)


@dataclass
class _Room:
    """Memory of the device for the next batch; from `free` on nothing reads what lay there before."""

    arrays: list[Any]
    free: Any

    def fits(self, fields: list[np.ndarray]) -> bool:
        return [(a.shape, a.dtype) for a in self.arrays] == [(f.shape, f.dtype) for f in fields]


class Uploads:
    """Batches on their way to a GPU: `stage` may run in another thread, `send` in the one that computes.

    Parameters
    ----------
    device : str
    slots : int
        Pinned buffers that take turns: two more than there are batches ready at a time.
    """

    def __init__(self, device: str, slots: int):
        self.like = to_device(np.zeros(0, np.float32), device)
        self.cuda = namespace(self.like).cuda
        with self.like.device:  # type: ignore[attr-defined]
            self.stream = self.cuda.Stream(non_blocking=True)
            self.slots = [_Slot(self._event()) for _ in range(slots)]
        self.staged = 0
        self.room: _Room | None = None

    def stage(self, arrays: Arrays) -> _Slot:
        """The batch in pinned memory. Waits until the last copy out of that memory is done."""
        slot = self.slots[self.staged % len(self.slots)]
        self.staged += 1
        slot.copied.synchronize()
        given = [np.asarray(as_array(array)) for array in arrays]
        starts = np.cumsum([0, *(-(-array.nbytes // 256) * 256 for array in given)])
        if slot.size < starts[-1]:
            slot.size = int(starts[-1])
            slot.memory = self.cuda.alloc_pinned_memory(slot.size)
        slot.fields = []
        for array, start in zip(given, starts, strict=False):
            pinned = np.frombuffer(slot.memory, array.dtype, array.size, int(start)) if array.size else array
            slot.fields.append(pinned.reshape(array.shape))
            np.copyto(slot.fields[-1], array)
        return slot

    def send(self, slot: _Slot) -> tuple[Tensor, ...]:
        """The batch as Tensors of the device; the current stream waits for the copy, the host does not."""
        with self.like.device:  # type: ignore[attr-defined]
            computing = self.cuda.get_current_stream()
            room = self.room
            if room is None or not room.fits(slot.fields):
                room = self._room(slot.fields, computing)
            self.stream.wait_event(room.free)
            for array, pinned in zip(room.arrays, slot.fields, strict=True):
                if array.size:
                    array.set(pinned, stream=self.stream)
            slot.copied.record(self.stream)
            computing.wait_event(slot.copied)
            # The next batch's memory is taken now: what used it before lies in the stream already, the step to come
            # does not, and beside that step it can be filled.
            self.room = self._room(slot.fields, computing)
        return tuple(map(Tensor, room.arrays))

    def _room(self, fields: list[np.ndarray], computing: Any) -> _Room:
        xp = namespace(self.like)
        arrays = [xp.empty(array.shape, array.dtype) for array in fields]
        free = self._event()
        free.record(computing)
        return _Room(arrays, free)

    def _event(self) -> Any:
        return self.cuda.Event(disable_timing=True)


class Resident:
    """A data set that lies on a device whole, in the dtypes that it has: bytes stay bytes.

    Raises
    ------
    DataError
        If it does not fit into the device's free memory.
    """

    def __init__(self, dataset: Dataset, device: str):
        rows = np.arange(len(dataset))
        if getattr(dataset, "gathers", False):
            whole = dataset[rows]
            fields = tuple(map(to_numpy, whole if isinstance(whole, (tuple, list)) else (whole,)))
        else:
            samples = [dataset[int(row)] for row in rows]
            columns = zip(*(s if isinstance(s, (tuple, list)) else (s,) for s in samples), strict=True)
            fields = tuple(np.stack([to_numpy(value) for value in column]) for column in columns)
        self.dataset, self.device = dataset, device
        check_fits(sum(array.nbytes for array in fields), device)
        self.fields = tuple(to_device(as_array(array), device) for array in fields)

    def upload(self, order: np.ndarray) -> Array:
        """An epoch's order on the device."""
        return to_device(order, self.device)

    def gather(self, rows: Array) -> tuple[Any, ...]:
        """The samples at these rows, an array of the device: one launch for each field."""
        return tuple(namespace(array).take(array, rows, axis=0) for array in self.fields)


def check_fits(needed: int, device: str) -> None:
    """Raise DataError unless so many bytes fit into what is free on the device, with room left for a model."""
    like: Any = to_device(np.zeros(0, np.float32), device)
    with like.device:
        free, total = namespace(like).cuda.runtime.memGetInfo()
    if needed > MOST * free:
        raise DataError(
            f"DataLoader: cache=True needs {needed / GIB:.2f} GiB for the data set; of the {total / GIB:.2f} GiB of "
            f"{device!r}, {free / GIB:.2f} are free, of which it may take {MOST:.0%}. Use cache=False, which sends "
            "batch after batch, or load the images as uint8."
        )
