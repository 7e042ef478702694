"""The report of who computes what, on machines of every kind."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from minigrad.backend import DeviceError, device, gpu, info
from minigrad.backend.gpu import cublas, cudnn, precision
from tests.support import strict_backend
from tests.support.cuda import compiling, fake_cudnn
from tests.support.strict_backend import StrictArray

needs_compiler = pytest.mark.skipif(not compiling.AVAILABLE, reason="no C++ compiler to build cuBLAS's stand-in with")


@pytest.fixture
def no_gpu(monkeypatch):
    def find():
        raise DeviceError("device 'cuda' needs CuPy, which is not installed.")

    monkeypatch.setitem(device._BY_DEVICE, "cuda", find)


@pytest.fixture
def stand_in():
    with strict_backend.installed():
        yield
        precision.set_tf32(False)


def test_a_machine_without_a_gpu_is_told_why_it_has_none(no_gpu):
    found = info()
    assert found.device == "cpu (no GPU: device 'cuda' needs CuPy, which is not installed.)"
    assert found.arrays == f"NumPy {np.__version__}"
    assert "BLAS" in found.convolution and found.products.endswith("called by NumPy") and not found.tf32
    assert "float32" in found.dtypes


def test_a_gpu_that_was_asked_for_and_is_not_there_is_an_error(no_gpu):
    with pytest.raises(DeviceError, match="needs CuPy"):
        info("cuda")


def test_the_cpu_can_be_asked_about_beside_a_gpu(stand_in):
    assert info("cpu").device == "cpu"
    assert info().device == "cuda"


def test_the_report_reads_as_a_table(no_gpu):
    lines = str(info()).splitlines()
    assert [line.split()[0] for line in lines] == ["device", "arrays", "products", "convolution", "tf32", "dtypes"]
    assert lines[4].split() == ["tf32", "off"]
    assert len({len(line) - len(line.split(maxsplit=1)[1]) for line in lines}) == 1, "what is said begins in one column"
    assert repr(info()) == str(info())


@needs_compiler
def test_products_and_convolutions_by_nvidias_libraries(stand_in):
    with fake_cudnn.installed(strict_backend.namespace):
        found = info()
    assert found.products == "cuBLAS 13.12.11, by a handle of our own"
    assert found.convolution == "cuDNN 9.28.0, and cuBLAS where the kernel is one pixel"


def test_what_is_missing_is_said(stand_in, monkeypatch):
    monkeypatch.setattr(cublas, "find", lambda xp: None)
    found = info()
    assert found.products == (
        "by the array library, slower and not to be captured: the arrays are strict's, not CuPy's"
    )
    assert found.convolution == "windows, and products as above: the arrays are strict's, not CuPy's"


@needs_compiler
def test_convolutions_that_cudnn_has_no_plan_for_are_counted(stand_in):
    with fake_cudnn.installed(strict_backend.namespace):
        x, w = (StrictArray(np.ones(shape, "f4")) for shape in ((1, 1, 9, 9), (1, 1, 2, 2)))
        gpu.conv2d(x, w, None, (1, 1), (0, 0), (7, 7), 1)
        assert info().convolution.endswith(
            "; 1 convolution(s) by windows, which it has no plan for (no engine for a dilation of 7)"
        )


def test_tf32_is_shown(stand_in):
    precision.set_tf32(True)
    assert info().tf32 and "tf32         on" in str(info())


def cupy(version=12090):
    runtime = SimpleNamespace(
        getDevice=lambda: 0,
        getDeviceProperties=lambda number: {"name": b"NVIDIA H100 80GB HBM3"},
        runtimeGetVersion=lambda: version,
    )
    return SimpleNamespace(__name__="cupy", __version__="14.2.0", cuda=SimpleNamespace(runtime=runtime))


def test_cupys_device_is_named(monkeypatch):
    monkeypatch.setattr("minigrad.backend.report.to_device", lambda array, device: array)
    monkeypatch.setattr("minigrad.backend.report.namespace", lambda array: cupy())
    for library, reason in ((cublas, "no cuBLAS"), (cudnn, "no frontend")):
        monkeypatch.setattr(library, "_loaded", lambda reason=reason: (None, reason))
    found = info("cuda:0")
    assert found.device == "NVIDIA H100 80GB HBM3 (cuda:0)" and found.arrays == "CuPy 14.2.0, CUDA 12.9"
    assert found.products.endswith("not to be captured: no cuBLAS")
    assert found.convolution == "windows, and products as above: no frontend"


# --- how the libraries are looked for ---


@pytest.mark.parametrize(
    "frontend, reason",
    [
        (None, "cannot be imported"),
        (SimpleNamespace(backend_version=lambda: 8907), "cuDNN 8907 is older than 90000"),
        (SimpleNamespace(backend_version=lambda: 1 / 0), "finds no cuDNN"),
        (SimpleNamespace(backend_version=lambda: 90800), ""),
    ],
)
def test_the_reason_why_cudnn_is_not_used(frontend, reason, monkeypatch):
    monkeypatch.setitem(sys.modules, "cudnn", frontend)
    monkeypatch.setattr(cudnn, "_loaded", cudnn._loaded.__wrapped__)
    xp = cupy()
    assert reason in cudnn.why_not(xp)
    assert cudnn.find(xp) is (None if reason else frontend)


def test_the_reason_why_cublas_is_not_used(monkeypatch):
    monkeypatch.setattr(cublas, "_loaded", cublas._loaded.__wrapped__)
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setitem(sys.modules, "cupy.cuda", None)
    assert cublas.find(cupy()) is None and "CuPy does not find cuBLAS" in cublas.why_not(cupy())
    for name in ("cupy", "cupy.cuda", "cupy.cuda.cublas"):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(cublas=None))

    def not_loaded(name, mode):
        raise OSError(name)

    monkeypatch.setattr(cublas.ctypes, "CDLL", not_loaded)
    assert cublas.why_not(cupy()) == "CuPy has loaded neither libcublas.so.12 nor libcublas.so.13"
