"""A stand-in for CuPy with CuPy's refusals, so that mixing host and device fails on any machine.

`StrictArray` holds a NumPy array and will not let NumPy touch it; `namespace` offers the names that CuPy has (written
down in cupy_names.txt by collect_cupy_names.py), with CuPy's signatures. Put in the place of CuPy (`installed`), it is
the device "cuda". Like CuPy:

- Python numbers and NumPy scalars may stand beside device arrays; NumPy arrays and lists may not (TypeError).
- Results are arrays, 0-d ones too, never scalars. There are no object arrays.
- CUDA kernels are compiled for the CPU and run, if there is a C++ compiler (see cuda/compiling.py).
- Work for the device is counted by name in `launches`, and what the host must wait for (item, bool, int, float, masks
  as an index, unique...) in `traffic`; `counted()` gives both for a block of code (see cuda/work.py).

It is stricter than CuPy where CuPy copies in silence: lists and NumPy arrays as an index, and NumPy's own functions
given device arrays, are refused.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import operator
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from minigrad import generators
from minigrad.backend import Backend, DeviceError, device, faults, register
from minigrad.backend.gpu import allocation
from tests.support import strict_linalg
from tests.support.cuda import compiling, cupy_cuda, fake_cublas, memory
from tests.support.cuda.cupy_cuda import Device
from tests.support.cuda.work import (
    Counts,
    Stream,
    counted,
    launch,
    launch_into,
    launches,
    spoil,
    traffic,
    upload,
    wait,
)

__all__ = ["STRICT", "Counts", "StrictArray", "counted", "installed", "launches", "names", "namespace", "traffic"]

NUMBERS = (bool, int, float, np.generic)
IMPLICIT = (
    "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array explicitly."
)
CREATE = {"arange", "array", "asarray", "ascontiguousarray", "empty", "eye", "full", "identity", "linspace", "ones"}
CREATE |= {"tri", "zeros", "finfo", "iinfo", "result_type", "promote_types", "can_cast", "broadcast_shapes", "isscalar"}
UPLOAD = {"array", "asarray", "asanyarray", "ascontiguousarray", "asfortranarray"}
WAIT = {"nonzero", "flatnonzero", "argwhere", "unique", "bincount", "array_equal", "allclose", "histogram", "tolist"}
ADDABLE = {np.dtype(t) for t in ("i4", "u4", "u8", "f2", "f4", "f8")}  # what CUDA adds atomically
UNFILLED = {"empty", "empty_like"}
IN_PLACE = {"fill", "sort", "partition"}  # methods that change their array


@cache
def names() -> dict[str, tuple[str, str]]:
    """(kind, signature) of every name in cupy_names.txt."""
    lines = Path(__file__).with_name("cupy_names.txt").read_text(encoding="utf-8").splitlines()
    found = {}
    for line in lines[1:]:
        kind, name, signature = (*line.split(" ", 2), "")[:3]
        found[name] = kind, signature
    return found


@cache
def signature(name: str) -> inspect.Signature | None:
    """CuPy's signature of a function, if it is known."""
    text = names()[name][1]
    return inspect.signature(eval(f"lambda {text[1:-1]}: None")) if text else None


def check_call(name: str, args: tuple, options: dict) -> None:
    """TypeError for arguments that CuPy's function does not have."""
    if found := signature(name):
        try:
            found.bind(*args, **options)
        except TypeError as error:
            raise TypeError(f"cupy.{name}{found}: {error}") from None
    if options.get("kind") not in (None, "stable"):
        raise ValueError("kind can only be None or 'stable'")


# --- between the array and the NumPy array inside ---


def inside(value: Any) -> Any:
    """What NumPy gets for an argument; TypeError for what CuPy would refuse."""
    if isinstance(value, StrictArray):
        return value.host
    if isinstance(value, np.ndarray) or hasattr(value, "requires_grad"):
        raise TypeError(f"Unsupported type {type(value)}")
    if isinstance(value, (tuple, list)):
        return type(value)(map(inside, value))
    return value


def outside(value: Any) -> Any:
    """A result of NumPy as device arrays."""
    if isinstance(value, (np.ndarray, np.generic)):
        return StrictArray(np.asarray(value))
    return type(value)(map(outside, value)) if type(value) in (tuple, list) else value


def run(name: str, function, args: tuple, options: dict) -> Any:
    """NumPy's function on device arrays; CuPy gives no warnings, and writes into `out` as NumPy does.

    A launch, unless nothing but views of the arguments comes out of it.
    """

    def compute() -> Any:
        with np.errstate(all="ignore"):
            return function(*map(inside, args), **{option: inside(value) for option, value in options.items()})

    if options.get("out") is not None:
        launch(name, compute)
        return options["out"]
    result = outside(compute())
    if new := made(result, (args, options)):
        if name not in UNFILLED:
            launch_into(name, new, lambda: made(outside(compute()), (args, options)))
        elif Stream.current().notes is not None:
            spoil(new)
    return result


