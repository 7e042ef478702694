"""Convolution by cuDNN: the graphs that we describe, computed by a stand-in; and plans for them by cuDNN itself.

Plans need no GPU, but the wheels of cuDNN and its frontend. Where these are missing, the tests of plans are skipped.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minigrad.backend import gpu
from minigrad.backend.gpu import cudnn, precision
from tests.support import strict_backend
from tests.support.cuda import compiling, fake_cudnn
from tests.support.cuda.convolutions import EMPTY, GEOMETRIES, assert_convolution, last, parts
from tests.support.strict_backend import StrictArray, counted

needs_compiler = pytest.mark.skipif(not compiling.AVAILABLE, reason="no C++ compiler to build cuBLAS's stand-in with")
KERNELS = ("forward", "input_grad", "weight_grad")
ONE_PIXEL = {name for name, (_, w, s, p, *_) in GEOMETRIES.items() if (*w[2:], *s, *p) == (1, 1, 1, 1, 0, 0)}


@pytest.fixture
def frontend():
    with strict_backend.installed(), fake_cudnn.installed(strict_backend.namespace) as found:
        yield found
        precision.set_tf32(False)


def convolve(name, dtype="f4"):
    x, w, g, options = parts(GEOMETRIES[name], dtype)
    x, w, g = map(StrictArray, (x, w, g))
    gpu.conv2d(x, w, None, *options)
    gpu.conv2d_input_grad(g, w, x.shape, *options)
    return gpu.conv2d_weight_grad(x, g, w.shape, *options)


# --- the graphs ---


@needs_compiler
@pytest.mark.parametrize("dtype", ["f2", "f4"])
@pytest.mark.parametrize("name", [*GEOMETRIES, *EMPTY])
def test_convolution_and_its_gradients(frontend, name, dtype):
    assert_convolution(gpu, (GEOMETRIES | EMPTY)[name], dtype)
    by_cudnn = [] if name in ONE_PIXEL or name in EMPTY else list(KERNELS)
    assert [graph for graph, *_ in frontend.executed] == by_cudnn


@needs_compiler
def test_float64_is_left_to_windows(frontend):
    assert_convolution(gpu, GEOMETRIES["3x3"], "f8")
    assert not frontend.executed


def test_a_plan_is_made_once(frontend):
    convolve("3x3")
    convolve("3x3")
    assert len(frontend.graphs) == 3 and len(frontend.executed) == 6
    convolve("3x3", "f2")
    assert len(frontend.graphs) == 6
    convolve("strided", "f2")
    assert len(frontend.graphs) == 9


def test_images_are_described_channels_last_and_weights_as_they_lie(frontend):
    x, w, _, options = parts(GEOMETRIES["3x3"], "f4")
    gpu.conv2d(StrictArray(x), StrictArray(w), None, *options)
    gpu.conv2d(StrictArray(x), StrictArray(last(w)), None, *options)
    (first, second), (image, weight) = frontend.graphs, frontend.graphs[0].operands
    assert (image.dim, image.stride) == ([2, 3, 6, 5], [90, 1, 15, 3])
    assert (weight.dim, weight.stride) == ([4, 3, 3, 3], [27, 9, 3, 1])
    assert second.operands[1].stride == [27, 1, 9, 3]
    assert first.options == {"stride": [1, 1], "padding": [1, 1], "dilation": [1, 1]}


def test_each_direction_is_one_launch_and_the_weights_gradient_a_second_that_orders_it(frontend):
    x, w, g, options = parts(GEOMETRIES["3x3"], "f4")
    x, w, g = map(StrictArray, (x, w, g))
    with counted() as counts:
        gpu.conv2d(x, w, None, *options)
        gpu.conv2d_input_grad(g, w, x.shape, *options)
    assert counts.launches == {"cudnn": 2}
    with counted() as counts:
        gpu.conv2d_weight_grad(x, g, w.shape, *options)
    assert counts.launches == {"cudnn": 1, "ascontiguousarray": 1}


def test_tf32_is_a_plan_of_its_own(frontend):
    convolve("3x3")
    precision.set_tf32(True)
    convolve("3x3")
    convolve("3x3", "f2")
    exact, short, half = (frontend.graphs[i].unwanted for i in (0, 3, 6))
    note = frontend.numerical_note
    assert set(exact) == {note.TENSOR_CORE, note.DOWN_CONVERT_INPUTS, note.REDUCED_PRECISION_REDUCTION}
    assert set(short) == set(half) == {note.DOWN_CONVERT_INPUTS, note.REDUCED_PRECISION_REDUCTION}


def test_a_workspace_that_was_too_small_is_kept_for_steps_that_were_captured_with_it(frontend):
    for name in ("3x3", "strided", "dilated"):
        convolve(name)
    [spaces] = cudnn._spaces.values()
    sizes = [space.size for space in spaces]
    assert sizes == [100, 200, 400, 800, 1600], "each holds all that it was asked for, and is twice the last"
    addresses = [space.host.ctypes.data for space in spaces]
    assert {workspace for _, workspace, _ in frontend.executed} == set(addresses)


def test_each_stream_has_a_handle_and_a_workspace_of_its_own(frontend, monkeypatch):
    for stream in (5, 6):
        monkeypatch.setattr("minigrad.backend.gpu.streams.current_stream", lambda like, stream=stream: stream)
        convolve("3x3")
    assert [stream for *_, stream in frontend.executed] == [5] * 3 + [6] * 3
    assert not {w for _, w, s in frontend.executed if s == 5} & {w for _, w, s in frontend.executed if s == 6}
    assert len(frontend.graphs) == 3, "plans serve all streams of a device"


@needs_compiler
def test_what_cudnn_has_no_plan_for_is_computed_by_windows(frontend):
    geometry = (2, 2, 16, 16), (3, 2, 3, 3), (1, 1), (1, 1), (7, 7), 1
    assert_convolution(gpu, geometry, "f4")
    assert_convolution(gpu, geometry, "f4")
    assert len(frontend.graphs) == 3 and not frontend.executed, "it is asked once"
    assert {problem.direction for problem in cudnn.refused} == set(KERNELS)
    assert set(cudnn.refused.values()) == {"no engine for a dilation of 7"}


# --- plans by cuDNN ---

# (images, weight, stride, padding, dilation, groups): of LeNet, a ResNet on 32 x 32, one on 224 x 224, and grouped ones
OF_NETWORKS = [
    ((64, 1, 28, 28), (6, 1, 5, 5), (1, 1), (2, 2), (1, 1), 1),
    ((64, 6, 14, 14), (16, 6, 5, 5), (1, 1), (0, 0), (1, 1), 1),
    ((128, 3, 32, 32), (64, 3, 3, 3), (1, 1), (1, 1), (1, 1), 1),
    ((128, 64, 32, 32), (64, 64, 3, 3), (1, 1), (1, 1), (1, 1), 1),
    ((512, 64, 32, 32), (128, 64, 3, 3), (2, 2), (1, 1), (1, 1), 1),
    ((512, 64, 32, 32), (128, 64, 1, 1), (2, 2), (0, 0), (1, 1), 1),
    ((128, 512, 4, 4), (512, 512, 3, 3), (1, 1), (1, 1), (1, 1), 1),
    ((32, 3, 224, 224), (64, 3, 7, 7), (2, 2), (3, 3), (1, 1), 1),
    ((8, 16, 20, 20), (16, 16, 3, 3), (1, 1), (2, 2), (2, 2), 1),
    ((8, 8, 9, 9), (6, 4, 3, 3), (1, 1), (1, 1), (1, 1), 2),
    ((8, 32, 16, 16), (32, 1, 3, 3), (1, 1), (1, 1), (1, 1), 32),
]


def test_cudnn_has_a_plan_for_every_direction_of_what_networks_are_made_of():
    pytest.importorskip("cudnn", reason="nvidia-cudnn-frontend is not installed")
    pytest.importorskip("nvidia.cudnn", reason="cuDNN's wheel is not installed")
    if not compiling.AVAILABLE:
        pytest.skip("no C++ compiler to build a stand-in for CUDA's driver with")
    if cudnn.why_not():
        pytest.skip(cudnn.why_not())
    # In a process of its own, because cuDNN is told there that this is an H100, by a driver that is none.
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.cuda.cudnn_plans"],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert len(lines) == len(OF_NETWORKS) * 3 * 4, "three directions; float32, TF32, float16, bfloat16"


def test_an_array_of_the_host_is_no_array_of_cudnns():
    assert cudnn.find(np) is None
