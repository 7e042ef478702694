"""Numbers that change from step to step, for kernels that may be part of a captured step.

A captured step is launched again and again with the arguments that its kernels had when it was recorded. What the host
computes anew for each step, a learning rate or the place in a stream of random numbers, must therefore lie in device
memory. A kernel with such a number has two parameters for it: the number itself, and a pointer, null unless captured.

After this file you can say how these numbers get there without an upload, and without the host waiting. All numbers of
a step lie side by side in one slot of a ring, in pinned memory, where the host writes them before the replay; the first
kernel in the recording that needs any of them comes after a small one (`fetch.cu`) which copies the next slot to the
device. The host may be as many steps ahead of the device as there are slots; only then does it wait.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy import int32, uintp

from minigrad.backend.arrays import Array
from minigrad.backend.device import namespace
from minigrad.backend.gpu.launching import Source

FETCH = Source("fetch.cu")
SLOTS = 64  # steps that the host may be ahead
WORDS = 2048  # of 8 bytes in a slot; the first one says how many others are used


def changing(
    like: Array, make: Callable[[], np.ndarray], form: np.ndarray, holds: Callable[[], bool] | None = None
) -> Array | None:
    """None, unless a step is being captured on the device of `like`: then where the numbers of each replay will lie.

    Parameters
    ----------
    like : array
        Any array of the device.
    make : function
        Called on the host before each replay, the first included; gives the numbers of that step. Whatever an eager
        step would count, it counts. It is not called while the step is recorded: that runs the Python code of a step,
        but takes no step, and may fail.
    form : array
        Any array of the size and the dtype, float64 or uint64, of what `make` gives.
    holds : function, optional
        Whether what was recorded here is still what the step would do. If not, the step is captured anew.
    """
    return None if _here.numbers is None else _here.numbers.add(make, form, holds)


class _Here(threading.local):
    """The numbers of the step that this thread is recording."""

    numbers: Numbers | None = None


_here = _Here()


@contextmanager
def recording(numbers: Numbers) -> Iterator[None]:
    """Inside, `changing` enters what it is given in `numbers`."""
    outer, _here.numbers = _here.numbers, numbers
    try:
        yield
    finally:
        _here.numbers = outer


def is_recording() -> bool:
    """Whether this thread is recording a step."""
    return _here.numbers is not None


def refuse_capture(what: str) -> None:
    """Raise RuntimeError if a step is being recorded: what is called here counts, or decides, on the host.

    In a replay it would do again what it did in the recording, and nobody would notice.
    """
    if is_recording():
        raise RuntimeError(f"{what} takes numbers from the host and cannot be captured; call it outside of the step")


class Numbers:
    """The changing numbers of one captured step.

    Made before the stream captures, because what is allocated and filled here must not be part of the recording.
    `write()` comes before each replay, `launched()` after it.
    """

    def __init__(self, like: Array):
        xp = namespace(like)
        self._like, self._events = like, [xp.cuda.Event(disable_timing=True) for _ in range(2)]
        self._memory = xp.cuda.alloc_pinned_memory(SLOTS * WORDS * 8)  # at least so many bytes
        self._ring = np.frombuffer(self._memory, np.uint64, SLOTS * WORDS).reshape(SLOTS, WORDS)
        self._ring[:, 0] = 0
        self._turn, self._numbers = xp.zeros(1, "uint64"), xp.zeros(WORDS - 1, "uint64")
        self._makes: list[tuple[Callable[[], np.ndarray], slice, np.dtype]] = []
        self._conditions: list[Callable[[], bool]] = []
        self._used = self._written = 0
        self._fetch()  # compiles the kernel, which takes time; slot 0 is empty
        self._written = 1

    def _fetch(self) -> None:
        with self._like.device:
            FETCH.launch(
                "fetch", self._numbers.view("float64"), (1,), (128,),
                uintp(self._memory.ptr), int32(SLOTS), int32(WORDS), self._turn, self._numbers,
            )  # fmt: skip

    def add(self, make: Callable[[], np.ndarray], form: np.ndarray, holds: Callable[[], bool] | None = None) -> Array:
        """Enter a function, and give the place on the device for what it makes."""
        if form.ndim != 1 or form.dtype not in (np.float64, np.uint64):
            raise TypeError(
                f"changing numbers: expected a 1-d array of float64 or uint64, got {form.dtype}{form.shape}."
            )
        place = slice(self._used, self._used + form.size)
        if place.stop > WORDS - 1:
            raise ValueError(f"a captured step has {place.stop} changing numbers; there is room for {WORDS - 1}.")
        if not self._makes:
            self._fetch()
        self._makes.append((make, place, form.dtype))
        if holds is not None:
            self._conditions.append(holds)
        self._used = place.stop
        return self._numbers[place].view(form.dtype)

    def hold(self) -> bool:
        """Whether a replay would still do what the step does."""
        return all(holds() for holds in self._conditions)

    def write(self) -> None:
        """Make the numbers of the next replay, and write them into the next slot of the ring."""
        if not self._makes:
            return
        turn = self._written % SLOTS
        half, start = divmod(turn, SLOTS // 2)
        if not start and self._written >= SLOTS:
            self._events[half].synchronize()  # the device has read the slots that are now written again
        slot = self._ring[turn]
        for make, place, dtype in self._makes:
            numbers = make()
            if numbers.dtype != dtype or numbers.shape != (place.stop - place.start,):
                raise TypeError(
                    f"changing numbers: expected {place.stop - place.start} of {dtype}, as when the step was "
                    f"recorded, got {numbers.dtype}{numbers.shape}."
                )
            slot[1 + place.start : 1 + place.stop] = numbers.view(np.uint64)
        slot[0] = self._used
        self._written += 1

    def launched(self) -> None:
        """Note that the replay was launched on the current stream."""
        half, start = divmod(self._written % SLOTS, SLOTS // 2)
        if self._makes and not start:  # that replay reads the last slot of the other half
            self._events[1 - half].record(namespace(self._like).cuda.get_current_stream())
