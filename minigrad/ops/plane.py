"""Points of the plane: how far they lie from the origin, and in which direction.

Both are smooth everywhere but at the origin, where every slope here is 0. A square is never formed of a coordinate: it
would overflow at 1e20 in float32 and vanish at 1e-25. Coordinates are divided by the distance first.
"""

from __future__ import annotations

from minigrad.autograd.primitive import primitive
from minigrad.autograd.tensor import Tensor
from minigrad.autograd.types import Operand
from minigrad.backend import namespace
from minigrad.ops.arithmetic import where
from minigrad.ops.elementary import in_float32


@primitive(local="x/sqrt(x^2+y^2), y/sqrt(x^2+y^2)", kind="elementwise")
def hypot(x: Operand, y: Operand) -> Tensor:
    """sqrt(x^2 + y^2), elementwise with broadcasting, without overflow of the squares. Slope 0 at the origin."""
    return namespace(x, y).hypot(x, y)


@primitive(symbol="x/h", local="y^2/sqrt(x^2+y^2)^3, -x y/sqrt(x^2+y^2)^3", kind="elementwise")
@in_float32
def _over_distance(x: Operand, y: Operand) -> Tensor:
    """x / sqrt(x^2 + y^2), 0 at the origin. An op, since by the quotient rule its slope would be 1/h - x^2/h^3."""
    xp = namespace(x, y)
    distance = xp.hypot(x, y)
    return x / xp.where(distance == 0, 1, distance)


def _divisor(x, y):
    distance = hypot(x, y)
    return where(distance == 0, 1, distance)


hypot.defvjp(x=lambda g, x, y: g * _over_distance(x, y), y=lambda g, x, y: g * _over_distance(y, x))
_over_distance.defvjp(
    x=lambda g, x, y: g * (_over_distance(y, x) * _over_distance(y, x) / _divisor(x, y)),
    y=lambda g, x, y, out: -g * (out * _over_distance(y, x) / _divisor(x, y)),
)


@primitive(local="x/(x^2+y^2), -y/(x^2+y^2)", kind="elementwise")
def arctan2(y: Operand, x: Operand) -> Tensor:
    """The angle of the point (x, y) in radians, elementwise with broadcasting. Slope 0 at the origin."""
    return namespace(y, x).arctan2(y, x)


@primitive(symbol="x/h^2", local="(y^2-x^2)/(x^2+y^2)^2, -2x y/(x^2+y^2)^2", kind="elementwise")
@in_float32
def _over_square(x: Operand, y: Operand) -> Tensor:
    """x / (x^2 + y^2); 0 at the origin and at infinity."""
    xp = namespace(x, y)
    distance = xp.hypot(x, y)
    proper = (distance > 0) & xp.isfinite(distance)
    distance = xp.where(proper, distance, 1)
    return xp.where(proper, x, 0) / distance / distance


def _in_first(g, x, y):
    """(y - x)(y + x) / h^4; the halves keep both factors below the largest number."""
    h, x, y = _divisor(x, y), 0.5 * x, 0.5 * y
    return g * ((y - x) / h * ((y + x) / h) * 4 / h / h)


def _in_second(g, x, y):
    h = _divisor(x, y)
    return g * (-2 * _over_distance(x, y) * _over_distance(y, x) / h / h)


arctan2.defvjp(y=lambda g, y, x: g * _over_square(x, y), x=lambda g, y, x: -g * _over_square(y, x))
_over_square.defvjp(x=_in_first, y=_in_second)
