"""What an op is: a forward function on arrays, a derivative rule per argument, and a place in the table of all ops.

    @primitive(symbol="*", kind="elementwise")
    def multiply(a, b):
        return a * b

    multiply.defvjp(a=lambda g, b: g * b, b=lambda g, a: g * a)

After this file you know what happens when an op is called: arrays are taken out of the Tensors, the forward runs, and,
if any argument wants a gradient, a `Node` is left behind that holds exactly what the rules named in their signatures:

- an array argument by its name, or `out`, or a residual that the forward returned beside its result,
- an option (a parameter of the forward that is keyword-only, or annotated as no array: `axis: int`),
- `x_shape` for the shape alone of argument `x`,
- in the rules of `*operands`: `operands`, `operands_shapes`, and `position`, the index of the operand meant.

The same rule runs on plain arrays for an ordinary backward pass, and on Tensors when the gradient is to be
differentiated again; rules are therefore written with operators, methods and ops that both understand.
"""

from __future__ import annotations

import inspect
import re
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from types import FunctionType
from typing import Any, Generic, Literal, ParamSpec, TypeVar, get_args, overload

import numpy as np

from minigrad.autograd.calls import NAMES, explained, foreign_to_tensors, form, op_failure, with_our_names
from minigrad.autograd.definitions import (
    check_held,
    check_result,
    check_rules,
    missing_rule,
    reading,
    result_and_residuals,
)
from minigrad.autograd.grad_mode import grad_mode
from minigrad.autograd.node import Node
from minigrad.autograd.plan import Plan, Rule, frame_names, full_frame, needs_of, of_its_own
from minigrad.autograd.tensor import Tensor
from minigrad.backend import PLAIN

P = ParamSpec("P")
T = TypeVar("T")

Kind = Literal["elementwise", "linear", "general"]
"""What an op is to forward mode.

elementwise : output i depends on input i alone; the Jacobian is diagonal, so vjp rules are jvp rules
linear : linear in each argument by itself; the op, applied to a tangent, is its own jvp
general : everything else; such an op states its jvp rules
"""

OPS: dict[str, Primitive[...]] = {}
"""Ops by name: minigrad's, and of those defined elsewhere the last one of each name. The tests walk this table."""

EVERY_OP: weakref.WeakSet[Primitive[...]] = weakref.WeakSet()
"""Every op that is still in use, those of one name too."""

COMPOSITES: dict[str, Callable[..., Any]] = {}
"""Every public function that is composed of ops, by name: its derivatives follow from theirs. The tests walk it too."""


