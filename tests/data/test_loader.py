"""Datasets, splits and the DataLoader: every sample once an epoch, the same batches from the same seed.

Claimed: a dataset answers to what NumPy answers to; splits share out every sample once and keep the classes' shares;
batches follow from seed and epoch however they are prefetched, a loader stopped and restored goes on with exactly what
would have come next; and whatever ends a loop, the prefetch thread ends with it.
"""

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
import traceback

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.backend import DeviceError
from minigrad.data import ArrayDataset, DataError, DataLoader, Subset, random_split, stratified_split
from tests.support.data_makers import REPOSITORY, SEEDS, few, own_cache, workers  # noqa: F401  own_cache is for every test


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


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["cat", "dog"], "<U3.*return_inverse"),
        ([b"cat", b"dog"], "S3.*return_inverse"),
        (np.zeros(2, "c8"), "complex64.*real numbers"),
        (np.zeros(2, "M8[D]"), "datetime64.*in days"),
        (np.zeros(2, "m8[s]"), "timedelta64.*in seconds"),
        (np.zeros(2, [("a", "f4")]), "dtype"),
        pytest.param(
            np.zeros(2, np.longdouble),
            "astype",
            marks=pytest.mark.skipif(np.longdouble(0).itemsize == 8, reason="none"),
        ),
    ],
)
def test_array_dataset_refuses_what_no_tensor_can_hold(labels, words):
    with pytest.raises(DataError, match=f"argument 1 is .*{words}"):
        ArrayDataset(np.zeros((2, 3)), labels)


@pytest.mark.parametrize("dtype", ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"])
def test_array_dataset_takes_every_dtype_that_a_tensor_has(dtype):
    assert next(iter(DataLoader(ArrayDataset(np.ones((2, 3)), np.ones(2, dtype)), 2)))[1].dtype == np.dtype(dtype)


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


def test_a_device_that_there_is_not_is_an_error_at_the_first_batch():
    with pytest.raises(DeviceError, match="no device 'somewhere'"):
        next(iter(DataLoader(numbered(4), 2, device="somewhere")))


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


# --- troubles ---


class Runs:
    """A data set that raises StopIteration for one sample, as `next` on an iterator that is used up does."""

    def __init__(self, gathers):
        self.gathers = gathers

    def __len__(self):
        return 12

    def __getitem__(self, i):
        if 7 in np.atleast_1d(i):
            next(iter(()))
        return (np.zeros((*np.shape(i), 2)),)


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("where", ["sample", "batch", "transform", "mix"])
def test_stop_iteration_in_the_data_is_an_error_and_no_end_of_the_epoch(where, prefetch):
    def used_up(*_):
        return next(iter(()))

    data = Runs(where == "batch") if where in ("sample", "batch") else numbered(12)
    options = {where: used_up} if where in ("transform", "mix") else {}
    seen = 0
    with pytest.raises(RuntimeError, match=r"raised StopIteration in batch .*not the end of the data"):
        for _ in DataLoader(data, 3, prefetch=prefetch, **options):
            seen += 1
    assert seen == (2 if where in ("sample", "batch") else 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_forked_in_the_middle_of_a_pass_has_the_same_batches(prefetch):
    loader = DataLoader(numbered(60), 5, shuffle=True, seed=1, prefetch=prefetch)
    batches = loader.batches()
    next(batches)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(20)  # instead of hanging
        for fields in batches:
            os.write(writer, bytes(int(x) for x in np.ravel(fields[0])))
        os._exit(0)
    os.close(writer)
    _, status = os.waitpid(child, 0)
    assert status == 0
    assert os.read(reader, 1000) == bytes(int(x) for fields in batches for x in np.ravel(fields[0]))
    os.close(reader)


@pytest.mark.parametrize(
    "lengths", [[math.nan, 1], [0.5, math.nan], ["a"], "ab", [True, 11], [math.inf, 0], None, [[6, 6]]]
)
def test_lengths_that_are_no_numbers_are_refused(lengths):
    with pytest.raises(DataError, match="random_split: lengths"):
        random_split(numbered(12), lengths)


@pytest.mark.parametrize("seed", [-1, 1.5, "a", None, True])
def test_seeds_that_are_no_whole_numbers_are_refused(seed):
    with pytest.raises(DataError, match="random_split: seed"):
        random_split(numbered(12), [6, 6], seed=seed)
    with pytest.raises(DataError, match="stratified_split: seed"):
        stratified_split([0, 1] * 6, 0.5, seed=seed)


def test_stratified_split_refuses_labels_and_fractions_that_are_no_numbers():
    with pytest.raises(DataError, match="1 labels are NaN"):
        stratified_split([0.0, 1.0, math.nan, 1.0], 0.5)
    for fraction in (math.nan, "half", None):
        with pytest.raises(DataError, match="test_fraction"):
            stratified_split([0, 1] * 6, fraction)


@pytest.mark.parametrize("arguments", [(), (0.2,), ([0.8, 0.2],)])
def test_stratified_split_of_a_data_set_says_that_it_wants_labels(arguments):
    samples = [(np.zeros(3), 0), (np.ones(3), 1)] * 6
    for dataset in (numbered(12), Subset(numbered(12), range(6)), samples):
        with pytest.raises(TypeError, match=r"stratified_split: labels is a .*, a data set; .*dataset\.labels"):
            stratified_split(dataset, *arguments)
    for labels in ([0, 1] * 6, (0, 1) * 6, ["a", "b"] * 6, np.arange(12) % 2, mg.tensor([0, 1] * 6)):
        assert len(stratified_split(labels, 0.5)[1]) == 6


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": math.nan}, {"batch_size": "8"}, {"batch_size": None}, {"shuffle": "no"}, {"shuffle": None},
        {"drop_last": 2}, {"transform": 3}, {"mix": "up"}, {"seed": math.nan}, {"prefetch": math.inf},
    ],
)  # fmt: skip
def test_options_of_a_loader_that_make_no_sense_are_named(options):
    (name,) = options
    with pytest.raises(DataError, match=f"DataLoader: {name}"):
        DataLoader(numbered(12), **options)


@pytest.mark.parametrize("dataset", [None, 3, (x for x in range(3)), {1, 2}])
def test_what_is_no_dataset_is_refused(dataset):
    with pytest.raises(DataError, match="expected something with len"):
        DataLoader(dataset)


@pytest.mark.parametrize(
    "change", [{"seed": -1}, {"epoch": "x"}, {"batch": 1.5}, {"batch_size": 0}, {"batch_size": None}]
)
def test_a_damaged_state_of_a_loader_is_refused_and_changes_nothing(change):
    loader = DataLoader(numbered(12), 4, seed=3)
    before = loader.state_dict()
    for state in ({**before, **change}, [1], None, "text"):
        with pytest.raises(DataError, match="DataLoader"):
            loader.load_state_dict(state)
    assert loader.state_dict() == before
