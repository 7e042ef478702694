"""CUDA kernels run by the CPU: `RawModule` and `RawKernel` as CuPy's, on the arrays of the strict stand-in.

A kernel's text, unmodified, is compiled by g++ with cuda_on_cpu.h in front. Launches are checked as CuPy does not: an
argument whose size is not its parameter's is an error here, and garbage there; so is a write outside of an array (see
guarding). Arrays of NumPy are taken too, as host
memory that the "device" can read, so that a test can look at one kernel by itself.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.cuda import guarding, work

HERE = Path(__file__).parent
CACHE = Path(tempfile.gettempdir()) / f"minigrad_cuda_on_cpu_{os.getuid() if hasattr(os, 'getuid') else 'user'}"
FLAGS = (
    "-std=c++17 -O1 -shared -fPIC -fvisibility=hidden -U_FORTIFY_SOURCE -fno-strict-aliasing -w -ffp-contract=off "
    "-ftrivial-auto-var-init=pattern"
).split()
ENTRY = re.compile(r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)\s*\(')
DYNAMIC = re.compile(r"extern\s+__shared__\s+([\w\s]+?)\s+(\w+)\s*\[\s*\]\s*;")
AVAILABLE = shutil.which("g++") is not None

launches: list[tuple[str, tuple, tuple]] = []
"""(kernel, grid, block) of every launch of a kernel."""

order = 0
"""Which thread of a block, and which block, goes first: 0 in turn, 1 backwards, else shuffled by this seed."""


class LaunchError(RuntimeError):
    """What a GPU would refuse, or must not be asked."""


@cache
def _header() -> str:
    return (HERE / "cuda_on_cpu.h").read_text(encoding="utf-8")


def compile_library(code: str, options: tuple[str, ...] = ()) -> Path:
    """The shared library of a CUDA source; compiled once, and kept in the folder for temporary files."""
    entries = ENTRY.findall(code)
    text = DYNAMIC.sub(r"\1* \2 = (\1*)cuda_on_cpu::dynamic_shared();", code)
    exports = "\n".join(f"CUDA_ON_CPU_EXPORT({entry})" for entry in entries)
    source = f'#include "cuda_on_cpu.h"\nnamespace {{\n#line 1 "kernels.cu"\n{text}\n}}\n{exports}\n'
    options = tuple(o for o in options if o.startswith("-D"))
    key = hashlib.sha256(repr((source, options, FLAGS, _header())).encode()).hexdigest()[:24]
    CACHE.mkdir(exist_ok=True)
    library = CACHE / f"{key}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            (Path(folder) / "kernels.cpp").write_text(source)
            command = ["g++", *FLAGS, f"-I{HERE}", f"-I{HERE}/stubs", *options, f"{folder}/kernels.cpp"]
            done = subprocess.run([*command, "-o", f"{folder}/kernels.so"], capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"g++ refuses the kernels:\n{done.stderr}")
            os.replace(f"{folder}/kernels.so", library)  # another process may be making the same
    return library


class RawModule:
    """CuPy's RawModule: a CUDA source with `extern "C"` kernels."""

    def __init__(self, *, code: str, options: tuple[str, ...] = (), backend: str = "nvrtc"):
        if backend != "nvrtc":
            raise LaunchError(f"backend {backend!r}: nvcc is not to be needed where minigrad runs")
        self._library = ctypes.CDLL(str(compile_library(code, options)))

    def get_function(self, name: str) -> RawKernel:
        return RawKernel(self._library, name)


class RawKernel:
    """CuPy's RawKernel: `kernel(grid, block, args, shared_mem=0)`."""

    def __init__(self, library: Any, name: str):
        self.name = name
        try:
            self._launch = getattr(library, f"launch_{name}")
        except AttributeError:
            raise LaunchError(f'no kernel {name!r} (is it extern "C"?)') from None
        self._launch.restype = ctypes.c_char_p
        self._launch.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_uint]
        sizes, kinds = (ctypes.c_int * 256)(), ctypes.create_string_buffer(256)
        count = getattr(library, f"parameters_{name}")(sizes, kinds)
        self.parameters = list(zip(kinds.raw[:count].decode(), sizes[:count], strict=True))
        self.max_dynamic_shared_size_bytes = 48 * 1024

    def __call__(self, grid: tuple, block: tuple, args: tuple, *, shared_mem: int = 0) -> None:
        grid, block = ((*size, 1, 1)[:3] for size in (grid, block))
        if not (0 < np.prod(block) <= 1024 and block[2] <= 64 and 0 < grid[0] < 2**31 and min(grid[1:]) > 0):
            raise LaunchError(f"{self.name}: invalid configuration: grid {grid}, block {block}")
        if max(grid[1:]) > 65535 or shared_mem > self.max_dynamic_shared_size_bytes:
            raise LaunchError(f"{self.name}: invalid configuration: grid {grid}, {shared_mem} bytes of shared memory")
        if len(args) != len(self.parameters):
            raise LaunchError(f"{self.name} has {len(self.parameters)} parameters, got {len(args)} arguments")
        if sum(size for _, size in self.parameters) > 4096:
            raise LaunchError(f"{self.name}: parameters of more than the 4,096 bytes that a launch may have")
        args = tuple(getattr(arg, "host", arg) for arg in args)  # of the strict stand-in
        boxes = [_boxed(self.name, i, *p, arg) for i, (p, arg) in enumerate(zip(self.parameters, args, strict=True))]
        arrays = {
            i: arg
            for i, (arg, (kind, _)) in enumerate(zip(args, self.parameters, strict=True))
            if kind == "p" and isinstance(arg, np.ndarray)
        }
        values = (ctypes.c_void_p * len(boxes))(*(ctypes.addressof(box) for box in boxes))
        launches.append((self.name, grid, block))

        def run() -> None:
            try:
                with guarding.guarded(arrays) as addresses:
                    for i, address in addresses.items():
                        boxes[i].value = address
                    error = self._launch((ctypes.c_uint * 6)(*map(int, (*grid, *block))), shared_mem, values, order)
            except guarding.Overrun as overrun:
                raise LaunchError(f"{self.name}, {overrun}") from None
            if error:
                raise LaunchError(f"{self.name}: {error.decode()}")

        work.launch(self.name, run)


def _boxed(name: str, place: int, kind: str, size: int, arg: Any) -> Any:
    """An argument's bytes, as the kernel is to find them."""
    where = f"{name}, argument {place}"
    if kind == "p":
        if isinstance(arg, np.uint64):
            return ctypes.c_void_p(int(arg))
        if not isinstance(arg, np.ndarray):
            raise LaunchError(f"{where}: the parameter is a pointer, the argument {type(arg).__name__}")
        return ctypes.c_void_p(arg.ctypes.data)
    # CuPy sends a Python int as 8 bytes, a float as a double, whatever the parameter.
    given = np.asarray(arg, np.int64 if type(arg) is int else None)
    letter = {"b": "i", "i": "i", "u": "i", "f": "f", "V": "s"}[given.dtype.kind]
    if letter != kind or given.dtype.itemsize != size:
        raise LaunchError(f"{where}: the parameter is {kind}{size}, the argument {letter}{given.dtype.itemsize}")
    return ctypes.create_string_buffer(given.tobytes(), size)
