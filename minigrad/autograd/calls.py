"""What becomes of a call that failed: names and operands as other libraries take them, or an error that helps.

A call is run first and looked at only if it raises, so that what stands here costs a call that works nothing. After
this file you know the order: names of PyTorch's and NumPy's are turned into ours, numbers and lists into Tensors, and
the call is made again; otherwise the arguments are held against the signature's annotations, and what an array library
said is said again under the name of who was called.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar

import numpy as np

from minigrad.autograd import methods
from minigrad.autograd.errors import AxisError, GradientError, ShapeError
from minigrad.backend import DTYPES, NUMBERS, DeviceError, OutOfMemoryError, RangeError, device_of, is_array

if TYPE_CHECKING:
    from minigrad.autograd.tensor import Tensor

P = ParamSpec("P")
T = TypeVar("T")

NAMES: set[str] = set()
"""The names under which errors speak: of every op and of every function with `explained`."""


def explained(function: Callable[P, T]) -> Callable[P, T]:
    """The function, which takes the names of other libraries too, and whose errors begin with its name."""
    name = function.__name__
    NAMES.add(name)

    @wraps(function)
    def call(*args: P.args, **options: P.kwargs) -> T:
        try:
            return function(*args, **options)
        except Exception as error:
            return after_failure(name, call, args, options, error)

    return call


def explain_constructor(cls: type) -> None:
    """Let a class of minigrad take options under the names of other libraries too, and name itself in its errors.

    For the `__init_subclass__` of layers and optimizers; the classes of users are left as they are.
    """
    if not cls.__module__.startswith("minigrad."):
        return
    NAMES.add(cls.__name__)
    if "__init__" not in vars(cls):
        return
    constructor = vars(cls)["__init__"]

    @wraps(constructor)
    def __init__(self: object, *args: Any, **options: Any) -> None:
        try:
            constructor(self, *args, **options)
        except Exception as error:
            after_failure(type(self).__name__, __init__, (self, *args), options, error)

    cls.__init__ = __init__  # type: ignore[misc]


def after_failure(
    name: str, call: Callable[..., T], args: Sequence[Any], options: Mapping[str, Any], error: Exception
) -> T:
    """The result of a failed call under our names and with Tensors; where nothing could be changed, its error, said."""
    try:
        if isinstance(error, OutOfMemoryError):
            name_in(error, name)
            raise
        if isinstance(error, NOT_OURS) or is_of_a_user(error):
            raise
        signature = inspect.signature(call)
        if isinstance(error, TypeError) and (ours := with_our_names(name, signature, args, options)) is not None:
            return call(*args, **ours)
        if (misfit := does_not_bind(signature, args, options)) is not None:
            raise TypeError(f"{name}: {misfit}; its form is {form(name, signature)}.") from error
        given = signature.bind(*args, **options)
        if not isinstance(error, RangeError) and with_tuples(given) | with_tensors(name, given):
            return call(*given.args, **given.kwargs)
        worded = is_said(error) or "is not supported; expected" in str(error)
        for parameter, value in () if worded else values_of(given):
            check_kind(name, parameter, value)
        check_devices(name, [value for _, value in values_of(given)], error)
        say(name, error, [value for _, value in values_of(given) if is_tensor_or_array(value)])
    finally:
        del error  # whose traceback has this frame: a cycle, which would keep arrays alive


def layer_failure(layer: Any, args: Sequence[Any], options: Mapping[str, Any], error: Exception) -> Any:
    """`after_failure` of a layer's forward, which takes Tensors only. An op's error says more, and stays as it is."""
    name, signature = type(layer).__name__, inspect.signature(layer.forward)
    try:
        if isinstance(error, TypeError) and options:
            ours = with_our_names(name, signature, args, options)
            if ours is not None:
                return layer(*args, **ours)
        if is_said(error) or is_of_a_user(error) or isinstance(error, NOT_OURS):
            raise
        if (misfit := does_not_bind(signature, args, options)) is not None:
            raise TypeError(f"{name}: {misfit}; its form is {form(name, signature)}.") from error
        for value in (*args, *options.values()):
            if not is_tensor_or_array(value):
                raise TypeError(
                    f"{name}: expected Tensors, got a {type(value).__name__}; make one with minigrad.tensor(...)."
                ) from error
        say(name, error, [*args, *options.values()])
    finally:
        del error


NOT_OURS = (NotImplementedError, GradientError, DeviceError)


def does_not_bind(signature: inspect.Signature, args: Sequence[Any], options: Mapping[str, Any]) -> str | None:
    """Why these arguments do not fit a signature, or None where they do."""
    try:
        signature.bind(*args, **options)
    except TypeError as error:
        return str(error)
    return None


def form(name: str, signature: inspect.Signature) -> str:
    """A function's name and parameters, as one would define it without types."""
    untyped = [p.replace(annotation=p.empty) for p in signature.parameters.values() if p.name != "self"]
    return f"{name}{inspect.Signature(untyped)}"


