"""Breaking a rule in one place: the table of what can be wrong with a line of mathematics.

After this file you know every mutation that is tried. An operator is a function from a node of the syntax tree to the
nodes that may stand in its place, each with the kind of error it makes; `mutants` puts every such node into every
place of a function. What is no mathematics is left alone (error messages and the conditions that lead to them, the
choice of an array library, tests of types), and so is what must come to the same: exchanging the arguments of a sum,
a factor before a zero or before a condition, another way to write the same number, index or set of axes.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass

from tests.mutation.sameness import literal, normal
from tests.mutation.units import Unit


@dataclass
class Mutant:
    """A function broken in one place.

    unit : name of the function
    change : the kind of error, the line before and the line after
    node : the function's syntax tree with the change in it
    """

    unit: str
    change: str
    node: ast.AST


def mutants(unit: Unit) -> list[Mutant]:
    """All mutants of a function, in the order of its text; those that say the same count once."""
    parameters = [a.arg for a in (*unit.node.args.args, *unit.node.args.kwonlyargs)]
    seen, found = {normal(unit.node)}, {}
    for path, node, is_result in _places(unit.node):
        operators = _RESULT if is_result else []
        operators = operators if unit.results_only else [*operators, *_INSIDE]
        for operator in operators:
            for kind, new in operator(node, parameters):
                mutated = _with(unit.node, path, new)
                text = normal(mutated)
                if text not in seen:
                    seen.add(text)
                    change = f"{kind}: {_line(unit.node, path)}  ->  {_line(mutated, path)}"
                    while change in found:
                        change += " (again)"  # the same line stands there twice
                    found[change] = Mutant(unit.name, change, mutated)
    return list(found.values())


# --- places in a function ---


def _places(function: ast.AST) -> Iterator[tuple[tuple, ast.AST, bool]]:
    """(path, node, whether it is a result) for every node in a function's body that may be mutated."""
    if isinstance(function, ast.Lambda):
        yield from _below(("body",), function.body, True)
        return
    for i, statement in enumerate(function.body):
        yield from _below((("body", i),), statement, False)


def _below(path: tuple, node: ast.AST, is_result: bool) -> Iterator[tuple[tuple, ast.AST, bool]]:
    if _is_left_alone(node):
        return
    yield path, node, is_result
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "args") and not isinstance(node, ast.Call):
            continue
        for step, child in [(field, value)] if isinstance(value, ast.AST) else _numbered(field, value):
            result = isinstance(node, ast.Return) or (is_result and isinstance(node, ast.Tuple))
            yield from _below((*path, step), child, result)


def _numbered(field: str, value) -> list:
    parts = value if isinstance(value, list) else []
    return [((field, i), part) for i, part in enumerate(parts) if isinstance(part, ast.AST)]


def _is_left_alone(node: ast.AST) -> bool:
    """Errors, the conditions that lead to them, docstrings, choices by type, and the names of operators."""
    if isinstance(node, ast.If) and all(isinstance(part, ast.Raise) for part in node.body):
        return True
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("isinstance", "type", "namespace", "kernels"):
        return True
    if isinstance(node, ast.keyword) and node.arg == "strict":
        return True
    return isinstance(
        node, (ast.Raise, ast.JoinedStr, ast.expr_context, ast.operator, ast.unaryop, ast.cmpop, ast.boolop)
    )


def _step(node, step):
    return getattr(node, step[0])[step[1]] if isinstance(step, tuple) else getattr(node, step)


def _with(function: ast.AST, path: tuple, new: ast.AST) -> ast.AST:
    """A copy of the function with another node in a place."""
    function = copy.deepcopy(function)
    parent = function
    for step in path[:-1]:
        parent = _step(parent, step)
    last = path[-1]
    if isinstance(last, tuple):
        getattr(parent, last[0])[last[1]] = copy.deepcopy(new)
    else:
        setattr(parent, last, copy.deepcopy(new))
    return function


def _line(function: ast.AST, path: tuple) -> str:
    """The innermost statement around a place (of an `if` its condition), as text."""
    node = line = function
    for i, step in enumerate(path):
        node = _step(node, step)
        if isinstance(node, ast.stmt) or (i == 0 and isinstance(function, ast.Lambda)):
            line = node
    text = ast.unparse(line)
    return text if isinstance(line, ast.expr) or text.count("\n") == 0 else text.split("\n")[0]


# --- operators: (node, parameters of the function) -> (kind, node to stand there instead) ---


