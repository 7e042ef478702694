"""The sums of channels on a GPU, executed on the CPU, against NumPy in float64."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.backend import gpu
from tests.support import strict_backend
from tests.support.cuda import compiling

pytestmark = pytest.mark.skipif(not compiling.AVAILABLE, reason="no C++ compiler to run CUDA kernels with")

SHAPES = [(8, 3, 5, 7), (64, 32, 8, 8), (5, 40, 3, 1), (1, 1), (513, 65), (2000, 6), (0, 3), (3, 0, 2)]


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
