"""Convolution by cuDNN, through NVIDIA's Python frontend, which takes addresses and streams as integers.

cuDNN computes a graph of operations by a *plan* for it. A plan is found for each direction, shapes, dtype and TF32 on
or off, and kept. Images lie channels-last. A weight is taken as it lies; its gradient is computed channels-last and
then copied into a weight's order, because in float32 cuDNN would otherwise turn all images instead.

After this file you can say what a plan needs to run: addresses by tensor, a workspace, and a handle with a stream.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any, NamedTuple

from minigrad.backend.arrays import Array
from minigrad.backend.device import namespace
from minigrad.backend.gpu.geometry import Geometry
from minigrad.backend.gpu.launching import channels_first
from minigrad.backend.gpu.precision import tf32
from minigrad.backend.gpu.streams import address, place

TYPES = {"float32": "FLOAT", "float16": "HALF", "bfloat16": "BFLOAT16"}
"""The dtypes that are given to cuDNN, and its names for them. Sums are taken in float32."""

OLDEST = 90000  # of cuDNN: 9.0
IMAGES, WEIGHT, RESULT = 1, 2, 3  # what a graph calls its tensors


class Problem(NamedTuple):
    """What a plan is for."""

    direction: str  # "forward", "input_grad" or "weight_grad"
    at: Geometry
    weight_strides: tuple[int, ...]  # in elements
    dtype: str
    tf32: bool


class Plan(NamedTuple):
    """A graph that can be executed, and the bytes of memory that it needs for itself."""

    graph: Any
    workspace: int


def forward(at: Geometry, images: Array, weight: Array, result: Array) -> bool:
    """result (N, rows, columns, O) = the convolution of images (N, H, W, C); False if cuDNN does not do it."""
    return _run("forward", at, weight, {IMAGES: images, WEIGHT: weight, RESULT: result})


def input_grad(at: Geometry, g: Array, weight: Array, grad: Array) -> bool:
    """grad (N, H, W, C) = the adjoint in the images; False if cuDNN does not do it."""
    return _run("input_grad", at, weight, {IMAGES: grad, WEIGHT: weight, RESULT: g})


def weight_grad(at: Geometry, images: Array, g: Array) -> Array | None:
    """The adjoint in the weight, (O, C / groups, kh, kw); None if cuDNN does not do it."""
    xp = namespace(images)
    outputs, depth, kh, kw = at.weight
    one_order = depth == 1  # then channels-last is a weight's order too, and the gradient is an array, no view of one
    grad = xp.empty(at.weight if one_order else (outputs, kh, kw, depth), images.dtype)
    turned = channels_first(grad.reshape((outputs, kh, kw, depth)))
    if not _run("weight_grad", at, turned, {IMAGES: images, WEIGHT: turned, RESULT: g}):
        return None
    return grad if one_order else xp.ascontiguousarray(turned)


def _run(direction: str, at: Geometry, weight: Array, arrays: dict[int, Array]) -> bool:
    library = find(namespace(weight))
    if library is None or weight.dtype.name not in TYPES or at.one_pixel:  # one pixel: cuBLAS, with nothing to turn
        return False
    strides = tuple(stride // weight.dtype.itemsize for stride in weight.strides)  # type: ignore[attr-defined]
    problem = Problem(direction, at, strides, weight.dtype.name, tf32() and weight.dtype.name == "float32")
    with weight.device:
        handle = _handle(library, weight)
        plan = _plan(library, problem, weight.device.id, handle)
        if plan is None:
            return False
        space = _workspace(weight, plan.workspace)
        where = {tensor: address(array) for tensor, array in arrays.items()}
        plan.graph.execute(where, 0 if space is None else address(space), handle=handle)
    return True


# --- plans ---

_plans: dict[tuple[int, Problem], Plan | None] = {}
refused: dict[Problem, str] = {}
"""What cuDNN had no plan for, and its reason: `convolution_by_windows.py` computes these."""


def _plan(library: Any, problem: Problem, device: int, handle: int) -> Plan | None:
    """The plan for a problem, made when it is first asked for; None if cuDNN has none."""
    key = device, problem
    if key not in _plans:
        try:
            _plans[key] = build(library, problem, handle=handle)
        except (library.cudnnGraphNotSupportedError, RuntimeError) as error:
            _plans[key] = None
            refused[problem] = str(error)
    return _plans[key]


def build(library: Any, problem: Problem, **device: Any) -> Plan:
    """A plan for a problem. `device` tells the frontend which device it is for: a handle, or a description of it."""
    kind = getattr(library.data_type, TYPES[problem.dtype])
    wide = library.data_type.FLOAT
    graph = library.pygraph(
        name=problem.direction, io_data_type=kind, intermediate_data_type=wide, compute_data_type=wide, **device
    )
    _describe(graph, problem)
    graph.validate()
    graph.build_operation_graph()
    graph.create_execution_plans([library.heur_mode.A, library.heur_mode.FALLBACK])
    graph.deselect_numeric_notes(_unwanted(library, problem))
    graph.check_support()
    graph.build_plans()
    return Plan(graph, graph.get_workspace_size())


def _describe(graph: Any, problem: Problem) -> None:
    """The one operation of the graph, and its three tensors: how large they are, how they lie, what they are called."""
    direction, at, weight_strides = problem[:3]
    tensors = {
        IMAGES: {"dim": list(at.images), "stride": _channels_last(at.images)},
        WEIGHT: {"dim": list(at.weight), "stride": list(weight_strides)},
        RESULT: {"dim": list(at.result), "stride": _channels_last(at.result)},
    }
    function, first, second, into = {
        "forward": (graph.conv_fprop, IMAGES, WEIGHT, RESULT),
        "input_grad": (graph.conv_dgrad, RESULT, WEIGHT, IMAGES),
        "weight_grad": (graph.conv_wgrad, IMAGES, RESULT, WEIGHT),
    }[direction]
    given = (graph.tensor(**tensors[name], uid=name, name=str(name)) for name in (first, second))
    made = function(*given, padding=list(at.padding), stride=list(at.stride), dilation=list(at.dilation))
    made.set_output(True).set_uid(into).set_dim(tensors[into]["dim"]).set_stride(tensors[into]["stride"])


def _channels_last(shape: tuple[int, ...]) -> list[int]:
    """The strides, in elements, of an array of shape (N, C, H, W) that is contiguous as (N, H, W, C)."""
    _, channels, height, width = shape
    return [height * width * channels, 1, width * channels, channels]


def _unwanted(library: Any, problem: Problem) -> list[Any]:
    """What a plan must not do: round inputs or sums to fewer bits. The tensor cores take float32 as TF32 only."""
    notes = library.numerical_note
    unwanted = [notes.DOWN_CONVERT_INPUTS, notes.REDUCED_PRECISION_REDUCTION]
    if problem.dtype == "float32" and not problem.tf32:
        unwanted.append(notes.TENSOR_CORE)
    return unwanted


# --- the library, its handles and their memory ---

_handles: dict[tuple, int] = {}
_spaces: dict[tuple, list[Array]] = {}


def _handle(library: Any, like: Array) -> int:
    """cuDNN's handle for the device of `like` and the current stream."""
    where = place(like)
    if where not in _handles:
        _handles[where] = library.create_handle()
        library.set_stream(handle=_handles[where], stream=where[2])
    return _handles[where]


