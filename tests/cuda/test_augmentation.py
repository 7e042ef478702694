"""Augmentation on a GPU, executed on the CPU, against NumPy's body of each transform given the same random numbers."""

import math

import numpy as np
import pytest

from minigrad.backend import device_of, to_device
from minigrad.backend.gpu.augmentation import MOST_STEPS
from minigrad.data import (
    ArrayDataset,
    Compose,
    DataError,
    DataLoader,
    augmentation,
    cutout,
    gaussian_noise,
    normalize,
    random_crop,
    random_horizontal_flip,
    random_rotation,
    to_float,
)
from tests.support import philox, strict_backend
from tests.support.cuda import compiling

pytestmark = pytest.mark.skipif(not compiling.AVAILABLE, reason="no C++ compiler to run CUDA kernels with")


@pytest.fixture(autouse=True)
def cuda():
    with strict_backend.installed():
        yield


def words(key, number):
    """The four words of each image, (N, 4), by the definition of Philox."""
    drawn = [philox.philox((image, 0, 0, 0), (key % 2**32, key >> 32)) for image in range(number)]
    return np.array(drawn, np.uint64).reshape(number, 4)


def below(n, word):
    return (word * np.uint64(n) >> np.uint64(32)).astype(int)


def applied(step, key, images):
    """NumPy's body of a step, with what the kernel draws for each image."""
    drawn, (height, width) = words(key, len(images)), images.shape[2:]
    if step.kind == "flip":
        return augmentation.flipped(images, drawn[:, 0] / 2**32 < np.float32(step.number))
    if step.kind == "crop":
        window = step.window or (height, width)
        places = [side + 2 * step.size - length + 1 for side, length in zip((height, width), window, strict=True)]
        corners = [below(n, drawn[:, axis]) for axis, n in enumerate(places)]
        return augmentation.cropped(images, step.size, window, step.mode, *corners)
    if step.kind == "cutout":
        return augmentation.blanked(
            images, step.size, step.number, below(height, drawn[:, 0]), below(width, drawn[:, 1])
        )
    return normalize(step.mean, step.std)(images, None)


def expected_of(transforms, images, seed):
    steps = augmentation._steps_of(transforms)
    keys = np.random.default_rng(seed).integers(0, 2**64, len(steps), dtype=np.uint64).tolist()
    for step, key in zip(steps, keys, strict=True):
        images = applied(step, key, images)
    return images


def images_of(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, shape).astype(dtype) if dtype == "u1" else rng.uniform(1, 2, shape).astype(dtype)


MEAN, STD = (0.1, -0.2, 120.0), (0.5, 2.0, 60.0)
PIPELINES = {
    "flip": [random_horizontal_flip()],
    "always flip": [random_horizontal_flip(1)],
    "never flip": [random_horizontal_flip(0)],
    "crop": [random_crop(2)],
    "crop edge": [random_crop(9, mode="edge")],
    "crop reflect": [random_crop(11, mode="reflect")],
    "crop a window": [random_crop(1, size=(3, 5))],
    "crop a larger window": [random_crop(4, size=(13, 12))],
    "cutout": [cutout(3, fill=7)],
    "even cutout": [cutout(4, fill=1)],
    "cutout of nothing": [cutout(0)],
    "to_float": [to_float()],
    "normalize": [normalize(MEAN, STD)],
    "one mean": [normalize(3, 2)],
    "all": [random_crop(4), random_horizontal_flip(), to_float(), normalize(MEAN, STD), cutout(3)],
    "another order": [cutout(3, fill=200), normalize(MEAN, STD), random_horizontal_flip(0.3), random_crop(2, size=5)],
    "crops of crops": [random_crop(3), cutout(2, fill=9), random_crop(2, mode="reflect"), cutout(3), random_crop(1)],
    "nested": [Compose([random_crop(1), Compose([random_horizontal_flip()])]), normalize(1, 2), normalize(MEAN, STD)],
}


