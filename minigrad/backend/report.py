"""What computes: a report of the device, the array library, and who does products and convolutions, and why."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from minigrad.backend.conversion import DTYPES
from minigrad.backend.device import DeviceError, namespace, to_device


@dataclass(frozen=True)
class Info:
    """What `info` found. Each is a sentence or a name for people to read, except `tf32` and `dtypes`."""

    device: str
    arrays: str
    products: str
    convolution: str
    tf32: bool
    dtypes: tuple[str, ...]

    def __str__(self) -> str:
        shown = {field.name: getattr(self, field.name) for field in fields(self)}
        shown |= {"tf32": "on" if self.tf32 else "off", "dtypes": ", ".join(self.dtypes)}
        width = max(map(len, shown))
        return "\n".join(f"{name:<{width}}  {text}" for name, text in shown.items())

    __repr__ = __str__


def info(device: str | None = None) -> Info:
    """Who computes on a device: 'cuda' if there is one, else 'cpu', unless you name one.

    On a machine whose GPU is not used, the report of the CPU says why. Print it:

        >>> print(minigrad.backend.info())  # doctest: +SKIP
        device       NVIDIA H100 80GB HBM3 (cuda:0)
        arrays       CuPy 14.2.0, CUDA 12.9
        products     cuBLAS 12.9.2, by a handle of our own
        convolution  cuDNN 9.28.0, and cuBLAS where the kernel is one pixel
        tf32         off
        dtypes       float16, float32, float64, int8, ...
    """
    try:
        xp, why_no_gpu = namespace(to_device(np.empty(0), device or "cuda")), ""
    except DeviceError as error:
        if device is not None:
            raise
        xp, why_no_gpu = np, f" (no GPU: {error})"
    if xp is np:
        return _of_the_cpu(why_no_gpu)
    return _of_a_gpu(xp, device or "cuda")


def _of_the_cpu(why_no_gpu: str) -> Info:
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]  # type: ignore[call-overload, index]
    return Info(
        device=f"cpu{why_no_gpu}",
        arrays=f"NumPy {np.__version__}",
        products=f"{blas.get('name', 'BLAS')} {blas.get('version', '')}, called by NumPy".replace(" ,", ","),
        convolution="kernels of minigrad: windows, and products by BLAS",
        tf32=False,
        dtypes=_dtypes(),
    )


def _of_a_gpu(xp: Any, device: str) -> Info:
    from minigrad.backend.gpu import cublas, cudnn
    from minigrad.backend.gpu.precision import tf32

    no_cublas, no_cudnn = cublas.why_not(xp), cudnn.why_not(xp)
    products = (
        f"by the array library, slower and not to be captured: {no_cublas}"
        if no_cublas
        else f"cuBLAS {cublas.version(xp)}, by a handle of our own"
    )
    convolution = (
        f"windows, and products as above: {no_cudnn}"
        if no_cudnn
        else f"cuDNN {cudnn.version(xp)}, and cuBLAS where the kernel is one pixel"
    )
    if cudnn.refused:
        reason = next(iter(cudnn.refused.values())).splitlines()[0]
        convolution += f"; {len(cudnn.refused)} convolution(s) by windows, which it has no plan for ({reason})"
    return Info(*_names(xp, device), products, convolution, tf32(), _dtypes())


def _names(xp: Any, device: str) -> tuple[str, str]:
    """The device and the array library, in words."""
    version = getattr(xp, "__version__", "")
    if xp.__name__ != "cupy":
        return device, f"{xp.__name__} {version}".strip()
    number = int(device.partition(":")[2] or xp.cuda.runtime.getDevice())
    name = xp.cuda.runtime.getDeviceProperties(number)["name"].decode()
    cuda = xp.cuda.runtime.runtimeGetVersion()
    return f"{name} (cuda:{number})", f"CuPy {version}, CUDA {cuda // 1000}.{cuda % 1000 // 10}"


def _dtypes() -> tuple[str, ...]:
    return tuple(str(dtype) for dtype in DTYPES)
