"""Random changes to a batch of images on the GPU, by `augmentation.cu`: a list of steps, one launch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy import int32, int64

from minigrad.backend.arrays import Array
from minigrad.backend.device import device_of, namespace, to_device
from minigrad.backend.gpu.launching import THREADS, Source, blocks_for, channels_first

AUGMENTATION = Source("augmentation.cu")
MOST_STEPS = 8
KINDS = ("scale", "crop", "flip", "cutout")
MODES = ("constant", "edge", "reflect")
STEP = np.dtype(
    [
        *((name, np.int32) for name in ("kind", "mode", "height", "width", "size", "rows", "columns")),
        ("number", np.float32),
    ]
)
STEPS = np.dtype([("at", STEP, MOST_STEPS), ("keys", np.uint64, MOST_STEPS), ("count", np.int32)], align=True)


@dataclass(frozen=True)
class Step:
    """One change. What it draws for an image follows from its key and the image's number.

    kind : "crop", "flip", "cutout" or "scale"
    size : the padding of a crop, the side of a cutout's square
    window : (height, width) that a crop cuts out; None: as large as the image
    number : the probability of a flip, what fills a cutout's square
    mean, std : of a scale, one or one a channel: (v - mean) / std
    """

    kind: str
    mode: str = "constant"
    size: int = 0
    window: tuple[int, int] | None = None
    number: float = 0.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)


def augment(images: Array, steps: Sequence[Step], keys: Sequence[int]) -> Array:
    """Images (N, C, H, W) after the steps, channels last in memory; float32 where a step scales, else as they are.

    A crop's window must fit the padded image. Bytes and floats are taken.
    """
    for start in range(0, len(steps), MOST_STEPS):
        images = _augment(images, steps[start : start + MOST_STEPS], keys[start : start + MOST_STEPS])
    return images


def _augment(images: Array, steps: Sequence[Step], keys: Sequence[int]) -> Array:
    xp, scales = namespace(images), any(step.kind == "scale" for step in steps)
    if scales and images.dtype.kind == "f":
        images = images.astype(np.float32, copy=False)
    images = xp.ascontiguousarray(images)
    number, channels = images.shape[:2]
    described, (height, width) = _described(steps, keys, images.shape[2:])
    bytes_in = images.dtype == np.uint8
    result = xp.empty((number, height, width, channels), np.float32 if scales else images.dtype)
    AUGMENTATION.launch(
        "augment" if not bytes_in else "augment_bytes_to_floats" if scales else "augment_bytes",
        xp.empty(0, np.float32) if bytes_in else images,
        blocks_for(number * height * width), (THREADS,),
        images, int64(number * height * width), int32(channels), int32(height), int32(width), described,
        _scales(xp, device_of(images), tuple(steps), channels), result,
    )  # fmt: skip
    return channels_first(result)


def _described(steps: Sequence[Step], keys: Sequence[int], sides: tuple[int, ...]) -> tuple[Any, tuple[int, ...]]:
    """The steps as the kernel takes them, and the sides of the result."""
    described = np.zeros((), STEPS)
    described["count"] = len(steps)
    described["keys"][: len(steps)] = keys
    for at, step in zip(described["at"], steps, strict=False):
        height, width = sides
        at["kind"], at["mode"] = KINDS.index(step.kind), MODES.index(step.mode)
        at["height"], at["width"], at["size"], at["number"] = height, width, step.size, step.number
        if step.kind == "crop":
            sides = step.window or sides
            at["rows"] = height + 2 * step.size - sides[0] + 1
            at["columns"] = width + 2 * step.size - sides[1] + 1
    return described, sides


@cache
def _scales(xp: Any, device: str, steps: tuple[Step, ...], channels: int) -> Array:
    """Mean and standard deviation of each step and channel, (steps, C, 2), on the device."""
    values = np.zeros((len(steps), channels, 2), np.float32)
    for row, step in zip(values, steps, strict=False):
        row[:, 0], row[:, 1] = step.mean, step.std  # one for all channels, or one each
    return to_device(values, device)