@pytest.mark.parametrize("order", [0, 1, 7])
@pytest.mark.parametrize("dtype", ["u1", "f2", "f4", "f8"])
@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_is_numpys_transforms_with_the_kernels_numbers(name, dtype, order, monkeypatch):
    monkeypatch.setattr(compiling, "order", order)
    images = images_of((19, 3, 6, 8), dtype)
    found = Compose(PIPELINES[name])(to_device(images, "cuda"), np.random.default_rng(5))
    expected = expected_of(PIPELINES[name], images, 5)
    assert found.dtype == expected.dtype and found.shape == expected.shape and device_of(found) == "cuda:0"
    np.testing.assert_array_equal(found.host, expected)  # to the bit: the same operations in the same order
    assert found.host.transpose(0, 2, 3, 1).flags.c_contiguous, "channels last, as the layers want them"


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (1, 3, 1, 1), (2, 3, 1, 7), (40, 3, 17, 1), (3, 3, 32, 32)])
def test_images_of_any_size(shape):
    pipeline = [random_crop(2, mode="reflect"), random_horizontal_flip(), cutout(2, fill=3), normalize(MEAN, STD)]
    images = images_of(shape, "u1")
    found = Compose(pipeline)(to_device(images, "cuda"), np.random.default_rng(1))
    np.testing.assert_array_equal(found.host, expected_of(pipeline, images, 1))


def test_one_channel_and_none():
    for channels in (1, 0, 5):
        images = images_of((4, channels, 5, 5), "f4")
        pipeline = [random_crop(1), normalize(1, 2)]
        found = Compose(pipeline)(to_device(images, "cuda"), np.random.default_rng(1))
        np.testing.assert_array_equal(found.host, expected_of(pipeline, images, 1))


def test_it_does_not_matter_how_the_images_lie_in_memory():
    images = images_of((6, 3, 5, 7), "f4")
    lying = images.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2)
    found = random_crop(2)(strict_backend.StrictArray(lying), np.random.default_rng(0))
    np.testing.assert_array_equal(found.host, expected_of([random_crop(2)], images, 0))


def test_more_steps_than_a_launch_takes():
    pipeline = [random_horizontal_flip(), random_crop(1)] * MOST_STEPS
    images = images_of((5, 2, 6, 6), "f4")
    found = Compose(pipeline)(to_device(images, "cuda"), np.random.default_rng(2))
    np.testing.assert_array_equal(found.host, expected_of(pipeline, images, 2))


def test_no_step_leaves_the_images_as_they_are():
    images = to_device(images_of((2, 3, 4, 4), "u1"), "cuda")
    assert Compose([])(images, np.random.default_rng(0)) is images


def test_nan_and_infinity_are_moved_and_not_made():
    images = np.array([np.nan, np.inf, -np.inf, 1] * 16, "f4").reshape(4, 1, 4, 4)
    pipeline = [random_crop(1), random_horizontal_flip(), cutout(2)]
    found = Compose(pipeline)(to_device(images, "cuda"), np.random.default_rng(2))
    np.testing.assert_array_equal(found.host, expected_of(pipeline, images, 2))


def test_a_whole_pipeline_is_one_launch_without_a_copy_or_a_wait():
    compose, images = Compose(PIPELINES["all"]), to_device(images_of((9, 3, 8, 8), "u1"), "cuda")
    compose(images, np.random.default_rng(0))  # means and deviations are sent once
    compiling.launches.clear()
    strict_backend.traffic.clear()
    compose(images, np.random.default_rng(1))
    assert [name for name, *_ in compiling.launches] == ["augment_bytes_to_floats"]
    assert not strict_backend.traffic


# --- what is drawn ---


def test_flips_and_crops_are_as_frequent_as_said_and_independent():
    number = 4000
    column = np.tile(np.arange(3, dtype=np.float32), (number, 1, 1, 1))  # 0 1 2 in a row
    rng = np.random.default_rng(0)
    flips = random_horizontal_flip(0.3)(to_device(column, "cuda"), rng).host[:, 0, 0, 0] == 2
    assert abs(flips.mean() - 0.3) < 5 * math.sqrt(0.21 / number)
    again = random_horizontal_flip(0.3)(to_device(column, "cuda"), rng).host[:, 0, 0, 0] == 2
    assert abs((flips & again).mean() - 0.09) < 5 * math.sqrt(0.09 * 0.91 / number), "each call draws for itself"
    pixel = np.zeros((number, 1, 3, 3), np.float32)
    pixel[:, 0, 1, 1] = 1
    moved = random_crop(1)(to_device(pixel, "cuda"), rng).host[:, 0]
    for share in moved.mean(axis=0).ravel():
        assert abs(share - 1 / 9) < 5 * math.sqrt(8 / 81 / number), "each of the nine places alike"


