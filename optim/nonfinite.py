"""NaN and infinities among gradients, found in one pass and with one wait for the device at most.

A gradient is checked at the price of one dot product: its sum of squares is NaN or infinite if one of its numbers is.
The sum may also overflow where all numbers are finite, so a gradient that fails this test is looked at closely.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from minigrad import Tensor
from minigrad.backend import Array, device_of, namespace
from minigrad.backend.gpu import gradients as on_device

CHOICES = ("pass", "skip", "raise")


def all_finite(params: Iterable[Tensor]) -> bool:
    """Whether no gradient holds a NaN or an infinity. The host waits once for each GPU that gradients lie on."""
    on_gpus: dict[Any, list[Array]] = {}
    for p in params:
        if p.grad is None:
            continue
        g: Any = p.grad.data
        if namespace(g) is not np:
            on_gpus.setdefault(device_of(g), []).append(g)
        elif not _finite_on_host(g):
            return False
    return all(map(_finite_on_gpu, on_gpus.values()))


def _finite_on_gpu(gradients: list[Any]) -> bool:
    """The same for gradients of one device: by one launch, where there are kernels, and one wait."""
    if on_device.takes(gradients):
        verdict = on_device.new_verdict(gradients[0])
        on_device.look_for_nonfinite(gradients, verdict)
        return not bool(verdict[0])
    xp = namespace(gradients[0])
    fine = [xp.isfinite(g).all() for g in gradients]
    return bool(xp.stack(fine).all())


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
        f"gradients that are not finite, of {len(found)} parameters; nothing was changed. "
        + "; ".join(found[:5])
        + ("; ..." if len(found) > 5 else "")
        + '. Expected finite gradients: lower the learning rate, clip, or leave such steps out with nonfinite="skip".'
    )
