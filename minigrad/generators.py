"""Random numbers: one generator per device, which one thread at a time draws from, and draws that can be repeated.

After this file you know that a seed makes one stream per device, of which threads take numbers in the order in which
they come, each number once. And you know how a checkpointed function draws the same numbers again whatever other
threads have drawn in between: where each of its draws began is noted, and its second run begins there.
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
from minigrad.locks import lock

_generators: dict[str, Any] = {}
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


# --- draws that can be repeated ---


class Draws:
    """The random numbers that one call of a function draws, so that another call can draw the same.

    starts : NumPy's generator as it was before each draw
    seeds : for each other device, whose generator cannot be copied: the seed of one for this function alone
    """

    def __init__(self) -> None:
        self.starts: list[np.random.Generator] = []
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
        outside, _here.calls = _here.calls, (_Call(self, iter(self.starts)),)
        try:
            yield
        finally:
            _here.calls = outside


@dataclass
class _Call:
    """A call whose draws are noted, or, where there are `starts`, repeated."""

    draws: Draws
    starts: Iterator[np.random.Generator] | None = None
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
