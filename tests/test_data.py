"""Data: every sample once an epoch, the same batches from the same seed, and no damaged file taken for good."""

import contextlib
import dataclasses
import functools
import gzip
import hashlib
import http.server
import io
import json
import struct
import subprocess
import sys
import tarfile
import threading
import time
import traceback
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad
from minigrad import data
from minigrad.data import (
    ArrayDataset,
    Compose,
    DataError,
    DataLoader,
    Subset,
    cifar10,
    digits,
    formats,
    loader,
    mnist,
    mnist_t10k,
    normalize,
    random_affine,
    random_crop,
    random_horizontal_flip,
    random_rotation,
    random_shift,
    random_split,
    sources,
    stratified_split,
    to_float,
    transforms,
)
from minigrad.data.files import DataFile

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared" / "data"
SEEDS = st.integers(0, 2**40)
few = settings(max_examples=30, deadline=None)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """No test reads or writes the user's data or cache, and none leaves a thread."""
    monkeypatch.delenv("MINIGRAD_DATA", raising=False)
    monkeypatch.setenv("MINIGRAD_CACHE", str(tmp_path / "cache"))
    yield
    assert workers() == []


def workers():
    return [thread for thread in threading.enumerate() if thread.name == loader.WORKER_NAME]


def numbered(samples):
    """A dataset whose images and labels both tell which sample they belong to."""
    rows = np.arange(samples)
    return ArrayDataset(rows[:, None].astype(np.float32), rows)


class OneAtATime:
    """A dataset that takes whole numbers only, as most people's first one does."""

    def __init__(self, samples):
        self.samples = samples

    def __len__(self):
        return self.samples

    def __getitem__(self, index):
        assert type(index) is int, f"asked for {index!r}"
        return np.full(2, index, np.float32), index, index / 2


# ---------------------------------------------------------------------------------------- datasets and splits


def test_array_dataset_answers_to_an_int_a_slice_an_integer_array_and_a_mask():
    dataset = numbered(10)
    image, label = dataset[3]
    assert image.shape == (1,) and label == 3 and dataset[-1][1] == 9
    np.testing.assert_array_equal(dataset[2:5][1], [2, 3, 4])
    np.testing.assert_array_equal(dataset[np.array([7, 1, 7])][1], [7, 1, 7])
    np.testing.assert_array_equal(dataset[[0, -2]][1], [0, 8])
    np.testing.assert_array_equal(dataset[np.arange(10) > 7][1], [8, 9])
    assert len(dataset[[]][0]) == 0
    assert [int(label) for _, label in dataset] == list(range(10))  # IndexError ends a plain loop
    with pytest.raises(IndexError):
        dataset[np.array([10])]


def test_array_dataset_says_which_lengths_differ():
    with pytest.raises(DataError, match=r"5 and 4 samples \(shapes \(5, 2\) and \(4,\)\)"):
        ArrayDataset(np.zeros((5, 2)), np.zeros(4))


@pytest.mark.parametrize("bad", [(), (3.0,), ([[1], [1, 2]],), ([object()],)])
def test_array_dataset_refuses_what_has_no_samples(bad):
    with pytest.raises(DataError, match="ArrayDataset"):
        ArrayDataset(*bad)


def test_array_dataset_holds_tensors_as_numpy_arrays():
    class Tensor:
        def numpy(self):
            return np.arange(3.0)

    assert type(ArrayDataset(Tensor()).images) is np.ndarray
    with pytest.raises(DataError, match="no labels"):
        _ = ArrayDataset(Tensor()).labels


def test_subset_reads_through_and_refuses_indices_that_are_not_there():
    part = Subset(numbered(10), [5, -1, 5])
    assert len(part) == 3 and part.gathers
    np.testing.assert_array_equal(part.labels, [5, 9, 5])
    np.testing.assert_array_equal(part[1:][1], [9, 5])
    np.testing.assert_array_equal(Subset(part, [1])[0][1], 9)
    assert Subset(OneAtATime(4), [2, 3])[1][1] == 3
    with pytest.raises(TypeError, match="one whole number at a time"):
        Subset(OneAtATime(4), [2, 3])[:]
    for wrong in ([10], [-11], [0.5], [[1]]):
        with pytest.raises(DataError, match="Subset"):
            Subset(numbered(10), wrong)


@few
@given(st.integers(1, 200), st.lists(st.integers(1, 20), min_size=1, max_size=5), SEEDS)
def test_random_split_shares_out_every_sample_once(samples, weights, seed):
    fractions = [weight / sum(weights) for weight in weights]
    parts = random_split(numbered(samples), fractions, seed=seed)
    assert sorted(np.concatenate([part.indices for part in parts])) == list(range(samples))
    assert all(abs(len(part) - share * samples) <= 1 for part, share in zip(parts, fractions, strict=True))
    again = random_split(numbered(samples), [len(part) for part in parts], seed=seed)
    assert all((one.indices == two.indices).all() for one, two in zip(parts, again, strict=True))


