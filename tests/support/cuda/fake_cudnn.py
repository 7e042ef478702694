"""A stand-in for `nvidia-cudnn-frontend`: it notes the graph that is described, and computes it with NumPy.

What the frontend asks of a graph is asked here too: the order of its steps, tensors with sizes, strides and names, a
workspace where the plan needs one, and addresses of integers for exactly the tensors of the graph. Numbers are read
and written through those addresses and strides, so wrong ones show.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any

import numpy as np

from minigrad.backend import plain
from minigrad.backend.gpu import cudnn
from tests.support.cuda import work

data_type = Enum("data_type", "FLOAT HALF BFLOAT16 DOUBLE")
heur_mode = Enum("heur_mode", "A B FALLBACK")
numerical_note = Enum("numerical_note", "TENSOR_CORE DOWN_CONVERT_INPUTS REDUCED_PRECISION_REDUCTION FFT")
DTYPES = {data_type.FLOAT: np.dtype("f4"), data_type.HALF: np.dtype("f2")}
WORKSPACE = 100  # bytes that each plan asks for

graphs: list[pygraph] = []
"""Every graph that was described."""

executed: list[tuple[str, int, int]] = []
"""(name of the graph, address of its workspace, stream) of every execution."""

streams: dict[int, int] = {}
"""The stream of each handle."""


class cudnnGraphNotSupportedError(Exception):
    """What the frontend raises where no engine can compute a graph."""


def backend_version() -> int:
    return 92800


def create_handle() -> int:
    handle = 1000 + len(streams)
    streams[handle] = 0
    return handle


def set_stream(*, handle: int, stream: int) -> None:
    assert handle in streams and type(stream) is int
    streams[handle] = stream


class tensor:
    """A tensor of a graph: sizes, strides in elements, and a name (uid)."""

    def __init__(self, dim: list[int], stride: list[int], uid: int):
        self.dim, self.stride, self.uid, self.output = dim, stride, uid, False

    def set_output(self, output: bool) -> tensor:
        self.output = output
        return self

    def set_uid(self, uid: int) -> tensor:
        self.uid = uid
        return self

    def set_dim(self, dim: list[int]) -> tensor:
        self.dim = dim
        return self

    def set_stride(self, stride: list[int]) -> tensor:
        self.stride = stride
        return self

    def array(self, pointer: int, dtype: np.dtype) -> np.ndarray:
        """What lies at an address, as this tensor describes it."""
        reach = 1 + sum((n - 1) * s for n, s in zip(self.dim, self.stride, strict=True))
        memory = (ctypes.c_char * (reach * dtype.itemsize)).from_address(pointer)
        strides = [s * dtype.itemsize for s in self.stride]
        return np.lib.stride_tricks.as_strided(np.frombuffer(memory, dtype), self.dim, strides, writeable=True)


class pygraph:
    """A graph of one convolution."""

    steps = "validate build_operation_graph create_execution_plans deselect_numeric_notes check_support build_plans"

    def __init__(self, *, name, io_data_type, intermediate_data_type, compute_data_type, handle):
        assert intermediate_data_type is compute_data_type is data_type.FLOAT, "sums are to be taken in float32"
        assert handle in streams
        self.name, self.dtype, self.tensors = name, DTYPES[io_data_type], []
        self.done: list[str] = []
        self.unwanted: list[numerical_note] = []
        graphs.append(self)

    def tensor(self, *, dim: list[int], stride: list[int], uid: int, name: str) -> tensor:
        assert all(type(n) is int for n in (*dim, *stride, uid)) and len(dim) == len(stride) == 4
        self.tensors.append(tensor(dim, stride, uid))
        return self.tensors[-1]

    def _operation(self, kernel: str, *operands: tensor, **options: list[int]) -> tensor:
        assert all(operand in self.tensors for operand in operands)
        self.kernel, self.operands, self.options, self.output = kernel, operands, options, tensor([], [], -1)
        return self.output

    def conv_fprop(self, image, weight, *, padding, stride, dilation) -> tensor:
        return self._operation("conv2d", image, weight, stride=stride, padding=padding, dilation=dilation)

    def conv_dgrad(self, loss, filter, *, padding, stride, dilation) -> tensor:
        return self._operation("conv2d_input_grad", loss, filter, stride=stride, padding=padding, dilation=dilation)

    def conv_wgrad(self, image, loss, *, padding, stride, dilation) -> tensor:
        return self._operation("conv2d_weight_grad", image, loss, stride=stride, padding=padding, dilation=dilation)

    def __getattr__(self, step: str) -> Any:
        if step not in self.steps.split():
            raise AttributeError(step)

        def take(*args: Any) -> None:
            assert self.steps.split()[len(self.done)] == step, f"{step} after {self.done}"
            self.done.append(step)
            if step == "deselect_numeric_notes":
                [self.unwanted] = args
            if step == "check_support":
                self._check_support()

        return take

    def _check_support(self) -> None:
        if 7 in self.options["dilation"]:  # to have something that is refused
            raise cudnnGraphNotSupportedError("no engine for a dilation of 7")

    def get_workspace_size(self) -> int:
        assert self.done == self.steps.split()
        return WORKSPACE * len(graphs)

    def execute(self, pointers: dict[int, int], workspace: int, handle: int) -> None:
        names = {operand.uid: operand for operand in (*self.operands, self.output)}
        assert self.output.output and pointers.keys() == names.keys() and len(names) == 3
        assert all(type(pointer) is int and pointer for pointer in (*pointers.values(), workspace))
        executed.append((self.name, workspace, streams[handle]))
        work.launch("cudnn", lambda: self._compute(pointers))

    def _compute(self, pointers: dict[int, int]) -> None:
        first, second = (x.array(pointers[x.uid], self.dtype).astype("f4") for x in self.operands)
        out = self.output.array(pointers[self.output.uid], self.dtype)
        images = self.output.dim if self.kernel == "conv2d_input_grad" else self.operands[0].dim
        weight = self.output.dim if self.kernel == "conv2d_weight_grad" else self.operands[1].dim
        options = (*(tuple(self.options[name]) for name in ("stride", "padding", "dilation")), images[1] // weight[1])
        shape = None if self.kernel == "conv2d" else tuple(self.output.dim)
        out[...] = getattr(plain, self.kernel)(first, second, shape, *options)


@contextmanager
def installed(namespace: Any) -> Iterator[Any]:
    """Convolutions of the arrays of `namespace` go to this module while this lasts."""
    import sys

    found, here = cudnn.find, sys.modules[__name__]
    cudnn.find = lambda xp: here if xp is namespace else found(xp)
    for made in (cudnn._plans, cudnn._handles, cudnn._spaces, cudnn.refused, graphs, executed):
        made.clear()
    try:
        yield here
    finally:
        cudnn.find = found
        cudnn._plans.clear()
        cudnn.refused.clear()
