"""The kernel that takes an optimizer's step, by itself: where its numbers come from, and when it does nothing.

Executed on the CPU against NumPy in float64. What optimizers make of it is in test_optimizers.py.
"""

import numpy as np
import pytest

import minigrad as mg
from minigrad.backend.gpu.many_tensors import batches, defined, launch, layout
from tests.support import strict_backend
from tests.support.cuda import compiling, guarding
from tests.support.strict_backend import StrictArray

pytestmark = pytest.mark.skipif(not compiling.AVAILABLE, reason="no C++ compiler to run CUDA kernels with")

SHAPES = [(3, 5), (0,), (1024,), (2050,), (), (1023,), (33,)]
ROWS = 3
HEAVY_BALL = "T& p = a[0]; const T g = a[1]; T& m = a[2]; m = x[1] * m + g; p = p - x[0] * m;"
UNIT = {"f2": 2.0**-10, "f4": 2.0**-22, "f8": 2.0**-50}
TABLE = np.array(
    [2.0, 1, 0.25, 0.5, 0, 9, 9, 1, 0.125, 0.75]
)  # of two skipped steps the host knows: row 0 is for those


@pytest.fixture(params=[0, 1, 7], autouse=True)
def device(request, monkeypatch):
    monkeypatch.setattr(compiling, "order", request.param)
    with strict_backend.installed():
        yield


def on_device(array):
    return mg.tensor(array, device="cuda").data


def stepped(dtype, table=TABLE, changing=None, verdict=None, scale=None, text=HEAVY_BALL, arrays=3):
    """(before, after): parameters, gradients and buffers, a list of each, around one launch."""
    rng = np.random.default_rng(0)
    before = [[np.asarray(rng.standard_normal(s), dtype) for s in SHAPES] for _ in range(arrays)]
    amid = [[guarding.Amid(array, 7.0) for array in kind] for kind in before]
    here = [[StrictArray(each.array) for each in kind] for kind in amid]
    struct = layout(arrays, others=8 * len(TABLE))
    defines = defined(ARRAYS=arrays, NUMBERS=2, ROWS=ROWS, TENSORS=struct["size"].shape[0], STEP=text)
    numbers = table.view([("table", "f8", table.shape)])[0:1].reshape(())
    changing, verdict, scale = (None if a is None else on_device(a) for a in (changing, verdict, scale))
    [batch] = batches(struct, here)
    launch("optimizer.cu", "update", defines, here[0][0], batch, numbers, changing, verdict, scale)
    assert all(each.is_intact() for kind in amid for each in kind), "something was written beside an array"
    return before, [[array.host for array in kind] for kind in here]


def assert_stepped(before, after, rate, momentum, scale=1.0):
    """By the heavy ball, to the rounding of the dtype."""
    unit = UNIT[before[0][0].dtype.str[1:]]
    for p, g, m, ours, same, ball in zip(*before, *after, strict=True):
        p, m, slope = p.astype("f8"), m.astype("f8"), g.astype("f8") / scale
        expected = momentum * m + slope
        np.testing.assert_allclose(ball, expected, rtol=0, atol=4 * unit)
        np.testing.assert_allclose(ours, p - rate * expected, rtol=0, atol=4 * unit)
        np.testing.assert_array_equal(same, g)


def assert_untouched(before, after):
    for kind, now in zip(before, after, strict=True):
        for a, b in zip(kind, now, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", UNIT)
def test_without_a_verdict_the_first_row_counts_however_many_steps_the_host_knows_to_be_skipped(dtype):
    assert_stepped(*stepped(dtype), 0.25, 0.5)


@pytest.mark.parametrize("dtype", UNIT)
def test_gradients_are_divided_by_the_scale(dtype):
    assert_stepped(*stepped(dtype, scale=np.float32(8.0)), 0.25, 0.5, scale=8.0)


@pytest.mark.parametrize(("skipped", "row"), [(2, (0.25, 0.5)), (3, None), (4, (0.125, 0.75))])
def test_the_row_is_how_many_more_steps_were_skipped_than_the_host_knows(skipped, row):
    """A row may say that this kernel does nothing, because another one takes the step."""
    before, after = stepped("f4", verdict=np.array([0, skipped, 7], "i4"))
    assert_untouched(before, after) if row is None else assert_stepped(before, after, *row)


@pytest.mark.parametrize("skipped", [2, 4])
def test_a_verdict_may_skip_the_step(skipped):
    assert_untouched(*stepped("f4", verdict=np.array([1, skipped, 0], "i4")))


@pytest.mark.parametrize(("skipped", "row"), [(None, (0.375, 0.625)), (5, (0.375, 0.625)), (6, None), (7, (0.5, 0.25))])
def test_changing_numbers_take_the_place_of_those_in_the_arguments(skipped, row):
    """They know of five skipped steps; what the arguments say, zeros, would do nothing."""
    changing = np.array([5.0, 1, 0.375, 0.625, 0, 9, 9, 1, 0.5, 0.25])
    verdict = None if skipped is None else np.array([0, skipped, 0], "i4")
    before, after = stepped("f4", np.zeros_like(TABLE), changing, verdict)
    assert_untouched(before, after) if row is None else assert_stepped(before, after, *row)


def test_functions_of_a_step_are_numpys():
    """Sign, maximum and minimum, of NaN and equal numbers too."""
    text = (
        "a[2] = minigrad::sign<T>(a[0]) + 4 * minigrad::maximum<T>(a[0], a[1]) + 16 * minigrad::minimum<T>(a[0], a[1]);"
    )
    values = np.array([-2.0, -0.5, 0, 0.5, 1, 2, np.nan, np.inf, -np.inf], "f4")
    p, g = (array.ravel() for array in np.meshgrid(values, values))
    here = [[on_device(array)] for array in (p, g, np.zeros_like(p))]
    struct = layout(3, others=8 * len(TABLE))
    defines = defined(ARRAYS=3, NUMBERS=2, ROWS=ROWS, TENSORS=struct["size"].shape[0], STEP=text)
    [batch] = batches(struct, here)
    numbers = TABLE.view([("table", "f8", TABLE.shape)])[0:1].reshape(())
    launch("optimizer.cu", "update", defines, here[0][0], batch, numbers, None, None, None)
    with np.errstate(invalid="ignore"):
        expected = np.sign(p) + 4 * np.maximum(p, g) + 16 * np.minimum(p, g)
    np.testing.assert_array_equal(here[2][0].host, expected)


def test_as_its_file_stands_it_is_gradient_descent():
    rng = np.random.default_rng(0)
    arrays = [(rng.standard_normal(s).astype("f4"), rng.standard_normal(s).astype("f4")) for s in (5, 2050)]
    struct = layout(2, others=2160)
    assert struct["size"].shape == (64,), "as many tensors as the file says"
    table = np.array([0.0, 1.0, 0.25]).view([("table", "f8", 3)]).reshape(())
    params, gradients = ([on_device(pair[k]) for pair in arrays] for k in (0, 1))
    for batch in batches(struct, [params, gradients]):
        launch("optimizer.cu", "update", "", params[0], batch, table, None, None, None)
    for p, (before, g) in zip(params, arrays, strict=True):
        np.testing.assert_array_equal(p.host, before - np.float32(0.25) * g)