def _result(node, parameters):
    """The whole result wrong by a sign, a factor, or altogether."""
    if isinstance(node, ast.Tuple):
        return  # its elements are results
    if isinstance(node, ast.Constant) and node.value is None:
        return
    yield "no result", ast.Constant(None)
    if _is_truth(node) or _name_of_call(node) in ("zeros_like", "zeros"):
        return
    yield "sign", ast.UnaryOp(ast.USub(), node)
    for factor in (1.001, 2, 0):
        yield "factor", ast.BinOp(node, ast.Mult(), ast.Constant(factor))


def _is_truth(node: ast.AST) -> bool:
    """Whether a value is used as a condition only, so that no factor but 0 matters."""
    if isinstance(node, ast.IfExp):
        return _is_truth(node.body)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return True
    is_logic = isinstance(node, ast.BinOp) and isinstance(node.op, (ast.BitAnd, ast.BitOr))
    return is_logic or isinstance(node, (ast.Compare, ast.BoolOp)) or _name_of_call(node) in ("bool", "any", "some")


def _name_of_call(node: ast.AST) -> str:
    function = getattr(node, "func", None)
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


_OTHER_OPERATOR = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.MatMult: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_UNORDERED = (ast.Add, ast.Mult, ast.BitAnd, ast.BitOr)


def _binary(node, parameters):
    if not isinstance(node, ast.BinOp):
        return
    left, operator, right = node.left, node.op, node.right
    yield "missing term", left
    yield "missing term", right
    yield "other op", ast.BinOp(left, _OTHER_OPERATOR[type(operator)](), right)
    if not isinstance(operator, _UNORDERED):
        yield "swapped arguments", ast.BinOp(right, operator, left)
    if isinstance(operator, (ast.Add, ast.Sub)):
        yield "sign", ast.BinOp(ast.UnaryOp(ast.USub(), left), operator, right)


def _unary(node, parameters):
    if isinstance(node, ast.UnaryOp) and not isinstance(node.operand, ast.Constant):
        yield ("sign" if isinstance(node.op, ast.USub) else "condition"), node.operand


def _number(node, parameters):
    """A number off by one, or by a little."""
    value = literal(node)
    if type(value) in (int, float):
        yield "factor", ast.Constant(value + 1)
        yield "factor", ast.Constant(value - 1)
        if type(value) is float:
            yield "factor", ast.Constant(value * 1.001)
    if type(value) is bool:
        yield "condition", ast.Constant(not value)


_OTHER_COMPARISON = {
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}


def _comparison(node, parameters):
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        for other in _OTHER_COMPARISON[type(node.ops[0])]:
            yield "comparison", ast.Compare(node.left, [other()], node.comparators)


def _condition(node, parameters):
    if isinstance(node, ast.BoolOp):
        for i in range(len(node.values)):
            rest = node.values[:i] + node.values[i + 1 :]
            yield "condition", rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)
        yield "condition", ast.BoolOp(ast.And() if isinstance(node.op, ast.Or) else ast.Or(), node.values)
    if isinstance(node, ast.IfExp):
        yield "condition", node.body
        yield "condition", node.orelse
        yield "condition", ast.IfExp(node.test, node.orelse, node.body)
    if isinstance(node, ast.If):
        for test in (ast.Constant(True), ast.Constant(False)):
            yield "condition", ast.If(test, node.body, node.orelse)
    if isinstance(node, ast.comprehension) and node.ifs:
        yield "condition", ast.comprehension(node.target, node.iter, node.ifs[1:], 0)


