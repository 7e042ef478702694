"""A training step as one launch: recorded into a CUDA graph, and replayed.

Launching a kernel costs the host some 5 us, and a step of a small network is dozens of kernels that take less. A CUDA
graph is a list of launches with all their arguments, which the device works off by itself. `capture` makes one of a
Python function: it runs the function on a stream that notes down what is launched, and computes nothing.

After this file you can say what that asks of a step. The graph works on the arrays of its recording, so inputs are
copied into buffers that stay, results lie in arrays that the next replay overwrites, and parameters keep their arrays.
Python code does not run in a replay: what it decides is decided once, and what it counts has to be counted elsewhere
(`backend/gpu/replay.py`). And as nothing is computed while recording, the host can read no result.
"""

from __future__ import annotations

import functools
import linecache
import logging
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from minigrad import generators
from minigrad.autograd.calls import LIBRARIES
from minigrad.autograd.grad_mode import is_grad_enabled
from minigrad.autograd.tensor import Tensor
from minigrad.backend import Array, device_of, namespace
from minigrad.backend.gpu import allocation, replay
from minigrad.cuda.surroundings import Surroundings, hooks_of, seen_by

log = logging.getLogger("minigrad.cuda")


class CaptureError(RuntimeError):
    """A step that cannot be captured. The message names the op and the line of the step."""


def capture(
    function: Callable[..., Any] | None = None,
    *,
    model: Any = None,
    warmup: int = 2,
    limit: int = 8,
    fallback: bool = False,
) -> Any:
    """A training step that on a GPU is replayed with one launch; on the CPU it runs as it is.

        @minigrad.cuda.capture
        def step(x, y):
            optimizer.zero_grad()
            loss = cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

    Parameters
    ----------
    function : function
        The step: forward, backward and the optimizer's step, or a part of that. It begins with `zero_grad()`.
    model : Module or list of Modules, optional
        What the step works on, if it is not found in the function's closure and module.
    warmup : int
        How many calls for each new kind of arguments run eagerly before one is recorded. They are real steps. At
        least 1: memory that lives on, as the buffers of an optimizer, must be there before the recording.
    limit : int
        How many kinds of arguments are captured; steps with others run eagerly.
    fallback : bool
        Run a step that cannot be captured eagerly, with a warning in the log, instead of raising CaptureError.

    Returns
    -------
    CapturedStep
        To be called like the function.

    Notes
    -----
    Arguments: tensors and NumPy arrays, also in tuples, lists and dicts, are inputs, which are copied to the device
    into buffers that stay. Everything else is part of the kind of arguments, as are the shapes, dtypes and memory
    order of the inputs, the modes (train, eval) of the modules, which tensors need gradients, and whether gradients are
    recorded.

    Results: tensors without a graph, the same ones in every replay, *which overwrites them*. Copy what is to be kept.

    In replays Python code does not run. Learning rates, the steps that optimizers count and random numbers of dropout
    change as they do eagerly; other Python numbers in the step stay what they were.
    """
    if function is None:
        return functools.partial(capture, model=model, warmup=warmup, limit=limit, fallback=fallback)
    if not callable(function):
        raise TypeError(f"capture: expected a function, got {function!r}.")
    if warmup < 1 or limit < 0:
        raise ValueError(f"capture: warmup={warmup}, limit={limit}; expected at least 1 and 0.")
    return CapturedStep(function, model, warmup, limit, fallback)


