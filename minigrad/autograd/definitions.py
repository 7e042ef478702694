"""Mistakes in the definition of an op, found and said in words.

An op's author promises this. A forward returns one array, and after it the residuals that the op names. A rule takes
the gradient first and then names what it needs; it returns an array of its argument's shape. A fused vjp returns a
tuple. What can be checked when an op is defined is checked then, the rest when the op is first run.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import numpy as np

from minigrad.autograd.errors import GradientError, ShapeError
from minigrad.autograd.plan import Op
from minigrad.backend import HELD, Array, DeviceError, is_array


def check_rules(op: Op, rules: Mapping[str, Callable[..., Any] | None], given: int = 1) -> None:
    """Raise if a rule is for no argument, does not take the gradient first, or asks for a value that does not exist.

    given : how many parameters stand before those that a rule asks for by name
    """
    suffix, extra = ("_shapes", ["position"]) if op.variadic else ("_shape", [])
    shapes = [argument + suffix for argument in op.argument_names]
    frame = [*op.argument_names, "out", *op.residuals, *op.options, *shapes, *extra]
    for argument, rule in rules.items():
        if argument not in op.argument_names:
            raise TypeError(f"{op.name}: a rule for {argument!r}; the arguments are {op.argument_names}.")
        names = tuple(inspect.signature(rule).parameters) if rule else ("g",) * given
        for name in names[given:]:
            if name not in frame:
                raise TypeError(f"{op.name}: a rule asks for {name!r}; it may ask for {', '.join(frame)}.")
        if len(names) < given or (names[0] in op.argument_names and names[0] not in ("g", "t")):
            raise TypeError(
                f"{op.name}: the rule for {argument!r} takes ({', '.join(names)}); its first parameter is the gradient "
                f"that arrives, as in {argument}=lambda g, {argument}: ..."
            )


def reading(function: Callable[..., Any]) -> Callable[..., Any]:
    """A forward or rule that may only read NumPy's arrays: they are tensors of the caller, and gradients of others."""

    @wraps(function)
    def read(*values: Any, **options: Any) -> Any:
        given = [_read_only(value) for value in values]
        made = function(*given, **options)
        if not any(_is_tensor(value) for value in values):  # mg.zeros_like(x), say, makes a Tensor of an array too
            made = tuple(map(_array, made)) if isinstance(made, tuple) else _array(made)
        for value, view in zip(values, given, strict=True):
            if made is view:
                return value
        return made

    return read


def _is_tensor(value: Any) -> bool:
    return any(map(_is_tensor, value)) if isinstance(value, tuple) else hasattr(value, "node")


def _array(made: Any) -> Any:
    return made.data if hasattr(made, "node") else made


def _read_only(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_read_only, value))
    if type(value) is np.ndarray and value.flags.writeable:
        value = value.view()
        value.flags.writeable = False
    return value


def missing_rule(op: Op, argument: str, form: str) -> GradientError:
    """The error for a rule that is needed and was not defined."""
    given, hint = ("t", "") if form == "jvp" else ("g", "")
    if form == "jvp" and argument in op.vjp_rules:
        hint = " Where each number of the result depends on one number of each argument, kind='elementwise' is enough."
    return GradientError(
        f"{op.name} has no {form} rule for its argument {argument!r}: state one with "
        f"{op.name}.def{form}({argument}=lambda {given}, ...: ...), or None if it has no gradient by nature.{hint}"
    )


def check_held(op: Op, out: Any) -> Any:
    """The result of an op; TypeError for one of complex numbers, text or objects, which a Tensor does not hold."""
    if getattr(out, "dtype", BOOL).char not in HELD:
        raise TypeError(
            f"{op.name}: the result would be {out.dtype}, which a Tensor does not hold; expected operands of float16, "
            "float32, float64, integers or bools."
        )
    return out


BOOL = np.dtype(bool)


def check_result(op: Op, out: Any) -> None:
    """Raise unless a forward gave an array of floats. Asked when an op is recorded for the first time."""
    if not is_array(out) and not isinstance(out, np.generic):
        hint = "; name what it returns beside its result in residuals=(...)" if isinstance(out, tuple) else ""
        raise TypeError(f"{op.name}: its forward is to return one array, it returned {type(out).__name__}{hint}.")
    if out.dtype.kind in "iub":
        raise TypeError(
            f"{op.name}: its forward returned {out.dtype}, and only floating-point numbers have gradients; "
            "declare it with @primitive(differentiable=False)."
        )
    check_held(op, out)


def result_and_residuals(op: Op, results: Any) -> tuple[Any, ...]:
    """What a forward with residuals returned, if it is a result and as many residuals as were named."""
    if isinstance(results, tuple) and len(results) == 1 + len(op.residuals):
        return results
    given = f"{len(results)} values" if isinstance(results, tuple) else type(results).__name__
    raise TypeError(
        f"{op.name}: its forward is to return its result and, as further values of a tuple, the residuals "
        f"{', '.join(op.residuals)}; it returned {given}."
    )


def one_for_each(op: Op, gradients: Any, count: int) -> list[Any]:
    """What one rule for all arguments returned, if it is a gradient (or None) for each."""
    if isinstance(gradients, (tuple, list)) and len(gradients) == count:
        return list(gradients)
    given = len(gradients) if isinstance(gradients, (tuple, list)) else f"one {type(gradients).__name__}"
    raise GradientError(
        f"{op.name}: its defvjp_fused rule is to return a tuple of {count} gradients, one for each of "
        f"{', '.join(op.argument_names)} (None where there is none); it returned {given}."
    )


def need_reference(op: Op) -> Callable[..., Any]:
    """The composite reference of an op with a fused vjp, through which it can be differentiated; raises without one."""
    if op.reference is not None:
        return op.reference
    raise GradientError(
        f"{op.name} has no second derivative: its gradients come from one rule that runs on arrays only "
        f"(defvjp_fused). Give it a composite reference, "
        f"the same function composed of ops: @primitive(reference={op.name}_composed)."
    )


def explain_rule(op: Op, error: Exception, position: int, shape: tuple[int, ...], gradient: Array) -> None:
    """Add to the error of a vjp rule a note that says which rule it was and what is expected of it.

    What is no array is seen only where its shape is asked for, so that rules which work pay nothing for it.
    """
    if isinstance(error, AttributeError) and error.name == "shape" and _arose_in(error, "arrive"):
        name = op.argument_name(position)
        no_array = ShapeError(
            f"{op.name}: its vjp rule for {name!r} returned {'None' if error.obj is None else repr(error.obj)[:60]}; "
            f"expected an array of shape {shape}. For an argument without a gradient give no rule: defvjp({name}=None)."
        )
        explain_rule(op, no_array, position, shape, gradient)
        raise no_array from None
    if not isinstance(error, (GradientError, DeviceError)):
        error.add_note(
            f"minigrad: in the vjp rule of {op.name} for its argument {op.argument_name(position)!r} {shape}, given a "
            f"gradient {gradient.shape}. A rule returns an array of the argument's shape, or of one that broadcasting "
            "made of it. It is written with operators and minigrad's ops, never with NumPy's functions, because for "
            "second derivatives it runs on Tensors. It may not write to what it is given: a = a + 1, not a += 1."
        )


def _arose_in(error: Exception, function: str) -> bool:
    """Whether an error was raised by a function itself, which whoever caught it had called."""
    called = error.__traceback__ and error.__traceback__.tb_next
    return called is not None and called.tb_next is None and called.tb_frame.f_code.co_name == function