def name_in(error: OutOfMemoryError, name: str) -> None:
    """Put the name of the op that asked for the memory before the message: the innermost one, which is told first."""
    text = str(error)
    if not ((inner := INNER.match(text)) and inner[1] in NAMES):
        error.args = (f"{name}: {text}",)


def is_of_a_user(error: Exception) -> bool:
    """Whether an error comes out of a function that a user handed in: it is not ours to word."""
    step = error.__traceback__
    while step is not None:
        module = step.tb_frame.f_globals.get("__name__", "").partition(".")[0]
        if module not in LIBRARIES and module not in sys.stdlib_module_names:
            return True
        step = step.tb_next
    return False


LIBRARIES = ("minigrad", "numpy", "scipy", "cupy", "cupyx")

# --- names ---

SAME = (
    *("x a input", "b other", "axis dim dims", "keepdims keepdim", "shift shifts", "correction ddof"),
    *("low min a_min", "high max a_max", "k diagonal", "ord p", "shape size newshape", "tensors arrays seq"),
    *("reps dims", "axes dims"),
)
"""Names of one meaning; where a signature has one of a line, the others may be written for it."""

SYNONYMS = [set(line.split()) for line in SAME]

WITHOUT_EFFECT: dict[str, tuple[Any, ...]] = {
    "inplace": (False, None),
    "verbose": (False, None, "deprecated"),
    **dict.fromkeys(("out", "dtype", "where", "size_average", "reduce", "initial"), (None,)),
    **dict.fromkeys(("foreach", "fused", "capturable", "differentiable", "sparse", "unbiased"), (None, False)),
}
"""PyTorch's and NumPy's options that we do not have, with those values of them that say what we do anyway."""