def _quietly(function, *args) -> Any:
    """Without warnings, as on a GPU."""
    with np.errstate(all="ignore"):
        return function(*args)


def made(result: Any, given: Any) -> list[np.ndarray]:
    """The arrays of a result that have numbers, and do not lie in the memory of what was given."""
    theirs = list(hosts(given))
    return [
        host for host in hosts(result) if host.size and not any(np.may_share_memory(host, other) for other in theirs)
    ]


def hosts(value: Any) -> Iterator[np.ndarray]:
    """The NumPy arrays inside the device arrays of a nest of tuples, lists and dicts."""
    if isinstance(value, StrictArray):
        yield value.host
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from hosts(part)
    elif isinstance(value, dict):
        yield from hosts(list(value.values()))


def holds_device_array(value: Any) -> bool:
    return isinstance(value, StrictArray) or (isinstance(value, (tuple, list)) and any(map(holds_device_array, value)))


# --- the array ---


class StrictArray:
    """An array "on the device": NumPy's numbers, CuPy's manners."""

    __slots__ = ("__weakref__", "host")
    __array_priority__ = 100
    __hash__ = None

    def __init__(self, host: np.ndarray):
        if host.dtype.kind not in "biufc":
            raise ValueError(f"Unsupported dtype {host.dtype}")
        self.host = host
        memory.enter(host)

    def __array__(self, dtype=None, copy=None):
        raise TypeError(IMPLICIT)

    def __array_function__(self, function, types, args, options):
        raise TypeError(f"numpy.{function.__name__} of a device array: use the array's own namespace. {IMPLICIT}")

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        """NumPy scalars on the left of an operator end here, as with CuPy; NumPy's functions called by name too."""
        if method == "__call__" and isinstance(inputs[0], np.generic):
            return run(ufunc.__name__, ufunc, inputs, options)
        arrays = [x for x in inputs if isinstance(x, np.ndarray)]
        raise TypeError(f"Unsupported type {type(arrays[0])}" if arrays else f"numpy.{ufunc.__name__}: {IMPLICIT}")

    def __getattr__(self, name: str) -> Any:
        kind = names().get(f"ndarray.{name}", ("", ""))[0]
        if kind == "value":
            return outside(getattr(self.host, name))
        if kind != "function" or not hasattr(np.ndarray, name):
            raise AttributeError(
                f"'ndarray' object has no attribute {name!r} (nor has CuPy's, or the stand-in lacks it)"
            )

        def method(*args, **options):
            check_call(f"ndarray.{name}", (self, *args), options)
            if name in WAIT:
                wait(name)
            if name in IN_PLACE:
                return launch(f"ndarray.{name}", lambda: getattr(self.host, name)(*map(inside, args), **options))
            return run(f"ndarray.{name}", getattr(np.ndarray, name), (self, *args), options)

        return method

    @property
    def base(self) -> StrictArray | None:
        return StrictArray(self.host.base) if isinstance(self.host.base, np.ndarray) else None

    @property
    def data(self) -> SimpleNamespace:
        """CuPy's MemoryPointer, of which `ptr` is the address."""
        return SimpleNamespace(ptr=self.host.ctypes.data)

    @property
    def device(self) -> Device:
        return Device()

    @property
    def flags(self) -> SimpleNamespace:
        flags = self.host.flags
        return SimpleNamespace(
            c_contiguous=flags.c_contiguous, f_contiguous=flags.f_contiguous, owndata=flags.owndata, fnc=flags.fnc
        )

    def set(self, arr: np.ndarray, stream: Stream | None = None) -> None:
        """Copy an array of the host, of the same shape and dtype; from pinned memory the host does not wait."""
        if not isinstance(arr, np.ndarray) or arr.dtype != self.dtype or arr.shape != self.shape:
            raise ValueError(f"set: expected a NumPy array {self.dtype}{self.shape}, got {arr!r}")
        if not (self.host.flags.c_contiguous or self.host.flags.f_contiguous):
            raise RuntimeError("Cannot set to non-contiguous array")
        with stream or Stream.current():
            memory.copy_to_device(self.host, arr)

    def get(self) -> np.ndarray:
        """A copy on the host."""
        wait("get")
        return self.host.copy()

    def item(self) -> Any:
        wait("item")
        return self.host.item()

    def astype(self, dtype, order="K", casting=None, subok=None, copy=True) -> StrictArray:
        return run("ndarray.astype", np.ndarray.astype, (self, dtype), {"order": order, "copy": copy})

    def argsort(self, axis=-1, kind=None) -> StrictArray:
        check_call("ndarray.argsort", (self, axis, kind), {"kind": kind})
        return run("ndarray.argsort", np.ndarray.argsort, (self, axis), {"kind": "stable"})

    def prod(self, axis=None, dtype=None, out=None, keepdims=None) -> StrictArray:
        return run(
            "ndarray.prod",
            np.ndarray.prod,
            (self,),
            {"axis": axis, "dtype": dtype, "out": out, "keepdims": bool(keepdims)},
        )

    def reshape(self, *shape, order="C", copy=None) -> StrictArray:
        return run("ndarray.reshape", np.ndarray.reshape, (self, *shape), {"order": order})

    def __getitem__(self, index) -> StrictArray:
        self._index(index)
        return run("ndarray.__getitem__", operator.getitem, (self, index), {})

    def __setitem__(self, index, value) -> None:
        if not isinstance(value, (StrictArray, *NUMBERS)):
            raise TypeError(f"Unsupported type {type(value)}: a device array takes device arrays and numbers")
        place = self._index(index)
        launch("ndarray.__setitem__", lambda: self.host.__setitem__(place, inside(value)))

    def _index(self, index) -> Any:
        parts = index if isinstance(index, tuple) else (index,)
        for part in parts:
            if isinstance(part, (np.ndarray, list)):
                raise TypeError(f"an index of {type(part).__name__} lies on the host: CuPy would copy it in silence")
            if isinstance(part, StrictArray) and part.dtype == bool:
                wait("mask")
        host = tuple(map(inside, parts))
        return host if isinstance(index, tuple) else host[0]

    def __len__(self) -> int:
        return len(self.host)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"device {self.host!r}"


