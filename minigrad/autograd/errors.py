"""The errors of minigrad, and how the failure of an array library becomes one that speaks of the call.

After this file you know what can be caught (ShapeError is a ValueError, GradientError and DeviceError are
RuntimeErrors), and that an op whose forward fails says which op it was, what it was given, and what to do.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from minigrad.backend import Array, DeviceError, device_of, is_array


class ShapeError(ValueError):
    """Shapes that do not fit; the message gives them, what was expected, and what to do."""


class GradientError(RuntimeError):
    """A derivative that cannot be had: no rule, a freed graph, an array changed since it was saved."""


TAKEN_OUT_IN_A_RULE = (
    "a derivative rule that is being recorded took numbers out of a tensor, by float(), item(), numpy(), tolist() or "
    "a function of Python's math: the next derivative would lose this term in silence. Use ops in the rule, on the "
    "Tensor itself; where a constant is meant say x.detach() first."
)


def describe_failure(op: Any, error: Exception, arrays: Sequence[Array], options: Mapping[str, Any]) -> NoReturn:
    """Raise the error of a failed forward, while it is being handled, in the terms of the call."""
    if isinstance(error, (ShapeError, DeviceError, GradientError)):
        raise  # not `from error`: an error that is its own cause is a cycle, and keeps the arrays in its frames alive
    for array in arrays:
        if array is not None and not is_array(array) and not isinstance(array, (bool, int, float)):
            raise TypeError(
                f"{op.name}: expected Tensors, arrays or numbers, got {type(array).__name__}; "
                "make a Tensor of it with minigrad.tensor(...)."
            ) from error
    arguments = [a for a in arrays if is_array(a)]
    devices = {device_of(a) for a in arguments if a.ndim}
    if len(devices) > 1:
        raise DeviceError(
            f"{op.name}: the arguments lie on {' and '.join(sorted(devices))}; "
            'move them to one device first, as in x.to("cuda").'
        ) from error
    shapes = " and ".join(str(tuple(a.shape)) for a in arguments)
    if isinstance(error, ValueError) and "broadcast" in str(error):
        raise ShapeError(
            f"{op.name}: shapes {shapes} do not broadcast together. Sizes must match from the right, or be 1; "
            "reshape or expand_dims brings axes into line."
        ) from error
    if isinstance(error, ValueError) and "read-only" in str(error):
        error.add_note("minigrad: an op may not write to its arguments, which are the caller's: a = a + 1, not a += 1.")
    given = ", ".join(f"{a.dtype}{tuple(a.shape)}" for a in arguments)
    error.add_note(f"minigrad: in {op.signature}, called with {given} {_shown(options)}".rstrip())
    raise


def _shown(options: Mapping[str, Any]) -> str:
    try:
        return repr(options) if options else ""
    except RecursionError:  # an option nested thousands of levels deep
        return reprlib.repr(options)