class Primitive(Generic[P]):
    """A differentiable op. Call it with Tensors and it is recorded; with arrays alone it is its plain forward."""

    def __init__(
        self,
        forward: Callable[P, Any],
        *,
        kind: Kind = "general",
        symbol: str | None = None,
        local: str | None = None,
        residuals: Sequence[str] = (),
        differentiable: bool = True,
        reference: Callable[..., Any] | None = None,
        view: bool = False,
    ) -> None:
        parameters = inspect.signature(forward).parameters.values()
        self.__doc__, self.__module__ = forward.__doc__, forward.__module__
        self.__name__ = self.name = forward.__name__.strip("_")
        self.__wrapped__: Callable[..., Any] = forward
        self.is_minigrads = forward.__module__.partition(".")[0] == "minigrad"
        self.forward: Callable[..., Any] = forward if self.is_minigrads else reading(forward)
        self.kind, self.symbol, self.local = kind, symbol or self.name, local
        self.residuals, self.differentiable, self.view = tuple(residuals), differentiable, view
        self.reference = reference
        self.variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        options = options_among(list(parameters))
        self.options = {p.name: p.default for p in options}
        self.defaults = {p.name: p.default for p in parameters if p.name not in self.options}
        self.argument_names = tuple(self.defaults)
        self.arity = None if self.variadic else len(self.argument_names)
        self.frame_names = frame_names(self)
        self.vjp_rules: dict[str, Rule | None] = {}
        self.jvp_rules: dict[str, Rule | None] = {}
        self.into_rules: dict[str, Rule] = {}
        self.fused_vjp: Rule | None = None
        self.plans: dict[Any, Plan] = {}

    # --- calling ---

    def __call__(self, *args: P.args, **options: P.kwargs) -> Tensor:
        """Run the forward on the arrays of the arguments, and leave a node behind if one of them needs a gradient."""
        operands, chosen = (args, options) if len(args) == self.arity else self.bind(args, options)
        arrays: list[Any] = []
        parents: list[Any] = []
        mask, tensors = 0, False
        for arg in operands:
            mask += mask
            if isinstance(arg, Tensor):
                tensors = True
                arrays.append(arg._data)
                node = arg.node
                parents.append(node)
                if node is not None:
                    mask += 1
            elif arg.__class__ not in PLAIN:
                return self(*foreign_to_tensors(self.name, *operands), **chosen)
            else:
                arrays.append(arg)
                parents.append(None)
        try:
            out = self.forward(*arrays, **chosen)
        except Exception as error:
            return op_failure(self, operands, chosen, error)
        residuals: Sequence[Any] = ()
        if self.residuals:
            out, *residuals = result_and_residuals(self, out)
        if not tensors:
            return out  # type: ignore[no-any-return]  # an array: rules and kernels call ops on plain arrays
        if not (mask and self.differentiable and grad_mode.enabled):
            return Tensor(check_held(self, out))
        key = (mask, len(arrays)) if self.variadic else mask
        plan = self.plans.get(key) or self.make_plan(key, parents, out)
        frame = (*arrays, out) if plan.is_short else full_frame(self, arrays, out, residuals, chosen)
        saved = plan.save(frame)
        if out.dtype.char not in "dfe":
            check_result(self, out)  # an operand without a gradient may have made it complex, say
        if any(arg.__class__ is np.ndarray for arg in operands):
            saved = of_its_own(saved, operands)
        return Tensor(out, Node(plan, parents, saved, out.shape, out.dtype))

    def bind(self, args: Sequence[Any], options: dict[str, Any]) -> tuple[Sequence[Any], dict[str, Any]]:
        """Sort a call's arguments into arrays and options, as Python would have it: by position or by name."""
        if self.arity is None:
            return args, options
        given = list(args[: self.arity])
        chosen = dict(zip(self.options, args[self.arity :], strict=False)) | options
        for name in self.argument_names[len(given) :]:
            value = chosen.pop(name, self.defaults[name])
            if value is inspect.Parameter.empty:
                return self.bind_other_names(args, options, f"argument {name!r} is missing")
            given.append(value)
        if len(args) > len(self.argument_names) + len(self.options) or chosen.keys() - self.options.keys():
            return self.bind_other_names(args, options, f"got {len(args)} positional arguments and {sorted(options)}")
        return given, chosen

    def bind_other_names(
        self, args: Sequence[Any], options: dict[str, Any], trouble: str
    ) -> tuple[Sequence[Any], dict[str, Any]]:
        """`bind` of options that may have the names of PyTorch or NumPy, such as `dim`."""
        ours = with_our_names(self.name, inspect.signature(self), args, options)
        if ours is None:
            raise TypeError(f"{self.name}: {trouble}; its form is {self.signature}.")
        return self.bind(args, ours)

    @property
    def signature(self) -> str:
        """The op's name and parameters, as one would define it without types."""
        return form(self.name, inspect.signature(self.forward))

    def make_plan(self, key: Any, parents: Sequence[Node | None], out: Any) -> Plan:
        """The plan for a call in which the arguments with these parents need gradients, entered in the table."""
        check_result(self, out)
        plan = self.plans[key] = Plan(self, [i for i, node in enumerate(parents) if node is not None])
        return plan

    # --- derivative rules ---

    def defvjp(self, **rules: Rule | None) -> None:
        """State, per argument, how a gradient g of the output becomes the argument's; None: no gradient by nature."""
        check_rules(self, rules)
        self._enter(self.vjp_rules, rules)

    def defjvp(self, **rules: Rule | None) -> None:
        """State, per argument, how its tangent becomes the output's. Needed by ops of kind "general" only."""
        check_rules(self, rules)
        self._enter(self.jvp_rules, rules)

    vjp, jvp = defvjp, defjvp  # the names of minigrad 0.1

    def defvjp_fused(self, rule: Rule) -> None:
        """One rule giving the gradients of all arguments as a tuple, for kernels that share work between them.

        It runs on arrays only; when Tensors flow, or a tangent is pushed, `reference` is differentiated instead.
        """
        check_rules(self, {self.argument_names[0]: rule})
        self.fused_vjp = rule if self.is_minigrads else reading(rule)
        self.plans.clear()

    def defvjp_into(self, **rules: Rule) -> None:
        """Beside a vjp rule: add the gradient into the argument's buffer and return it, `rule(buffer, g, ...)`.

        For reads of small parts: n reads of an array of size n then cost 2n and not n squared.
        """
        check_rules(self, rules, given=2)
        self._enter(self.into_rules, rules)

    def _enter(self, table: dict[str, Any], rules: dict[str, Any]) -> None:
        table.update(rules)
        self.plans.clear()

    def rule(self, rules: dict[str, Rule | None], position: int, form: str) -> tuple[Rule | None, tuple[str, ...]]:
        """The rule for one argument and the names it needs; a missing rule raises when it is run."""
        name = self.argument_name(position)
        if form == "jvp" and name not in rules:
            if self.kind == "elementwise":
                rules = self.vjp_rules
            elif self.kind == "linear":
                return self.linear_rule(name, position)
        if name not in rules:
            return (None if self.reference else partial(self._no_rule, name, form)), ()
        rule = rules[name]
        if rule is None:
            return None, ()
        needs = needs_of(rule)
        rule = rule if self.is_minigrads else reading(rule)
        if "position" in needs:
            needs = tuple(n for n in needs if n != "position")
            return lambda g, *values: rule(g, position=position, **dict(zip(needs, values, strict=True))), needs
        return rule, needs

    def argument_name(self, position: int) -> str:
        """The name of the argument at this position; `*operands` share one."""
        return self.argument_names[0 if self.variadic else position]

    def linear_rule(self, name: str, position: int) -> tuple[Rule, tuple[str, ...]]:
        """The jvp of an op that is linear in this argument: the op itself, with the tangent in its place."""
        others = tuple(n for n in self.argument_names if n != name)

        def push(tangent: Any, *values: Any) -> Any:
            arguments = list(values[: len(others)])
            arguments.insert(position, tangent)
            op: Callable[..., Any] = self
            return op(*arguments, **dict(zip(self.options, values[len(others) :], strict=True)))

        return push, (*others, *self.options)

    def _no_rule(self, argument: str, form: str, *_: Any) -> None:
        raise missing_rule(self, argument, form)

    def __reduce__(self) -> str:
        return self.__wrapped__.__qualname__  # copied and pickled as a function is: by its name

    def __repr__(self) -> str:
        return f"<op {self.signature}>"