def _convert(name: str):
    def method(self):
        wait(name.strip("_"))
        return getattr(self.host, name)()

    return method


def _operator(name: str):
    def method(self, other):
        if getattr(other, "__array_ufunc__", True) is None:  # a Tensor: it knows what to do
            return NotImplemented
        if not isinstance(other, (StrictArray, *NUMBERS)):
            raise TypeError(f"Unsupported type {type(other)}")
        if name.startswith("__i"):
            launch(f"ndarray.{name}", lambda: _quietly(getattr(self.host, name), inside(other)))
            return self
        return run(f"ndarray.{name}", getattr(np.ndarray, name), (self, other), {})

    return method


def _unary(name: str):
    return lambda self: run(f"ndarray.{name}", getattr(np.ndarray, name), (self,), {})


for _name in ("__bool__", "__int__", "__float__", "__complex__"):  # but no __index__: CuPy has none
    setattr(StrictArray, _name, _convert(_name))
_BINARY = "add sub mul truediv floordiv mod pow matmul and or xor lshift rshift divmod".split()
for _name in (*_BINARY, *(f"r{n}" for n in _BINARY), *(f"i{n}" for n in _BINARY if n not in ("matmul", "divmod"))):
    setattr(StrictArray, f"__{_name}__", _operator(f"__{_name}__"))
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(StrictArray, f"__{_name}__", _operator(f"__{_name}__"))
for _name in ("neg", "pos", "abs", "invert"):
    setattr(StrictArray, f"__{_name}__", _unary(f"__{_name}__"))


# --- the namespace ---


class Ufunc:
    """One of CuPy's ufuncs: `out`, `dtype`, `casting` and `where`, and `at` for a few of them."""

    def __init__(self, name: str, ufunc: Any):
        self.name, self.ufunc = name, ufunc
        if names()[name][1] == "at":
            self.at = self._at

    def __call__(self, *args, **options):
        if unknown := options.keys() - {"out", "dtype", "casting", "where"}:
            raise TypeError(f"cupy.{self.name}: unexpected keyword arguments {sorted(unknown)}")
        options = {name: value for name, value in options.items() if value is not None}
        if not all(isinstance(x, (StrictArray, *NUMBERS)) for x in args):
            raise TypeError(f"cupy.{self.name}: Unsupported type {[type(x) for x in args]}")
        return run(self.name, self.ufunc, args, options)

    def _at(self, array: StrictArray, index, values=None) -> None:
        if self.name in ("add", "subtract") and array.dtype not in ADDABLE:
            raise TypeError("scatter_add only supports int32, float16, float32, float64, uint32, uint64, as data type")
        place = array._index(index)
        launch(f"{self.name}.at", lambda: self.ufunc.at(array.host, place, inside(values)))


