"""The command that times a GPU, as far as it can be tried without one: its steps on the stand-in, and its log."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import gpu
from tests.support import strict_backend
from tests.support.cuda import compiling

ROOT = Path(__file__).parents[2]
APART = {"float32": 1e-4, "tf32": 0.03, "float16": 0.1}
"""Of losses in four steps, from PyTorch's in float32: the stand-in, too, rounds to the 10 bits of TF32 and float16."""


@pytest.mark.skipif(not compiling.AVAILABLE, reason="no C++ compiler to run CUDA kernels with")
@pytest.mark.parametrize("precision", gpu.PRECISIONS)
@pytest.mark.parametrize("model", ["lenet5", "bn-cnn"])
def test_plain_and_captured_steps_have_pytorchs_losses(model, precision):
    pytest.importorskip("torch")
    losses = {}
    with strict_backend.installed():
        for way, device in (("torch", "cpu"), ("minigrad", "cuda"), ("captured", "cuda")):
            training = gpu.Training(way, model, 4, "float32" if way == "torch" else precision, device)
            losses[way] = [training.step().item() for _ in range(5)]
            training._allow_tf32(False)
    for way in gpu.OURS:
        np.testing.assert_allclose(losses[way], losses["torch"], rtol=APART[precision])
    np.testing.assert_allclose(losses["captured"], losses["minigrad"], rtol=1e-5)


def test_without_a_gpu_it_says_so_and_measures_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--out", str(tmp_path / "log.md")],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode == 0:
        pytest.skip("there is a GPU here")
    assert done.returncode == 2 and "nothing was run or measured" in done.stderr and not list(tmp_path.iterdir())


class Answers:
    """In the place of a worker process: answers, or the failure of one way."""

    def __init__(self, way):
        self.way = way

    def ask(self, ask, **request):
        if self.way == "compiled":
            raise gpu.Failed("no compiler")
        return {"case": [2.0, 1.0], "turn": 0.002 if self.way == "torch" else 0.001}.get(
            ask, {"launches": 3, "outside": 0.25}
        )


def test_a_row_of_the_log_has_times_ratios_and_what_failed(tmp_path):
    row = gpu.measure({way: Answers(way) for way in gpu.WAYS}, "lenet5", 64, "float32", rounds=3, seconds=0.0)
    assert row["ms"] == {"minigrad": 1.0, "captured": 1.0, "torch": 2.0}
    assert row["ratios"] == {"torch / minigrad": 2.0, "torch / captured": 2.0} and row["losses_apart"]["captured"] == 0
    gpu.write_log(tmp_path / "log.md", {"date": "today", "info": "i"}, "3 passed", [row])
    text = (tmp_path / "log.md").read_text()
    assert "failed: no compiler" in text and "| lenet5 | 64 | float32 | 1.000 | 1.000 | 2.000 | failed | 2.00 |" in text
    assert json.loads((tmp_path / "log.json").read_text())["rows"] == [row]
