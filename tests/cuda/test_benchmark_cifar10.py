"""CIFAR-10 to a stated accuracy, `benchmarks/cifar10.py`: the whole of it, tiny, on the strict stand-in."""

import json
import logging

import numpy as np
import pytest

from benchmarks import cifar10, gpu
from minigrad import data
from minigrad.data import ArrayDataset
from tests.support import strict_backend
from tests.support.cuda import compiling

pytestmark = pytest.mark.skipif(not compiling.AVAILABLE, reason="no C++ compiler to run CUDA kernels with")


@pytest.fixture
def few(monkeypatch):
    """Images whose class is their colour, of a source that is a JPEG copy."""

    def load(train, root, *, download, dtype):
        assert not download and dtype == np.uint8
        labels = np.arange(40) % 10
        images = np.random.default_rng(train).integers(0, 60, (40, 3, 32, 32))
        images[:, 0] += 15 * labels[:, None, None]
        return ArrayDataset(images.astype("u1"), labels, name="CIFAR-10", note="JPEG copy")

    monkeypatch.setattr(data, "cifar10", load)
    with strict_backend.installed():
        yield


@pytest.mark.parametrize("accuracy, taken", [(0.0, 1), (1.01, 3)])
def test_it_trains_until_the_accuracy_or_the_last_epoch(few, accuracy, taken, caplog, tmp_path):
    with caplog.at_level(logging.INFO, "minigrad"):
        row = cifar10.run(accuracy=accuracy, epochs=3, images=32, batch=16, width=4)
    assert "error" not in row, row
    assert row["taken"] == taken and row["reached"] == (taken == 1) and row["seconds"] > 0
    assert row["train_images"] == row["test_images"] == 32
    assert [r for r in caplog.records if "recorded for inputs float32(16, 3, 32, 32)" in r.message] or taken == 1
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
    text = cifar10.described(row)
    assert "repaired JPEG copy, a few images in a thousand wrong" in text and ("NOT reached" in text) == (taken == 3)
    gpu.write_log(tmp_path / "log.md", {"date": "today", "info": ""}, "left out", [], row)
    assert text in (tmp_path / "log.md").read_text()
    assert json.loads((tmp_path / "log.json").read_text())["cifar10"]["taken"] == taken


def test_missing_data_are_a_row_that_says_so(tmp_path):
    text = cifar10.described(cifar10.run(root=tmp_path / "nothing"))
    assert text.startswith("CIFAR-10 to 93.0%: not run to its end: DataError"), text


def test_a_net_of_the_size_that_is_meant():
    assert 6e6 < sum(p.size for p in cifar10.resnet9().parameters()) < 7e6
