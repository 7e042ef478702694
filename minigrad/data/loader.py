"""The loader: batches of a dataset, shuffled, augmented, and made ready while the last one is used.

A batch depends on three numbers only: the seed, the epoch and the batch's place in it. Timing, prefetching and earlier
passes do not change it, so a run that was stopped goes on with exactly the batches it would have had.
"""

import math
import operator
import os
import queue
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, SupportsIndex, TypeVar

import numpy as np

from minigrad.autograd.tensor import Tensor
from minigrad.backend import device_kind
from minigrad.creation import tensor

from .augmentation import Transform
from .dataset import DataError, Dataset, to_numpy
from .feeding import Resident, Uploads

Arrays = tuple[np.ndarray, ...]
Made = TypeVar("Made")
WORKER_NAME = "minigrad-prefetch"


class DataLoader:
    """Iterate over a dataset in batches of Tensors.

    Parameters
    ----------
    dataset : Dataset
        Anything with ``len(dataset)`` and ``dataset[i]``. One with ``gathers = True`` is asked for a whole
        batch at once (`ArrayDataset` is); any other sample by sample, and the samples are stacked.
    batch_size : int
        Can be changed at any time (`loader.batch_size = 256`); the next pass uses it.
    shuffle : bool
        Whether each epoch visits the samples in an order of its own.
    seed : int, optional
        Where shuffling and augmentation start from; drawn from the operating system unless given, and then
        stored in ``loader.seed``.
    drop_last : bool
        Leave out the last batch of an epoch where it is smaller than the rest.
    prefetch : int
        How many batches a background thread keeps ready; 0 for no thread.
    transform : callable, optional
        ``transform(images, rng) -> images``, applied to the first array of each batch; `rng` is made from
        (seed, epoch, batch), so the result is the same however batches are prefetched or resumed.
    mix : callable, optional
        ``mix(samples, labels, rng) -> (samples, labels)``, after the transform, on all fields of the batch: see
        `mixup`.
    device : str
        Where the Tensors live. On their way to a GPU batches go through pinned memory, beside the computations.
    cache : bool
        Keep the whole data set on the GPU, read once at the first pass, and gather the batches there: the same samples
        in the same order, with one small upload an epoch. `transform` then gets arrays of the GPU.

    Yields
    ------
    tuple of Tensor
        One for each field of a sample, with the batch along the first axis.

    Raises
    ------
    DataError
        Something that is no dataset, an empty one, a batch size below 1, ``drop_last`` with less than one whole batch,
        or ``cache`` without a GPU or of data that do not fit there; while iterating, samples whose shapes differ. What
        the dataset or the transform raises is raised from the loop, with its own traceback; StopIteration as a
        RuntimeError.

    Notes
    -----
    Each ``for`` over the loader is one epoch, whether it is finished or not, and the next ``for`` is the next epoch.
    The order of epoch e is a permutation drawn from (seed, e): `set_epoch`, or `state_dict` and
    `load_state_dict`, make a new loader go on where another stopped.

    Examples
    --------
    >>> loader = DataLoader(digits(size=28), batch_size=64, shuffle=True, seed=0)
    >>> for images, labels in loader:
    ...     loss = cross_entropy(model(images), labels)
    """

    _batch_size: int

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int = 1,
        shuffle: bool = False,
        *,
        seed: int | None = None,
        drop_last: bool = False,
        prefetch: int = 2,
        transform: Transform | None = None,
        mix: Callable[..., Arrays] | None = None,
        device: str = "cpu",
        cache: bool = False,
    ) -> None:
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise DataError(
                f"DataLoader: the dataset is a {type(dataset).__name__}; expected something with len(dataset) and "
                "dataset[i], such as ArrayDataset(images, labels)."
            )
        for name, flag in (("shuffle", shuffle), ("drop_last", drop_last), ("cache", cache)):
            if not isinstance(flag, (bool, np.bool_)):
                raise DataError(f"DataLoader: {name} is {flag!r}; expected True or False.")
        for name, function in (("transform", transform), ("mix", mix)):
            if function is not None and not callable(function):
                raise DataError(f"DataLoader: {name} is a {type(function).__name__}; expected a function, or None.")
        if cache and mix is not None:
            raise DataError("DataLoader: cache=True has no mix; it changes arrays of the CPU. Use cache=False.")
        if cache and device_kind(device) == "cpu":
            raise DataError(f'DataLoader: cache=True is for a GPU, as in device="cuda"; got device={device!r}.')
        self.dataset = dataset
        self.shuffle = shuffle
        self.seed = _fresh_seed() if seed is None else _whole_number("seed", seed, least=0)
        self.drop_last = drop_last
        self.prefetch = _whole_number("prefetch", prefetch, least=0)
        self.transform, self.mix = transform, mix
        self.device, self.cache = device, cache
        self._resident: Resident | None = None  # the cached data set
        self._next = (0, 0)  # epoch and batch that the next pass starts from
        self._pass: list[int] | None = None  # of the pass under way: epoch, batches given out, batch size
        if len(dataset) == 0:
            raise DataError("DataLoader: the dataset has 0 samples; expected at least 1. Was its file or split empty?")
        self.batch_size = batch_size

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self._count(self.batch_size)

    @property
    def batch_size(self) -> int:
        """How many samples are in a batch of the next pass; a pass under way keeps its size."""
        return self._batch_size

    @batch_size.setter
    def batch_size(self, size: int) -> None:
        size = _whole_number("batch_size", size, least=1)
        if self._count(size) == 0:
            raise DataError(
                f"DataLoader: drop_last=True leaves nothing of {len(self.dataset)} samples in batches of {size}. "
                "Use a smaller batch_size, or drop_last=False."
            )
        if self._next[1] and size != self._batch_size:
            raise DataError(
                f"DataLoader: batch_size={size} for a pass that goes on from batch {self._next[1]} of an epoch in "
                f"batches of {self._batch_size}. Finish that pass first, or use set_epoch()."
            )
        self._batch_size = size

    def _count(self, batch_size: int) -> int:
        samples = len(self.dataset)
        return samples // batch_size if self.drop_last else math.ceil(samples / batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        if self.cache:
            return self._batches_of_resident()
        if device_kind(self.device) == "cpu":
            return self._batches(lambda arrays: tuple(tensor(array) for array in arrays))
        uploads = Uploads(self.device, self.prefetch + 2)
        return map(uploads.send, self._batches(uploads.stage))

    def batches(self) -> Iterator[Arrays]:
        """The same pass as ``iter(loader)``, as NumPy arrays."""
        return self._batches(lambda arrays: arrays)

    @property
    def epoch(self) -> int:
        """The epoch under way; between epochs, the one that comes next. Counted from 0."""
        return self._pass[0] if self._pass else self._next[0]

    def set_epoch(self, epoch: int) -> None:
        """Make the next pass the whole of epoch `epoch`."""
        self._next = (_whole_number("epoch", epoch, least=0), 0)

    def state_dict(self) -> dict[str, int]:
        """What a new loader needs in order to go on from here, also from the middle of an epoch.

        Within a loop, batches already given out count as done. All values are Python ints, so JSON can hold them.
        """
        epoch, batch, size = self._pass or (*self._next, self.batch_size)
        if batch >= self._count(size):
            epoch, batch, size = epoch + 1, 0, self.batch_size
        return {"seed": self.seed, "epoch": epoch, "batch": batch, "batch_size": size}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from `state`: the next pass is what remains of its epoch.

        Raises
        ------
        DataError
            A state with a missing entry, or one from the middle of an epoch with another batch size.
        """
        expected = {"seed", "epoch", "batch", "batch_size"}
        if not isinstance(state, Mapping) or set(state) != expected:
            found = sorted(map(str, state)) if isinstance(state, Mapping) else type(state).__name__
            raise DataError(f"DataLoader.load_state_dict: got {found}; expected {sorted(expected)}.")
        seed, epoch, batch = (_whole_number(name, state[name], least=0) for name in ("seed", "epoch", "batch"))
        _whole_number("batch_size", state["batch_size"], least=1)
        if state["batch"] and state["batch_size"] != self.batch_size:
            raise DataError(
                f"DataLoader.load_state_dict: the state is from batch {state['batch']} of an epoch in batches of "
                f"{state['batch_size']}, but this loader's are of {self.batch_size}. Use the same batch_size, "
                "or set_epoch()."
            )
        if state["batch"] >= len(self):
            raise DataError(
                f"DataLoader.load_state_dict: the state is from batch {state['batch']} of an epoch, but this "
                f"loader's have {len(self)}. Use the same dataset and batch_size, or set_epoch()."
            )
        self.seed, self._next = seed, (epoch, batch)

    def _batches(self, convert: Callable[[Arrays], Made]) -> Generator[Made, None, None]:
        def maker(epoch: int, size: int) -> Callable[[int], Made]:
            order = self._order(epoch)
            return lambda batch: convert(self._read(order[batch * size : (batch + 1) * size], epoch, batch))

        return self._pass_through(maker, self.prefetch)

    def _batches_of_resident(self) -> Generator[tuple[Tensor, ...], None, None]:
        def maker(epoch: int, size: int) -> Callable[[int], tuple[Tensor, ...]]:
            if self._resident is None or self._resident.dataset is not self.dataset:
                self._resident = Resident(self.dataset, self.device)
            resident = self._resident
            order = resident.upload(self._order(epoch))

            def make(batch: int) -> tuple[Tensor, ...]:
                fields = resident.gather(order[batch * size : (batch + 1) * size])
                return tuple(map(Tensor, self._changed(fields, epoch, batch)))

            return make

        return self._pass_through(maker, 0)  # no thread: the GPU works by itself, and nothing is waited for

    def _pass_through(
        self, maker: Callable[[int, int], Callable[[int], Made]], prefetch: int
    ) -> Generator[Made, None, None]:
        """One pass: `maker(epoch, batch size)` gives the function that makes the batch of a number."""
        epoch, first = self._next
        self._next = (epoch + 1, 0)
        size = self.batch_size
        place = self._pass = [epoch, first, size]
        read = maker(epoch, size)

        def make(batch: int) -> Made:
            try:
                return read(batch)
            except StopIteration as stop:  # which would look like the end of the epoch
                raise RuntimeError(
                    f"DataLoader: the dataset or its transform raised StopIteration in batch {batch}; it is not the "
                    "end of the data. Is there a next(...) on an iterator that is used up?"
                ) from stop

        numbers = range(first, len(self))
        made = prefetched(make, numbers, prefetch) if prefetch else map(make, numbers)
        try:
            for batch in made:
                place[1] += 1
                yield batch
        finally:
            if isinstance(made, Generator):
                made.close()
            if self._pass is place:
                self._pass = None

    def _order(self, epoch: int) -> np.ndarray:
        if not self.shuffle:
            return np.arange(len(self.dataset))
        return self._generator(epoch).permutation(len(self.dataset))

    def _generator(self, *place: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=place))

    def _read(self, rows: np.ndarray, epoch: int, batch: int) -> Arrays:
        # Rows are always gathered, never sliced: a view would let a change to the batch reach the dataset.
        if getattr(self.dataset, "gathers", False):
            fields = _fields(self.dataset[rows])
        else:
            fields = _stacked([_fields(self.dataset[int(row)]) for row in rows], rows)
        return self._changed(fields, epoch, batch)

    def _changed(self, fields: Arrays, epoch: int, batch: int) -> Arrays:
        """A batch after the transform and the mixing."""
        if self.transform is None and self.mix is None:
            return fields
        rng = self._generator(epoch, batch)
        if self.transform is not None:
            images = self.transform(fields[0], rng)
            if len(images) != len(fields[0]):
                raise DataError(
                    f"DataLoader: the transform made {len(images)} images of {len(fields[0])}; "
                    "expected as many as it was given."
                )
            fields = (images, *fields[1:])
        return fields if self.mix is None else tuple(self.mix(*fields, rng))

    def __repr__(self) -> str:
        return (
            f"DataLoader({self.dataset!r}, batch_size={self.batch_size}, shuffle={self.shuffle}, seed={self.seed}, "
            f"{len(self)} batches)"
        )


def prefetched(make: Callable[[int], Made], numbers: range, ahead: int) -> Generator[Made, None, None]:
    """``map(make, numbers)``, run by a thread that is up to `ahead` results in front of the consumer.

    What `make` raises is raised here, when its turn comes. Closing the generator, as leaving a ``for`` loop
    early does, stops the thread and waits for it; it finishes at most the result it is working on. In a child process
    that was forked in the loop, which has no thread, the rest is made without one.
    """
    done: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
    room = threading.Semaphore(ahead)
    stopped = threading.Event()

    def work() -> None:
        try:
            for number in numbers:
                room.acquire()
                if stopped.is_set():
                    return
                done.put((make(number), None))
        except BaseException as failure:
            done.put((None, failure))

    worker = threading.Thread(target=work, name=WORKER_NAME, daemon=True)
    home = os.getpid()
    try:
        worker.start()
        for number in numbers:
            if os.getpid() != home:  # a child that was forked in the loop has no worker to wait for
                yield make(number)
                continue
            result, failure = _take(done)
            room.release()
            if failure is not None:
                raise failure
            yield result
    finally:
        failure = None  # a traceback refers to this frame, which must not refer back
        stopped.set()
        room.release()
        # Not started if the system had no thread left; and the garbage collector may close the generator in any thread.
        ours = os.getpid() == home and worker.ident is not None
        if ours and worker is not threading.current_thread():
            worker.join()


def _take(results: queue.SimpleQueue[Any]) -> Any:
    # In short waits: on Windows, Ctrl-C does not interrupt a long one.
    while True:
        try:
            return results.get(timeout=0.5)
        except queue.Empty:
            continue


def _fields(sample: Any) -> Arrays:
    return tuple(to_numpy(field) for field in (sample if isinstance(sample, (tuple, list)) else (sample,)))


def _stacked(samples: list[Arrays], rows: np.ndarray) -> Arrays:
    first = [field.shape for field in samples[0]]
    for sample, row in zip(samples, rows, strict=True):
        shapes = [field.shape for field in sample]
        if shapes != first:
            raise DataError(
                f"DataLoader: sample {row} has fields of shape {shapes}, but sample {rows[0]} has {first}; "
                "expected one shape for a batch. Crop or pad the samples, or use batch_size=1."
            )
    return tuple(np.stack(field) for field in zip(*samples, strict=True))


def _whole_number(name: str, value: SupportsIndex, *, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or number < least:
        raise DataError(f"DataLoader: {name} is {value!r}; expected a whole number, {least} or more.")
    return number


def _fresh_seed() -> int:
    entropy = np.random.SeedSequence().entropy
    return int(entropy) % 2**63  # type: ignore[arg-type]
