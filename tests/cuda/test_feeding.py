"""Batches on their way to a GPU: what arrives, what is overwritten too early, and what a cached data set gives.

The stand-in's copies from pinned memory are made as late as the events allow: a buffer that is filled again too early,
or memory that is copied into while a computation may still read it, shows in the numbers.
"""

from collections import deque
from types import SimpleNamespace

import numpy as np
import pytest

from minigrad.data import ArrayDataset, DataError, DataLoader, feeding
from tests.support import strict_backend


class Stream:
    """Work in order; `later` holds what has not run yet."""

    def __init__(self, non_blocking=False):
        self.later, self.non_blocking = deque(), non_blocking

    def run(self, count):
        while self.later and count > 0:
            self.later.popleft()()
            count -= 1

    def wait_event(self, event):
        event.synchronize(waits=False) if event.stream is not self else None


class Event:
    """A place in a stream: so much of its work is done when the event is."""

    def __init__(self, block=False, disable_timing=False):
        self.stream, self.pending = None, ()

    def record(self, stream=None):
        self.stream, self.pending = stream, tuple(stream.later)

    def synchronize(self, waits=True):
        if self.stream is not None:
            while any(work in self.stream.later for work in self.pending):
                self.stream.run(1)


@pytest.fixture(autouse=True)
def cuda(monkeypatch):
    """The stand-in with streams; gives what there is to look at."""
    current, seen = Stream(), SimpleNamespace(pinned=[], copies=0, free=2**30, streams=[])

    def stream(non_blocking=False):
        seen.streams.append(Stream(non_blocking))
        return seen.streams[-1]

    def pinned(size):
        seen.pinned.append(np.full(size, 0xCD, np.uint8))
        return seen.pinned[-1]

    def put(self, host, stream=None):
        assert any(np.may_share_memory(host, memory) for memory in seen.pinned), "a copy that the host would wait for"
        assert host.flags.c_contiguous and host.dtype == self.dtype and host.shape == self.shape
        seen.copies += 1
        self.host.fill(0xCD)  # until the copy is made
        stream.later.append(lambda: np.copyto(self.host, host))

    fake = SimpleNamespace(
        Stream=stream,
        Event=Event,
        alloc_pinned_memory=pinned,
        get_current_stream=lambda: current,
        runtime=SimpleNamespace(memGetInfo=lambda: (seen.free, 2**34)),
    )
    monkeypatch.setattr(strict_backend.Namespace, "cuda", fake, raising=False)
    monkeypatch.setattr(strict_backend.StrictArray, "set", put, raising=False)
    with strict_backend.installed():
        yield seen


def numbered(count, dtype=np.float32):
    images = (np.arange(count * 3 * 4 * 4).reshape(count, 3, 4, 4) % 251).astype(dtype)
    return ArrayDataset(images, np.arange(count), classes=["one"])


def batches(loader):
    return [[part.numpy() for part in batch] for batch in loader]


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for part, wanted in zip(one, other, strict=True):
            assert part.dtype == wanted.dtype
            np.testing.assert_array_equal(part, wanted)


OPTIONS = [{"shuffle": True}, {"drop_last": True}, {"shuffle": True, "prefetch": 0}, {"prefetch": 5}]


# --- batch after batch ---


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("dtype", ["f4", "u1"])
def test_batches_on_the_device_are_those_on_the_cpu(options, dtype, cuda):
    data = numbered(50, dtype)
    here, there = (DataLoader(data, 8, seed=3, device=d, **options) for d in ("cpu", "cuda"))
    for _ in range(2):
        assert_same(batches(there), batches(here))
    assert cuda.copies and all(stream.non_blocking for stream in cuda.streams)


@pytest.mark.parametrize("prefetch", [0, 1, 2, 4])
def test_batches_that_are_kept_stay_what_they_were(prefetch):
    """Neither the pinned buffers nor the memory of the device is used twice while a batch is in use."""
    data = numbered(64)
    kept = list(DataLoader(data, 4, seed=0, device="cuda", prefetch=prefetch))
    assert_same([[p.numpy() for p in batch] for batch in kept], batches(DataLoader(data, 4, seed=0)))


def test_a_batch_waits_for_its_copy_and_the_host_does_not(cuda):
    strict_backend.traffic.clear()
    for _ in DataLoader(numbered(64), 4, device="cuda"):
        pass
    assert not [key for key in strict_backend.traffic if key != "upload"]
    assert strict_backend.traffic["upload"] <= 2, "of no batch; an empty array names the device"


