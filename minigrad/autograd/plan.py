"""The plan of an op: what a call saves, and which rules run on it, when given arguments need gradients.

A rule names what it needs, as a pytest test names its fixtures. A call's *frame* is everything that can be named, in a
fixed order; the plan finds once at which places of the frame the named values stand, and saves those and no others.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Protocol

import numpy as np

Getter = Callable[[Sequence[Any]], tuple[Any, ...]]
Rule = Callable[..., Any]


class Op(Protocol):
    """What graph, plan and derivatives know of an op; `Primitive` is what has it."""

    name: str
    kind: Any
    symbol: str
    local: str | None
    forward: Callable[..., Any]
    argument_names: tuple[str, ...]
    arity: int | None
    defaults: dict[str, Any]
    options: dict[str, Any]
    residuals: tuple[str, ...]
    variadic: bool
    view: bool
    frame_names: tuple[str, ...]
    vjp_rules: dict[str, Rule | None]
    jvp_rules: dict[str, Rule | None]
    into_rules: dict[str, Rule]
    fused_vjp: Rule | None
    is_minigrads: bool
    reference: Callable[..., Any] | None

    @property
    def signature(self) -> str: ...
    def argument_name(self, position: int) -> str: ...
    def rule(self, rules: dict[str, Rule | None], position: int, form: str) -> tuple[Rule | None, tuple[str, ...]]: ...


class Plan:
    """What one op saves and runs when a given set of its arguments needs gradients. Made once, then looked up.

    names : the names of the saved values, sorted
    save : from the frame of a call to the saved values
    is_short : whether the saved values stand in the short frame, the arguments and the result
    steps : (position of the argument, vjp rule, getter of the rule's values out of the saved ones, in-place rule)
    jvp_steps : (position of the argument, jvp rule, getter)
    fused : (the fused vjp, getter), or None

    A getter of None stands for all saved values as they are; an in-place rule is a pair (rule, getter), or None.
    """

    __slots__ = ("fused", "is_short", "jvp_steps", "names", "op", "save", "steps")

    def __init__(self, op: Op, positions: Sequence[int]):
        self.op = op
        pulls = [(i, *op.rule(op.vjp_rules, i, "vjp")) for i in positions]
        pushes = [(i, *op.rule(op.jvp_rules, i, "jvp")) for i in positions]
        in_place = {i: op.into_rules[name] for i in positions if (name := op.argument_name(i)) in op.into_rules}
        wanted = {name for _, _, needs in (*pulls, *pushes) for name in needs}
        wanted.update(name for rule in in_place.values() for name in needs_of(rule, given=2))
        if op.fused_vjp:
            wanted.update(needs_of(op.fused_vjp))
        if op.reference:
            wanted.update(op.argument_names, op.options)
        self.names = tuple(sorted(wanted))
        places = [op.frame_names.index(name) for name in self.names]
        self.save = getter(places)
        self.is_short = not op.variadic and all(place <= len(op.argument_names) for place in places)
        into = {i: (rule, self.values_of(needs_of(rule, given=2))) for i, rule in in_place.items()}
        self.steps = tuple((i, rule, self.values_of(needs), into.get(i)) for i, rule, needs in pulls if rule)
        self.jvp_steps = tuple((i, rule, self.values_of(needs)) for i, rule, needs in pushes if rule)
        self.fused = (op.fused_vjp, self.values_of(needs_of(op.fused_vjp))) if op.fused_vjp else None

    def values_of(self, needs: Sequence[str]) -> Getter | None:
        """The getter of a rule's values out of the saved ones, in the rule's order; None for all as they are."""
        return None if tuple(needs) == self.names else getter([self.names.index(name) for name in needs])


def getter(places: Sequence[int]) -> Getter:
    """A function that gives the values at these places of a sequence, always as a tuple."""
    if len(places) == 1:
        (place,) = places
        return lambda values: (values[place],)
    return itemgetter(*places) if places else lambda values: ()


def frame_names(op: Op) -> tuple[str, ...]:
    """All that a rule of this op may name, in the order of `full_frame`; the short frame is its beginning."""
    shapes = [f"{name}_shapes" if op.variadic else f"{name}_shape" for name in op.argument_names]
    return (*op.argument_names, "out", *op.residuals, *op.options, *shapes)


def full_frame(
    op: Op, arrays: Sequence[Any], out: Any, residuals: Sequence[Any], options: Mapping[str, Any]
) -> tuple[Any, ...]:
    """The values of a call under the names of `frame_names`. Of `*operands` the arrays are one value, a tuple."""
    chosen = map(options.get, op.options, op.options.values()) if options else op.options.values()
    shapes = [getattr(array, "shape", ()) for array in arrays]
    if op.variadic:
        return (tuple(arrays), out, *residuals, *chosen, tuple(shapes))
    return (*arrays, out, *residuals, *chosen, *shapes)


def of_its_own(saved: tuple[Any, ...], operands: Sequence[Any]) -> tuple[Any, ...]:
    """The saved values, with a copy of each array that the caller gave as it is, and may write to before backward."""
    theirs = {id(array) for array in operands if array.__class__ is np.ndarray and array.flags.writeable}
    return _copied(saved, theirs)  # type: ignore[no-any-return]


def _copied(value: Any, theirs: set[int]) -> Any:
    if value.__class__ is tuple:
        return tuple(_copied(part, theirs) for part in value)
    return value.copy() if id(value) in theirs else value


def needs_of(rule: Rule, given: int = 1) -> tuple[str, ...]:
    """The names that a rule wants saved: its parameters after the gradient (after the buffer too, if in place)."""
    return tuple(inspect.signature(rule).parameters)[given:]