def _workspace(like: Array, size: int) -> Array | None:
    """At least `size` bytes that this stream alone uses; None for none.

    What was too small is kept: a captured step may go on to use it. Sizes at least double, so it is never much.
    """
    if not size:
        return None
    spaces = _spaces.setdefault(place(like), [])
    if not spaces or spaces[-1].size < size:
        largest = spaces[-1].size if spaces else 0
        spaces.append(namespace(like).empty(max(size, 2 * largest), "uint8"))
    return spaces[-1]


def find(xp: Any) -> Any | None:
    """The frontend for the arrays of CuPy, or None: where it is not installed, and for any other library."""
    return _loaded()[0] if xp.__name__ == "cupy" else None


def why_not(xp: Any) -> str:
    """Why `find` gives None, in a few words; empty if it does not."""
    if find(xp) is not None:
        return ""
    return _loaded()[1] if xp.__name__ == "cupy" else f"the arrays are {xp.__name__}'s, not CuPy's"


def version(xp: Any) -> str:
    """The version of cuDNN, as in "9.28.0"."""
    number = find(xp).backend_version()  # type: ignore[union-attr]
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"


@cache
def _loaded() -> tuple[Any | None, str]:
    try:
        library = importlib.import_module("cudnn")
    except ImportError as error:
        return None, f"nvidia-cudnn-frontend cannot be imported ({error})"
    except Exception as error:  # it asserts that it finds one cuDNN
        return None, f"nvidia-cudnn-frontend fails at its import ({error!r})"
    try:
        version = library.backend_version()
    except Exception as error:
        return None, f"nvidia-cudnn-frontend finds no cuDNN ({error})"
    if version < OLDEST:
        return None, f"cuDNN {version} is older than {OLDEST}"
    return library, ""
