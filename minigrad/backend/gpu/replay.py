"""Numbers that change from step to step, for kernels that may be part of a captured step.

A captured step is launched again and again with the arguments that its kernels had when it was recorded. What the host
computes anew for each step, a learning rate or the place in a stream of random numbers, must therefore lie in device
memory. A kernel with such a number has two parameters for it: the number itself, and a pointer, null unless captured.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minigrad.backend.arrays import Array


def changing(like: Array, make: Callable[[], np.ndarray]) -> Array | None:
    """None, unless a step is being captured on the device of `like`: then where the numbers of each replay will lie.

    Parameters
    ----------
    like : array
        Any array of the device.
    make : function
        Called on the host before each replay, the first included; gives the numbers of that step, a 1-d array of
        float64 or uint64 whose length does not change. Whatever an eager step would count, it counts: recording a step
        runs its Python code once, but takes no step.
    """
    return None
