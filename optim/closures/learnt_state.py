"""What a search has learnt: taken out of its parts after a step, put into new ones before the next, saved and loaded.

It is a handful of arrays and numbers: curvature pairs, an inverse Hessian, a radius, a damping.
"""

from __future__ import annotations

from collections import deque
from functools import reduce
from typing import Any

from minigrad.backend import is_array
from minigrad.creation import tensor

from ..minimizers.curvature_pairs import CurvaturePair

LEARNT = """
    direction.H direction.pairs direction.eta direction.steepest.gained
    step_rule.step_rule.radius
    models.scaling.largest trust.extent trust.damping trust.growth trust.share
""".split()
"""Where directions, step rules, scalings and trusts keep what they learn from step to step; each has some of these."""


def short(name: str) -> str:
    """The last part of a dotted name, under which a state holds the value."""
    return name.rpartition(".")[2]


def holder(parts: Any, name: str) -> Any:
    """The part that has the attribute of this dotted name, or None."""
    *path, last = name.split(".")
    part = reduce(lambda part, step: getattr(part, step, None), path, parts)
    return part if hasattr(part, last) else None


def taken_from(parts: Any) -> dict[str, Any]:
    """What these parts have learnt, by name."""
    holders = {name: holder(parts, name) for name in LEARNT}
    return {name: getattr(part, short(name)) for name, part in holders.items() if part is not None}


def put_back(learnt: dict[str, Any], parts: Any) -> None:
    """Give new parts what former ones have learnt, as far as they have a place for it."""
    for name, value in learnt.items():
        part = holder(parts, name)
        if isinstance(value, deque) and part is not None:
            part.pairs.extend(value)
        elif part is not None:
            setattr(part, short(name), value)


def saved(value: Any) -> Any:
    """A number, array or curvature pairs as part of a state: arrays as Tensors, copied."""
    if isinstance(value, deque):
        return [[tensor(s), tensor(y), curvature] for s, y, curvature in value]
    return tensor(value) if is_array(value) else value


def loaded(value: Any, size: int, dtype: Any, device: str, what: str) -> Any:
    """The value that `saved` made part of a state; an error for arrays of another size than the parameters have."""
    if isinstance(value, (list, tuple)):
        if any(not isinstance(pair, (list, tuple)) or len(pair) != 3 for pair in value):
            raise ValueError(f"{what} must be a list of triples: two arrays and a number.")
        arrays = [[loaded(x, size, dtype, device, what) for x in (s, y)] for s, y, _ in value]
        return deque(CurvaturePair(s, y, float(pair[2])) for (s, y), pair in zip(arrays, value, strict=True))
    if value is None or isinstance(value, bool):
        return value
    if not hasattr(value, "shape"):
        if not isinstance(value, (int, float)) or value != value:
            raise ValueError(f"{what} is {value!r}; expected a number, or an array as long as the parameters.")
        return value
    if not value.shape or set(value.shape) != {size}:
        raise ValueError(
            f"{what} has shape {tuple(value.shape)}, but there are {size} parameters; build the model as it was when "
            "the state was saved."
        )
    return tensor(value.numpy() if hasattr(value, "numpy") else value, dtype=dtype, device=device).data