class Function:
    """One of CuPy's functions, run by NumPy's of the same name."""

    def __init__(self, name: str, function: Any):
        self.name, self.function = name, function

    def __call__(self, *args, **options):
        check_call(self.name, args, options)
        plain = self.name.rpartition(".")[2]
        options = {name: value for name, value in options.items() if name not in ("blocking", "kind")}
        if plain in UPLOAD and not holds_device_array(args[0]):
            upload()
            args = (StrictArray(np.array(args[0])), *args[1:])
        elif plain not in CREATE and not any(map(holds_device_array, (*args, *options.values()))):
            raise TypeError(f"cupy.{self.name}: Unsupported type {type(args[0]) if args else None}")
        if plain == "where" and not isinstance(args[0], (StrictArray, np.generic)):
            raise TypeError(f"cupy.where: a condition must be an array, not {type(args[0])}")
        if plain in WAIT:
            wait(plain)
        if plain in ("argsort", "sort"):
            options["kind"] = "stable"
        result = run(self.name, self.function, args, options)
        if plain in UNFILLED:  # not what an earlier array left there, which may be just what is expected
            result.host.fill(np.nan if result.dtype.kind in "fc" else np.array(-1).astype(result.dtype))
        return result


class Generator:
    """CuPy's random generator: fewer methods than NumPy's (no permutation, no shuffle, no normal)."""

    def __init__(self, seed=None):
        self._generator = np.random.default_rng(seed)

    def __getattr__(self, name: str):
        if f"Generator.{name}" not in names():
            raise AttributeError(f"CuPy's Generator has no attribute {name!r}")

        def draw(*args, **options):
            check_call(f"Generator.{name}", (self, *args), options)
            return run(f"Generator.{name}", getattr(self._generator, name), args, options)

        return draw


class Namespace:
    """The module `cupy`, or one inside it."""

    __name__ = "strict"  # not "cupy": fused kernels, written in CUDA, have a plain body for every other library

    def __init__(self, path: str = "", module: Any = np):
        self._path, self._module = path, module

    def __getattr__(self, name: str) -> Any:
        path = f"{self._path}.{name}".lstrip(".")
        if path in ("random", "linalg", "lib", "lib.stride_tricks"):
            return Namespace(path, getattr(self._module, name))
        kind = names().get(path, ("", ""))[0]
        if path == "random.default_rng":
            return Generator
        if path == "ndarray":
            return StrictArray
        if path == "cuda":
            return cupy_cuda
        if path == "get_default_memory_pool":
            return lambda: memory.default_pool
        if path == "RawModule" and compiling.AVAILABLE:
            return compiling.RawModule
        if path == "special":  # CuPy keeps it in cupyx.scipy
            scipy_special = importlib.import_module("scipy.special")
            return SimpleNamespace(
                **{name: Ufunc(f"special.{name}", getattr(scipy_special, name)) for name in ("erf", "erfcx")}
            )
        if not kind or self._path == "random":
            raise AttributeError(f"module 'cupy' has no attribute {path!r} (or the stand-in lacks it)")
        found = getattr(self._module, name)
        if kind == "value":
            return found
        if self._path == "linalg":
            found = strict_linalg.unreported(name, found)
        return Ufunc(path, found) if kind == "ufunc" else Function(path, found)


# --- in the place of CuPy ---


def _to_device(array: Any, name: str) -> StrictArray:
    if int(name.partition(":")[2] or 0):
        raise DeviceError(f"no device {name!r}: this machine has 1 GPU(s), numbered from 0.")
    if isinstance(array, StrictArray):
        return array
    upload()
    return StrictArray(np.array(array))


namespace = Namespace()
STRICT = Backend(
    name="cuda",
    array_type=StrictArray,
    namespace=namespace,
    # Where there is no C++ compiler to run CUDA's kernels, the array code stands in for all of them.
    kernels=cache(lambda: importlib.import_module(f"minigrad.backend.{'gpu' if compiling.AVAILABLE else 'plain'}")),
    to_device=_to_device,
    to_numpy=lambda array: array.get(),
    device_of=lambda array: "cuda:0",
    after_reading=faults.look,
)
register(STRICT)


@contextlib.contextmanager
def installed():
    """`device="cuda"` means the stand-in while this lasts."""
    theirs, before = device._BY_DEVICE["cuda"], dict(generators._generators)
    device._BY_DEVICE["cuda"] = lambda: STRICT
    generators._generators.clear()
    cupy_cuda.set_allocator()
    allocation.install(SimpleNamespace(cuda=cupy_cuda, get_default_memory_pool=lambda: memory.default_pool))
    faults._records.clear()  # what a test has left unread is nothing to the next one
    try:
        with fake_cublas.installed(namespace) if compiling.AVAILABLE else contextlib.nullcontext():
            yield
    finally:
        cupy_cuda.set_allocator()
        device._BY_DEVICE["cuda"] = theirs
        generators._generators.clear()
        generators._generators.update(before)
