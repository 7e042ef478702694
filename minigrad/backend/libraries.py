"""NumPy and CuPy, entered in the table of `device.py` with their kernels. CuPy is imported on first use of a GPU."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

import numpy as np

from minigrad.backend import faults
from minigrad.backend.device import Backend, DeviceError, register, register_on_demand

INSTALL_CUDA = (
    'Install the CuPy build for your CUDA version, `pip install "minigrad[cuda12]"` or '
    '`pip install "minigrad[cuda13]"`, or stay on device="cpu".'
)
NUMPY_SCALARS = (
    np.bool_,
    *(np.dtype(code).type for code in "bhilqBHILQ"),
    *(np.float16, np.float32, np.float64),
)


@cache
def cupy_backend() -> Backend:
    """CuPy's backend. Raises DeviceError where CuPy is not installed or finds no GPU."""
    try:
        import cupy
    except ImportError as error:
        raise DeviceError(f"device 'cuda' needs CuPy, which is not installed. {INSTALL_CUDA}") from error
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        raise DeviceError(f"device 'cuda': CuPy is installed but finds no GPU ({error}). {INSTALL_CUDA}") from error

    def to_device(array: Any, device: str) -> Any:
        index = int(device.partition(":")[2] or cupy.cuda.runtime.getDevice())
        if index >= count:
            raise DeviceError(f"no device {device!r}: this machine has {count} GPU(s), numbered from 0.")
        if not isinstance(array, cupy.ndarray):
            refuse_upload()
        with cupy.cuda.Device(index):
            return cupy.asarray(array)

    backend = Backend(
        name="cuda",
        array_type=cupy.ndarray,
        namespace=cupy,
        kernels=cache(lambda: importlib.import_module("minigrad.backend.gpu")),
        to_device=to_device,
        to_numpy=cupy.asnumpy,
        device_of=lambda array: f"cuda:{array.device.id}",
        after_reading=faults.look,
    )
    register(backend)
    from minigrad.backend.gpu import allocation  # it needs the backends

    allocation.install(cupy)
    return backend


def refuse_upload() -> None:
    """While a step is captured, RuntimeError: CuPy would record a copy from memory that soon holds another array."""
    from minigrad.backend.gpu import replay  # it needs the backends

    if replay.is_recording():
        raise RuntimeError("an array of the host was sent to the device while a step is captured")


register(
    Backend(
        name="cpu",
        array_type=np.ndarray,
        namespace=np,
        kernels=cache(lambda: importlib.import_module("minigrad.backend.cpu")),
        to_device=lambda array, device: array,
        to_numpy=np.asarray,
        device_of=lambda array: "cpu",
    ),
    *NUMPY_SCALARS,
)
register_on_demand(cupy_backend, module="cupy", device="cuda")