@pytest.mark.parametrize("lengths", [[5, 4], [1, 0], [0.5, 0.4], [-1, 11], []])
def test_random_split_refuses_lengths_that_do_not_add_up(lengths):
    with pytest.raises(DataError, match="random_split"):
        random_split(numbered(10), lengths)


@few
@given(st.lists(st.integers(2, 40), min_size=1, max_size=6), st.floats(0.05, 0.95), SEEDS)
def test_stratified_split_takes_the_same_share_of_every_class(counts, fraction, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)) * 3, counts))
    try:
        train, test = stratified_split(labels, fraction, seed)
    except DataError:
        assert sum(counts) * fraction < 0.5
        return
    assert sorted([*train, *test]) == list(range(len(labels)))
    taken = np.bincount(labels[test], minlength=3 * len(counts))[::3]
    assert np.all(np.abs(taken - np.array(counts) * fraction) <= 1)
    assert np.all(taken < counts), "a class lost its last training sample"
    assert abs(len(test) - fraction * len(labels)) <= 0.5 or np.any(taken == np.array(counts) - 1)
    np.testing.assert_array_equal(stratified_split(labels, fraction, seed)[1], test)


def test_stratified_split_refuses_what_it_cannot_split():
    for labels, fraction in (([0, 0, 1], 0.0), ([0, 0, 1], 1.0), ([0, 0, 1], float("nan")), ([[0], [1]], 0.5)):
        with pytest.raises(DataError, match="stratified_split"):
            stratified_split(labels, fraction)
    with pytest.raises(DataError, match="nothing to test on"):
        stratified_split([0, 1, 2], 0.5)


# ------------------------------------------------------------------------------------------------- the loader

passes = st.fixed_dictionaries(
    {
        "batch_size": st.integers(1, 12),
        "shuffle": st.booleans(),
        "drop_last": st.booleans(),
        "prefetch": st.integers(0, 3),
        "seed": SEEDS,
    }
)


def jitter(images, rng):
    return images + rng.random(images.shape, np.float32)


@few
@given(st.integers(1, 40), passes, st.sampled_from([numbered, OneAtATime]))
def test_every_sample_comes_exactly_once_an_epoch(samples, options, make):
    whole, rest = divmod(samples, options["batch_size"])
    if options["drop_last"] and not whole:
        with pytest.raises(DataError, match="drop_last=True leaves nothing"):
            DataLoader(make(samples), **options)
        return
    batches = DataLoader(make(samples), **options)
    for _ in range(2):
        seen = list(batches.batches())
        labels = np.concatenate([batch[1] for batch in seen])
        sizes = [len(batch[0]) for batch in seen]
        assert len(sizes) == len(batches)
        assert sizes == [options["batch_size"]] * whole + ([rest] if rest and not options["drop_last"] else [])
        assert len(set(labels)) == sum(sizes) and set(labels) <= set(range(samples))
        if not options["shuffle"]:
            np.testing.assert_array_equal(labels, np.arange(sum(sizes)))


@few
@given(st.integers(1, 40), passes, st.integers(0, 5))
def test_batches_follow_from_seed_and_epoch_however_they_are_prefetched(samples, options, epoch):
    options["drop_last"] = False
    one = DataLoader(numbered(samples), transform=jitter, **options)
    two = DataLoader(numbered(samples), transform=jitter, **{**options, "prefetch": 3 - options["prefetch"]})
    for _ in range(epoch):
        list(one.batches())
    two.set_epoch(epoch)
    assert one.epoch == two.epoch == epoch
    for left, right in zip(one.batches(), two.batches(), strict=True):
        for mine, other in zip(left, right, strict=True):
            np.testing.assert_array_equal(mine, other)


@few
@given(st.integers(1, 30), passes, st.integers(0, 60))
def test_a_restored_loader_gives_exactly_what_the_stopped_one_would_have(samples, options, given_out):
    options["drop_last"] = False
    stopped = DataLoader(numbered(samples), transform=jitter, **options)

    def endless(batches):
        while True:
            yield from batches.batches()

    with contextlib.closing(endless(stopped)) as stream:
        for _ in range(given_out):
            next(stream)
        state = json.loads(json.dumps(stopped.state_dict()))
        expected = [next(stream) for _ in range(4)]
    resumed = DataLoader(numbered(samples), transform=jitter, **{**options, "seed": None})
    resumed.load_state_dict(state)
    with contextlib.closing(endless(resumed)) as stream:
        for mine, other in zip(expected, stream, strict=False):
            np.testing.assert_array_equal(mine[0], other[0])


def test_epochs_are_shuffled_differently_and_two_seeds_too():
    batches = DataLoader(numbered(100), 100, shuffle=True, seed=1)
    orders = [next(iter(batches.batches()))[1] for _ in range(2)]
    orders.append(next(DataLoader(numbered(100), 100, shuffle=True, seed=2).batches())[1])
    orders.append(next(DataLoader(numbered(100), 100, shuffle=True).batches())[1])
    assert len({tuple(order) for order in orders}) == 4


