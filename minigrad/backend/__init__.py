"""The arrays under the tensors: NumPy on the CPU, CuPy on the GPU, and the kernels that differ between them."""

from minigrad.backend.conversion import as_array, check_dtype
from minigrad.backend.device import (
    NUMBERS,
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
    "NUMBERS",
    "Array",
    "Backend",
    "DeviceError",
    "as_array",
    "check_dtype",
    "cuda_is_available",
    "device_of",
    "is_array",
    "kernels",
    "namespace",
    "register",
    "to_device",
]
