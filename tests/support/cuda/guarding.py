"""Arrays between guards while a kernel runs, so that an access outside of them is noticed.

For the time of a launch each array is copied into memory of its own, with 0xFF (NaN) around it. Afterwards the bytes
around it must be as they were ("canaries"). In the mode "pages" the memory right before and behind it cannot be touched
at all: reading there ends the process, which only a test that expects it may ask for.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

ALIGNED = 16  # what a load of four floats needs
PAGE = mmap.PAGESIZE
FORBIDDEN, ALLOWED = 0, 3  # PROT_NONE; PROT_READ and PROT_WRITE

mode = "canaries"
"""Or "pages"."""


class Overrun(Exception):
    """A kernel wrote outside of an array."""


@contextmanager
def guarded(arrays: Mapping[int, np.ndarray]) -> Iterator[dict[int, int]]:
    """Addresses of guarded copies of the arrays, by the same keys; what is written there goes back into the arrays.

    Views of one array stay views of one copy. Raises Overrun if a byte around a copy has changed.
    """
    owners = {key: _owner(array) for key, array in arrays.items()}
    rooms = {id(owner): _Room(owner) for owner in owners.values()}
    yield {key: rooms[id(owners[key])].address_of(array) for key, array in arrays.items()}
    for key, owner in owners.items():
        rooms[id(owner)].check(key)
    for room in rooms.values():
        room.copy_back()


def _owner(array: np.ndarray) -> np.ndarray:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


class Amid:
    """A copy of an array in the midst of memory that is full of `value`.

    For arrays whose addresses a kernel gets in a struct, where nothing puts guards around them. `array` is the copy.
    """

    BESIDE = 64

    def __init__(self, array: np.ndarray, value: float):
        self._whole = np.full(array.size + 2 * self.BESIDE, value, array.dtype)
        self._before = self._whole.copy()
        self.array = self._whole[self.BESIDE : self.BESIDE + array.size].reshape(array.shape)
        self.array[...] = array

    def is_intact(self) -> bool:
        """Whether what lies before and behind the copy is as it was."""
        edges = [*range(self.BESIDE), *range(-self.BESIDE, 0)]
        return np.array_equal(self._whole[edges], self._before[edges], equal_nan=True)


class _Room:
    """A copy of an array's memory, at the end of pages of its own, between two pages more."""

    def __init__(self, owner: np.ndarray):
        self.low, high = np.lib.array_utils.byte_bounds(owner)
        size = max(0, high - self.low) if owner.size else 0
        pages = -(-max(size, 1) // PAGE) * PAGE
        self.memory = mmap.mmap(-1, pages + 2 * PAGE)
        self.bytes = np.frombuffer(self.memory, np.uint8)
        self.bytes[:] = 0xFF
        self.start = PAGE + pages - -(-size // ALIGNED) * ALIGNED
        self.inside = self.bytes[self.start : self.start + size]
        self.theirs = np.frombuffer((ctypes.c_char * size).from_address(self.low), np.uint8) if size else self.inside
        self.inside[:] = self.theirs
        self.before = self.inside.copy()
        self.keep = owner
        if mode == "pages":
            _protect(self._guards(), FORBIDDEN)

    def _guards(self) -> tuple[int, int]:
        first = self.bytes.ctypes.data
        return first, first + len(self.bytes) - PAGE

    def address_of(self, array: np.ndarray) -> int:
        return self.bytes.ctypes.data + self.start + (array.ctypes.data - self.low)

    def check(self, key: Any) -> None:
        if mode == "pages":
            _protect(self._guards(), ALLOWED)
        end = self.start + len(self.inside)
        for where, around in (("before", self.bytes[: self.start]), ("behind", self.bytes[end:])):
            if not (around == 0xFF).all():
                raise Overrun(f"argument {key}: the kernel wrote {where} the array")

    def copy_back(self) -> None:
        if not np.array_equal(self.inside, self.before):  # else another way to the array may have been used
            self.theirs[:] = self.inside


def _protect(pages: tuple[int, int], access: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    for page in pages:
        if libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(PAGE), access):
            raise OSError(ctypes.get_errno(), "mprotect")
