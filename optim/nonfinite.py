"""Gradients that are no numbers: NaN and infinities, found in one pass and without waiting more than once.

After this file you know how all gradients are checked at the price of one dot product each: the sum of squares of
numbers is no number if one of them is none. It may also overflow where all are fine, so what it accuses is looked at
closely.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from minigrad import Tensor
from minigrad.backend import Array, device_of, namespace

CHOICES = ("pass", "skip", "raise")


def all_finite(params: Iterable[Tensor]) -> bool:
    """Whether no gradient holds a NaN or an infinity. On a GPU the host waits once, for all of its gradients."""
    verdicts: dict[Any, Array] = {}
    for p in params:
        if p.grad is None:
            continue
        g: Any = p.grad.data
        xp = namespace(g)
        if xp is np:
            if not _finite_on_host(g):
                return False
            continue
        device, fine = device_of(g), xp.isfinite(g).all()
        verdicts[device] = verdicts[device] & fine if device in verdicts else fine
    return all(bool(fine) for fine in verdicts.values())


def _finite_on_host(g: np.ndarray) -> bool:
    flat = np.ravel(g)
    if flat.dtype != np.float16:  # whose products overflow at once, and are slow
        with np.errstate(all="ignore"):
            if np.isfinite(np.dot(flat, flat)):
                return True
    return bool(np.isfinite(flat).all())


def described_nonfinite(groups: list[dict[str, Any]]) -> str:
    """Which parameters' gradients hold how many NaN and infinities, and what can be done about it."""
    found = []
    for i, group in enumerate(groups):
        for j, p in enumerate(group["params"]):
            if p.grad is None or all_finite([p]):
                continue
            xp = namespace(p.grad.data)
            nans, infinities = int(xp.isnan(p.grad.data).sum()), int(xp.isinf(p.grad.data).sum())
            name = f" ({p.name})" if p.name else ""
            found.append(f"parameter {j} of group {i}{name}, shape {p.shape}: {nans} NaN, {infinities} infinite")
    return (
        f"gradients that are no finite numbers, of {len(found)} parameters; nothing was changed. "
        + "; ".join(found[:5])
        + ("; ..." if len(found) > 5 else "")
        + '. Expected finite gradients: lower the learning rate, clip, or leave such steps out with nonfinite="skip".'
    )
