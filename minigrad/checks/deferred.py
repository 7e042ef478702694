"""Checks of what lies on a GPU, whose errors are raised when the host next reads from it: nobody waits for them.

The errors of labels stand here too, for the losses that check labels on a CPU at once.
"""

from collections.abc import Callable, Hashable
from typing import Any

from minigrad.backend import faults
from minigrad.backend.arrays import Array
from minigrad.backend.plain.losses import no_such_class, nothing_to_average

__all__ = ["no_such_class", "nothing_to_average", "raise_later"]


def raise_later(
    wrong: Array, error: Callable[..., Exception], *details: Hashable, first: Any = 0, second: Any = 0
) -> None:
    """Raise `error(*details, first, second)` when the host next reads from the device, if `wrong` is true.

    Parameters
    ----------
    wrong : array of bool, without axes
        On the device.
    error : function
        Makes the exception. It and the details are known to the host; there should be few different ones.
    first, second : int, or array of integers without axes
        Numbers on the device that the message is to give.
    """
    faults.note(wrong, faults.code(error, *details), first, second)
