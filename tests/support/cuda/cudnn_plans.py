"""Have cuDNN make the plans of our graphs for an H100, on a machine without a GPU.

    python -m tests.support.cuda.cudnn_plans

cuDNN takes a description of a device in place of the device. But one of its libraries is linked with CUDA's driver,
libcuda.so.1, so a library of that name is built whose functions all report that there is no device.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from minigrad.backend.gpu import cudnn
from minigrad.backend.gpu.geometry import Geometry

H100 = {
    "deviceName": "NVIDIA H100 80GB HBM3", "cudaDeviceId": 0, "deviceVer": 900, "driverVer": 12080, "warpSize": 32,
    "maxGridSize": [2147483647, 65535, 65535], "maxBlockSize": [1024, 1024, 64], "regsPerBlock": 65536,
    "multiProcessorCount": 132, "smClockRateKHz": 1980000, "memClockRateKHz": 2619000, "memoryBusWidth": 5120,
    "l2CacheSize": 52428800, "maxSharedMemoryPerBlock": 49152, "maxSharedMemoryPerBlockOptin": 232448,
    "reservedSharedMemoryPerBlock": 1024, "maxRegistersPerSM": 65536, "maxCtasPerSM": 32, "maxThreadsPerBlock": 1024,
    "maxThreadsPerSM": 2048, "pciDeviceId": 0, "isTccDriver": 0, "supportCoopLaunch": 1, "totalGlobalMem": 85 * 10**9,
}  # fmt: skip
NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE


def load_driver() -> None:
    """Load a libcuda.so.1 that has the functions that cuDNN is linked with."""
    spec = importlib.util.find_spec("nvidia.cudnn")
    assert spec is not None and spec.submodule_search_locations, "cuDNN's wheel is not installed"
    libraries = Path(next(iter(spec.submodule_search_locations)), "lib").glob("libcudnn*.so.*")
    symbols = subprocess.run(["nm", "-D", "--undefined-only", *libraries], capture_output=True, text=True, check=True)
    names = {line.split()[-1] for line in symbols.stdout.splitlines() if " U cu" in line}
    functions = [name for name in names if name[2].isupper()]  # cuModuleLoadData, but not cudnnCreate
    text = "".join(f'extern "C" int {name}() {{ return {NO_DEVICE}; }}\n' for name in sorted(functions))
    with tempfile.TemporaryDirectory() as folder:
        (source := Path(folder, "driver.cpp")).write_text(text)
        built = Path(folder, "libcuda.so.1")
        subprocess.run(["g++", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", source, "-o", built], check=True)
        ctypes.CDLL(str(built), ctypes.RTLD_GLOBAL)


def problems(at: Geometry) -> list[cudnn.Problem]:
    """What we ask of cuDNN for a convolution: each direction in each dtype, and float32 as TF32."""
    _, depth, kh, kw = at.weight
    as_it_lies, channels_last = (depth * kh * kw, kh * kw, kw, 1), (depth * kh * kw, 1, kw * depth, depth)
    strides = {"forward": as_it_lies, "input_grad": as_it_lies, "weight_grad": channels_last}
    kinds = [("float32", False), ("float32", True), ("float16", False), ("bfloat16", False)]
    return [cudnn.Problem(way, at, strides[way], dtype, tf32) for way in strides for dtype, tf32 in kinds]


def main() -> None:
    """A line for each plan."""
    from tests.cuda.test_cudnn import OF_NETWORKS

    load_driver()
    library: Any = importlib.import_module("cudnn")
    device = library.create_device_properties(json.dumps(H100))
    for geometry in OF_NETWORKS:
        for problem in problems(Geometry(*geometry)):
            plan = cudnn.build(library, problem, device_property=device, sm_version=90)
            print(*problem.at[:2], problem.direction, problem.dtype, problem.tf32, plan.workspace, "bytes")


if __name__ == "__main__":
    main()