def _name(node, parameters):
    """One of the function's own values in the place of another."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in parameters:
        others = [name for name in parameters if name != node.id]
        following = parameters[(parameters.index(node.id) + 1) % len(parameters)]
        for name in others if len(parameters) <= 3 else [following]:
            yield "swapped arguments", ast.Name(name, ast.Load())


_OTHER_FUNCTION = {
    "sin": "cos",
    "cos": "sin",
    "sinh": "cosh",
    "cosh": "sinh",
    "exp": "expm1",
    "tril": "triu",
    "triu": "tril",
    "max": "min",
    "min": "max",
    "zeros": "ones",
    "ones": "zeros",
    "sum": "max",
    "cumsum": "cumprod",
    "cumprod": "cumsum",
    "floor": "ceil",
    "_put": "_getitem",
}
_NO_MATHEMATICS = ("len", "range", "tuple", "bool", "zip", "enumerate", "array_of", "set")
_SYMMETRIC = ("add", "multiply", "swapaxes", "maximum", "minimum", "min", "max")


def _call(node, parameters):
    """A call with exchanged arguments, without an option, of another function, or not made at all."""
    if not isinstance(node, ast.Call):
        return
    function, args, keywords, name = node.func, node.args, node.keywords, _name_of_call(node)
    for i in range(len(args) - 1):
        swapped = [*args[:i], args[i + 1], args[i], *args[i + 2 :]]
        if name not in _SYMMETRIC and not any(isinstance(a, ast.Starred) for a in swapped):
            yield "swapped arguments", ast.Call(function, swapped, keywords)
    for i, option in enumerate(keywords):
        rest = [*keywords[:i], *keywords[i + 1 :]]
        if option.arg in ("axis", "keepdims", "k", "lower", "unit_diagonal"):
            yield f"wrong {option.arg}", ast.Call(function, args, rest)
        if i + 1 < len(keywords) and option.arg and keywords[i + 1].arg:
            pair = [ast.keyword(option.arg, keywords[i + 1].value), ast.keyword(keywords[i + 1].arg, option.value)]
            yield "swapped arguments", ast.Call(function, args, [*keywords[:i], *pair, *keywords[i + 2 :]])
        for other in _other_options(option):
            yield f"wrong {option.arg}", ast.Call(function, args, [*keywords[:i], other, *keywords[i + 1 :]])
    if name in _OTHER_FUNCTION:
        yield "other op", ast.Call(_renamed(function, _OTHER_FUNCTION[name]), args, keywords)
    if name not in _NO_MATHEMATICS:
        receiver = function.value if isinstance(function, ast.Attribute) else None
        if receiver is not None and not _is_library(receiver):
            yield "missing op", receiver
        elif args and not isinstance(args[0], (ast.Starred, ast.GeneratorExp)):
            yield "missing op", args[0]


def _other_options(option: ast.keyword) -> Iterator[ast.keyword]:
    """Other values for a keyword argument, where others are of its kind."""
    value = option.value
    if option.arg == "axis":
        for axis in (None, 0, -1):
            yield ast.keyword("axis", ast.Constant(axis))
        if isinstance(value, ast.Name):  # one further
            yield ast.keyword("axis", ast.BinOp(value, ast.Add(), ast.Constant(1)))
    if option.arg == "keepdims" and not isinstance(value, ast.Constant):
        yield ast.keyword("keepdims", ast.UnaryOp(ast.Not(), value))


def _is_library(node: ast.AST) -> bool:
    """Whether a method's receiver is a module, so that the call is one of a plain function."""
    if isinstance(node, ast.Call):
        return getattr(node.func, "id", "") in ("namespace", "kernels")
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name) and node.id in ("np", "xp", "math")


def _renamed(function: ast.AST, name: str) -> ast.AST:
    if isinstance(function, ast.Attribute):
        return ast.Attribute(function.value, name, ast.Load())
    return ast.Name(name, ast.Load())


def _subscript(node, parameters):
    """A slice that starts or ends one place off, parts of an index exchanged, or no index at all."""
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
        yield "missing op", node.value
    if isinstance(node, ast.Attribute) and node.attr == "T":
        yield "missing op", node.value
    if isinstance(node, ast.Slice):
        for end in ("lower", "upper", "step"):
            if (value := getattr(node, end)) is not None:
                without = {"lower": node.lower, "upper": node.upper, "step": node.step}
                yield "slice", ast.Slice(**without | {end: None})
                yield "slice", ast.Slice(**without | {end: ast.BinOp(value, ast.Add(), ast.Constant(1))})
    if isinstance(node, ast.Tuple) and isinstance(node.ctx, ast.Load):
        for i in range(len(node.elts) - 1):
            swapped = [*node.elts[:i], node.elts[i + 1], node.elts[i], *node.elts[i + 2 :]]
            yield "wrong order", ast.Tuple(swapped, ast.Load())


def _statement(node, parameters):
    """A line forgotten: one that changes a value there is already."""
    again = isinstance(node, ast.Assign) and all(_is_known(target, parameters) for target in node.targets)
    if again or isinstance(node, ast.AugAssign) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        yield "missing line", ast.Pass()
    if isinstance(node, ast.AugAssign):
        yield "other op", ast.AugAssign(node.target, _OTHER_OPERATOR[type(node.op)](), node.value)


def _is_known(target: ast.AST, parameters) -> bool:
    return isinstance(target, ast.Subscript) or (isinstance(target, ast.Name) and target.id in parameters)


_RESULT = [_result]
_INSIDE = [_binary, _unary, _number, _comparison, _condition, _name, _call, _subscript, _statement]