class CapturedStep:
    """A step function with a graph for each kind of arguments; made by `capture`."""

    def __init__(self, function: Callable[..., Any], model: Any, warmup: int, limit: int, fallback: bool):
        functools.update_wrapper(self, function)
        self._function, self._model = function, model
        self._warmup, self._limit, self._fallback = warmup, limit, fallback
        self._kinds: dict[Any, _Kind] = {}
        self._surroundings: Surroundings | None = None
        self._before: Surroundings | None = None  # what they were when `look_again` was called
        self._pool: Any = None
        self._said: set[str] = set()

    @property
    def graphs(self) -> int:
        """How many kinds of arguments have been captured."""
        return sum(kind.recorded is not None for kind in self._kinds.values())

    def reset(self) -> None:
        """Forget all graphs, and give their memory back."""
        self._kinds.clear()
        self._surroundings = self._pool = None

    def look_again(self) -> None:
        """Find the modules and tensors anew at the next call, and forget all graphs if they are other ones.

        For when layers were put in or taken out: what a model consists of is looked up at the first call only.
        """
        self._before, self._surroundings = self._surroundings, None

    def __get__(self, owner: Any, kind: type | None = None) -> Any:
        """As a method: `self` is an argument that is no input."""
        return self if owner is None else types.MethodType(self, owner)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if replay.is_recording():  # inside of another captured step
            return self._function(*args, **kwargs)
        inputs: list[Any] = []
        form = _form((args, kwargs), inputs)
        surroundings = self._seen(args)
        like = _on_gpu([*inputs, *surroundings.tensors])
        if like is None:
            return self._function(*args, **kwargs)
        key = form, surroundings.modes(), is_grad_enabled()
        kind = self._kinds.get(key)
        if kind is None:
            if len(self._kinds) >= self._limit:
                self._say(f"{self._limit} kinds of arguments are captured; steps with others run eagerly")
                return self._eagerly(like, args, kwargs)
            kind = self._kinds[key] = _Kind(args, kwargs, inputs, like)
        kind.fill(inputs)
        if kind.calls < self._warmup or kind.refused:
            kind.calls += 1
            return self._eagerly(like, *kind.arguments)
        if kind.recorded is not None and not kind.recorded.fits(surroundings):
            self._say(
                "parameters or buffers were given other arrays, or an optimizer other groups or another state; "
                "the step is captured anew",
                again=True,
            )
            kind.recorded, kind.calls = None, self._warmup  # this call is eager: new memory must come to be first
            self._surroundings = None
            return self._eagerly(like, *kind.arguments)
        if kind.recorded is None:
            try:
                kind.recorded = self._record(kind, like, surroundings)
            except CaptureError as error:
                if not self._fallback:
                    raise
                self._say(f"runs eagerly from now on: {error}")
                kind.refused = True
                return self._eagerly(like, *kind.arguments)
        return kind.recorded.replay(surroundings)

    def _seen(self, args: tuple) -> Surroundings:
        if self._surroundings is None:
            roots = [self._function, *(arg for arg in args if not isinstance(arg, (Tensor, np.ndarray)))]
            roots += [list(vars(arg).values()) for arg in roots[1:] if hasattr(arg, "__dict__")]
            self._surroundings = Surroundings(
                value for root in (self._model, *roots) for value in seen_by(root) if root is not None
            )
            if self._before is not None and not self._before.are(self._surroundings):
                self._kinds.clear()
            self._before = None
        return self._surroundings

    def _say(self, text: str, again: bool = False) -> None:
        """Say something in the log, once."""
        if again or text not in self._said:
            self._said.add(text)
            log.warning("captured step %s: %s", self.__name__, text)  # type: ignore[attr-defined]

    def _eagerly(self, like: Array, args: tuple, kwargs: dict) -> Any:
        """A real step, on the stream that is used for recording, so that what libraries keep for a stream is there."""
        with _side_stream(like):
            return _map_tensors(Tensor.detach, self._function(*args, **kwargs))

    def _record(self, kind: _Kind, like: Array, surroundings: Surroundings) -> _Recorded:
        """Run the function once while the stream notes down what is launched."""
        if hooked := [type(module).__name__ for module in surroundings.modules if hooks_of(module)]:
            raise CaptureError(
                f"step {self.__name__} cannot be captured: the forward hook of a {hooked[0]} would not be called in "  # type: ignore[attr-defined]
                "replays. Take the hook off, or run the step eagerly."
            )
        xp = namespace(like)
        if self._pool is None:
            self._pool = allocation.private_pool(xp, self.__name__)  # type: ignore[attr-defined]
        surroundings.settle()
        numbers, random = replay.Numbers(like), generators.generator("cpu").bit_generator
        drawn = random.state
        arrays, gradients = surroundings.arrays(), surroundings.gradients()
        try:
            with _side_stream(like) as stream, replay.recording(numbers):
                with xp.cuda.using_allocator(allocation.guarded(xp, self._pool.malloc)), _noting(stream) as graphs:
                    result = _map_tensors(Tensor.detach, self._function(*kind.arguments[0], **kind.arguments[1]))
                self._check_arrays(surroundings, arrays)
        except BaseException as error:
            surroundings.restore(arrays, gradients)
            random.state = drawn
            if (
                isinstance(error, RuntimeError)
                and not isinstance(error, CaptureError)
                and "captur" in str(error).lower()
            ):
                raise CaptureError(_worded(self.__name__, error)) from error  # type: ignore[attr-defined]
            raise
        log.info("captured step %s: recorded for inputs %s", self.__name__, kind.described())  # type: ignore[attr-defined]
        return _Recorded(graphs[0], numbers, result, arrays, surroundings.gradients(), self._pool)

    def _check_arrays(self, surroundings: Surroundings, arrays: list[Array]) -> None:
        for tensor, array in zip(surroundings.tensors, arrays, strict=True):
            if tensor.data is not array:
                name = tensor.name or f"of shape {tensor.shape}"
                raise CaptureError(
                    f"the step cannot be captured: it gave the tensor {name} another array, which replays would not "
                    "see. Write into the array that it has: `tensor.copy_(...)` or `tensor.data[...] = ...`."
                )


