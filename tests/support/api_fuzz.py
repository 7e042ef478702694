"""Hostile calls of everything public: which subjects there are, what they are given, and what counts as a fault.

A subject is a callable with one call that works. A hostile call is that one with some arguments replaced by values
that may be wrong: of another type, dtype or rank, an axis that does not exist, NaN, numbers of any size. Each is drawn
from a generator with a seed, so that a call which failed once fails again.
"""

from __future__ import annotations

import contextlib
import inspect
import re
import signal
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import Tensor, nn, optim
from minigrad.backend.conversion import RangeError

MANY_BYTES = 300 << 20
SECONDS = 5.0


@dataclass(frozen=True)
class Subject:
    """A public callable, and the arguments of one call that works, by name.

    rest : the values of `*operands`
    method : called as a method of its first argument
    after : what is done with the result, if anything: a layer is called, an optimizer takes a step
    """

    name: str
    function: Callable[..., Any]
    arguments: dict[str, Any]
    rest: tuple[Any, ...] = ()
    after: Callable[[Any], Any] | None = None
    words: tuple[str, ...] = field(default=())

    def parameters(self) -> list[str]:
        return [
            p.name
            for p in inspect.signature(self.function).parameters.values()
            if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and p.name != "self"
        ]


# --- values ---


def numbers(random: np.random.Generator, *shape: int, dtype: Any = "f4") -> np.ndarray:
    return np.asarray(random.uniform(-2, 2, shape)).astype(dtype)


def deep_list(levels: int = 3000) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


SCALARS: list[Any] = [
    None, True, False, 0, 1, 2, 3, 5, 17, -1, -2, -3, -7, 10**6, 10**9, 2**31, 2**63, 2**64, 2**70, -(2**63), -(2**80),
    0.5, 1.0, 1.5, -0.5, 0.0, 1e-300, 1e300, float("nan"), float("inf"), -float("inf"), 1j, Fraction(1, 2),
    "", "a", "mean", "none", "0", "same", "float32", b"x", np.float64(0.5), np.int64(1), np.int8(-1), np.bool_(True),
    np.str_("a"), np.float16(1), np.uint8(2),
]  # fmt: skip

OBJECTS: list[Callable[[], Any]] = [
    list, tuple, dict, set, object, lambda: len, lambda: int, lambda: ..., lambda: slice(None), lambda: slice(None, 2),
    lambda: [0], lambda: [0, 1], lambda: (0, 1), lambda: (0, 0), lambda: (1, -1), lambda: (2, 2), lambda: [3, 3],
    lambda: (1, 2, 3), lambda: [0.5], lambda: [0.5, 1.5], lambda: [None], lambda: (None, 2), lambda: [True, False],
    lambda: [[1, 2], [3]], lambda: [[1.0, 2.0]], lambda: [1, "a"], lambda: ["a"], lambda: {"a": 1}, lambda: range(2),
    lambda: (i for i in range(2)), deep_list, lambda: (-1, -1), lambda: (10**6, 10**6), lambda: (2**40, 2**40),
    lambda: ((1, 1), (0, 1)), lambda: ((0, 0),), lambda: (float("nan"), 1.0), lambda: [1j],
]  # fmt: skip

DTYPES = ["f2", "f4", "f8", "i1", "i4", "i8", "u1", "u8", "?"]
SHAPES = [(), (0,), (1,), (2,), (3,), (2, 3), (3, 2), (3, 3), (0, 3), (3, 0), (1, 1), (2, 3, 4), (1, 3, 6, 6)]
SHAPES += [(2, 3, 6, 6), (2, 4, 3, 3), (0, 3, 6, 6), (2, 1, 2, 1, 2), (1,) * 33, (1,) * 62]


def strange_arrays(random: np.random.Generator) -> list[Callable[[], Any]]:
    return [
        lambda: np.array(["a", "b"]),
        lambda: np.array([None, 1], dtype=object),
        lambda: np.array([1j, 2]),
        lambda: np.array(["2020-01-01"], dtype="M8[D]"),
        lambda: np.zeros(2, dtype=[("a", "f4")]),
        lambda: np.broadcast_to(np.float32(1), (2, 3)),
        lambda: numbers(random, 3, 2).T,
        lambda: numbers(random, 4, 3)[::-2],
        lambda: np.full((2, 3), np.nan, "f4"),
        lambda: np.array([np.inf, -np.inf, 0], "f4"),
        lambda: np.ma.masked_array([1.0, 2.0], [True, False]),
        lambda: np.zeros((2, 3), ">f4"),
        lambda: np.longdouble(1.5),
        lambda: np.zeros(2, np.longdouble),
    ]


def hostile(random: np.random.Generator) -> Any:
    """Any value at all."""
    kind = random.integers(10)
    if kind < 4:
        return SCALARS[random.integers(len(SCALARS))]
    if kind < 6:
        return OBJECTS[random.integers(len(OBJECTS))]()
    if kind == 6:
        makers = strange_arrays(random)
        return makers[random.integers(len(makers))]()
    shape = SHAPES[random.integers(len(SHAPES))]
    array = (2 * numbers(random, *shape, dtype="f8")).astype(DTYPES[random.integers(len(DTYPES))])
    if kind == 7:
        return array
    if kind == 9 and random.integers(4) == 0:
        return [Tensor(array), Tensor(array)]
    tensor = Tensor(array)
    return tensor.requires_grad_() if array.dtype.kind == "f" and random.integers(2) else tensor


# --- calls ---


@dataclass(frozen=True)
class Call:
    """One hostile call: what it passes by position and by name."""

    subject: Subject
    args: tuple[Any, ...]
    options: dict[str, Any]

    def __str__(self) -> str:
        shown = [*map(described, self.args), *(f"{name}={described(value)}" for name, value in self.options.items())]
        return f"{self.subject.name}({', '.join(shown)})"


