"""Augmentation: random changes to a batch of images that leave its labels true.

Each function here returns a transform, ``transform(images, rng) -> images``, that works on a whole batch
of NumPy images, shape (N, C, H, W), at once: each image has random numbers of its own, without a loop over images.
The same `rng` state gives the same result; the images passed in are never changed. An image is rotated by asking, for
every pixel of the result, where in the source it came from.

Flip, crop, cutout, `to_float` and `normalize` also take images that lie on a GPU, where those that a `Compose` holds
are one launch. Their random numbers are others there, but as repeatable: the `rng` gives each transform a key.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike

from minigrad.backend import Array, is_array
from minigrad.backend.gpu.augmentation import Step, augment

from .dataset import DataError

Transform = Callable[[np.ndarray, np.random.Generator], np.ndarray]


class _OnBoth:
    """A transform that runs on the CPU by `body`, and on a GPU as `step` says."""

    def __init__(self, body: Transform, step: Step) -> None:
        self.body, self.step = body, step
        self.__name__ = body.__name__

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return _on_gpu(images, [self], rng) if _is_on_gpu(images) else self.body(images, rng)


class Compose:
    """Transforms one after another, all drawing from the same generator.

    Examples
    --------
    >>> augment = Compose([random_crop(4), random_horizontal_flip(), normalize(mean, std)])
    >>> loader = DataLoader(dataset, 128, shuffle=True, transform=augment)
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        if not isinstance(transforms, (list, tuple)) or not all(callable(one) for one in transforms):
            raise DataError(f"Compose: got {transforms!r}; expected a list of transforms, as in Compose([a, b]).")
        self.transforms = tuple(transforms)

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if _is_on_gpu(images):
            return _on_gpu(images, self.transforms, rng)
        for transform in self.transforms:
            images = transform(images, rng)
        return images


# --- on a GPU ---


def _is_on_gpu(images: object) -> bool:
    return is_array(images) and not isinstance(images, (np.ndarray, np.generic))


def _on_gpu(images: Any, transforms: Sequence[Transform], rng: np.random.Generator) -> Any:
    """All of them in one launch, each with a key of its own drawn from rng."""
    steps = _steps_of(transforms)
    _check_steps(images, steps)
    return augment(images, steps, rng.integers(0, 2**64, len(steps), dtype=np.uint64).tolist())


def _steps_of(transforms: Sequence[Transform]) -> list[Step]:
    found: list[Step] = []
    for transform in transforms:
        if isinstance(transform, Compose):
            found += _steps_of(transform.transforms)
        elif isinstance(transform, _OnBoth):
            found.append(transform.step)
        else:
            name = getattr(transform, "__name__", type(transform).__name__)
            raise DataError(
                f"Compose: the images lie on a GPU, where {name} does not run; flip, crop, cutout, to_float and "
                "normalize do. Use a DataLoader with cache=False, whose transforms run on the CPU."
            )
    return found


def _check_steps(images: Array, steps: Sequence[Step]) -> None:
    """The checks that the transforms make on the CPU, before anything is launched."""
    _check_shape(images)
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise DataError(f"transform: images on a GPU are {images.dtype}; expected uint8 or floats.")
    sides, dtype = images.shape[2:], images.dtype
    for step in steps:
        if step.kind == "crop":
            window = step.window or sides
            _check_fits(window, sides, step.size)
            sides = window
        elif step.kind == "cutout":
            _check_fill(step.number, dtype)
        elif step.kind == "scale":
            _check_channels({"mean": step.mean, "std": step.std}, images.shape[1])
            dtype = np.dtype(np.float32)


# --- the transforms ---