def with_our_names(
    name: str, signature: inspect.Signature, args: Sequence[Any], options: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The options under the names of the signature; None where none of them had another name."""
    known, changed = signature.parameters, False
    ours: dict[str, Any] = {}
    by_position = [p.name for p in known.values() if p.kind is p.POSITIONAL_OR_KEYWORD][: len(args)]
    for given, value in options.items():
        if given in known:
            ours[given] = value if given not in ours else twice(name, given, given)
            continue
        meant = next((p for group in SYNONYMS if given in group for p in known if p in group), None)
        if meant is not None:
            if meant in by_position or options.get(meant, methods.MISSING) not in (
                known[meant].default,
                methods.MISSING,
            ):
                twice(name, given, meant)
            ours[meant], changed = value, True
        elif any(value is harmless for harmless in WITHOUT_EFFECT.get(given, ())):
            changed = True
        elif given in WITHOUT_EFFECT:
            what = "tensors are not changed in place; use the result, as in y = f(x)"
            raise TypeError(
                f"{name}: {given}={shown(value)} is not supported; "
                + (what if given == "inplace" else f"leave {given} away")
                + "."
            )
        else:
            return None
    return ours if changed else None


def twice(name: str, given: str, meant: str) -> NoReturn:
    raise TypeError(f"{name}: both {meant} and {given} are given, which mean the same; leave one away.")


# --- operands ---

SEVERAL = re.compile(r"\b(Sequence|Iterable)\b")
IS_OPERAND = re.compile(r"\b(Operand|TensorLike|Tensor|Array|ArrayLike)\b")


def with_tuples(given: inspect.BoundArguments) -> bool:
    """Make a tuple of a list of axes, as PyTorch takes it; whether there was one."""
    lists = [n for n, value in given.arguments.items() if isinstance(value, list) and AXES.search(kind_of(given, n))]
    given.arguments.update({n: tuple(given.arguments[n]) for n in lists})
    return bool(lists)


AXES = re.compile(r"\bAxis\b|tuple\[int, \.\.\.\]")


def kind_of(given: inspect.BoundArguments, name: str) -> str:
    return str(given.signature.parameters[name].annotation)


def with_tensors(name: str, given: inspect.BoundArguments) -> bool:
    """Make Tensors of numbers and lists in the places of operands; whether there were any."""
    beside = [x for _, x in values_of(given) if is_tensor_or_array(x)]
    dtypes = [x.dtype for x in beside]
    as_array = bool(beside) and not any(isinstance(x, methods.TensorMethods) for x in beside)  # of arrays, an array
    changed = False
    for parameter in given.signature.parameters.values():
        annotation = str(parameter.annotation)
        if parameter.name not in given.arguments or not IS_OPERAND.search(annotation) or "Callable" in annotation:
            continue
        value = given.arguments[parameter.name]
        several = SEVERAL.search(annotation) is not None or parameter.kind is parameter.VAR_POSITIONAL
        if several and isinstance(value, (list, tuple)):
            made: Any = [
                as_operand(name, f"{parameter.name}[{i}]", part, dtypes, as_array) for i, part in enumerate(value)
            ]
            made = tuple(made) if isinstance(value, tuple) else made
            differs = any(a is not b for a, b in zip(made, value, strict=True))
        else:
            made = as_operand(name, parameter.name, value, dtypes, as_array)
            differs = made is not value
        if differs:
            given.arguments[parameter.name] = made
            changed = True
    return changed


def foreign_to_tensors(name: str, *values: Any) -> list[Any]:
    """The operands of an op with Tensors for lists, which an array library would take for arrays of another dtype.

    Raises TypeError for what is no number that we hold: a Fraction or a complex number would make an array of objects
    or of complex numbers in silence.
    """
    dtypes = [x.dtype for x in values if is_tensor_or_array(x)]
    found = []
    for value in values:
        if not (value is None or is_tensor_or_array(value)):
            value = value if type(value) in NUMBERS else as_operand(name, "an operand", value, dtypes)
            check_operand(name, "an operand", value)
        found.append(value)
    return found


def as_operand(name: str, what: str, value: Any, dtypes: Sequence[np.dtype], as_array: bool = False) -> Any:
    """A number, list or range as a Tensor; numbers take the dtype of the Tensors beside them, as in an expression."""
    if not isinstance(value, (*NUMBERS, list, tuple, range, np.ndarray)) or is_tensor_or_array(value):
        return value
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name}: {what} is a masked array, whose mask would be lost; use .filled(...).")
    try:
        if as_array and isinstance(value, int) and not -(2**63) <= value < 2**64:
            value = float(value)  # as NumPy has it in an expression
        known = np.result_type(*dtypes, value) if dtypes and isinstance(value, NUMBERS) else None
        made = methods.as_tensor(value, dtype=known if known in DTYPES else None)
        return made.data if as_array else made
    except RangeError as error:
        raise RangeError(f"{name}: {what}={shown(value)}: {error}") from error
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise TypeError(f"{name}: cannot make a Tensor of {what}={shown(value)}. {error}") from error


def values_of(given: inspect.BoundArguments) -> Iterator[tuple[inspect.Parameter, Any]]:
    """Every parameter with what was given for it; `*operands` one by one."""
    for parameter in given.signature.parameters.values():
        if parameter.name in given.arguments:
            value = given.arguments[parameter.name]
            for one in value if parameter.kind is parameter.VAR_POSITIONAL else (value,):
                yield parameter, one


# --- kinds ---


def is_tensor_or_array(value: Any) -> bool:
    return isinstance(value, methods.TensorMethods) or is_array(value)


def is_integer(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    return is_integer(value) or isinstance(value, (float, np.floating))


def are_integers(value: Any) -> bool:
    return isinstance(value, (list, tuple, range)) and all(map(is_integer, value))


def is_one_or_more(value: Any) -> bool:
    return is_integer(value) or are_integers(value)


def is_operand(value: Any) -> bool:
    return isinstance(value, (*NUMBERS, list, tuple, range)) or is_tensor_or_array(value)


KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "None": (lambda value: value is None, "None"),
    "bool": (lambda value: isinstance(value, (bool, np.bool_)), "True or False"),
    "int": (is_integer, "an integer"),
    "float": (is_number, "a number"),
    "str": (lambda value: isinstance(value, str), "a string"),
    "Axis": (lambda value: value is None or is_one_or_more(value), "an axis, a tuple of axes or None"),
    "Shape": (is_one_or_more, "an integer or a sequence of integers"),
    "Pair": (is_one_or_more, "an integer or a pair of integers"),
    "Sequence[int]": (are_integers, "a sequence of integers"),
    "tuple[int, ...]": (are_integers, "a tuple of integers"),
    "Sequence[TensorLike]": (
        lambda value: isinstance(value, (list, tuple)) or (is_array(value) and value.ndim > 0),
        "a list of Tensors, as in [x, y]",
    ),
    **dict.fromkeys(("Tensor", "TensorLike", "Operand"), (is_operand, "a Tensor, an array or a number")),
}
"""For an annotation, whether a value fits it, and how to call such values."""


def check_kind(name: str, parameter: inspect.Parameter, value: Any) -> None:
    """Raise TypeError if a value is of no kind that its parameter's annotation has; unknown annotations fit all."""
    known = [KINDS.get(kind.strip()) for kind in str(parameter.annotation).split("|")]
    kinds = [kind for kind in known if kind is not None]
    if value is parameter.default or len(kinds) < len(known):
        return
    if any(fits(value) for fits, _ in kinds):
        for i, part in enumerate(value if "Sequence[TensorLike]" in str(parameter.annotation) else ()):
            check_operand(name, f"{parameter.name}[{i}]", part)
        return
    if any(fits is is_operand for fits, _ in kinds):
        check_operand(name, parameter.name, value)
    raise TypeError(f"{name}: {parameter.name}={shown(value)}; expected {' or '.join(words for _, words in kinds)}.")


def check_operand(name: str, what: str, value: Any) -> None:
    """Raise TypeError for what cannot be calculated with."""
    if not is_operand(value):
        raise TypeError(
            f"{name}: expected Tensors, arrays or numbers, got {type(value).__name__} for {what}; "
            "make a Tensor of it with minigrad.tensor(...)."
        )
    if is_tensor_or_array(value) and value.dtype not in DTYPES:
        raise TypeError(f"{name}: {what} is of dtype {value.dtype}; expected one of {', '.join(map(str, DTYPES))}.")


def shown(value: Any) -> str:
    """A value in an error message, or what it is where that is long."""
    if is_tensor_or_array(value):
        return f"a {type(value).__name__} of {value.dtype} and shape {tuple(value.shape)}"
    try:
        text = repr(value)
    except RecursionError:
        return f"a {type(value).__name__} of {type(value).__name__}s, nested too deeply"
    return text if len(text) < 60 else f"a {type(value).__name__}"


# --- words ---

INNER = re.compile(r"^(\w+)(\(\))?: ")


def say(name: str, error: Exception, operands: Sequence[Any]) -> NoReturn:
    """Raise the error that is being handled, under the name of who was called and without words of an array library."""
    text, dtyped = str(error), " and ".join(f"{x.dtype}{tuple(x.shape)}" for x in operands)
    try:
        if type(error) is np.exceptions.AxisError and error.ndim is not None:
            expected = f"{-error.ndim} to {error.ndim - 1}" if error.ndim else "None, as a single number has no axes"
            raise AxisError(f"{name}: axis {error.axis} for {dtyped}; expected {expected}.") from error
        if isinstance(error, MemoryError):
            raise MemoryError(f"{name}: the result does not fit into memory. {text}") from error
        if isinstance(error, (RecursionError, OverflowError)) and not isinstance(error, RangeError):
            what = "an argument is nested too deeply" if isinstance(error, RecursionError) else "a number is too large"
            raise ValueError(f"{name}: {what}. {text}") from error
        if isinstance(error, ValueError) and not isinstance(error, ShapeError) and "broadcast" in text:
            raise ShapeError(
                f"{name}: shapes {' and '.join(str(tuple(x.shape)) for x in operands)} do not broadcast together. "
                "Sizes must match from the right, or be 1; reshape or expand_dims brings axes into line."
            ) from error
        if (
            isinstance(error, (RuntimeError, ValueError)) and "dimensions" in text and "too many" in text
        ) or "up to 32" in text:
            raise ShapeError(f"{name}: too many axes, {dtyped}. {text}") from error
        if isinstance(error, TypeError) and ("ufunc" in text or "numpy boolean" in text):
            raise TypeError(f"{name}: it is not defined for {dtyped}; convert with .astype(...).") from error
        if type(error) not in (
            TypeError,
            ValueError,
            RangeError,
            IndexError,
            ShapeError,
            AxisError,
            np.linalg.LinAlgError,
        ):
            error.add_note(f"minigrad: in {name}, called with {dtyped}")
        elif (inner := INNER.match(text)) and inner[1] in NAMES:
            error.args = (f"{name}: {text[inner.end() :]}",)
        elif not re.match(rf"(\w+\.)?{name}\b", text):
            error.args = (f"{name}: {text.rstrip('.')} (called with {dtyped})." if dtyped else f"{name}: {text}",)
        raise
    finally:
        del error


def is_said(error: Exception) -> bool:
    """Whether an error begins with the name of who was called."""
    inner = INNER.match(str(error))
    return inner is not None and inner[1] in NAMES


def op_failure(op: Any, args: Sequence[Any], options: Mapping[str, Any], error: Exception) -> Tensor:
    """`after_failure` of an op. The forward of a user's op keeps its errors, with a note."""
    try:
        if isinstance(error, OutOfMemoryError) or not is_of_a_user(error):
            return after_failure(op.name, op, args, options, error)  # type: ignore[no-any-return]
        operands = [value for value in args if is_tensor_or_array(value)]
        for value in args:
            if value is not None:
                check_operand(op.name, "an argument", value)
        if isinstance(error, ValueError) and not isinstance(error, ShapeError) and "broadcast" in str(error):
            say(op.name, error, operands)
        if isinstance(error, ValueError) and "read-only" in str(error):
            error.add_note("minigrad: an op may not write to its arguments, the caller's: a = a + 1, not a += 1.")
        called_with = ", ".join(f"{x.dtype}{tuple(x.shape)}" for x in operands)
        options_too = shown(options) if options else ""
        error.add_note(f"minigrad: in {op.signature}, called with {called_with} {options_too}".rstrip())
        raise
    finally:
        del error


def check_devices(name: str, values: Sequence[Any], error: Exception) -> None:
    """Raise DeviceError where the arguments of a failed call lie on several devices."""
    arrays: list[Any] = [getattr(x, "data", x) if isinstance(x, methods.TensorMethods) else x for x in values]
    arrays = [x for x in arrays if is_array(x)]
    devices = {device_of(a) for a in arrays if a.ndim}
    if len(devices) > 1:
        raise DeviceError(
            f"{name}: the arguments lie on {' and '.join(sorted(devices))}; "
            'move them to one device first, as in x.to("cuda").'
        ) from error
