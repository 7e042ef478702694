"""What the tests of kernels and threads ask pytest for."""

import pytest

from minigrad.backend import threads
from minigrad.backend.cpu import batch_last, convolution, normalization, pooling


@pytest.fixture(params=["tuned blocks", "tiny blocks", "batch last"])
def path(request, monkeypatch):
    """Small cases fit one block of the tuned size; a tiny size sends them down the paths of large ones.

    "batch last" also sends every convolution that can go there down the path of few channels and large batches.
    """
    if request.param != "tuned blocks":
        for module in (batch_last, convolution, normalization, pooling):
            monkeypatch.setattr(module, "BLOCK_BYTES", 700)
    if request.param == "batch last":
        monkeypatch.setattr(batch_last, "pays", lambda x_shape, weight_shape, groups: groups == 1 and x_shape[0] > 0)
    return request.param


@pytest.fixture
def restore_threads():
    before = threads.get_num_threads()
    yield
    threads.set_num_threads(before)
