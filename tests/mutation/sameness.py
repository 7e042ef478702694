"""What says the same in other words: a mutant that differs from the rule, or from another, in spelling only is none.

Some spellings are taken for one: of a number, of an index, of a set of axes.
"""

from __future__ import annotations

import ast
import copy


def normal(function: ast.AST) -> str:
    """A function's text, the same for several ways to write the same."""
    return ast.unparse(ast.fix_missing_locations(_Normal().visit(copy.deepcopy(function))))


class _Normal(ast.NodeTransformer):
    """-0 is 0, and -1 + 1 too; x[0:] is x[:], x[:, ...] is x[..., :]; a sum knows no order of its axes."""

    def visit_UnaryOp(self, node):
        self.generic_visit(node)
        value = literal(node)
        return node if value is None else ast.Constant(value)

    def visit_BinOp(self, node):
        self.generic_visit(node)
        left, right = node.left, node.right
        both = isinstance(left, ast.Constant) and isinstance(right, ast.Constant)
        if both and isinstance(node.op, ast.Add) and type(left.value) is type(right.value) is int:
            return ast.Constant(left.value + right.value)
        return node

    def visit_Slice(self, node):
        self.generic_visit(node)
        if isinstance(node.lower, ast.Constant) and node.lower.value == 0:
            return ast.Slice(None, node.upper, node.step)
        return node

    def visit_Subscript(self, node):
        self.generic_visit(node)
        if isinstance(node.slice, ast.Tuple):
            _sort_runs(node.slice.elts)
        return node

    def visit_keyword(self, node):
        self.generic_visit(node)
        if node.arg == "axis" and isinstance(node.value, ast.Tuple):
            node.value.elts.sort(key=ast.unparse)
        return node


def _sort_runs(parts: list) -> None:
    """In an index, `...` and the `:` beside it, in one order."""
    for i in range(len(parts) - 1):
        if ast.unparse(parts[i]) == ":" and ast.unparse(parts[i + 1]) == "...":
            parts[i], parts[i + 1] = parts[i + 1], parts[i]


def literal(node: ast.AST):
    """The number, or other constant, that a node writes, with its minus; None if it writes none."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
        return -node.operand.value
    return node.value if isinstance(node, ast.Constant) else None
