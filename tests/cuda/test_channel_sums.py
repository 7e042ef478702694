"""The sums of channels on a GPU, executed on the CPU, against NumPy in float64."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.backend import gpu
from tests.support import strict_backend
from tests.support.cuda import compiling

pytestmark = pytest.mark.skipif(not compiling.AVAILABLE, reason="no C++ compiler to run CUDA kernels with")

SHAPES = [(8, 3, 5, 7), (64, 32, 8, 8), (5, 40, 3, 1), (1, 1), (300, 1), (513, 65), (2000, 6), (0, 3), (3, 0, 2)]


@pytest.mark.parametrize("order", [0, 1, 7])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("shape", SHAPES)
def test_channel_sum(shape, dtype, order, monkeypatch):
    monkeypatch.setattr(compiling, "order", order)
    x = (np.random.default_rng(0).standard_normal(shape) + 1).astype(dtype)
    with strict_backend.installed():
        for _ in range(2):  # twice: the counters have gone back to 0
            found = gpu.channel_sum(mg.tensor(x, device="cuda").data)
    expected = x.astype("f8").sum(axis=(0, *range(2, x.ndim)))
    np.testing.assert_allclose(found.host, expected.astype(dtype), rtol={"f2": 1e-3, "f4": 3e-7, "f8": 1e-14}[dtype])


@pytest.mark.parametrize("shape", [(64, 32, 8, 8), (513, 65)])
def test_the_last_block_finds_the_parts_of_all_others(shape, monkeypatch):
    """In many orders: that a block counts itself before all its parts are there shows in few of them."""
    x = (np.random.default_rng(0).standard_normal(shape) + 1).astype("f4")
    expected = x.astype("f8").sum(axis=(0, *range(2, x.ndim)))
    with strict_backend.installed():
        for order in range(2, 26):
            monkeypatch.setattr(compiling, "order", order)
            found = gpu.channel_sum(mg.tensor(x, device="cuda").data).host
            np.testing.assert_allclose(found, expected, rtol=3e-7, err_msg=f"order {order}")