def described(value: Any) -> str:
    if isinstance(value, (Tensor, np.ndarray)):
        kind = "t" if isinstance(value, Tensor) else "a"
        tracked = "*" if getattr(value, "requires_grad", False) else ""
        return f"{kind}{tracked}[{value.dtype}{value.shape}]"
    try:
        text = repr(value)
    except RecursionError:
        return "a deep list"
    return text if len(text) < 80 else text[:77] + "..."


def fresh(value: Any) -> Any:
    """An argument of the working call, made anew where it is a function that makes it."""
    return value() if isinstance(value, Maker) else value


@dataclass(frozen=True)
class Maker:
    make: Callable[[], Any]

    def __call__(self) -> Any:
        return self.make()


def hostile_calls(subject: Subject, count: int, seed: int) -> Iterator[Call]:
    """So many calls of a subject, always the same for a seed."""
    random = np.random.default_rng([zlib.crc32(subject.name.encode()), seed])
    names = subject.parameters()
    for _ in range(count):
        options = {name: fresh(value) for name, value in subject.arguments.items()}
        rest = list(map(fresh, subject.rest))
        for _ in range(random.choice([1, 1, 1, 2, 2, 3])):
            place = random.integers(len(names) + len(rest) or 1)
            if place < len(names):
                options[names[place]] = hostile(random)
            elif rest:
                rest[place - len(names)] = hostile(random)
        form = random.integers(12)
        if form == 0 and options:
            options.pop(list(options)[random.integers(len(options))])
        if form == 1:
            options["no_such_option"] = hostile(random)
        if form == 2 and rest:
            rest.pop()
        signature = inspect.signature(subject.function)
        args: list[Any] = []
        for name, parameter in signature.parameters.items():
            if parameter.kind is parameter.VAR_POSITIONAL:
                args += rest
            elif (name in options and parameter.kind is parameter.POSITIONAL_ONLY) or (
                name in options and parameter.kind is parameter.POSITIONAL_OR_KEYWORD and (form != 3 or rest)
            ):
                args.append(options.pop(name))
            else:
                break
        if form == 4:
            args.append(hostile(random))
        yield Call(subject, tuple(args), options)


# --- judging ---

OURS = (mg.ShapeError, mg.GradientError, mg.DeviceError, RangeError, np.linalg.LinAlgError)
EXPECTED = (TypeError, ValueError, IndexError, *OURS)
HELD = (
    "float16",
    "float32",
    "float64",
    "bool",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
)


def fault(call: Call) -> str | None:
    """What is wrong with how a call ends, or None: an error from inside, a message that names nobody, a bad result."""
    try:
        with quiet(), limited():
            result = call.subject.function(*call.args, **call.options)
            if call.subject.after is not None:
                result = call.subject.after(result)
            return wrong_result(call, result)
    except MemoryError:
        return None
    except Exception as error:
        return wrong_error(call, error)


def wrong_error(call: Call, error: Exception) -> str | None:
    message = str(error)
    said = f"{type(error).__name__}: {message}"
    if type(error) not in EXPECTED and not isinstance(error, OURS):
        return f"an error from inside: {said}"
    if isinstance(error, mg.DeviceError) and "device" in message:
        return None
    if not any(re.search(rf"\b{re.escape(word)}\b", message) for word in names_of(call.subject)):
        return f"an error that does not name the call: {said}"
    if re.search(r"object has no attribute|ufunc '|not subscriptable|cannot reshape array|__array_", message):
        return f"words from inside: {said}"
    return None


def names_of(subject: Subject) -> list[str]:
    own = subject.name.rpartition(".")[2]
    return [own, *subject.words]


def wrong_result(call: Call, result: Any) -> str | None:
    parts = list(result) if isinstance(result, (tuple, list)) else [result]
    for part in parts:
        if not hasattr(part, "dtype"):
            return None if call.subject.after or isinstance(part, (nn.Module, optim.Optimizer)) else bad(part)
        if isinstance(part, Tensor) and str(part.dtype) not in HELD:
            return f"accepted, with a result of {part.dtype}"
    given = [*call.args, *call.options.values()]
    leaves = [
        x for x in given for x in (x if isinstance(x, list) else [x]) if isinstance(x, Tensor) and x.requires_grad
    ]
    tracked = [y for y in parts if isinstance(y, Tensor) and y.requires_grad and y.dtype.kind == "f"]
    if not tracked or sum(y.size for y in tracked) > 10**6:  # a view may be of any size
        return None
    try:
        sum((y.sum().astype("f8") for y in tracked), start=mg.zeros((), dtype="f8")).backward()
    except mg.GradientError:
        return None
    except Exception as error:
        return f"accepted, but backward gives {type(error).__name__}: {error}"
    for leaf in leaves:
        if leaf.grad is not None and leaf.grad.shape != leaf.shape:
            return f"accepted, with a gradient of shape {leaf.grad.shape} for {leaf.shape}"
    return None


def bad(part: Any) -> str | None:
    known = (int, float, bool, type(None), str, dict)
    return None if isinstance(part, known) else f"accepted, with a {type(part).__name__} as result"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


class TooSlow(BaseException):
    """A call that takes longer than any wrong argument should."""


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Little memory and little time, where the system can limit them."""
    try:
        import resource
    except ImportError:  # Windows
        yield
        return

    def stop(*_: Any) -> None:
        raise TooSlow

    before = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (in_use() + MANY_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)


def in_use() -> int:
    """The bytes of address space that this process has."""
    import resource

    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 64 << 30