def test_a_pass_left_early_is_over_and_the_next_one_is_the_next_epoch():
    batches = DataLoader(numbered(10), 2, seed=0)
    for _ in batches.batches():
        assert batches.epoch == 0 and batches.state_dict()["batch"] == 1
        break
    assert batches.epoch == 1 and batches.state_dict() == {"seed": 0, "epoch": 1, "batch": 0, "batch_size": 2}
    assert batches.epoch == 1, "asking must not count"


def test_a_state_that_does_not_fit_is_refused():
    batches = DataLoader(numbered(10), 2, seed=0)
    state = {"seed": 5, "epoch": 3, "batch": 2, "batch_size": 2}
    for wrong in ({**state, "batch_size": 3}, {"epoch": 1}, {**state, "batch": 5}, {**state, "epoch": -1}):
        with pytest.raises(DataError):
            batches.load_state_dict(wrong)
    assert batches.state_dict() == {"seed": 0, "epoch": 0, "batch": 0, "batch_size": 2}, "a refused state left traces"


@pytest.mark.parametrize(
    "options",
    [{"batch_size": 0}, {"batch_size": -3}, {"batch_size": 2.5}, {"batch_size": True}, {"prefetch": -1}, {"seed": -1}],
)
def test_numbers_that_make_no_sense_are_named(options):
    with pytest.raises(DataError, match=f"{next(iter(options))} is .*expected a whole number"):
        DataLoader(numbered(4), **options)


def test_an_empty_dataset_is_refused():
    with pytest.raises(DataError, match="0 samples"):
        DataLoader(numbered(0))


def test_an_array_dataset_is_asked_for_whole_batches():
    asked = []

    class Watched(ArrayDataset):
        def __getitem__(self, index):
            asked.append(len(index))
            return super().__getitem__(index)

    list(DataLoader(Watched(np.zeros(10), np.zeros(10)), 4).batches())
    assert asked == [4, 4, 2]


def test_changing_a_batch_does_not_change_the_dataset():
    dataset = numbered(6)
    for images, labels in DataLoader(dataset, 3).batches():
        images += 100
        labels += 100
    np.testing.assert_array_equal(dataset.labels, np.arange(6))
    np.testing.assert_array_equal(dataset.images[:, 0], np.arange(6))


def test_samples_are_stacked_field_by_field_with_python_floats_as_float32():
    (images, whole, halves) = next(DataLoader(OneAtATime(4), 4, prefetch=0).batches())
    assert images.shape == (4, 2) and whole.dtype == np.int64 and halves.dtype == np.float32
    (bare,) = next(DataLoader([1.0, 2.0, 3.0], 3).batches())
    np.testing.assert_array_equal(bare, [1, 2, 3])


def test_samples_of_different_shapes_are_named():
    ragged = [np.zeros(3), np.zeros(4)]
    with pytest.raises(DataError, match=r"sample 1 has fields of shape \[\(4,\)\], but sample 0 has \[\(3,\)\]"):
        list(DataLoader(ragged, 2).batches())


def test_iterating_gives_tensors_on_the_device(monkeypatch):
    made = []

    def tensor(array, device=None):
        made.append(device)
        return ("tensor", array)

    monkeypatch.setattr(minigrad, "tensor", tensor, raising=False)
    for images, labels in DataLoader(numbered(4), 2, device="somewhere"):
        assert images[0] == labels[0] == "tensor" and isinstance(images[1], np.ndarray)
    assert made == ["somewhere"] * 4


# ---------------------------------------------------------------------------------------- the prefetch thread


def test_leaving_the_loop_early_stops_and_joins_the_thread():
    for _ in DataLoader(numbered(1000), 1, prefetch=3).batches():
        assert len(workers()) == 1
        break
    assert workers() == []


def test_an_exception_in_the_loop_body_or_ctrl_c_stops_the_thread():
    def train(interruption):
        for _ in DataLoader(numbered(1000), 1).batches():
            raise interruption

    for interruption in (ZeroDivisionError, KeyboardInterrupt):
        with pytest.raises(interruption):
            train(interruption())
        assert workers() == []


def test_an_iterator_never_begun_or_finished_leaves_no_thread():
    batches = DataLoader(numbered(4), 1)
    iterator = batches.batches()
    assert workers() == []
    assert len(list(iterator)) == 4
    assert workers() == []
    del iterator


@pytest.mark.parametrize("prefetch", [0, 2])
def test_what_the_dataset_raises_comes_out_in_its_turn_with_its_own_traceback(prefetch):
    class Broken(OneAtATime):
        def __getitem__(self, index):
            if index == 3:
                raise OSError("sample 3 cannot be read")
            return super().__getitem__(index)

    seen = []
    with pytest.raises(OSError, match="sample 3 cannot be read") as caught:
        for batch in DataLoader(Broken(6), 1, prefetch=prefetch).batches():
            seen.append(int(batch[1][0]))
    assert seen == [0, 1, 2]
    assert any("sample 3 cannot be read" in str(frame.line) for frame in traceback.extract_tb(caught.tb))
    assert workers() == []