def test_a_buffer_is_filled_again_only_when_its_copy_is_done(cuda):
    uploads = feeding.Uploads("cuda", slots=2)
    slots = [uploads.stage((np.full((3, 5), i, np.float32),)) for i in range(2)]
    uploads.stream.wait_event = lambda event: None
    late = strict_backend.StrictArray(np.zeros((3, 5), np.float32))
    late.set(slots[0].fields[0], stream=uploads.stream)
    slots[0].copied.record(uploads.stream)
    assert not late.host.any() or late.host[0, 0] != 0, "the copy is under way"
    assert uploads.stage((np.full((3, 5), 2, np.float32),)) is slots[0]
    np.testing.assert_array_equal(late.host, 0, "the copy took what the buffer held when it was asked for")


def test_copies_wait_for_the_computations_that_used_the_memory_before(cuda):
    uploads, order = feeding.Uploads("cuda", slots=3), []
    computing = uploads.cuda.get_current_stream()
    uploads.send(uploads.stage((np.zeros(4, np.float32),)))
    room = uploads.room
    assert room.free.stream is computing
    computing.later.append(lambda: order.append("next step"))  # after the memory for the next batch was taken
    uploads.stream.wait_event = lambda event: order.append(event)
    uploads.send(uploads.stage((np.ones(4, np.float32),)))
    assert order == [room.free], "the copy waits for what was launched before, and not for the step beside it"
    other = uploads.stage((np.ones(9, np.float32),))
    uploads.send(other)
    assert order[-1] is not room.free and len(order) == 2, "another shape: memory taken now, so it waits for all"


def test_what_a_dataset_raises_and_leaving_early_are_as_on_the_cpu():
    class Failing(ArrayDataset):
        def __getitem__(self, index):
            if np.max(index) >= 20:
                raise RuntimeError("row 20")
            return super().__getitem__(index)

    seen = []
    with pytest.raises(RuntimeError, match="row 20"):
        for images, _ in DataLoader(Failing(*numbered(40).arrays), 5, device="cuda"):
            seen.append(images)
    assert len(seen) == 4
    loader = DataLoader(numbered(40), 5, device="cuda", seed=1)
    for _ in loader:
        break
    assert loader.state_dict()["epoch"] == 1


def test_empty_fields_and_single_numbers_arrive():
    data = ArrayDataset(np.zeros((6, 0), np.float32), np.arange(6) % 2 == 0)
    assert_same(batches(DataLoader(data, 4, device="cuda")), batches(DataLoader(data, 4)))


# --- a cached data set ---


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("dtype", ["f4", "u1"])
def test_a_cached_data_set_gives_the_same_batches(options, dtype):
    data = numbered(50, dtype)
    here, there = (
        DataLoader(data, 8, seed=3, **options),
        DataLoader(data, 8, seed=3, device="cuda", cache=True, **options),
    )
    for _ in range(2):
        assert_same(batches(there), batches(here))


def test_a_data_set_of_single_samples_is_cached_too():
    class Single:
        def __len__(self):
            return 11

        def __getitem__(self, i):
            return np.full(3, i, np.uint8), i

    assert_same(batches(DataLoader(Single(), 4, device="cuda", cache=True)), batches(DataLoader(Single(), 4)))


def test_an_epoch_of_a_cached_data_set_uploads_its_order_and_nothing_else(cuda):
    loader = DataLoader(numbered(64), 4, shuffle=True, device="cuda", cache=True)
    batches(loader)
    strict_backend.traffic.clear()
    count = sum(1 for _ in loader)
    assert count == 16 and strict_backend.traffic == {"upload": 1} and cuda.copies == 0


def test_a_cached_loader_goes_on_where_another_stopped():
    data = numbered(40)

    def loader(**options):
        return DataLoader(data, 8, shuffle=True, seed=5, **options)

    stopped = loader(device="cuda", cache=True)
    passing = iter(stopped)
    first = [[p.numpy() for p in next(passing)] for _ in range(2)]
    state = stopped.state_dict()
    assert state["batch"] == 2
    for options in ({}, {"device": "cuda"}, {"device": "cuda", "cache": True}):
        resumed = loader(**options)
        resumed.load_state_dict(state)
        assert_same(first + batches(resumed), batches(loader()))


def test_a_data_set_that_does_not_fit_says_so_before_it_is_sent(cuda):
    cuda.free = 1000
    strict_backend.traffic.clear()
    with pytest.raises(DataError, match=r"cache=True needs 0\.00 GiB .* Use cache=False"):
        next(iter(DataLoader(numbered(20), 4, device="cuda", cache=True)))
    assert not cuda.copies


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cache": True}, "cache=True is for a GPU"),
        ({"cache": 1, "device": "cuda"}, "cache is 1; expected True or False"),
        ({"cache": True, "device": "cuda", "mix": lambda *fields: fields}, "cache=True has no mix"),
    ],
)
def test_what_cannot_be_cached_is_refused(options, words):
    with pytest.raises(DataError, match=words):
        DataLoader(numbered(4), 2, **options)
