"""The ways to end that only fits have, beside those in `solve.result`."""

from __future__ import annotations

from ..solve.result import Reason

FLAT = Reason(-9, False, "the derivatives are all zero at the last point: no residual changes with x; start elsewhere")
TOO_LARGE = Reason(-10, False, "the residuals are finite at x0, but their squares are not; give them in a larger unit")
TOO_SMALL = Reason(-11, False, "the residuals are not zero at x0, but their squares are; give them in a smaller unit")
SHORT_STEPS = Reason(
    -12,
    False,
    "the steps that lead lower are too short to change anything, though an undamped one promises more: x is in a "
    "narrow bend, or on its way to infinity; start elsewhere, or give x_scale",
)
VANISHED = Reason(6, True, "the squares of the residuals are zero in floating point")


def endless(which: str) -> Reason:
    """The end on a way to infinity, where terms cancel and the residuals are still no noise."""
    return Reason(
        -14,
        False,
        f"{which} run off to infinity together, where their terms cancel, and the residuals left are no noise; start "
        "elsewhere (with other signs, perhaps), give bounds, or leave parameters out",
    )


def no_effect(which: str) -> Reason:
    """The end on a plateau, where these parameters no longer do anything."""
    return Reason(
        -13,
        False,
        f"the residuals no longer change with {which}: the last point lies on a plateau; start elsewhere, give bounds, "
        "or leave parameters out",
    )