def test_a_transform_that_loses_images_is_named():
    with pytest.raises(DataError, match="made 1 images of 2"):
        list(DataLoader(numbered(4), 2, transform=lambda images, rng: images[:1]).batches())


def test_no_more_batches_are_made_ahead_than_asked_for():
    made = []

    def count(images, rng):
        made.append(1)
        return images

    for ahead in (1, 3):
        made.clear()
        with contextlib.closing(DataLoader(numbered(50), 1, prefetch=ahead, transform=count).batches()) as batches:
            next(batches)
            for _ in range(100):
                if len(made) == 1 + ahead:
                    break
                time.sleep(0.01)
            time.sleep(0.05)
            assert len(made) == 1 + ahead


def test_two_passes_at_once_do_not_disturb_each_other():
    batches = DataLoader(numbered(20), 4, shuffle=True, seed=3)
    pairs = list(zip(batches.batches(), batches.batches(), strict=True))
    for column in zip(*pairs, strict=True):
        assert sorted(np.concatenate([batch[1] for batch in column])) == list(range(20))


def test_a_program_that_ends_inside_a_loop_ends():
    program = (
        "import sys, numpy as np\n"
        "from minigrad.data import ArrayDataset, DataLoader\n"
        "batches = DataLoader(ArrayDataset(np.zeros((99, 2))), 1).batches()\n"
        "next(batches); sys.exit(7)"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, timeout=60, capture_output=True, text=True)
    assert ended.returncode == 7 and not ended.stderr, ended.stderr


def test_importing_data_loads_none_of_the_heavy_or_optional_packages():
    program = (
        "import sys, minigrad; before = set(sys.modules)\n"
        "import minigrad.data\n"
        "heavy = {'pooch', 'tqdm', 'PIL', 'sklearn', 'scipy', 'requests', 'cupy', 'torch'}\n"
        "print(sorted(heavy & (set(sys.modules) - before)))"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


# -------------------------------------------------------------------------------------------------- transforms

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
    turned = transforms.affine_warp(images, transforms.affine_matrices(quarters * np.pi / 2))
    np.testing.assert_allclose(turned, np.rot90(images, quarters, axes=(2, 3)), atol=1e-5)


@few
@given(st.floats(-3.1, 3.1), st.floats(0.6, 1.5), st.floats(-0.5, 0.5), st.floats(-2, 2), st.floats(-2, 2))
def test_warping_agrees_with_a_pixel_by_pixel_lookup(angle, zoom, slant, down, right):
    images = picture(6, 5, channels=1, number=1)
    matrix = transforms.affine_matrices(angle, zoom, slant)
    warped = transforms.affine_warp(images, matrix, [[down, right]])

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
    grown = transforms.affine_warp(square, transforms.affine_matrices(0.0, zoom=2.0))
    assert 80 < grown.sum() < 120
    moved = transforms.affine_warp(square, transforms.affine_matrices(0.0), [[3, 5]])
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


# ------------------------------------------------------------------------------------------------------ digits


@pytest.mark.parametrize("size", [8, 28, 32])
def test_digits_are_split_for_good_and_in_proportion(size):
    train, test = digits(True, size), digits(False, size)
    for part, number in ((train, 1438), (test, 359)):
        assert part.images.shape == (number, 1, size, size) and part.images.dtype == np.float32
        assert part.labels.shape == (number,) and part.labels.dtype == np.int64
        assert part.images.min() == 0 and 0.9 < part.images.max() <= 1
        assert part.classes == tuple("0123456789") and "digits" in part.name
    counts = np.bincount(train.labels) + np.bincount(test.labels)
    assert np.all(np.abs(np.bincount(test.labels) - 0.2 * counts) <= 1)
    assert hashlib.md5(test.labels.astype(np.uint8).tobytes()).hexdigest() == "cf1848b6f310e42e404b9af96a01064d"


def test_digits_are_scikit_learns():
    load_digits = pytest.importorskip("sklearn.datasets").load_digits
    ours = np.concatenate([part.images for part in (digits(True), digits(False))])[:, 0] * 16
    labels = np.concatenate([part.labels for part in (digits(True), digits(False))])
    theirs = load_digits()

    def in_order(images, labels):
        return sorted((bytes(image.astype(np.uint8)), int(label)) for image, label in zip(images, labels, strict=True))

    assert in_order(ours, labels) == in_order(theirs.images, theirs.target)


@pytest.mark.parametrize("size", [7, 0, 8.5, None])
def test_digits_of_no_such_size(size):
    with pytest.raises(DataError, match="size is"):
        digits(size=size)


def test_enlarging_keeps_planes_and_the_mean():
    row, column = np.mgrid[:8, :8].astype(np.float64)
    plane = sources.enlarge(2 * row - column, 32)
    fine_row, fine_column = (np.mgrid[:32, :32] + 0.5) / 4 - 0.5
    inside = slice(8, 24)  # away from the border, where the edge pixel repeats
    np.testing.assert_allclose(plane[inside, inside], (2 * fine_row - fine_column)[inside, inside], atol=1e-12)
    np.testing.assert_allclose(sources.enlarge(np.ones((2, 1, 8, 8)), 28), 1)
    small, large = digits(False).images, digits(False, 32).images
    np.testing.assert_allclose(small.mean(axis=(1, 2, 3)), large.mean(axis=(1, 2, 3)), atol=0.02)


def test_a_linear_model_reads_the_digits():
    train, test = digits(True), digits(False)
    inputs = train.images.reshape(len(train), -1)
    weights = np.linalg.lstsq(inputs.T @ inputs + np.eye(64), inputs.T @ np.eye(10)[train.labels], rcond=None)[0]
    guesses = (test.images.reshape(len(test), -1) @ weights).argmax(axis=1)
    assert np.mean(guesses == test.labels) > 0.9


# ------------------------------------------------------------------------------------------------- IDX and MNIST


def idx_bytes(array):
    code = {"u1": 0x08, "i4": 0x0C, "f4": 0x0D}[array.dtype.str[1:]]
    header = struct.pack(">BBBB", 0, 0, code, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.mark.parametrize("dtype", ["u1", "i4", "f4"])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_idx_files_are_read_as_written(tmp_path, dtype, ending):
    array = (np.arange(24).reshape(2, 3, 4) * 7).astype(dtype)
    path = tmp_path / f"array-idx3{ending}"
    path.write_bytes(gzip.compress(idx_bytes(array)) if ending else idx_bytes(array))
    read = formats.read_idx(path, (None, 3, 4))
    np.testing.assert_array_equal(read, array)
    assert read.dtype == np.dtype(dtype) and read.flags.writeable


WHOLE = idx_bytes(np.arange(12, dtype="u1").reshape(3, 4))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "not an IDX file: it starts with nothing"),
        (b"<htm" + WHOLE, "not an IDX file: it starts with 3c 68 74 6d"),
        (b"\0\0\x07" + WHOLE[3:], "expected 00 00, a dtype byte"),
        (WHOLE[:7], "cut short inside its header: 7 bytes, expected 12 or more"),
        (WHOLE[:-1], r"23 bytes, but its header, shape \(3, 4\) of uint8, calls for 24"),
        (WHOLE + b"\0", "25 bytes"),
        (idx_bytes(np.zeros((3, 5), "u1")), r"shape \(3, 5\); expected \(any, 4\)"),
        (idx_bytes(np.zeros(3, "u1")), r"shape \(3,\); expected"),
    ],
)
def test_a_damaged_idx_file_is_refused_and_named(tmp_path, content, complaint):
    path = tmp_path / "damaged-idx2"
    path.write_bytes(content)
    with pytest.raises(DataError, match=complaint) as caught:
        formats.read_idx(path, (None, 4))
    assert "damaged-idx2" in str(caught.value)