# --- one kind of arguments ---


class _Kind:
    """Arguments of one kind: their buffers, and the recording, once there is one."""

    def __init__(self, args: tuple, kwargs: dict, inputs: list[Any], like: Array):
        self.calls, self.refused = 0, False
        self.recorded: _Recorded | None = None
        self._buffers = [_buffer(value, like) for value in inputs]
        tensors = iter([Tensor(buffer) for buffer in self._buffers])
        self.arguments: Any = _rebuilt((args, kwargs), tensors)

    def described(self) -> str:
        """The inputs by dtype and shape, for the log."""
        return ", ".join(f"{buffer.dtype}{buffer.shape}" for buffer in self._buffers)

    def fill(self, inputs: list[Any]) -> None:
        """Copy the inputs into the buffers."""
        for buffer, value in zip(self._buffers, inputs, strict=True):
            array = value.data if isinstance(value, Tensor) else value
            if array is buffer:
                continue
            if isinstance(array, (np.ndarray, np.generic)):
                buffer.set(np.ascontiguousarray(array).reshape(buffer.shape))  # type: ignore[attr-defined]
            else:
                buffer[...] = array


@dataclass
class _Recorded:
    """A graph, what it works on, and what it leaves."""

    graph: Any
    numbers: replay.Numbers
    result: Any
    arrays: list[Array]  # held: the graph knows them by their addresses
    gradients: list[Tensor | None]
    pool: Any  # held: it has the memory of all that the graph computes

    def fits(self, surroundings: Surroundings) -> bool:
        """Whether the tensors still have the arrays of the recording, and the optimizers their plans."""
        if len(surroundings.tensors) != len(self.arrays):
            return False
        for tensor, array in zip(surroundings.tensors, self.arrays, strict=True):
            if tensor.data is not array:
                return False
        return self.numbers.hold()

    def replay(self, surroundings: Surroundings) -> Any:
        """Run the graph on the current stream."""
        self.numbers.write()
        self.graph.launch()
        self.numbers.launched()
        for tensor, gradient in zip(surroundings.tensors, self.gradients, strict=True):
            if tensor.grad is not gradient:
                tensor.grad = gradient
            tensor.mark_dirty()
        return self.result


# --- streams ---

_streams: dict[Any, Any] = {}


@contextmanager
def _side_stream(like: Array) -> Iterator[Any]:
    """Run on a stream that can be captured, after what the current stream has been given, and before what comes next.

    One stream for each device serves all steps: libraries keep a workspace for every stream that they see.
    """
    xp = namespace(like)
    key = xp, device_of(like)
    with like.device:
        if key not in _streams:
            _streams[key] = xp.cuda.Stream(non_blocking=True)
        stream, outer = _streams[key], xp.cuda.get_current_stream()
        stream.wait_event(outer.record())
        try:
            with stream:
                yield stream
        finally:
            outer.wait_event(stream.record())


@contextmanager
def _noting(stream: Any) -> Iterator[list[Any]]:
    """Have a stream capture, and put the graph into the list; after an error the stream can be used as before."""
    graphs: list[Any] = []
    stream.begin_capture()
    try:
        yield graphs
    except BaseException:
        with suppress(Exception):  # a capture that CUDA has given up ends with an error of its own
            stream.end_capture()
        raise
    graphs.append(stream.end_capture())


