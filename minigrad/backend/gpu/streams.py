"""What libraries called by address need to know: where an array lies, and on which stream work is launched."""

from __future__ import annotations

import threading
from typing import Any

from minigrad.backend.arrays import Array
from minigrad.backend.device import namespace

PER_THREAD = 2  # the number that CUDA gives to "the default stream of whichever thread asks"


def address(x: Array) -> int:
    """Where the first number of a device array lies."""
    return x.data.ptr  # type: ignore[attr-defined]


def current_stream(like: Array) -> int:
    """The stream, as CUDA's number, on which the array library launches now."""
    return namespace(like).cuda.get_current_stream().ptr


def place(like: Array) -> tuple[Any, ...]:
    """What tells the places of work apart: the device of `like` and the current stream.

    Work in one place runs in order, so that one workspace serves all of it.
    """
    stream = current_stream(like)
    return namespace(like), like.device.id, stream, threading.get_ident() if stream == PER_THREAD else None
