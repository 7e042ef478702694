"""Transforms: decided by the generator they are given, and doing to an image what geometry says.

Claimed: the same generator gives the same images and leaves the input alone; a shift is by whole pixels, a crop comes
from every place, a quarter turn is rot90, and any other warp is the pixel-by-pixel lookup; nonsense is refused.
"""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import data
from minigrad.data import (
    Compose,
    DataError,
    augmentation,
    normalize,
    random_affine,
    random_crop,
    random_horizontal_flip,
    random_rotation,
    random_shift,
    to_float,
)
from tests.support.data_makers import SEEDS, few, own_cache  # noqa: F401  own_cache is for every test

TRANSFORMS = {
    "flip": random_horizontal_flip(),
    "crop": random_crop(2),
    "reflecting crop": random_crop(2, mode="reflect"),
    "shift": random_shift(2),
    "rotation": random_rotation(30),
    "affine": random_affine(10, shift=1.5, scale=0.2, shear=10),
    "all": Compose([random_horizontal_flip(), random_affine(5), random_crop(1)]),
}


@pytest.mark.parametrize("name", TRANSFORMS)
@few
@given(st.integers(1, 5), st.sampled_from([1, 3]), st.integers(4, 9), st.sampled_from(["f4", "f8", "u1"]), SEEDS)
def test_a_transform_is_decided_by_its_generator_and_leaves_its_input_alone(name, number, channels, width, dtype, seed):
    rng = np.random.default_rng(seed)
    images = (rng.random((number, channels, 7, width)) * (255 if dtype == "u1" else 1)).astype(dtype)
    before = images.copy()
    one, two = (TRANSFORMS[name](images, np.random.default_rng(seed)) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(images, before)
    assert one.shape == images.shape and one.dtype == images.dtype
    assert not np.shares_memory(one, images)
    assert one.min() >= 0 and one.max() <= images.max(), "interpolation must stay within the image's range"


def picture(height=7, width=7, channels=2, number=3, seed=0):
    return np.random.default_rng(seed).random((number, channels, height, width)).astype(np.float32)


def test_flipping_always_is_mirroring_and_never_is_nothing():
    images, rng = picture(), np.random.default_rng(0)
    np.testing.assert_array_equal(random_horizontal_flip(1)(images, rng), images[..., ::-1])
    np.testing.assert_array_equal(random_horizontal_flip(0)(images, rng), images)


@few
@given(st.integers(0, 4), SEEDS)
def test_a_shift_moves_the_image_by_whole_pixels_and_brings_in_black(pixels, seed):
    images = picture() + 1  # nowhere black
    for original, moved in zip(images, random_shift(pixels)(images, np.random.default_rng(seed)), strict=True):
        candidates = [
            np.pad(original, ((0, 0), (pixels, pixels), (pixels, pixels)))[:, top : top + 7, left : left + 7]
            for top in range(2 * pixels + 1)
            for left in range(2 * pixels + 1)
        ]
        assert any((candidate == moved).all() for candidate in candidates)


def test_every_place_of_a_crop_comes_up():
    places = np.arange(36, dtype=np.float32).reshape(1, 1, 6, 6).repeat(2000, axis=0)
    corners = random_crop(0, size=(4, 5))(places, np.random.default_rng(0))
    assert corners.shape == (2000, 1, 4, 5)
    assert set(corners[:, 0, 0, 0]) == {0, 1, 6, 7, 12, 13}
    with pytest.raises(DataError, match="does not fit"):
        random_crop(0, size=7)(places, np.random.default_rng(0))


@pytest.mark.parametrize("quarters", [0, 1, 2, 3, 4])
def test_warping_by_quarter_turns_is_rot90(quarters):
    images = picture(8, 8)
    turned = augmentation.affine_warp(images, augmentation.affine_matrices(quarters * np.pi / 2))
    np.testing.assert_allclose(turned, np.rot90(images, quarters, axes=(2, 3)), atol=1e-5)


@few
@given(st.floats(-3.1, 3.1), st.floats(0.6, 1.5), st.floats(-0.5, 0.5), st.floats(-2, 2), st.floats(-2, 2))
def test_warping_agrees_with_a_pixel_by_pixel_lookup(angle, zoom, slant, down, right):
    images = picture(6, 5, channels=1, number=1)
    matrix = augmentation.affine_matrices(angle, zoom, slant)
    warped = augmentation.affine_warp(images, matrix, [[down, right]])

    def value(row, column):
        inside = 0 <= row < 6 and 0 <= column < 5
        return images[0, 0, row, column] if inside else 0.0

    for row in range(6):
        for column in range(5):
            y, x = matrix[0] @ np.array([row - 2.5 - down, column - 2.0 - right]) + [2.5, 2.0]
            top, left = int(np.floor(y)), int(np.floor(x))
            by_hand = sum(
                (1 - abs(y - neighbour_row)) * (1 - abs(x - neighbour_column)) * value(neighbour_row, neighbour_column)
                for neighbour_row in (top, top + 1)
                for neighbour_column in (left, left + 1)
            )
            assert abs(warped[0, 0, row, column] - by_hand) < 1e-4


def test_a_larger_zoom_makes_a_larger_picture_and_an_offset_moves_it_down_and_right():
    square = np.zeros((1, 1, 21, 21), np.float32)
    square[..., 8:13, 8:13] = 1
    grown = augmentation.affine_warp(square, augmentation.affine_matrices(0.0, zoom=2.0))
    assert 80 < grown.sum() < 120
    moved = augmentation.affine_warp(square, augmentation.affine_matrices(0.0), [[3, 5]])
    np.testing.assert_allclose(moved[..., 11:16, 13:18], 1)


def test_normalize_gives_every_channel_mean_zero_and_deviation_one():
    images = picture(number=50) * 3 + 2
    transform = normalize(images.mean(axis=(0, 2, 3)), images.std(axis=(0, 2, 3)))
    done = transform(images, np.random.default_rng(0))
    np.testing.assert_allclose(done.mean(axis=(0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(done.std(axis=(0, 2, 3)), 1, atol=1e-5)
    assert done.dtype == np.float32
    np.testing.assert_allclose(to_float()(np.uint8([0, 51, 255]), np.random.default_rng(0)), [0, 0.2, 1])


@pytest.mark.parametrize(
    "make",
    [
        lambda: random_horizontal_flip(1.5),
        lambda: random_horizontal_flip(float("nan")),
        lambda: random_crop(-1),
        lambda: random_shift(0.5),
        lambda: random_affine(-3),
        lambda: random_affine(scale=1.0),
        lambda: random_affine(shear=90),
        lambda: normalize(0, 0),
        lambda: normalize([0, 0, 0], 1)(picture(), None),
        lambda: random_shift(1)(np.zeros((3, 28, 28)), np.random.default_rng(0)),
    ],
)
def test_a_transform_that_cannot_be_says_what_was_expected(make):
    with pytest.raises(DataError, match="expected"):
        make()


# --- what is refused ---

NONE = [math.nan, math.inf, -math.inf, "a", None, [1.0], (1, 2, 3), np.ones(2), object()]
OPTIONS = {
    "random_horizontal_flip": ({"probability": 0.5}, {"probability": [-0.1, 1.1]}),
    "random_crop": ({"padding": 2}, {"padding": [-1, 1.5, True], "size": [0, -1, 1.5, True, (2, 0), (2,), [3]]}),
    "random_shift": ({"pixels": 1}, {"pixels": [-1, 1.5]}),
    "random_rotation": ({"degrees": 5}, {"degrees": [-1, 361, True]}),
    "random_affine": ({}, {"degrees": [-1, 361], "shift": [-1], "scale": [-0.1, 1], "shear": [-1, 90]}),
    "cutout": ({"size": 2}, {"size": [-1, 1.5], "fill": []}),
    "gaussian_noise": ({"std": 0.1}, {"std": [-0.1]}),
    "mixup": ({"num_classes": 3}, {"num_classes": [0, -1, 1.5, True], "alpha": [-0.1], "per_sample": [1]}),
}
CASES = [(name, option) for name, (_, options) in OPTIONS.items() for option in options]


@pytest.mark.parametrize(("name", "option"), CASES)
def test_options_out_of_range_or_of_another_kind_are_refused_when_the_transform_is_made(name, option):
    base, wrong = OPTIONS[name]
    for value in [*NONE, *wrong[option]]:
        if (name, option) == ("random_crop", "size") and value is None:
            continue  # the image's own
        with pytest.raises(DataError, match="random_affine" if name == "random_rotation" else name):
            getattr(data, name)(**{**base, option: value})
            pytest.fail(f"{name}({option}={value!r}) was taken")


def test_other_options_are_refused_too():
    for make in (
        lambda: data.random_crop(2, mode="wrap"),
        lambda: data.random_crop(2, mode=["edge"]),
        *((lambda bad=bad: data.normalize(bad, 1.0)) for bad in (math.nan, math.inf, "a", None, [], [None])),
        *((lambda bad=bad: data.normalize(0.0, bad)) for bad in (math.nan, math.inf, 0, -1, "a", None, [])),
        *((lambda bad=bad: data.Compose(bad)) for bad in ([1], "ab", 3, None, [None])),
    ):
        with pytest.raises(DataError):
            make()
    for fill in (-1, 256, 2.5):
        with pytest.raises(DataError, match="no uint8 pixel can be"):
            data.cutout(2, fill=fill)(np.zeros((1, 1, 4, 4), np.uint8), np.random.default_rng(0))


@pytest.mark.parametrize(
    "images", ["text", None, [1, 2], np.zeros((2, 3)), np.zeros((2, 3, 0, 5)), mg.ones(1, 1, 2, 2)]
)
def test_what_is_no_batch_of_images_is_refused(images):
    for transform in (
        data.random_horizontal_flip(), data.random_crop(1), data.random_affine(5), data.cutout(2),
        data.gaussian_noise(0.1), data.normalize(0, 1),
    ):  # fmt: skip
        with pytest.raises(DataError, match="transform: "):
            transform(images, np.random.default_rng(0))
