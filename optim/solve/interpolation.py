"""Where the line, parabola or cubic through known values and slopes is lowest: suggestions for the next trial step."""

from __future__ import annotations

import math

SHRINK = 0.1
"""A suggestion keeps at least this distance from the ends of the interval [0, 1]."""


def quadratic_share(slope: float, rise: float) -> float:
    """Where on [0, 1] the parabola with this slope at 0 and this rise to 1 is lowest, kept in [0.1, 0.5].

    Where the value at 1 is infinite it is 0.1. Where the parabola bends down it is 0.5: the quadratic is then innocent.
    """
    if not math.isfinite(rise):
        return SHRINK
    bend = rise - slope
    return min(max(-slope / (2 * bend), SHRINK), 0.5) if bend > 0 else 0.5


def secant_share(slope: float, slope_at_1: float) -> float:
    """Where on [0, 1] a slope that changes evenly is zero."""
    rise = slope_at_1 - slope
    return -slope / rise if math.isfinite(rise) and rise > 0 else 0.5


def cubic_share(slope: float, slope_at_1: float, rise: float) -> float:
    """Where on [0, 1] the cubic with these slopes at its ends and this rise is lowest (Nocedal, Wright, eq. 3.59)."""
    d1 = slope + slope_at_1 - 3 * rise
    under_root = d1 * d1 - slope * slope_at_1
    if not 0 <= under_root < math.inf:
        return 0.5
    d2 = math.sqrt(under_root)
    below = slope_at_1 - slope + 2 * d2
    return 1 - (slope_at_1 + d2 - d1) / below if below > 0 else 0.5
