"""The words of an explanation: a name for everything, numbers kept short, and steps written as formulas.

Values have the names that the caller gave or letters, `c = a * b` is the op's symbol between them, and the local
derivative that an op states (`local="b, a"`) is written with the names of this call.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np

from minigrad.autograd.node import Node
from minigrad.autograd.tensor import Tensor
from minigrad.backend import Array, is_array
from minigrad.graph.labels import value_text
from minigrad.graph.values import UNKNOWN, Values, on_host, saved_by_name

SMALL = 12  # elements: of larger tensors the first elements and the shape are shown
WIDTH = 110  # characters: longer lines leave out the numbers in the middle, or are split
LETTERS = "abcefghijklmnopqrstuvwxyz"  # no d: da is the gradient of a
INFIX = ("+", "-", "*", "/", "^", "%", "@")
FORMS = {"negative": "-{}", "square": "{}^2", "reciprocal": "1/{}"}
COUNTS = ("no", "one", "two", "three", "four", "five", "six")

# --- names ---


class Names:
    """Names of nodes and constants: those that the caller gave, their own `name`, or letters."""

    def __init__(self, nodes: list[Node], values: Values, params: Mapping[Node, str], names: Mapping[str, Tensor]):
        given = {**params, **{tensor.node: name for name, tensor in names.items() if tensor.node}}
        taken = {*given.values(), *names}
        self.nodes: dict[Node, str] = {}
        for node in nodes:
            if node in given:
                self.nodes[node] = given[node]
            elif node.name:
                self.nodes[node] = _first_free([node.name], node.name + "_", taken)
        rest = [node for node in nodes if node not in self.nodes]
        letters = LETTERS if len(rest) + len(taken) < len(LETTERS) else ""
        self.nodes.update({node: _first_free(letters, "v", taken) for node in rest})
        self.values = values
        self.constants = _constants(values, {name: t.data for name, t in names.items() if t.node is None}, taken)

    def __getitem__(self, node: Node) -> str:
        return self.nodes[node]

    def arguments(self, node: Node) -> dict[str, str]:
        """What each argument of a step is called, by its name in the op; without optional ones that were left out."""
        op, words = node.plan.op, {}
        for position, value in enumerate(self.values.arguments(node)):
            name, parent = op.argument_name(position), node.parents[position]
            if parent is not None:
                word = self.nodes[parent]
            elif (node, position) in self.constants:
                word = self.constants[node, position]
            elif value is UNKNOWN and op.defaults.get(name, ...) is not None:
                word = "const"
            elif value is None or value is UNKNOWN:
                continue  # left out, as far as the graph says
            else:
                word = number_text(value)
            words[f"{name}{position}" if op.variadic else name] = word
        return words


def _constants(values: Values, given: Mapping[str, Array], taken: set[str]) -> dict[tuple[Node, int], str]:
    """Names for constants, by where they are used: the caller's; of other arrays k1, k2..."""
    known, found = {id(array): name for name, array in given.items()}, {}
    for place, value in values.constants.items():
        if is_array(value) and value.size > 1 and id(value) not in known:
            known[id(value)] = _first_free([], "k", taken)
        if id(value) in known:
            found[place] = known[id(value)]
    return found


def _first_free(wanted: Sequence[str], stem: str, taken: set[str]) -> str:
    """The first of the wanted names, or of stem1, stem2..., that is not taken yet; it is marked as taken."""
    for name in wanted:
        if name not in taken:
            break
    else:
        name = next(name for i in count(1) if (name := f"{stem}{i}") not in taken)
    taken.add(name)
    return name


def grad(name: str) -> str:
    """da for a, d(0.weight) for 0.weight."""
    return f"d{name}" if name.isidentifier() else f"d({name})"


# --- numbers ---


def number_text(value: Any) -> str:
    """A number; all elements of a small tensor; the first elements and the shape of a larger one."""
    array = on_host(value)
    array = array + 0 if array.dtype.kind == "f" else array  # no minus before a zero
    if is_large(array):
        return f"[{', '.join(map(_element, array.reshape(-1)[:3]))}, ...] {array.shape}"
    return _nested(array) if array.ndim else value_text(array)


def _nested(array: np.ndarray) -> str:
    return f"[{', '.join(map(_nested, array))}]" if array.ndim else _element(array[()])


def _element(value: Any) -> str:
    if not isinstance(value, np.floating):
        return str(value)
    return f"{value:.6g}" if value == np.round(value) else f"{value:.4g}"


def is_large(value: Any) -> bool:
    """Whether a tensor has too many elements to show them all."""
    return getattr(value, "size", 1) > SMALL


def guarded(text: str) -> str:
    """A negative number in brackets."""
    return f"({text})" if text.startswith("-") else text


def sum_text(parts: list[Array], total: Array) -> str:
    """1 + 3 = 4 (two paths)"""
    if len(parts) == 1:
        return number_text(total)
    paths = f"{COUNTS[len(parts)] if len(parts) < len(COUNTS) else len(parts)} paths"
    if is_large(total) or len(parts) >= len(COUNTS):
        return f"{number_text(total)} (the sum of {paths})"
    first, *rest = map(number_text, parts)
    return f"{' + '.join([first, *map(guarded, rest)])} = {number_text(total)} ({paths})"


# --- formulas ---


def formula(node: Node, arguments: Sequence[str]) -> str:
    """A step as a formula, with these words for its arguments."""
    op = node.plan.op
    if op.name in FORMS:
        return FORMS[op.name].format(guarded(arguments[0]))
    if op.symbol in INFIX and len(arguments) == 2:
        first, second = arguments
        return f"{guarded(first) if op.symbol == '^' else first} {op.symbol} {guarded(second)}"
    if op.name == "getitem":
        return f"{arguments[0]}[{', '.join(map(_index_text, saved_by_name(node)['index']))}]"
    name = op.symbol if op.symbol.replace(" ", "").isidentifier() else op.name
    return f"{name}({', '.join([*arguments, *_options(node)])})"


def _options(node: Node) -> Iterator[str]:
    """The options that were given, if the graph stores them and their text is short."""
    saved = saved_by_name(node)
    for name, default in node.plan.op.options.items():
        value = saved.get(name)
        if value is None or value is False or is_array(value) or callable(value):
            continue
        text = str(value) if isinstance(value, np.dtype) else repr(value)
        if value != default and len(text) < WIDTH // 4:
            yield f"{name}={text}"


def _index_text(part: Any) -> str:
    if isinstance(part, slice):
        ends = (part.start, part.stop) if part.step is None else (part.start, part.stop, part.step)
        return ":".join("" if end is None else str(end) for end in ends)
    return number_text(part) if is_array(part) else "..." if part is Ellipsis else str(part)


def local_text(node: Node, position: int, words: Mapping[str, str]) -> str:
    """The local derivative that the op states for one argument, in these words; "" where it states none."""
    op = node.plan.op
    parts = re.split(r", (?![^(]*\))", op.local or "")  # not at a comma inside of brackets
    part = parts[position] if len(parts) == len(op.argument_names) and not op.variadic else op.local or ""

    def word(match: re.Match) -> str:
        after_number = match.start() and part[match.start() - 1].isdigit()  # 2x becomes 2 loss
        return " " * bool(after_number) + words[match[0]]

    names = "|".join(map(re.escape, words))
    return re.sub(rf"(?<![A-Za-z_])({names})(?![A-Za-z_0-9])", word, part)