class Unary(Primitive[P]):
    """An op of one array and no options: its call written out, for speed, as `Primitive.call` does it."""

    def __call__(self, x):  # type: ignore
        array: Any
        if isinstance(x, Tensor):
            array, node = x._data, x.node
        elif x.__class__ not in PLAIN:
            return self(*foreign_to_tensors(self.name, x))
        else:
            array, node = x, None
        try:
            out = self.forward(array)
        except Exception as error:
            return op_failure(self, (x,), {}, error)
        if node is None or not grad_mode.enabled or not self.differentiable:
            return Tensor(out) if isinstance(x, Tensor) else out
        plan = self.plans.get(1) or self.make_plan(1, (node,), out)
        frame = (array, out) if plan.is_short else full_frame(self, (array,), out, (), {})
        return Tensor(out, Node(plan, (node,), plan.save(frame), out.shape, out.dtype))


class Binary(Primitive[P]):
    """An op of two arrays and no options, the stuff of every expression: its call written out likewise."""

    def __call__(self, a, b):  # type: ignore
        a_array: Any
        b_array: Any
        if isinstance(a, Tensor):
            a_array = a._data
            a_node = a.node
        elif a.__class__ not in PLAIN:
            return self(*foreign_to_tensors(self.name, a, b))
        else:
            a_array, a_node = a, None
        if isinstance(b, Tensor):
            b_array = b._data
            b_node = b.node
        elif b.__class__ not in PLAIN:
            return self(*foreign_to_tensors(self.name, a, b))
        else:
            b_array, b_node = b, None
        try:
            out = self.forward(a_array, b_array)
        except Exception as error:
            return op_failure(self, (a, b), {}, error)
        if a_node is None:
            if b_node is None:
                return Tensor(check_held(self, out)) if isinstance(a, Tensor) or isinstance(b, Tensor) else out
            mask = 1
        else:
            mask = 2 if b_node is None else 3
        if not grad_mode.enabled or not self.differentiable:
            return Tensor(out)
        plan = self.plans.get(mask) or self.make_plan(mask, (a_node, b_node), out)
        frame = (a_array, b_array, out) if plan.is_short else full_frame(self, (a_array, b_array), out, (), {})
        saved = plan.save(frame)
        if mask != 3:
            if out.dtype.char not in "dfe":
                check_result(self, out)  # the operand without a gradient may have made it complex, say
            if a.__class__ is np.ndarray or b.__class__ is np.ndarray:
                saved = of_its_own(saved, (a, b))
        return Tensor(out, Node(plan, (a_node, b_node), saved, out.shape, out.dtype))


