"""What is mutated: the derivative rules of every op, and the functions that they are written with.

After this file you know how a rule is found: the table of ops leads to the function object, its code's positions lead
to its place in the syntax tree of its file. A mutant is put in by exchanging the function's code object, so that every
table, plan and module that holds the function sees it at once.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from types import CodeType, FunctionType

from minigrad.autograd.primitive import COMPOSITES, OPS, Primitive
from minigrad.backend import cpu, scatter

WHOLE_KERNELS = {
    cpu.batch_norm_backward: ["batch_norm"],
    scatter.add_at: ["getitem"],
}
"""Kernels that are a rule's mathematics themselves, with the ops whose rules they serve."""

RULES_STAND_IN = ("minigrad.ops.", "minigrad.autograd.levels")
"""The modules that define ops: plain functions there are what rules are written with."""

RESULT_KERNELS = {
    cpu.channel_sum: ["conv2d"],
    cpu.conv2d_input_grad: ["conv2d_input_grad", "conv2d"],
    cpu.conv2d_weight_grad: ["conv2d_weight_grad", "conv2d"],
    cpu.max_pool2d_scatter: ["max_pool2d_scatter", "max_pool2d"],
    cpu.max_pool2d_gather: ["max_pool2d_gather", "max_pool2d"],
    cpu.avg_pool2d_input_grad: ["avg_pool2d_input_grad", "avg_pool2d"],
    scatter.put: ["put", "getitem"],
    scatter.update: ["index_update"],
}
"""Kernels of which only the results are mutated."""


@dataclass
class Unit:
    """A function to mutate.

    name : "<file>.<function>", or "<file>.<op>.<table>[<argument>]" for a lambda
    ops : names of the ops whose rules lead here
    results_only : whether to leave its inside alone
    is_rule : whether it stands in an op's tables itself
    """

    name: str
    family: str
    function: FunctionType
    node: ast.Lambda | ast.FunctionDef
    ops: list[str]
    results_only: bool = False
    is_rule: bool = False

    @contextmanager
    def with_body(self, node: ast.AST) -> Iterator[None]:
        """The function with another body, for as long as the context lasts."""
        before = self.function.__code__
        self.function.__code__ = compiled(node, self.function)
        clear_caches(self.function)
        try:
            yield
        finally:
            self.function.__code__ = before
            clear_caches(self.function)


def units() -> dict[str, Unit]:
    """Every rule of the library's own ops, every function of minigrad.ops that rules are written with, and kernels."""
    found: dict[int, Unit] = {}
    for op in OPS.values():
        if op.forward.__module__.startswith("minigrad."):
            for place, rule in rules(op):
                _add(found, rule, op.name, f"{op.name}.{place}")
                found[id(rule)].is_rule = True
    for table, results_only in ((WHOLE_KERNELS, False), (RESULT_KERNELS, True)):
        for kernel, names in table.items():
            for name in names:
                _add(found, kernel, name, kernel.__name__, results_only)
    by_name = {unit.name: unit for unit in found.values()}
    if len(by_name) != len(found):
        raise ValueError("two functions to mutate have one name; make Unit.name tell more")
    return by_name


def rules(op: Primitive) -> Iterator[tuple[str, FunctionType]]:
    """(where it stands, function) for every rule an op has."""
    tables = {"vjp": op.vjp_rules, "jvp": op.jvp_rules, "into": op.into_rules}
    for table, entries in tables.items():
        for argument, rule in entries.items():
            if rule is not None:
                yield f"{table}[{argument}]", rule
    if op.fused_vjp:
        yield "fused", op.fused_vjp
    if op.reference:
        yield "reference", op.reference


def _add(found: dict[int, Unit], function: FunctionType, op: str, place: str, results_only: bool = False) -> None:
    """Enter a function, and those it calls, as reached from an op."""
    unit = found.get(id(function))
    if unit is None:
        folder, _, file = function.__module__.rpartition(".")
        family = "kernels" if ".backend" in folder else "linalg" if folder.endswith("linalg") else file
        name = f"{file}.{place if function.__name__ == '<lambda>' else function.__name__}"
        unit = found[id(function)] = Unit(name, family, function, syntax(function), [], results_only)
    if op in unit.ops:
        return
    unit.ops.append(op)
    for helper in [] if results_only else helpers(function):
        _add(found, helper, op, helper.__name__)


def helpers(function: FunctionType) -> list[FunctionType]:
    """The plain functions of minigrad.ops that a function names; ops and composites have tests of their own."""
    named = (function.__globals__.get(name) for name in sorted(_names(function.__code__)))
    plain = [inspect.unwrap(value) for value in named if callable(value) and not isinstance(value, (Primitive, type))]
    composites = set(COMPOSITES.values())
    return [f for f in plain if isinstance(f, FunctionType) and f.__module__.startswith(RULES_STAND_IN)
            and f not in composites and f is not function]  # fmt: skip


def _names(code: CodeType) -> set[str]:
    return set(code.co_names).union(*(_names(inner) for inner in code.co_consts if isinstance(inner, CodeType)))


def clear_caches(function: FunctionType) -> None:
    """Forget what an `lru_cache` around the function remembers."""
    around = function.__globals__.get(function.__name__)
    if hasattr(around, "cache_clear"):
        around.cache_clear()


# --- from function to syntax and back ---


def syntax(function: FunctionType) -> ast.Lambda | ast.FunctionDef:
    """The node of the function in its file: of those that begin on its line, the one whose code stands where its does.

    (Not quite everywhere: the compiler treats the names of modules otherwise in a file than in a part of it.)
    """
    wanted = function.__code__
    places = set(wanted.co_positions())
    same_line = [(node, code) for node, code in _functions(inspect.getsourcefile(function))
                 if (code.co_name, code.co_firstlineno, code.co_varnames)
                 == (wanted.co_name, wanted.co_firstlineno, wanted.co_varnames)]  # fmt: skip
    if not same_line:
        raise LookupError(f"{function} of {function.__module__} is not in its file any more: was it edited meanwhile?")
    return max(same_line, key=lambda pair: len(places & set(pair[1].co_positions())))[0]


@cache
def _functions(path: str) -> list[tuple[ast.AST, CodeType]]:
    with open(path, encoding="utf-8") as file:
        tree = ast.parse(file.read())
    return [(node, _code(node)) for node in ast.walk(tree) if isinstance(node, (ast.Lambda, ast.FunctionDef))]


def _code(node: ast.AST) -> CodeType:
    """The code object of a function's node, compiled by itself."""
    if isinstance(node, ast.Lambda):
        outer = compile(ast.Expression(node), "<mutant>", "eval", dont_inherit=True)
    else:
        flags = annotations.compiler_flag
        outer = compile(ast.Module([node], []), "<mutant>", "exec", flags=flags, dont_inherit=True)
    return next(c for c in outer.co_consts if isinstance(c, CodeType))


def compiled(node: ast.AST, function: FunctionType) -> CodeType:
    """Code for a mutated node that can take the place of the function's."""
    if function.__closure__:
        raise TypeError(f"{function} has a closure, which a mutant cannot take over; write the rule without one.")
    return _code(ast.fix_missing_locations(node)).replace(co_filename=function.__code__.co_filename)
