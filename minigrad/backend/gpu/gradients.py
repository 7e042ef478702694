"""What is done to all gradients at once, by `gradients.cu`; few launches, and nothing that the host waits for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy import float32, int32

from minigrad.backend.arrays import Array
from minigrad.backend.device import device_of, namespace
from minigrad.backend.gpu.launching import compiled
from minigrad.backend.gpu.many_tensors import Batch, batches, can_launch, defined, launch, layout
from minigrad.backend.gpu.workspace import counters

FILE = "gradients.cu"
TENSORS = layout(2)
DEFINES = defined(ARRAYS=2, TENSORS=TENSORS["size"].shape[0])


def takes(gradients: Sequence[Array]) -> bool:
    """Whether the kernels take these arrays: at least one, all of one device, without gaps in memory."""
    return bool(gradients) and len({device_of(g) for g in gradients}) == 1 and all(map(can_launch, gradients))


def new_verdict(like: Array) -> Array:
    """The three integers of verdict.cuh: nothing found yet, nothing skipped."""
    return namespace(like).zeros(3, "int32")


def look_for_nonfinite(gradients: Sequence[Array], verdict: Array, known: Array | None = None) -> None:
    """Write into `verdict` whether a gradient holds a NaN or an infinity, or one was `known` before."""
    kinds = _by_dtype(gradients) or [[]]
    work = [(kind, batch) for kind in kinds for batch in _batches(kind, kind)]
    for i, (kind, batch) in enumerate(work):
        like, final = kind[0] if kind else namespace(verdict).empty(0, "float32"), i + 1 == len(work)
        launch(
            FILE, "look_for_nonfinite", DEFINES, like, batch,
            known, np.bool_(final), verdict, counters(verdict, 1), empty=final,
        )  # fmt: skip


def norm(gradients: Sequence[Array]) -> Array:
    """The Euclidean norm of all gradients as one vector, which have one dtype: a 0-d array."""
    xp, like = namespace(gradients[0]), gradients[0]
    result = xp.empty((), "float64" if like.dtype.itemsize == 8 else "float32")
    work, first = _batches(gradients, gradients), 0
    parts = xp.empty(sum(max(1, batch.blocks) for batch in work), "float64")
    for i, batch in enumerate(work):
        final = i + 1 == len(work)
        launch(
            FILE, "norm_of_all", DEFINES, like, batch,
            int32(first), np.bool_(final), parts, counters(like, 1), result, empty=final,
        )  # fmt: skip
        first += batch.blocks
    return result


def clip_by_norm(gradients: Sequence[Array], norm: Array, max_norm: float, eps: float) -> list[Array]:
    """New gradients, times max_norm / (norm + eps) where that is less than 1. `norm` is a float32 or float64."""

    def numbers(wide: Any) -> tuple[Any, ...]:
        lowest = max(float(max_norm), float(np.finfo(norm.dtype).tiny))
        return norm.astype(wide, copy=False), wide(max_norm), wide(eps), wide(lowest)

    return _each("clip_by_norm", gradients, numbers)


def clip_by_value(gradients: Sequence[Array], limit: float) -> list[Array]:
    """New gradients, with every number brought into [-limit, limit]."""
    return _each("clip_by_value", gradients, lambda wide: (wide(limit),))


def unscale(gradients: Sequence[Array], scale: Array) -> list[Array]:
    """New gradients, divided by a scale, a float32 on their device."""
    return _each("unscale", gradients, lambda wide: (scale,))


def update_scale(
    scale: Array, tracker: Array, verdict: Array, growth_factor: float, backoff_factor: float, growth_interval: int
) -> None:
    """Change a loss's scale and the count of good steps in a row, by the verdict on the step."""
    kernel = compiled(namespace(scale), FILE, "float32", "update_scale")
    with scale.device:
        args = scale, tracker, verdict, float32(growth_factor), float32(backoff_factor), int32(growth_interval)
        kernel((1,), (1,), args)


def _each(entry: str, gradients: Sequence[Array], numbers: Any) -> list[Array]:
    """New arrays of all gradients, made by the kernel `entry` with `numbers` in the precision it computes with."""
    new = {id(g): namespace(g).empty_like(g) for g in gradients}
    for kind in _by_dtype(gradients):
        wide = np.float64 if kind[0].dtype.itemsize == 8 else np.float32
        for batch in _batches(kind, [new[id(g)] for g in kind]):
            launch(FILE, entry, DEFINES, kind[0], batch, *numbers(wide))
    return [new[id(g)] for g in gradients]


def _by_dtype(gradients: Sequence[Array]) -> list[list[Array]]:
    kinds: dict[str, list[Array]] = {}
    for g in gradients:
        kinds.setdefault(g.dtype.name, []).append(g)
    return list(kinds.values())


def _batches(sources: Sequence[Array], targets: Sequence[Array]) -> list[Batch]:
    return batches(TENSORS, [sources, targets]) or [Batch(TENSORS, [])]
