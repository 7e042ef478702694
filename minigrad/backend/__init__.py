"""The arrays under the tensors: NumPy on the CPU, CuPy on the GPU, and the kernels that differ between them.

Read `device` first (how an array finds its library), then `libraries` (NumPy and CuPy) and `conversion` (dtypes).
`plain/` holds the kernels in their shortest form, `cpu/` and `gpu/` in their fast ones, under the same names; `scatter`
is shared by all, `threads` and `memory` serve the CPU's. `batched/` is the array library of `vmap`.
"""

from minigrad.backend import libraries
from minigrad.backend.arrays import Array, Operand
from minigrad.backend.batched import (
    BatchedArray,
    Level,
    bare,
    elementwise,
    enter,
    give_to_all,
    index_shape,
    leave,
    newest_level,
    read,
    sum_examples,
)
from minigrad.backend.conversion import DTYPES, HELD, RangeError, as_array, check_beside, check_dtype
from minigrad.backend.device import (
    NUMBERS,
    PLAIN,
    Backend,
    DeviceError,
    OutOfMemoryError,
    cuda_is_available,
    device_kind,
    device_of,
    is_array,
    item,
    kernels,
    namespace,
    register,
    to_device,
)
from minigrad.backend.report import Info, info
from minigrad.backend.sums import total, wide

__all__ = [
    "DTYPES",
    "HELD",
    "NUMBERS",
    "PLAIN",
    "Array",
    "Backend",
    "BatchedArray",
    "DeviceError",
    "Info",
    "Level",
    "Operand",
    "OutOfMemoryError",
    "RangeError",
    "as_array",
    "bare",
    "check_beside",
    "check_dtype",
    "cuda_is_available",
    "device_kind",
    "device_of",
    "elementwise",
    "enter",
    "give_to_all",
    "index_shape",
    "info",
    "is_array",
    "item",
    "kernels",
    "leave",
    "namespace",
    "newest_level",
    "read",
    "register",
    "sum_examples",
    "to_device",
    "total",
    "wide",
]


def __dir__() -> list[str]:
    return sorted(__all__)
