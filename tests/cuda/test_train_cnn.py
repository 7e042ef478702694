"""`examples/train_cnn.py --device cuda` as a whole, on the strict stand-in and few images."""

import dataclasses
import logging
import runpy
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad.data import ArrayDataset
from minigrad.serialization import load, load_state
from tests.support import strict_backend
from tests.support.cuda import compiling

pytestmark = pytest.mark.skipif(not compiling.AVAILABLE, reason="no C++ compiler to run CUDA kernels with")
SCRIPT = Path(__file__).parents[2] / "examples" / "train_cnn.py"


def few(train, channels):
    """Images that show their class by a bright bar."""
    count = 40 if train else 20
    labels = np.arange(count) % 10
    images = np.random.default_rng(int(train)).random((count, channels, 28, 28), dtype=np.float32) * 0.1
    for image, label in zip(images, labels, strict=True):
        image[:, 2 * label + 4 : 2 * label + 6] += 1
    return ArrayDataset(images, labels, name="bars", note="")


@pytest.fixture
def script(monkeypatch):
    names = runpy.run_path(str(SCRIPT))
    recipe = names["RECIPES"]["digits"]
    small = dataclasses.replace(recipe, load=lambda train: few(train, 1), batch_size=16, epochs=3, augment="shift")
    names["RECIPES"]["digits"] = small
    monkeypatch.setattr(mg, "cuda_is_available", lambda: True)
    with strict_backend.installed():
        yield names["main"]
        mg.cuda.set_tf32(False)


@pytest.mark.parametrize("precision", ["float32", "tf32", "float16"])
def test_the_script_trains_captured_in_every_precision(script, precision, tmp_path, caplog):
    found = {}
    with caplog.at_level(logging.INFO, "minigrad"):
        for name, options in (("captured", []), ("eager", ["--no-capture"])):
            out = tmp_path / name
            script(["--device", "cuda", "--precision", precision, "--quiet", "--out", str(out), *options])
            found[name] = load(out / "best.safetensors")
            assert (load_state(out / "last.safetensors")["scaler"] is not None) == (precision == "float16")
            recorded = [r for r in caplog.records if "recorded for inputs" in r.message]
            assert bool(recorded) == (name == "captured")
            assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
            caplog.clear()
    for name, value in found["captured"].items():
        np.testing.assert_allclose(value.numpy(), found["eager"][name].numpy(), rtol=1e-3, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("augment", ["affine", "flip"])
def test_augmentation_on_the_host_and_on_the_device(script, augment):
    assert 0 <= script(["--device", "cuda", "--epochs", "1", "--quiet", "--validate", "--augment", augment]) <= 1


def test_half_precision_is_for_a_gpu(script, capsys):
    with pytest.raises(SystemExit):
        script(["--precision", "float16"])
    assert "is for a GPU" in capsys.readouterr().err