def test_an_image_whose_bits_are_the_probability_is_not_flipped():
    def first_word(seed):
        key = int(np.random.default_rng(seed).integers(0, 2**64, 1, dtype=np.uint64)[0])
        return int(words(key, 1)[0, 0])

    seed = next(seed for seed in range(10_000) if first_word(seed) % 256 == 0)  # a float32 holds it exactly
    images = to_device(np.arange(2, dtype=np.float32).reshape(1, 1, 1, 2), "cuda")
    for more, expected in ((0, [0, 1]), (256, [1, 0])):
        flip = random_horizontal_flip((first_word(seed) + more) / 2**32)
        np.testing.assert_array_equal(flip(images, np.random.default_rng(seed)).host.ravel(), expected)


def test_a_cached_loader_augments_on_the_device_and_repeats_itself():
    data = ArrayDataset(images_of((20, 3, 6, 8), "u1"), np.arange(20))
    options = {"shuffle": True, "seed": 4, "device": "cuda", "transform": Compose(PIPELINES["all"])}
    if not hasattr(strict_backend.namespace.cuda, "runtime"):
        pytest.skip("the stand-in does not tell its free memory")
    first, second = DataLoader(data, 8, cache=True, **options), DataLoader(data, 8, cache=True, **options)
    epochs = [[[p.numpy() for p in batch] for batch in first] for _ in range(2)]
    second.set_epoch(1)
    for (images, labels), (others, theirs) in zip([[p.numpy() for p in b] for b in second], epochs[1], strict=True):
        np.testing.assert_array_equal(images, others)
        np.testing.assert_array_equal(labels, theirs)
    assert images.dtype == np.float32
    assert not np.array_equal(np.sort(epochs[0][0][0].ravel()), np.sort(epochs[1][0][0].ravel()))


# --- refusals ---


@pytest.mark.parametrize(
    ("transform", "shape", "dtype", "words"),
    [
        (random_crop(1, size=9), (2, 3, 6, 6), "f4", "a window of 9x9 does not fit images of 6x6 padded by 1"),
        (
            Compose([random_crop(0, size=4), random_crop(0, size=5)]),
            (2, 3, 6, 6),
            "f4",
            "5x5 does not fit images of 4x4",
        ),
        (cutout(1, fill=0.5), (2, 3, 6, 6), "u1", "fill is 0.5, which no uint8"),
        (normalize((1, 2), (1, 1)), (2, 3, 6, 6), "f4", "2 values in mean for images with 3 channels"),
        (random_crop(1), (2, 6, 6), "f4", r"expected \(N, C, H, W\)"),
        (random_crop(1), (2, 3, 0, 6), "f4", "no pixels"),
        (random_crop(1), (2, 3, 6, 6), "i4", "images on a GPU are int32; expected uint8 or floats"),
        (Compose([random_crop(1), random_rotation(5)]), (2, 3, 6, 6), "f4", "where affine does not run"),
        (gaussian_noise(1), (2, 3, 6, 6), "f4", "expected a NumPy array"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(transform, shape, dtype, words):
    with pytest.raises(DataError, match=words):
        transform(to_device(np.ones(shape, dtype), "cuda"), np.random.default_rng(0))


def test_a_cutout_after_scaling_takes_any_fill():
    images = images_of((3, 1, 4, 4), "u1")
    found = Compose([to_float(), cutout(2, fill=0.5)])(to_device(images, "cuda"), np.random.default_rng(0))
    np.testing.assert_array_equal(found.host, expected_of([to_float(), cutout(2, fill=0.5)], images, 0))