# --- arguments and results ---


def _form(value: Any, inputs: list[Any]) -> Any:
    """What tells kinds of arguments apart; the inputs among them are put into the list."""
    if isinstance(value, (Tensor, np.ndarray)):
        if isinstance(value, Tensor) and value.requires_grad:
            raise ValueError(
                f"captured step: an input of shape {value.shape} needs a gradient, but the step sees a copy of it. "
                "Call requires_grad_() inside of the step and return the gradient, or let the function find the tensor "
                "in its closure."
            )
        inputs.append(value)
        array: Any = value.data if isinstance(value, Tensor) else value
        order = tuple(np.argsort([-stride for stride in array.strides], kind="stable").tolist())
        return array.shape, array.dtype.str, order, isinstance(array, (np.ndarray, np.generic))
    if isinstance(value, (tuple, list)):
        return type(value), *[_form(part, inputs) for part in value]
    if isinstance(value, dict):
        return dict, *[(key, _form(part, inputs)) for key, part in value.items()]
    return _Static(value)


class _Static:
    """An argument that is no input: a number or a string by its value, any other object by its identity."""

    def __init__(self, value: Any):
        self.value = value
        by_value = isinstance(value, (bool, int, float, complex, str, bytes, type(None)))
        self.key = (type(value), value) if by_value else id(value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Static) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


def _buffer(value: Any, like: Array) -> Array:
    """An array on the device of `like` for an input to lie in."""
    array = value.data if isinstance(value, Tensor) else value
    xp = namespace(like)
    with like.device:
        if isinstance(array, (np.ndarray, np.generic)):
            return xp.empty(array.shape, array.dtype)
        return xp.empty_like(array)


def _rebuilt(value: Any, tensors: Iterator[Tensor]) -> Any:
    """Arguments with other inputs."""
    if isinstance(value, (Tensor, np.ndarray)):
        return next(tensors)
    if isinstance(value, (tuple, list)):
        parts = [_rebuilt(part, tensors) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if isinstance(value, dict):
        return {key: _rebuilt(part, tensors) for key, part in value.items()}
    return value


def _map_tensors(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """A result with another tensor for each of its tensors."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, (tuple, list)):
        parts = [_map_tensors(function, part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if isinstance(value, dict):
        return {key: _map_tensors(function, part) for key, part in value.items()}
    return value


def _on_gpu(values: list[Any]) -> Array | None:
    """The first array that lies on a GPU."""
    for value in values:
        array = value.data if isinstance(value, Tensor) else value
        if not isinstance(array, (np.ndarray, np.generic)):
            return array
    return None


# --- what cannot be captured ---

ADVICE = (
    "While a step is captured its launches are noted down, and nothing is computed: the host can read no result "
    "(item(), float(), int(), bool(), numpy(), print, a mask as an index) and send no array to the device. Do that "
    "outside of the step, or give capture(..., fallback=True) to run such a step eagerly."
)


def _worded(name: str, error: BaseException) -> str:
    """What went wrong, in which op, and where in the user's code."""
    ops = [note for note in getattr(error, "__notes__", ()) if note.startswith("minigrad: in ")]
    within = f" ({ops[0].removeprefix('minigrad: ')})" if ops else ""
    return f"step {name} cannot be captured: {error}{within}{_users_line(error)}. {ADVICE}"


def _users_line(error: BaseException) -> str:
    """The last line of the user's from which minigrad was called."""
    frames, step = [], error.__traceback__
    while step is not None:
        frames.append((step.tb_frame, step.tb_lineno))
        step = step.tb_next
    ours = [_top(frame) in LIBRARIES for frame, _ in frames]
    users = [
        not own and _top(frame) not in sys.stdlib_module_names for own, (frame, _) in zip(ours, frames, strict=True)
    ]
    calls = [i for i, user in enumerate(users) if user and i + 1 < len(users) and ours[i + 1]]
    calls = calls or [i for i, user in enumerate(users) if user]
    if not calls:
        return ""
    frame, line = frames[calls[-1]]
    file = frame.f_code.co_filename
    return f", at {file}:{line}: {linecache.getline(file, line).strip()}"


def _top(frame: types.FrameType) -> str:
    return frame.f_globals.get("__name__", "").partition(".")[0]
