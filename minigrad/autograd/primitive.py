"""What an op is: a forward function on arrays, a derivative rule per argument, and a place in the table of all ops.

    @primitive(symbol="*", kind="elementwise")
    def multiply(a, b):
        return a * b

    multiply.defvjp(a=lambda g, b: g * b, b=lambda g, a: g * a)

After this file you know what happens when an op is called: arrays are taken out of the Tensors, the forward runs, and,
if any argument wants a gradient, a `Node` is left behind that holds exactly what the rules named in their signatures:

- an array argument by its name, or `out`, or a residual that the forward returned beside its result,
- an option (a keyword-only parameter of the forward),
- `x_shape` for the shape alone of argument `x`,
- in the rules of `*operands`: `operands`, `operands_shapes`, and `position`, the index of the operand meant.

The same rule runs on plain arrays for an ordinary backward pass, and on Tensors when the gradient is to be
differentiated again; rules are therefore written with operators, methods and ops that both understand.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from operator import itemgetter
from types import FunctionType
from typing import Any

from minigrad.autograd.definitions import check_result, check_rules, missing_rule, result_and_residuals
from minigrad.autograd.errors import explain
from minigrad.autograd.node import Node, grad_mode
from minigrad.autograd.tensor import Tensor

KINDS = ("elementwise", "linear", "general")
"""What an op is to forward mode.

