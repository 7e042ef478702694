"""What the host asks of the stand-in's GPU: work that it launches, and results that it waits for.

Everything that would run on a GPU goes through `launch`, under a name, and whatever makes the host wait through
`wait`. So a test can count both:

    with counted() as counts:
        step()
    assert counts.total <= 35 and not counts.waits and not counts.uploads

While a stream captures, as on CUDA, work is noted down and not run: results hold NaN, and to wait is an error.

Work runs at once, where a GPU would run it some time later. That hides mistakes of one kind: the host may overwrite
memory which a copy or a captured graph has yet to read. Inside of `delayed()` these two wait in a queue until the host
waits for them, or until other work has to come after them.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

launches: Counter[str] = Counter()
"""What was launched, by name: calls of the array library that compute or copy, kernels, calls of cuBLAS and cuDNN.

A view, an array that is not filled, or a question about shapes and dtypes launches nothing. CuPy needs several launches
for a few of its functions (`var`, `einsum`); they are counted as one, and so is a captured graph.
"""

traffic: Counter[str] = Counter()
"""How often the host had to wait for the device, by what for; and "upload", how often it sent an array there."""


@dataclass
class Counts:
    """What a block of code launched, waited for (by name) and uploaded."""

    launches: Counter[str] = field(default_factory=Counter)
    waits: Counter[str] = field(default_factory=Counter)
    uploads: int = 0

    @property
    def total(self) -> int:
        """The number of launches."""
        return self.launches.total()


@contextmanager
def counted() -> Iterator[Counts]:
    """Count what the block launches, waits for and uploads; the counts stand when it has ended."""
    counts, launched, moved = Counts(), launches.copy(), traffic.copy()
    try:
        yield counts
    finally:
        counts.launches = launches - launched
        counts.waits = traffic - moved
        counts.uploads = counts.waits.pop("upload", 0)


# --- work ---


def launch(name: str, work: Callable[[], Any]) -> Any:
    """Have the device do `work`, which writes into arrays that are there already."""
    launches[name] += 1
    notes = Stream.current().notes
    if notes is None:
        run_queued()
        return work()
    notes.append((name, work))
    return None


def launch_into(name: str, arrays: list[np.ndarray], work: Callable[[], list[np.ndarray]]) -> None:
    """The same for work which gives new arrays, and has been done once: `arrays` are what it gave.

    While a stream captures they lose what they hold, and get it when the graph runs.
    """
    launches[name] += 1
    notes = Stream.current().notes
    if notes is None:
        return
    spoil(arrays)

    def again() -> None:
        for array, new in zip(arrays, work(), strict=True):
            array[...] = new

    notes.append((name, again))


def spoil(arrays: list[np.ndarray]) -> None:
    """Put NaN, or 0, where nothing has been computed."""
    for array in arrays:
        array.fill(np.nan if array.dtype.kind in "fc" else 0)


def wait(name: str) -> None:
    """The host waits until all that was launched has run."""
    refuse_while_capturing(name)
    traffic[name] += 1
    run_queued()


def upload(name: str = "an array of the host") -> None:
    """The host sends an array, a list or a number to the device."""
    refuse_while_capturing(f"upload of {name}")
    traffic["upload"] += 1


def refuse_while_capturing(name: str) -> None:
    if Stream.current().notes is not None:
        raise RuntimeError(f"{name}: the current stream is capturing, so synchronous API calls are disallowed")


# --- work that a GPU does later ---

_delays = False
_queue: deque[Callable[[], Any]] = deque()
_done = 0  # how many of all that were ever queued have run


@contextmanager
def delayed() -> Iterator[None]:
    """Inside, graphs and copies from pinned memory run as late as they may."""
    global _delays
    _delays = True
    try:
        yield
    finally:
        _delays = False
        run_queued()


def launch_later(name: str, work: Callable[[], Any]) -> None:
    """Work that does not keep the host from going on: it may change memory of its own meanwhile."""
    launches[name] += 1
    _queue.append(work)
    if not _delays:
        run_queued()


def run_queued(up_to: int | None = None) -> None:
    """Do the work in the queue, in order; all of it, or only the first `up_to` of all that were ever queued."""
    global _done
    while _queue and (up_to is None or _done < up_to):
        _done += 1
        _queue.popleft()()


# --- streams, as CuPy's ---


class Stream:
    """CuPy's Stream. All work runs in one order here, so that streams never run side by side."""

    null: Stream
    _here = threading.local()

    def __init__(self, null: bool = False, non_blocking: bool = False, ptds: bool = False, priority: int | None = None):
        self.is_null, self.is_non_blocking = null, non_blocking
        self.ptr = 0 if null else id(self)
        self.notes: list[tuple[str, Callable[[], Any]]] | None = None
        self.kept: list[np.ndarray] = []
        self._outer: list[Stream] = []

    @classmethod
    def current(cls) -> Stream:
        return getattr(cls._here, "stream", cls.null)

    def use(self) -> Stream:
        self._here.stream = self
        return self

    def __enter__(self) -> Stream:
        self._outer.append(Stream.current())
        return self.use()

    def __exit__(self, *_: object) -> None:
        self._outer.pop().use()

    def synchronize(self) -> None:
        with self:
            wait("synchronize")

    @property
    def done(self) -> bool:
        return not _queue

    def record(self, event: Event | None = None) -> Event:
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        """Nothing to do: work runs in the order in which it was launched, on whichever stream."""

    def begin_capture(self, mode: int | None = None) -> None:
        if self.is_null:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        if self.notes is not None:
            raise RuntimeError("cudaErrorIllegalState: the stream is capturing already")
        self.notes, self.kept = [], []

    def end_capture(self) -> Graph:
        if self.notes is None:
            raise RuntimeError("cudaErrorIllegalState: the stream is not capturing")
        graph = Graph(self.notes, self.kept)
        self.notes, self.kept = None, []
        return graph

    def is_capturing(self) -> bool:
        return self.notes is not None


Stream.null = Stream(null=True)


class Event:
    """CuPy's Event: a place in the order of what was launched."""

    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False):
        self._place = 0

    def record(self, stream: Stream | None = None) -> None:
        self._place = _done + len(_queue)

    @property
    def done(self) -> bool:
        return _done >= self._place

    def synchronize(self) -> None:
        refuse_while_capturing("Event.synchronize")
        traffic["event"] += 1
        run_queued(self._place)


class Graph:
    """What a stream has captured, and the memory that was given out meanwhile: it is the graph's as long as it lives.

    Without that a library which is called by address would write into memory that NumPy has freed.
    """

    def __init__(self, notes: list[tuple[str, Callable[[], Any]]], kept: list[np.ndarray]):
        self.notes, self._kept = notes, kept

    def launch(self, stream: Stream | None = None) -> None:
        def run() -> None:
            for _, work in self.notes:
                work()

        refuse_while_capturing("Graph.launch")
        launch_later("graph", run)

    def upload(self, stream: Stream | None = None) -> None:
        """A graph is ready to run as it is."""


def get_current_stream(device_id: int = -1) -> Stream:
    return Stream.current()