def random_horizontal_flip(probability: float = 0.5) -> Transform:
    """Mirror left and right, each image with the given probability. Any dtype; shape unchanged.

    Do not use it for digits or letters: a mirrored 2 is not a 2.
    """
    check_range("random_horizontal_flip", "probability", probability, 0, 1)

    def flip(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return flipped(images, rng.random(_batch_size(images)) < probability)

    return _OnBoth(flip, Step("flip", number=float(probability)))


def flipped(images: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """The images with those chosen, (N,) of bool, mirrored left and right."""
    return np.where(chosen[:, None, None, None], images[..., ::-1], images)


def random_crop(
    padding: int,
    *,
    size: int | tuple[int, int] | None = None,
    mode: Literal["constant", "edge", "reflect"] = "constant",
) -> Transform:
    """Pad every side, then cut out a window at a random place. Any dtype.

    Parameters
    ----------
    padding : int
        Pixels added on each side.
    size : int or (height, width), optional
        The window's size; the image's own unless given.
    mode : {"constant", "edge", "reflect"}
        What the padding holds: zeros, the border pixel, or the mirrored image. Put a crop with zeros before
        `normalize`, where zero still means black.

    Notes
    -----
    ``random_crop(4)`` is what He et al. (2016, "Deep Residual Learning", section 4.2) train CIFAR-10 with.
    """
    _check_whole("random_crop", "padding", padding)
    _check_window(size)
    if not isinstance(mode, str) or mode not in ("constant", "edge", "reflect"):
        raise DataError(f"random_crop: mode is {mode!r}; expected 'constant', 'edge' or 'reflect'.")

    def crop(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        number = _batch_size(images)
        height, width = _window(size, images)
        free_rows, free_columns = _check_fits((height, width), images.shape[2:], padding)
        top = rng.integers(0, free_rows + 1, number)
        left = rng.integers(0, free_columns + 1, number)
        return cropped(images, padding, (height, width), mode, top, left)

    window = (int(size), int(size)) if isinstance(size, (int, np.integer)) else size
    return _OnBoth(crop, Step("crop", mode, int(padding), window and (int(window[0]), int(window[1]))))


def cropped(
    images: np.ndarray,
    padding: int,
    window: tuple[int, int],
    mode: Literal["constant", "edge", "reflect"],
    top: np.ndarray,
    left: np.ndarray,
) -> np.ndarray:
    """Windows (height, width) of the padded images, with their corners at top and left, (N,) each."""
    padded = np.pad(images, ((0, 0), (0, 0), (padding, padding), (padding, padding)), mode=mode)
    return sliding_window_view(padded, window, axis=(2, 3))[np.arange(len(images)), :, top, left]


def random_shift(pixels: int) -> Transform:
    """Move each image by whole pixels, up to `pixels` each way; black comes in at the border. Any dtype."""
    _check_whole("random_shift", "pixels", pixels)
    return random_crop(pixels)


def random_rotation(degrees: float) -> Transform:
    """Turn each image about its centre by an angle between -`degrees` and `degrees`. See `random_affine`."""
    return random_affine(degrees)


def random_affine(degrees: float = 0.0, *, shift: float = 0.0, scale: float = 0.0, shear: float = 0.0) -> Transform:
    """Turn, move, resize and slant each image a little, about its centre, with bilinear interpolation.

    Parameters
    ----------
    degrees : float
        The angle is uniform between -degrees and degrees.
    shift : float
        Movement along each axis, in pixels, fractions included: uniform between -shift and shift.
    scale : float
        The size is multiplied by a number uniform between 1 - scale and 1 + scale; 0 <= scale < 1.
    shear : float
        Slant, in degrees: uniform between -shear and shear; below 90.

    Returns
    -------
    Transform
        For images of any real dtype; whole numbers are rounded back. Outside the image all is zero.
    """
    check_range("random_affine", "degrees", degrees, 0, 360)
    check_range("random_affine", "shift", shift, 0, math.inf)
    check_range("random_affine", "scale", scale, 0, 1, end_included=False)
    check_range("random_affine", "shear", shear, 0, 90, end_included=False)

    def affine(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        number = _batch_size(images)
        angle = np.radians(rng.uniform(-degrees, degrees, number))
        slant = np.tan(np.radians(rng.uniform(-shear, shear, number)))
        zoom = rng.uniform(1 - scale, 1 + scale, number)
        offset = rng.uniform(-shift, shift, (number, 2))
        return affine_warp(images, affine_matrices(angle, zoom, slant), offset)

    return affine


def affine_matrices(angle: ArrayLike, zoom: ArrayLike = 1.0, slant: ArrayLike = 0.0) -> np.ndarray:
    """Matrices, shape (N, 2, 2), from (row, column) in the result to (row, column) in the source.

    The picture turns anticlockwise by `angle` (radians), grows by `zoom`, and is first slanted by
    `slant` columns a row. All are scalars or have shape (N,); the centre is the origin.
    """
    angles, zooms, slants = np.broadcast_arrays(np.atleast_1d(angle), zoom, slant)
    cos, sin = np.cos(angles) / zooms, np.sin(angles) / zooms
    undo_turn = np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], -2)
    undo_slant = np.broadcast_to(np.eye(2), undo_turn.shape).copy()
    undo_slant[:, 1, 0] = -slants
    return undo_slant @ undo_turn


def affine_warp(images: np.ndarray, matrices: np.ndarray, offsets: ArrayLike = 0.0) -> np.ndarray:
    """Look up each pixel of the result in the source, bilinearly; zero outside.

    Parameters
    ----------
    images : array, shape (N, C, H, W)
    matrices : array, shape (N, 2, 2) or (1, 2, 2)
        Take (row, column), counted from the centre, in the result to the same in the source.
    offsets : array, shape (N, 2), or scalar
        How far the picture moves: rows down, columns to the right.

    Returns
    -------
    array, shape (N, C, H, W), the dtype of `images`
    """
    number, channels, height, width = images.shape
    centre = np.array([(height - 1) / 2, (width - 1) / 2], np.float32)
    grid = np.indices((height, width), np.float32).reshape(2, -1).T - centre
    moved = grid - np.broadcast_to(np.asarray(offsets, np.float32), (number, 2))[:, None, :]
    source = moved @ np.asarray(matrices, np.float32).swapaxes(-1, -2) + centre

    # One row and column of zeros before, two after: a neighbour outside the image then needs no special case.
    dtype = np.result_type(images.dtype, np.float32)
    padded = np.zeros((number, height + 3, width + 3, channels), dtype)
    padded[:, 1 : height + 1, 1 : width + 1] = images.transpose(0, 2, 3, 1)
    row = np.clip(source[..., 0], -1, height) + 1
    column = np.clip(source[..., 1], -1, width) + 1
    top, left = row.astype(np.intp), column.astype(np.intp)
    down, right = (row - top)[..., None], (column - left)[..., None]
    pixels = padded.reshape(-1, channels)
    line = width + 3
    place = (np.arange(number)[:, None] * (height + 3) + top) * line + left

    def neighbour(step: int) -> np.ndarray:
        return np.take(pixels, place + step, axis=0)

    upper = neighbour(0) * (1 - right) + neighbour(1) * right
    lower = neighbour(line) * (1 - right) + neighbour(line + 1) * right
    result = upper * (1 - down) + lower * down
    if images.dtype.kind in "iu":
        result = np.rint(result)
    result = result.reshape(number, height, width, channels).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(result, dtype=images.dtype)


def cutout(size: int, *, fill: float = 0.0) -> Transform:
    """Blank a square of `size` pixels a side in each image, about a random pixel; at the border part of it is lost.

    DeVries & Taylor 2017, "Improved regularization of convolutional neural networks with cutout". Any dtype. Put it
    after `normalize`, where the `fill` of zero is the mean.
    """
    _check_whole("cutout", "size", size)
    check_range("cutout", "fill", fill, -math.inf, math.inf)
    check_range("cutout", "fill", -fill, -math.inf, math.inf)  # infinity is none, of either sign

    def blank(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        number = _batch_size(images)
        _check_fill(fill, images.dtype)
        row, column = (rng.integers(0, length, number) for length in images.shape[2:])
        return blanked(images, size, fill, row, column)

    return _OnBoth(blank, Step("cutout", size=int(size), number=float(fill)))


def blanked(images: np.ndarray, size: int, fill: float, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """The images with a square of `size` pixels a side filled, about the pixel (row, column), (N,) each."""
    inside = []
    for length, centre in zip(images.shape[2:], (row, column), strict=True):
        first, pixels = centre[:, None] - size // 2, np.arange(length)
        inside.append((pixels >= first) & (pixels < first + size))
    rows, columns = inside
    square = (rows[:, :, None] & columns[:, None, :])[:, None]
    return np.where(square, images.dtype.type(fill), images)


def gaussian_noise(std: float) -> Transform:
    """Add normal noise of standard deviation `std`, in the units of the images, which must be floats."""
    check_range("gaussian_noise", "std", std, 0, math.inf)

    def add_noise(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        _batch_size(images)
        if images.dtype.kind != "f":
            raise DataError(f"gaussian_noise: the images are {images.dtype}; put to_float() or normalize() before it.")
        drawn = np.float64 if images.dtype == np.float64 else np.float32
        noise = rng.standard_normal(images.shape, dtype=drawn)
        return (images + std * noise).astype(images.dtype)

    return add_noise


def to_float() -> Transform:
    """Bytes 0..255 to float32 in [0, 1]: for datasets loaded with ``dtype=np.uint8``."""

    def convert(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        _expect_array(images)
        return np.divide(images, 255, dtype=np.float32)

    return _OnBoth(convert, Step("scale", std=(255.0,)))


def normalize(mean: float | Sequence[float], std: float | Sequence[float]) -> Transform:
    """``(images - mean) / std`` for each channel, as float32.

    Parameters
    ----------
    mean, std : float, or one for each of the C channels
        In the units of the images; take them from the training images alone:
        ``images.mean(axis=(0, 2, 3))``.
    """
    try:
        shift = np.asarray(mean, np.float32).reshape(-1, 1, 1)
        scale = np.asarray(std, np.float32).reshape(-1, 1, 1)
    except (TypeError, ValueError):
        raise DataError(f"normalize: mean={mean!r}, std={std!r}; expected numbers, one or one a channel.") from None
    if not np.isfinite(shift).all() or not shift.size:
        raise DataError(f"normalize: mean is {mean}; expected finite numbers.")
    if not np.all((scale > 0) & np.isfinite(scale)) or not scale.size:
        raise DataError(f"normalize: std is {std}; expected positive numbers. A channel that never varies has none.")

    def standardise(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        _batch_size(images)
        _check_channels({"mean": shift, "std": scale}, images.shape[1])
        return np.subtract(images, shift, dtype=np.float32) / scale

    return _OnBoth(standardise, Step("scale", mean=tuple(shift.ravel().tolist()), std=tuple(scale.ravel().tolist())))


def _expect_array(images: object) -> None:
    if not isinstance(images, np.ndarray):
        raise DataError(f"transform: the images are a {type(images).__name__}; expected a NumPy array, (N, C, H, W).")


def _batch_size(images: np.ndarray) -> int:
    _expect_array(images)
    _check_shape(images)
    return len(images)


def _check_shape(images: Array) -> None:
    if images.ndim != 4:
        raise DataError(
            f"transform: images have shape {images.shape}; expected (N, C, H, W). For a single image use "
            "images[None]; for grey images without a channel axis, images[:, None]."
        )
    if not images.shape[2] or not images.shape[3]:
        raise DataError(f"transform: images have shape {images.shape}, so no pixels; expected 1x1 or more.")


def _check_fits(window: tuple[int, ...], sides: tuple[int, ...], padding: int) -> tuple[int, int]:
    """How far a window can move in the padded images, down and across."""
    free_rows, free_columns = (side + 2 * padding - length for side, length in zip(sides, window, strict=True))
    if free_rows < 0 or free_columns < 0:
        raise DataError(
            f"random_crop: a window of {window[0]}x{window[1]} does not fit images of {sides[0]}x{sides[1]} padded by "
            f"{padding}. Use a smaller size or more padding."
        )
    return free_rows, free_columns


def _check_fill(fill: float, dtype: np.dtype) -> None:
    if dtype.kind in "iu" and not (fill == int(fill) and np.iinfo(dtype).min <= fill <= np.iinfo(dtype).max):
        raise DataError(f"cutout: fill is {fill}, which no {dtype} pixel can be; put to_float() before it.")


def _check_channels(given: dict[str, Any], channels: int) -> None:
    for name, values in given.items():
        if len(values) not in (1, channels):
            raise DataError(
                f"normalize: {len(values)} values in {name} for images with {channels} channels; "
                "expected one value, or one a channel."
            )


def _window(size: int | tuple[int, int] | None, images: np.ndarray) -> tuple[int, int]:
    if size is None:
        return images.shape[2], images.shape[3]
    return (size, size) if isinstance(size, (int, np.integer)) else size


def _check_window(size: object) -> None:
    sides = size if isinstance(size, (tuple, list)) else (size,)
    whole = all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n >= 1 for n in sides)
    if size is not None and (not whole or len(sides) not in (1, 2) or (len(sides) == 1 and sides is size)):
        raise DataError(
            f"random_crop: size is {size!r}; expected a whole number of pixels, 1 or more, or (height, width)."
        )


def _check_whole(function: str, parameter: str, value: object) -> None:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 0:
        raise DataError(f"{function}: {parameter} is {value!r}; expected a whole number of pixels, 0 or more.")


def check_range(
    function: str, parameter: str, value: object, low: float, high: float, end_included: bool = True
) -> None:
    """Raise DataError unless `value` is a finite number from `low` to `high`."""
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    # Written so that NaN fails too.
    if not number or not (low <= value < high or (end_included and value == high < math.inf)):  # type: ignore[operator]
        raise DataError(f"{function}: {parameter} is {value!r}; expected a number between {low} and {high}.")