elementwise : output i depends on input i alone; the Jacobian is diagonal, so vjp rules are jvp rules
linear : linear in each argument by itself; the op, applied to a tangent, is its own jvp
general : everything else; such an op states its jvp rules
"""

OPS: dict[str, Primitive] = {}
"""Every op by name. The tests walk this table; so do the pictures."""

COMPOSITES: dict[str, Callable] = {}
"""Every public function that is composed of ops, by name: its derivatives follow from theirs. The tests walk it too."""


class Plan:
    """What one op must keep and run when a given set of its arguments needs gradients. Made once, then looked up.

    `steps` and `jvp_steps` hold (position of the argument, rule, function picking the rule's values out of `saved`);
    `steps` also the in-place form of the rule, or None.
    """

    __slots__ = ("fused", "jvp_steps", "keep", "keep_simple", "names", "op", "saved_positions", "steps")

    def __init__(self, op: Primitive, positions: Sequence[int]):
        self.op = op
        pulls = [(i, *op.rule(op.vjp_rules, i, "vjp")) for i in positions]
        pushes = [(i, *op.rule(op.jvp_rules, i, "jvp")) for i in positions]
        intos = {i: op.into_rules[n] for i in positions if (n := op.argument_name(i)) in op.into_rules}
        wanted = {name for _, _, needs in (*pulls, *pushes) for name in needs}
        wanted.update(name for rule in intos.values() for name in _needs(rule, given=2))
        if op.fused_vjp:
            wanted.update(_needs(op.fused_vjp))
        if op.reference:
            wanted.update(op.argument_names, op.options)
        self.names = tuple(sorted(wanted))
        self.keep_simple = _simple_keeper(op, self.names)
        self.keep = _keeper(op, self.names)
        in_place = {i: (rule, self.picker(_needs(rule, given=2))) for i, rule in intos.items()}
        self.steps = tuple((i, rule, self.picker(needs), in_place.get(i)) for i, rule, needs in pulls if rule)
        self.jvp_steps = tuple((i, rule, self.picker(needs)) for i, rule, needs in pushes if rule)
        self.fused = op.fused_vjp and (op.fused_vjp, self.picker(_needs(op.fused_vjp)))
        self.saved_positions = tuple(i for i in positions if op.argument_name(i) in self.names)

    def picker(self, needs: Sequence[str]) -> Callable | None:
        """A function that picks a rule's values out of `saved`, in its order; None for all as they are."""
        if tuple(needs) == self.names:
            return None  # all of them, as they are
        return _tuple_getter([self.names.index(name) for name in needs])


def _tuple_getter(indices: Sequence[int]) -> Callable:
    if len(indices) == 1:
        return lambda values: (values[indices[0]],)
    return itemgetter(*indices) if indices else lambda values: ()


def _simple_keeper(op: Primitive, names: Sequence[str]) -> Callable | None:
    """A function (*arrays, out) -> the named values as a tuple, if these are all that is wanted."""
    plain = [*op.argument_names, "out"]
    if op.variadic or any(name not in plain for name in names):
        return None
    return _tuple_getter([plain.index(name) for name in names])


def _keeper(op: Primitive, names: Sequence[str]) -> Callable:
    """A function (arrays, out, residuals, options) -> the named values as a tuple."""
    sources = [_source(op, name) for name in names]
    return lambda *call: tuple([source(*call) for source in sources])


def _source(op: Primitive, name: str) -> Callable:
    """A function (arrays, out, residuals, options) -> the value that a rule calls by this name."""
    if name == "out":
        return lambda arrays, out, residuals, options: out
    if name in op.residuals:
        place = op.residuals.index(name)
        return lambda arrays, out, residuals, options: residuals[place]
    if name in op.options:
        return lambda arrays, out, residuals, options: options.get(name, op.options[name])
    if op.variadic:  # the operands, or the shapes of all
        whole = name == op.argument_names[0]
        return lambda arrays, out, residuals, options: tuple(a if whole else a.shape for a in arrays)
    place = op.argument_names.index(name.removesuffix("_shape"))
    if name in op.argument_names:
        return lambda arrays, out, residuals, options: arrays[place]
    return lambda arrays, out, residuals, options: getattr(arrays[place], "shape", ())


def _needs(rule: Callable, given: int = 1) -> tuple[str, ...]:
    """The names after the gradient (after the buffer and it, in the in-place form): what a rule wants kept."""
    return tuple(inspect.signature(rule).parameters)[given:]


class Primitive:
    """A differentiable op. Call it with Tensors and it is recorded; with arrays alone it is its plain forward."""

    def __init__(
        self,
        forward,
        *,
        kind="general",
        symbol=None,
        local=None,
        residuals=(),
        differentiable=True,
        reference=None,
        view=False,
    ):
        parameters = inspect.signature(forward).parameters.values()
        self.__doc__ = forward.__doc__
        self.__name__ = self.name = forward.__name__.strip("_")
        self.__wrapped__ = self.forward = forward
        self.kind, self.symbol, self.local = kind, symbol or self.name, local
        self.residuals, self.differentiable, self.view = tuple(residuals), differentiable, view
        self.reference = reference
        self.variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        self.defaults = {p.name: p.default for p in parameters if p.kind is not p.KEYWORD_ONLY}
        self.options = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
        self.argument_names = tuple(self.defaults)
        self.arity = None if self.variadic else len(self.argument_names)
        self.vjp_rules: dict[str, Callable | None] = {}
        self.jvp_rules: dict[str, Callable | None] = {}
        self.into_rules: dict[str, Callable] = {}
        self.fused_vjp: Callable | None = None
        self.plans: dict[Any, Plan] = {}

    # --- calling ---

    def __call__(self, *args, **options):
        if len(args) != self.arity:
            args, options = self.bind(args, options)
        arrays, parents, mask, tensors = [], [], 0, False
        for arg in args:
            mask += mask
            if isinstance(arg, Tensor):
                tensors = True
                arrays.append(arg.data)
                node = arg.node
                parents.append(node)
                if node is not None:
                    mask += 1
            else:
                arrays.append(arg)
                parents.append(None)
        try:
            out = self.forward(*arrays, **options)
        except Exception as error:
            explain(self, error, arrays, options)
        residuals = ()
        if self.residuals:
            out, *residuals = result_and_residuals(self, out)
        if not tensors:
            return out
        if not (mask and self.differentiable and grad_mode.enabled):
            return Tensor(out)
        if self.variadic:
            mask = (mask, len(arrays))
        plan = self.plans.get(mask) or self.make_plan(mask, parents, out)
        if plan.keep_simple:
            saved = plan.keep_simple((*arrays, out))
        else:
            saved = plan.keep(arrays, out, residuals, options)
        return Tensor(out, Node(plan, parents, saved, out.shape, out.dtype))

    def bind(self, args: tuple, options: dict) -> tuple[tuple, dict]:
        """Sort a call's arguments into arrays and options, as Python would have it: by position or by name."""
        if self.variadic:
            return args, options
        given = list(args[: self.arity])
        options = dict(zip(self.options, args[self.arity :], strict=False)) | options
        for name in self.argument_names[len(given) :]:
            value = options.pop(name, self.defaults[name])
            if value is inspect.Parameter.empty:
                raise TypeError(f"{self.name}: argument {name!r} is missing; its form is {self.signature}.")
            given.append(value)
        if len(args) > len(self.argument_names) + len(self.options) or options.keys() - self.options.keys():
            raise TypeError(
                f"{self.name}: got {len(args)} positional arguments and the options {sorted(options)}; "
                f"its form is {self.signature}."
            )
        return tuple(given), options

    @property
    def signature(self) -> str:
        return f"{self.name}{inspect.signature(self.forward)}"

    def make_plan(self, mask, parents: Sequence[Node | None], out: Any) -> Plan:
        check_result(self, out)
        plan = self.plans[mask] = Plan(self, [i for i, node in enumerate(parents) if node is not None])
        return plan

    # --- derivative rules ---

    def defvjp(self, **rules: Callable | None) -> None:
        """State, per argument, how a gradient g of the output becomes the argument's; None: no gradient by nature."""
        self._enter(self.vjp_rules, rules)

    def defjvp(self, **rules: Callable | None) -> None:
        """State, per argument, how its tangent becomes the output's. Needed by ops of kind "general" only."""
        self._enter(self.jvp_rules, rules)

    def defvjp_fused(self, rule: Callable) -> None:
        """One rule giving the gradients of all arguments as a tuple, for kernels that share work between them.

        It runs on arrays only; when Tensors flow, or a tangent is pushed, `reference` is differentiated instead.
        """
        check_rules(self, {self.argument_names[0]: rule})
        self.fused_vjp = rule
        self.plans.clear()

    def defvjp_into(self, **rules: Callable) -> None:
        """Beside a vjp rule: add the gradient into the argument's buffer and return it, `rule(buffer, g, ...)`.

        For reads of small parts: n reads of an array of size n then cost 2n and not n squared.
        """
        self._enter(self.into_rules, rules, given=2)

    def _enter(self, table: dict, rules: dict, given: int = 1) -> None:
        check_rules(self, rules, given)
        table.update(rules)
        self.plans.clear()

    def rule(self, rules: dict, position: int, form: str) -> tuple[Callable | None, tuple[str, ...]]:
        """The rule for one argument and the names it needs; a rule nobody wrote raises when it is run."""
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
        needs = _needs(rule)
        if "position" in needs:
            needs = tuple(n for n in needs if n != "position")
            return lambda g, *values: rule(g, position=position, **dict(zip(needs, values, strict=True))), needs
        return rule, needs

    def argument_name(self, position: int) -> str:
        """The name of the argument at this position; `*operands` share one."""
        return self.argument_names[0 if self.variadic else position]

    def linear_rule(self, name: str, position: int) -> tuple[Callable, tuple[str, ...]]:
        """The jvp of an op that is linear in this argument: the op itself, with the tangent in its place."""
        others = tuple(n for n in self.argument_names if n != name)

        def push(tangent, *values):
            arguments = list(values[: len(others)])
            arguments.insert(position, tangent)
            return self(*arguments, **dict(zip(self.options, values[len(others) :], strict=True)))

        return push, (*others, *self.options)

    def _no_rule(self, argument: str, form: str, *_):
        raise missing_rule(self, argument, form)

    def __repr__(self):
        return f"<op {self.signature}>"


class Unary(Primitive):
    """An op of one array and no options: its call written out, for speed, as `Primitive.__call__` does it."""

    def __call__(self, x, /):
        array, node = (x.data, x.node) if isinstance(x, Tensor) else (x, None)
        try:
            out = self.forward(array)
        except Exception as error:
            explain(self, error, (array,), {})
        if node is None or not grad_mode.enabled or not self.differentiable:
            return Tensor(out) if isinstance(x, Tensor) else out
        plan = self.plans.get(1) or self.make_plan(1, (node,), out)
        saved = plan.keep_simple((array, out)) if plan.keep_simple else plan.keep((array,), out, (), {})
        return Tensor(out, Node(plan, (node,), saved, out.shape, out.dtype))


class Binary(Primitive):
    """An op of two arrays and no options, the stuff of every expression: its call written out likewise."""

    def __call__(self, a, b, /):
        a_array, a_node = (a.data, a.node) if isinstance(a, Tensor) else (a, None)
        b_array, b_node = (b.data, b.node) if isinstance(b, Tensor) else (b, None)
        try:
            out = self.forward(a_array, b_array)
        except Exception as error:
            explain(self, error, (a_array, b_array), {})
        if a_node is None:
            if b_node is None:
                return Tensor(out) if isinstance(a, Tensor) or isinstance(b, Tensor) else out
            mask = 1
        else:
            mask = 2 if b_node is None else 3
        if not grad_mode.enabled or not self.differentiable:
            return Tensor(out)
        plan = self.plans.get(mask) or self.make_plan(mask, (a_node, b_node), out)
        if plan.keep_simple:
            saved = plan.keep_simple((a_array, b_array, out))
        else:
            saved = plan.keep((a_array, b_array), out, (), {})
        return Tensor(out, Node(plan, (a_node, b_node), saved, out.shape, out.dtype))


def _kind_of_call(forward: Callable, residuals: Sequence[str]) -> type[Primitive]:
    """The class whose call fits the forward's signature.

    Unary and binary ops get a class each, whose call is a copy under the op's name: so Python's own errors, for a
    missing argument, say "maximum()".
    """
    parameters = inspect.signature(forward).parameters.values()
    plain = not residuals and all(p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty for p in parameters)
    kind = {1: Unary, 2: Binary}.get(len(parameters), Primitive) if plain else Primitive
    if kind is Primitive:
        return kind
    name = forward.__name__.strip("_")
    code = kind.__call__.__code__.replace(co_name=name, co_qualname=name)
    return type(kind.__name__, (kind,), {"__call__": FunctionType(code, globals(), name)})


def primitive(forward: Callable | None = None, **properties) -> Any:
    """Make an op of a function on arrays and enter it in the table of ops.

    Parameters
    ----------
    forward : function
        Positional parameters are arrays (default None: may be left out), `*operands` any number of them; keyword-only
        parameters are options. Callers may pass options by position too.
    kind : "elementwise", "linear" or "general"
        From which jvp rules follow (see the top of this file).
    symbol, local : str
        What a picture of the op says: its sign, and its local derivative as text.
    residuals : sequence of str
        Names for what the forward returns beside its result, `return out, residual...`, for the rules to ask for.
    differentiable : bool
        False for results that carry no gradient (comparisons, integer results).
    reference : function
        The same mathematics composed of other ops; used when Tensors flow through a `defvjp_fused` rule.
    view : bool
        Whether the result may lie in the memory of the argument, so that a change of one is a change of the other.
    """
    if forward is None:
        return partial(primitive, **properties)
    op = _kind_of_call(forward, properties.get("residuals", ()))(forward, **properties)
    if op.kind not in KINDS:
        raise ValueError(f"{op.name}: kind={op.kind!r}; expected one of {', '.join(map(repr, KINDS))}.")
    known = OPS.get(op.name)
    again = known is not None and known.forward.__module__ == forward.__module__ == "__main__"  # a notebook's cell
    if known is not None and not again:
        raise ValueError(f"an op named {op.name!r} stands in the table already; choose another name.")
    OPS[op.name] = op
    return op


def composite(function: Callable) -> Callable:
    """Enter a function composed of ops in the table of composites."""
    COMPOSITES[function.__name__] = function
    return function
