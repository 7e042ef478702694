"""Random numbers: one generator per device, which one thread at a time draws from, and draws that can be repeated.

After this file you know that a seed makes one stream per device, of which threads take numbers in the order in which
they come, each number once. And you know how a checkpointed function draws the same numbers again whatever other
threads have drawn in between: where each of its draws began is noted, and its second run begins there.

On a GPU dropout needs no generator: its numbers follow from a seed and a position (`next_place`), and the state of the
stream is these two integers.
"""

from __future__ import annotations

import copy
import operator
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minigrad.backend import Array, device_of, namespace, to_device
from minigrad.backend.gpu.replay import changing
from minigrad.backend.plain.dropout import Place
from minigrad.locks import lock

_generators: dict[str, Any] = {}
_streams: dict[str, Place] = {}
_seed: list[int | None] = [None]
_drawing = lock()


def manual_seed(seed: int) -> None:
    """Restart the random numbers of every device: weights, dropout and `rand` repeat from here.

    Raises TypeError unless the seed is an integer, and ValueError if it is negative.
    """
    try:
        number = operator.index(seed)
    except TypeError:
        raise TypeError(f"manual_seed: expected an integer of at least 0, got {seed!r}.") from None
    if number < 0:
        raise ValueError(f"manual_seed: expected an integer of at least 0, got {seed!r}.")
    with _drawing:
        _seed[0] = number
        _generators.clear()
        _streams.clear()


def generator(device: str = "cpu") -> Any:
    """The random generator of a device: `numpy.random.Generator`, or CuPy's on a GPU."""
    with _drawing:
        name = _name_of(device)
        if name not in _generators:
            _generators[name] = _new(name, _seed[0])
        return _generators[name]


def drawn(device: str, draw: Callable[[Any], Array]) -> Array:
    """`draw(generator)` with the generator of a device, or with one that repeats what a function drew before."""
    with _drawing:
        if _here.calls:
            return draw(_noted_or_repeated(device))
        return draw(generator(device))


def _name_of(device: str) -> str:
    """ "cuda" and "cuda:0" are one device, and draw from one stream."""
    return device if device in _generators else device_of(to_device(np.zeros(0), device))


def _new(device: str, seed: int | None) -> Any:
    return namespace(to_device(np.zeros(0), device)).random.default_rng(seed)


# --- numbers that follow from their place ---


def next_place(like: Array) -> Place:
    """Where the next call on the device of this array stands in the device's stream of numbers, which goes on by one.

    In a captured step the place lies on the device, and the stream goes on by one at each replay. A checkpointed
    function that runs again gets the places that it had.
    """
    with _drawing:
        device, calls = device_of(like), _here.calls
        repeated = calls[0].places.get(device) if calls else None
        place = next(repeated, None) if repeated else None
        if place is None:
            place = _advanced(device, like)
        for call in calls:
            if call.starts is None:
                call.draws.places.setdefault(device, []).append(place)
        return place


def _advanced(device: str, like: Array) -> Place:
    def numbers() -> np.ndarray:
        """The next place as it is handed to the device; the stream goes on."""
        with _drawing:
            seed, position = state_of_stream(device)
            _streams[device] = Place(seed, position + 1)
            return np.array([seed, position], np.uint64)

    def take_back() -> None:
        """Have the stream stand where it stood: the step that drew a number was not recorded."""
        with _drawing:
            seed, position = state_of_stream(device)
            _streams[device] = Place(seed, position - 1)

    captured = changing(like, numbers, take_back)
    if captured is not None:
        return Place(0, 0, captured)
    seed, position = numbers().tolist()
    return Place(seed, position)


def state_of_stream(device: str) -> tuple[int, int]:
    """Seed and position of a device's stream: what has to be stored for it to go on from here."""
    with _drawing:
        if device not in _streams:
            seed = np.random.SeedSequence(_seed[0]).generate_state(1, np.uint64)
            _streams[device] = Place(int(seed[0]), 0)
        return _streams[device].seed, _streams[device].position


def set_state_of_stream(device: str, state: tuple[int, int]) -> None:
    """Make a device's stream go on from what `state_of_stream` gave."""
    seed, position = state
    with _drawing:
        _streams[device] = Place(int(seed), int(position))


# --- draws that can be repeated ---


class Draws:
    """The random numbers that one call of a function draws, so that another call can draw the same.

    starts : NumPy's generator as it was before each draw
    seeds : for each other device, whose generator cannot be copied: the seed of one for this function alone
    places : for each device, the places in its stream that `next_place` gave
    """

    def __init__(self) -> None:
        self.starts: list[np.random.Generator] = []
        self.places: dict[str, list[Place]] = {}
        self.seeds: dict[str, int] = {}

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note what is drawn inside by this thread."""
        outside, _here.calls = _here.calls, (*_here.calls, _Call(self))
        try:
            yield
        finally:
            _here.calls = outside

    @contextmanager
    def repeated(self) -> Iterator[None]:
        """Draw inside, in this thread, what was noted."""
        outside, _here.calls = (
            _here.calls,
            (_Call(self, iter(self.starts), {d: iter(p) for d, p in self.places.items()}),),
        )
        try:
            yield
        finally:
            _here.calls = outside


@dataclass
class _Call:
    """A call whose draws are noted, or, where there are `starts`, repeated."""

    draws: Draws
    starts: Iterator[np.random.Generator] | None = None
    places: dict[str, Iterator[Place]] = field(default_factory=dict)  # to be repeated
    own: dict[str, Any] = field(default_factory=dict)  # the generators of devices other than the CPU


class _Here(threading.local):
    """The calls that this thread is in, the innermost last; a repeated one is always the first."""

    calls: tuple[_Call, ...] = ()


_here = _Here()


def _noted_or_repeated(device: str) -> Any:
    calls, current = _here.calls, generator(device)
    if not isinstance(current, np.random.Generator):
        return _own(_name_of(device), calls)
    start = next(calls[0].starts, None) if calls[0].starts is not None else None
    if start is not None:
        current = copy.deepcopy(start)
    noting = [call.draws for call in calls if call.starts is None]
    before = copy.deepcopy(current) if noting else None
    for draws in noting:
        draws.starts.append(before)  # type: ignore[arg-type]
    return current


def _own(device: str, calls: tuple[_Call, ...]) -> Any:
    """The generator of the innermost call for a device whose generators cannot be copied; its seed is drawn outside."""
    if not calls:
        return generator(device)
    *outer, call = calls
    if device not in call.own:
        if device not in call.draws.seeds:
            call.draws.seeds[device] = int(_own(device, tuple(outer)).integers(0, 2**31))
        call.own[device] = _new(device, call.draws.seeds[device])
    return call.own[device]