def test_a_gzip_file_cut_short_or_garbled_is_refused(tmp_path):
    path = tmp_path / "array.gz"
    packed = gzip.compress(idx_bytes(np.arange(999, dtype="i4")))
    garbled = bytearray(packed)
    garbled[len(packed) // 2] ^= 0xFF
    for content in (packed[: len(packed) // 2], packed[:-2], bytes(garbled), b"not gzip at all"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"array.gz: the gzip file is cut short or damaged"):
            formats.read_idx(path, (None,))


@functools.cache
def little_mnist():
    """Made-up files of MNIST's test part, right in every way, with their checksums."""
    rng = np.random.default_rng(0)
    images = np.zeros((10_000, 28, 28), "u1")
    images[:, 10:12, 10:12] = rng.integers(0, 256, (10_000, 2, 2))
    labels = rng.integers(0, 10, 10_000).astype("u1")
    names = {"test images": "t10k-images-idx3-ubyte", "test labels": "t10k-labels-idx1-ubyte"}
    contents, table = {}, {}
    for (role, name), array in zip(names.items(), (images, labels), strict=True):
        contents[name] = idx_bytes(array)
        contents[f"{name}.gz"] = gzip.compress(contents[name], compresslevel=1)
        digests = [hashlib.md5(contents[version]).hexdigest() for version in (f"{name}.gz", name)]
        table[role] = DataFile(f"{name}.gz", *digests)
    return contents, table, images, labels


@pytest.fixture
def made_up_mnist(monkeypatch):
    contents, table, images, labels = little_mnist()
    source = dataclasses.replace(sources.SOURCES["mnist"], files={**sources.SOURCES["mnist"].files, **table})
    monkeypatch.setitem(sources.SOURCES, "mnist", source)
    return contents, images, labels


def put(folder, contents, names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(contents[name])
    return folder


PACKED = ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")
UNPACKED = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@pytest.mark.parametrize("names", [PACKED, UNPACKED, (PACKED[0], UNPACKED[1])])
@pytest.mark.parametrize("folder", ["", "mnist", "MNIST/raw"])
def test_files_are_found_in_the_folder_and_its_subfolders(made_up_mnist, tmp_path, monkeypatch, names, folder):
    contents, images, labels = made_up_mnist
    put(tmp_path / "mine" / folder, contents, names)
    test = mnist(False, root=tmp_path / "mine")
    np.testing.assert_array_equal(test.labels, labels)
    np.testing.assert_array_equal(test.images[:, 0] * 255, images)
    assert test.images.dtype == np.float32 and test.name == "MNIST test"
    monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path / "mine"))
    raw = mnist(False, dtype=np.uint8)
    assert raw.images.dtype == np.uint8 and raw.images.shape == (10_000, 1, 28, 28)
    np.testing.assert_array_equal(raw.images[:, 0], images)


def test_the_partial_copy_is_split_8000_to_2000(made_up_mnist, tmp_path):
    contents, _, labels = made_up_mnist
    root = put(tmp_path, contents, PACKED)
    train, test = mnist_t10k(True, root), mnist_t10k(False, root)
    assert (len(train), len(test)) == (8000, 2000)
    np.testing.assert_array_equal(np.concatenate([train.labels, test.labels]), labels)
    assert "t10k" in train.name and "8,000/2,000" in train.note


def test_a_missing_file_is_named_with_its_checksum_and_where_to_put_it(tmp_path):
    with pytest.raises(DataError) as caught:
        mnist(root=tmp_path, download=False)
    message = str(caught.value)
    for part in (
        "train-images-idx3-ubyte.gz",
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "(no file)",
        str(tmp_path / "mnist"),
        "MINIGRAD_DATA",
        "root=",
        "https://",
    ):
        assert part in message


@pytest.mark.parametrize("name", [PACKED[0], UNPACKED[1]])
def test_a_file_with_a_wrong_checksum_is_never_used(made_up_mnist, tmp_path, name):
    contents, _, _ = made_up_mnist
    put(tmp_path, contents, [name, *(set(PACKED) - {f"{name.removesuffix('.gz')}.gz"})])
    garbled = contents[name][:-1] + bytes([contents[name][-1] ^ 1])
    (tmp_path / name).write_bytes(garbled)
    with pytest.raises(DataError, match="is damaged") as caught:
        mnist(False, root=tmp_path)
    for part in (name, hashlib.md5(contents[name]).hexdigest(), hashlib.md5(garbled).hexdigest(), "MINIGRAD_DATA"):
        assert part in str(caught.value)


def test_mnist_is_not_taken_for_fashion_mnist(made_up_mnist, tmp_path):
    contents, _, _ = made_up_mnist
    with pytest.raises(DataError, match=r"Fashion-MNIST: .*another file of the same name"):
        data.fashion_mnist(False, root=put(tmp_path, contents, UNPACKED))


def test_the_real_mnist_test_images():
    if not (SHARED / "mnist" / PACKED[0]).is_file():
        pytest.skip(f"no copy of MNIST's test images beside the repository, in {SHARED / 'mnist'}")
    train, test = mnist_t10k(True, SHARED), mnist_t10k(False, SHARED)
    assert train.images.shape == (8000, 1, 28, 28) and test.images.shape == (2000, 1, 28, 28)
    assert train.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert (train.images.min(), train.images.max()) == (0, 1)
    whole = mnist(False, SHARED, download=False)
    np.testing.assert_array_equal(whole.images[8000:], test.images)


# --------------------------------------------------------------------------------------------------- downloads


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A mirror on this machine: what it serves, and what it was asked for."""
    pytest.importorskip("pooch")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    serving, asked = {}, []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            content = serving.get(self.path)
            if content is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    service = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{service.server_port}", serving, asked
    service.shutdown()
    service.server_close()


def use_mirrors(monkeypatch, key, *mirrors):
    monkeypatch.setitem(sources.SOURCES, key, dataclasses.replace(sources.SOURCES[key], mirrors=mirrors))


def cached(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache").rglob("*") if path.is_file())


def test_a_download_passes_by_a_bad_mirror_is_kept_and_mended(made_up_mnist, server, tmp_path, monkeypatch):
    contents, _, labels = made_up_mnist
    address, serving, asked = server
    use_mirrors(monkeypatch, "mnist", f"{address}/gone/", f"{address}/bad/", f"{address}/good/")
    for name in PACKED:
        serving[f"/bad/{name}"] = b"<html>not here any more</html>"
        serving[f"/good/{name}"] = contents[name]
    np.testing.assert_array_equal(mnist(False).labels, labels)
    assert cached(tmp_path) == sorted(PACKED)
    asked.clear()
    mnist(False)
    assert asked == [], "a file in the cache was downloaded again"
    (tmp_path / "cache" / "mnist" / PACKED[1]).write_bytes(b"damaged")
    np.testing.assert_array_equal(mnist(False).labels, labels)
    assert asked and all(PACKED[1] in path for path in asked)


def test_a_download_that_fails_says_why_and_leaves_nothing_behind(server, tmp_path, monkeypatch):
    address, serving, _ = server
    use_mirrors(monkeypatch, "mnist", f"{address}/bad/", f"{address}/gone/", "http://127.0.0.1:1/nobody/")
    serving["/bad/train-images-idx3-ubyte.gz"] = b"half a fi"
    with pytest.raises(DataError, match="could not be downloaded") as caught:
        mnist()
    message = str(caught.value)
    for part in ("/bad/", "/gone/: 404", "/nobody/", "f68b3c2dcbeaaa9fbdd348bbdeb94873", "MINIGRAD_DATA", "root="):
        assert part in message
    assert cached(tmp_path) == []


def test_without_pooch_the_error_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(DataError, match=r'pip install "minigrad\[examples\]"'):
        mnist(root=tmp_path)


# ----------------------------------------------------------------------------------------------------- CIFAR-10


def cifar_batches(seed=0):
    rng = np.random.default_rng(seed)
    names = [f"data_batch_{number}.bin" for number in range(1, 6)] + ["test_batch.bin"]
    batches = {}
    for name in names:
        records = np.zeros((10_000, 3073), np.uint8)
        records[:, 0] = rng.integers(0, 10, 10_000)
        records[:, 1] = rng.integers(0, 256, 10_000)  # red, top left
        records[:, -1] = rng.integers(0, 256, 10_000)  # blue, bottom right
        batches[name] = records
    return batches


def test_cifar10_is_read_from_its_archive_or_the_unpacked_files(tmp_path, monkeypatch):
    batches = cifar_batches()
    archive = tmp_path / "packed" / "cifar10" / "cifar-10-binary.tar.gz"
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w:gz", compresslevel=1) as writer:
        for name in ("test_batch.bin", "data_batch_1.bin"):
            content = batches[name].tobytes()
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            writer.addfile(member, io.BytesIO(content))
    folder = tmp_path / "unpacked" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for name in ("data_batch_1.bin", "test_batch.bin"):
        batches[name].tofile(folder / name)
    source = sources.SOURCES["cifar10"]
    table = {"archive": DataFile(archive.name, hashlib.md5(archive.read_bytes()).hexdigest())}
    monkeypatch.setitem(sources.SOURCES, "cifar10", dataclasses.replace(source, files=table))

    expected = batches["test_batch.bin"]
    for root in (tmp_path / "packed", tmp_path / "unpacked"):
        test = cifar10(False, root, dtype=np.uint8, download=False)
        assert test.images.shape == (10_000, 3, 32, 32) and test.labels.dtype == np.int64
        np.testing.assert_array_equal(test.labels, expected[:, 0])
        np.testing.assert_array_equal(test.images[:, 0, 0, 0], expected[:, 1])
        np.testing.assert_array_equal(test.images[:, 2, 31, 31], expected[:, -1])
        assert test.classes[3] == "cat" and test.note == ""
    with pytest.raises(DataError, match=r"lacks cifar-10-batches-bin/data_batch_2.bin"):
        cifar10(True, tmp_path / "packed", download=False)
    with pytest.raises(DataError, match=r"cifar-10-binary.tar.gz not found"):
        cifar10(True, tmp_path / "unpacked", download=False)
    (folder / "test_batch.bin").write_bytes(expected.tobytes()[:-5])
    with pytest.raises(DataError, match="30729995 bytes; expected 30730000"):
        cifar10(False, tmp_path / "unpacked", download=False)
    archive.write_bytes(archive.read_bytes()[:-100])
    with pytest.raises(DataError, match="is damaged"):
        cifar10(False, tmp_path / "packed", download=False)
    with pytest.raises(DataError, match=r"cut short or damaged|lacks"):
        formats.read_tar_members(archive, ["cifar-10-batches-bin/data_batch_5.bin"])


def test_the_pickles_of_the_python_version_are_refused(tmp_path):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"pickles")
    with pytest.raises(DataError, match="holds pickles") as caught:
        cifar10(root=tmp_path, download=False)
    assert "cifar-10-binary.tar.gz" in str(caught.value) and "c32a1d4ab5d03f1284b67883e8d87530" in str(caught.value)


def jpeg_copy(path, number=6, size=32, noise=False):
    image_module = pytest.importorskip("PIL.Image")
    arrays = {}
    for split in ("train", "test"):
        jpegs = []
        for index in range(number):
            stream = io.BytesIO()
            colour = (40 * index % 256, 0, 200 if split == "train" else 50)
            image = image_module.new("RGB", (size, size), colour)
            if noise:
                image = image_module.effect_noise((size, size), 80).convert("RGB")
            image.save(stream, "JPEG", quality=95)
            jpegs.append(stream.getvalue())
        arrays[f"{split}_bytes"] = np.frombuffer(b"".join(jpegs), np.uint8)
        arrays[f"{split}_offsets"] = np.cumsum([0, *map(len, jpegs)])
        arrays[f"{split}_labels"] = np.arange(number, dtype=np.uint8) % 10
    np.savez(path, **arrays)
    return arrays


def test_a_jpeg_copy_of_cifar10_is_decoded_said_to_be_one_and_kept_decoded(tmp_path, monkeypatch):
    jpeg_copy(tmp_path / "cifar10_jpeg.npz")
    train = cifar10(True, tmp_path, dtype=np.uint8)
    assert train.note == "JPEG copy" and "JPEG copy" in train.name and "JPEG copy" in repr(train)
    assert train.images.shape == (6, 3, 32, 32) and train.labels.tolist() == list(range(6))
    expected = np.array([[40 * index, 0, 200] for index in range(6)])
    assert np.abs(train.images.mean(axis=(2, 3)) - expected).max() < 4
    assert cifar10(False, tmp_path, dtype=np.uint8).images[:, 2].mean() < 60

    kept = list((tmp_path / "cache").rglob("*.npy"))
    assert len(kept) == 2 == len(cached(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(formats, "_decode_jpegs", lambda *arguments: pytest.fail("decoded again"))
        np.testing.assert_array_equal(cifar10(True, tmp_path, dtype=np.uint8).images, train.images)
    for path in kept:
        path.write_bytes(path.read_bytes()[:100])
    np.testing.assert_array_equal(cifar10(True, tmp_path, dtype=np.uint8).images, train.images)


def test_a_damaged_jpeg_copy_is_refused(tmp_path):
    path = tmp_path / "cifar10_jpeg.npz"
    arrays = jpeg_copy(path)
    broken = [
        ({"train_labels": arrays["train_labels"][:-1]}, "do not fit together"),
        ({"train_offsets": arrays["train_offsets"][::-1]}, "do not fit together"),
        ({"train_bytes": arrays["train_bytes"][:-9]}, "do not fit together"),
        ({"train_bytes": np.zeros_like(arrays["train_bytes"])}, "image 0 is not a 32x32 JPEG"),
        ({"train_labels": arrays["train_labels"] + 9}, "holds class 14"),
        ({"train_labels": np.array([None] * 6)}, "cannot be read"),  # a pickle
    ]
    for change, complaint in broken:
        np.savez(path, **{**arrays, **change})
        with pytest.raises(DataError, match=complaint) as caught:
            cifar10(True, tmp_path)
        assert "cifar10_jpeg.npz" in str(caught.value)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="cannot be read"):
        cifar10(True, tmp_path)
    jpeg_copy(path, size=1)
    with pytest.raises(DataError, match="1x1 pixels"):
        cifar10(True, tmp_path)


def test_a_jpeg_copy_that_went_through_text_mode_is_warned_of_and_noted(tmp_path):
    path = tmp_path / "cifar10_jpeg.npz"
    arrays = jpeg_copy(path, number=40, noise=True)
    assert cifar10(True, tmp_path).note == "JPEG copy"
    content = arrays["train_bytes"]
    np.savez(path, **{**arrays, "train_bytes": np.where(content == 13, 10, content).astype(np.uint8)})
    with pytest.warns(UserWarning, match=r"cifar10_jpeg.npz: damaged: not one byte 0x0D"):
        train = cifar10(True, tmp_path)
    assert train.note == "JPEG copy, damaged" and train.note in train.name


def test_the_shared_jpeg_copy_of_cifar10():
    if not (SHARED / "cifar10" / "cifar10_jpeg.npz").is_file():
        pytest.skip(f"no JPEG copy of CIFAR-10 beside the repository, in {SHARED / 'cifar10'}")
    pytest.importorskip("PIL")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the copy may be a damaged one; its note then says so
        test = cifar10(False, SHARED, dtype=np.uint8, download=False)
    assert test.images.shape == (10_000, 3, 32, 32) and test.note.startswith("JPEG copy")
    assert np.bincount(test.labels).tolist() == [1000] * 10


# ------------------------------------------------------------------------------------------------------ the table


def test_every_data_set_is_in_the_table_with_ten_classes_and_real_checksums():
    assert set(data.DATASETS) == {"digits", "mnist", "mnist_t10k", "fashion_mnist", "cifar10"}
    for source in sources.SOURCES.values():
        assert len(set(source.classes)) == 10 and source.mirrors
        for file in source.files.values():
            assert all(len(bytes.fromhex(digest)) == 16 for digest in file.versions().values())
    digests = [
        digest
        for source in sources.SOURCES.values()
        for file in source.files.values()
        for digest in file.versions().values()
    ]
    assert len(set(digests)) == len(digests)


def test_every_public_name_is_there_and_described():
    for name in data.__all__:
        value = getattr(data, name)
        if getattr(value, "__module__", "").startswith("minigrad"):
            assert value.__doc__, name
