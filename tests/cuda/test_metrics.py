"""The kernel that adds up a batch's loss and right predictions, executed on the CPU against NumPy.

What training makes of it is in test_training_waits.py.
"""

import numpy as np
import pytest

from minigrad.backend import gpu, plain
from tests.support import strict_backend
from tests.support.cuda import compiling
from tests.support.strict_backend import StrictArray

pytestmark = pytest.mark.skipif(not compiling.AVAILABLE, reason="no C++ compiler to run CUDA kernels with")

rng = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def cuda():
    with strict_backend.installed():
        yield "cuda"


@pytest.mark.parametrize("order", [0, 1, 7])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("is_sum", [False, True])
@pytest.mark.parametrize("ignored", [None, 1, -100])
@pytest.mark.parametrize("shape", [(1, 1), (1, 10), (37, 10), (300, 33)])
def test_metrics_of_a_batch_are_numpys(shape, ignored, is_sum, dtype, order, monkeypatch):
    monkeypatch.setattr(compiling, "order", order)
    random = np.random.default_rng(0)
    scores = random.integers(-3, 4, shape).astype(dtype)  # of which many are equal: the first of the largest counts
    labels = np.where(random.random(shape[0]) < 0.5, scores.argmax(axis=1), random.integers(-1, shape[1] + 1, shape[0]))
    labels[:: max(2, shape[0] // 7)] = -100 if ignored is None else ignored
    counts = labels != ignored
    amount = counts.sum()
    whole = 1.25 if is_sum or not amount else 1.25 * amount
    named = counts & (labels >= 0) & (labels < shape[1])
    expected = np.array([whole, amount, (named & (scores.argmax(axis=1) == labels)).sum(), named.sum()]) * (amount > 0)
    totals, loss = StrictArray(np.array([1.0, 2, 3, 4])), StrictArray(np.array(1.25, dtype))
    for times in (1, 2):  # twice: the counter of blocks has gone back to 0
        compiling.launches.clear()
        gpu.add_metrics(totals, loss, StrictArray(scores), StrictArray(labels), ignored, is_sum)
        assert [name for name, *_ in compiling.launches] == ["add_metrics"]
        np.testing.assert_array_equal(totals.host, np.array([1.0, 2, 3, 4]) + times * expected)
    ours = np.array([1.0, 2, 3, 4])
    plain.add_metrics(ours, np.float64(1.25), scores, labels, ignored, is_sum)
    np.testing.assert_array_equal(ours, np.array([1.0, 2, 3, 4]) + expected)


def test_every_warp_looks_at_every_class():
    classes = 70
    best = np.repeat(np.arange(classes), 8)  # a row for each of the eight warps
    scores = np.eye(classes, dtype="f4")[best]
    totals = StrictArray(np.zeros(4))
    loss = StrictArray(np.zeros((), "f4"))
    gpu.add_metrics(totals, loss, StrictArray(scores), StrictArray(best), None, False)
    assert totals.host[2] == len(best)


def test_more_rows_than_a_launch_has_warps():
    scores, labels = rng.standard_normal((9001, 2)).astype("f4"), rng.integers(0, 2, 9001)
    totals = StrictArray(np.zeros(4))
    gpu.add_metrics(totals, StrictArray(np.float32(0.5)[None]), StrictArray(scores), StrictArray(labels), None, False)
    np.testing.assert_array_equal(totals.host, [4500.5, 9001, (scores.argmax(axis=1) == labels).sum(), 9001])


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_the_prediction_is_numpys_where_scores_are_nan_or_infinite(dtype):
    inf, nan = np.inf, np.nan
    rows = [[0, nan, 5, nan], [nan, inf, 0, 0], [-inf, -inf, -inf, -inf], [0, 1, inf, inf], [-inf, -inf, 0, -inf]]
    scores = np.repeat(np.array(rows, dtype), 40, axis=1)  # longer than a warp
    for label in range(0, 160, 7):
        labels = np.full(5, label)
        totals = StrictArray(np.zeros(4))
        gpu.add_metrics(totals, StrictArray(np.zeros((), dtype)), StrictArray(scores), StrictArray(labels), None, False)
        assert totals.host[2] == (scores.argmax(axis=1) == labels).sum()
    for row in range(5):
        totals, one = StrictArray(np.zeros(4)), scores[row : row + 1]
        best = StrictArray(one.argmax(axis=1))
        gpu.add_metrics(totals, StrictArray(np.zeros((), dtype)), StrictArray(one.copy()), best, None, False)
        assert totals.host[2] == 1
