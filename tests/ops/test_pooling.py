"""Pooling of what is not ordinary: integers, infinities and NaN, images of nothing.

Claimed: integers pool as the same numbers in float64 do, a NaN or an infinity stays in the windows that hold it,
forward and backward, and the results are PyTorch's.
"""

import numpy as np
import pytest

import minigrad as mg

POOLS = {
    "max_pool2d": lambda x: mg.max_pool2d(x, 2),
    "max_pool2d with padding": lambda x: mg.max_pool2d(x, 3, 2, 1),
    "avg_pool2d": lambda x: mg.avg_pool2d(x, (3, 2)),
    "avg_pool2d with padding": lambda x: mg.avg_pool2d(x, 3, 2, 1),
    "avg_pool2d without counting it": lambda x: mg.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "adaptive_avg_pool2d of everything": lambda x: mg.adaptive_avg_pool2d(x, 1),
    "adaptive_avg_pool2d side by side": lambda x: mg.adaptive_avg_pool2d(x, (3, 7)),
    "adaptive_avg_pool2d overlapping": lambda x: mg.adaptive_avg_pool2d(x, (4, 5)),
    "adaptive_avg_pool2d to more": lambda x: mg.adaptive_avg_pool2d(x, (8, None)),
}
every_pool = pytest.mark.parametrize("name", POOLS)


@every_pool
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u4", "i8", "u8", "?"])
def test_pooling_integers_is_pooling_the_same_numbers(name, dtype):
    info = None if dtype == "?" else np.iinfo(dtype)
    low, high = (0, 2) if info is None else (max(info.min, -(2**40)), min(info.max, 2**40))
    x = np.random.default_rng(0).integers(low, high, (2, 3, 6, 7)).astype(dtype)
    x[0, 0] = low  # the number that padding must not beat
    found, expected = (POOLS[name](mg.tensor(values)).numpy() for values in (x, x.astype("f8")))
    assert found.dtype == (x.dtype if name.startswith("max") else np.float64)
    np.testing.assert_allclose(found.astype("f8"), expected, rtol=1e-15)


@every_pool
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 0), (2, 3), (5, 6), (5, 0)])
def test_a_nan_or_an_infinity_stays_in_its_own_windows(name, value, place):
    pool = POOLS[name]
    x = np.random.default_rng(0).standard_normal((1, 1, 6, 7))
    hit = x.copy()
    hit[0, 0, *place] = value
    reads = mg.jacobian(pool)(mg.tensor(np.zeros_like(x)))
    touched = reads.numpy().reshape(-1, 6, 7)[:, *place] != 0
    before, after = (pool(mg.tensor(values)).numpy().ravel() for values in (x, hit))
    changed = (before != after) & ~((before == after) | (np.isnan(before) & np.isnan(after)))
    if name.startswith("max"):
        assert np.isfinite(after).all() if value == -np.inf else (after[changed] != before[changed]).all()
    else:
        np.testing.assert_array_equal(changed, touched)
        assert not np.isfinite(after[touched]).any()


@every_pool
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_infinite_gradient_reaches_only_the_pixels_of_its_window(name, value):
    pool = POOLS[name]
    x = mg.tensor(np.random.default_rng(0).standard_normal((1, 1, 6, 7)), requires_grad=True)
    y = pool(x)
    reads = mg.jacobian(pool)(x.detach()).numpy().reshape(-1, 6, 7)
    for place in (0, reads.shape[0] // 2, reads.shape[0] - 1):
        seed = np.ones(reads.shape[0])
        seed[place] = value
        (g,) = mg.autograd.grad(y, [x], seed.reshape(y.shape), retain_graph=True)
        np.testing.assert_array_equal(~np.isfinite(g.numpy()[0, 0]), reads[place] != 0)


@every_pool
def test_pooling_a_batch_of_no_images(name):
    x = mg.zeros(0, 3, 6, 7, requires_grad=True)
    y = POOLS[name](x)
    assert y.shape == (0, *POOLS[name](mg.zeros(1, 3, 6, 7)).shape[1:])
    y.sum().backward()
    assert x.grad.shape == x.shape


@every_pool
def test_pooling_agrees_with_pytorch_about_infinities(name):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    theirs = {
        "max_pool2d": lambda x: functional.max_pool2d(x, 2),
        "max_pool2d with padding": lambda x: functional.max_pool2d(x, 3, 2, 1),
        "avg_pool2d": lambda x: functional.avg_pool2d(x, (3, 2)),
        "avg_pool2d with padding": lambda x: functional.avg_pool2d(x, 3, 2, 1),
        "avg_pool2d without counting it": lambda x: functional.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
        "adaptive_avg_pool2d of everything": lambda x: functional.adaptive_avg_pool2d(x, 1),
        "adaptive_avg_pool2d side by side": lambda x: functional.adaptive_avg_pool2d(x, (3, 7)),
        "adaptive_avg_pool2d overlapping": lambda x: functional.adaptive_avg_pool2d(x, (4, 5)),
        "adaptive_avg_pool2d to more": lambda x: functional.adaptive_avg_pool2d(x, (8, None)),
    }[name]
    random = np.random.default_rng(0)
    x = random.standard_normal((4, 3, 6, 7))
    x[random.random(x.shape) < 0.1] = np.nan
    x[random.random(x.shape) < 0.1] = np.inf
    x[random.random(x.shape) < 0.1] = -np.inf
    np.testing.assert_allclose(POOLS[name](mg.tensor(x)).numpy(), theirs(torch.tensor(x)).numpy(), rtol=1e-12)


@pytest.mark.parametrize("name", ["avg_pool2d", "adaptive_avg_pool2d of everything", "adaptive_avg_pool2d overlapping"])
def test_pooling_float16_is_added_in_float32(name):
    x = np.full((1, 1, 6, 7), 40000, "f2")
    assert (POOLS[name](mg.tensor(x)).numpy() == 40000).all()
    wide = mg.tensor(np.full((1, 1, 400, 300), 1, "f2"), requires_grad=True)
    y = mg.adaptive_avg_pool2d(wide, 1)
    y.backward(np.full(y.shape, 8, "f2"))
    np.testing.assert_allclose(wide.grad.numpy().astype("f8"), 8 / 120_000, rtol=1e-3)
