"""The arrays under the tensors: NumPy on the CPU, CuPy on the GPU, and the kernels that differ between them."""

from minigrad.backend.device import (
    Array,
    Backend,
    DeviceError,
    cuda_is_available,
    device_of,
    is_array,
    kernels,
    namespace,
    register,
    to_device,
)

__all__ = [
    "Array",
    "Backend",
    "DeviceError",
    "cuda_is_available",
    "device_of",
    "is_array",
    "kernels",
    "namespace",
    "register",
    "to_device",
]