MAY_BE_AN_ARRAY = re.compile(r"\b(Operand|TensorLike|Tensor|Array|ndarray|Indices|Any|float)\b")


def options_among(parameters: list[inspect.Parameter]) -> list[inspect.Parameter]:
    """The options of a forward: its last parameters, as far as each is keyword-only or annotated as no array."""
    first = len(parameters)
    while first and is_option(parameters[first - 1]):
        first -= 1
    return parameters[first:]


def is_option(parameter: inspect.Parameter) -> bool:
    """Whether a parameter by itself may be an option: keyword-only, or annotated as what is no array (`axis: int`)."""
    if parameter.kind is parameter.KEYWORD_ONLY:
        return True
    annotated = parameter.annotation is not parameter.empty
    return annotated and not MAY_BE_AN_ARRAY.search(str(parameter.annotation))


def _class_of(forward: Callable[P, Any], residuals: Sequence[str]) -> type[Primitive[P]]:
    """The class whose call fits the forward's signature.

    Unary and binary ops get a class each, whose call is a copy with the names of the op and of its parameters: so
    `exp(x=t)` works, and Python's own errors, for a missing argument, say "maximum()".
    """
    parameters = list(inspect.signature(forward).parameters.values())
    plain = not residuals and not options_among(parameters)
    plain = plain and all(p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty for p in parameters)
    kind: Any = {1: Unary, 2: Binary}.get(len(parameters)) if plain else None
    if kind is None:
        return Primitive
    name, names = forward.__name__.strip("_"), [p.name for p in parameters]
    code = kind.__call__.__code__
    code = code.replace(
        co_name=name, co_qualname=name, co_varnames=("self", *names, *code.co_varnames[1 + len(names) :])
    )
    made: type[Primitive[P]] = type(kind.__name__, (kind,), {"__call__": FunctionType(code, globals(), name)})
    return made


@overload
def primitive(forward: Callable[P, Any], /) -> Primitive[P]: ...


@overload
def primitive(
    *,
    kind: Kind = ...,
    symbol: str | None = ...,
    local: str | None = ...,
    residuals: Sequence[str] = ...,
    differentiable: bool = ...,
    reference: Callable[..., Any] | None = ...,
    view: bool = ...,
) -> Callable[[Callable[P, Any]], Primitive[P]]: ...


def primitive(forward: Callable[P, Any] | None = None, **properties: Any) -> Any:
    """Make an op of a function on arrays and enter it in the table of ops.

    Several ops may have one name: each is differentiable, and the table keeps the last, but minigrad's own before any.
    An op and its rules read arrays that are the caller's: those of an op defined outside of minigrad are read-only to
    it, so that an `a += 1` in it is an error.

    Parameters
    ----------
    forward : function
        Its parameters are arrays (default None: may be left out), `*operands` any number of them, and after them
        options: those that are keyword-only, or annotated as what is no array (`axis: int`). Callers may pass each by
        position or by name.
    kind : "elementwise", "linear" or "general"
        From which jvp rules follow, see `Kind`.
    symbol, local : str
        What a picture of the op says: its sign, and its local derivative as text.
    residuals : sequence of str
        Names for what the forward returns beside its result, `return out, residual...`, for the rules to ask for.
    differentiable : bool
        False for results that carry no gradient (comparisons, integer results).
    reference : function
        The same mathematics composed of other ops; used when Tensors flow through a fused vjp.
    view : bool
        Whether the result may lie in the memory of the argument, so that a change of one is a change of the other.

    Raises
    ------
    ValueError
        An unknown kind.
    """
    if forward is None:
        return partial(primitive, **properties)
    op = _class_of(forward, properties.get("residuals", ()))(forward, **properties)
    if op.kind not in get_args(Kind):
        raise ValueError(f"{op.name}: kind={op.kind!r}; expected one of {', '.join(map(repr, get_args(Kind)))}.")
    EVERY_OP.add(op)
    NAMES.add(op.name)
    if op.is_minigrads or not (op.name in OPS and OPS[op.name].is_minigrads):
        OPS[op.name] = op
    return op


def composite(function: Callable[P, T]) -> Callable[P, T]:
    """Enter a function composed of ops in the table of composites."""
    COMPOSITES[function.__name__] = explained(function)
    return COMPOSITES[function.__name__]
