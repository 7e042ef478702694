"""A picture of what was computed: ops, the tensors they started from, and the shapes that travel between them.

After this file you know what the graph behind a tensor stores: a `Node` knows its op, its shape and its parents, and of
values only those that its derivative rules asked for. So a drawing shows exactly what `backward` will walk, from the
tensors you made (boxes) through the ops (ovals) to the outputs. Constants, which no gradient reaches, are small grey
boxes; their values are unknown after a backward pass has freed what was saved.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from minigrad.autograd.errors import GradientError
from minigrad.autograd.node import Node
from minigrad.autograd.plan import Op
from minigrad.autograd.tensor import Tensor
from minigrad.backend import is_array
from minigrad.graph.labels import header, lines, value_text
from minigrad.graph.labels import tooltip as escaped
from minigrad.graph.rendering import Drawing
from minigrad.graph.values import on_host


class Named(Protocol):
    """Anything with named parameters, such as a Module."""

    def named_parameters(self) -> Iterable[tuple[str, Tensor]]: ...


Parameters = Named | Mapping[str, Tensor]

FONT = "Helvetica,Arial,sans-serif"
COMMUTATIVE = {"add", "multiply", "maximum", "minimum", "logaddexp"}  # edges into other ops `f(a, b)` say which it is
INK, MUTED = "#1f2937", "#6b7280"


@dataclass(frozen=True)
class Look:
    """How one kind of node is drawn, and what the legend calls it."""

    meaning: str
    fill: str
    line: str
    attributes: Mapping[str, str] = field(default_factory=dict)


NOTHING: Mapping[str, str] = {}
BOX = {"shape": "box", "style": "rounded,filled"}
LOOKS = {
    "parameter": Look("parameter", "#ffedd0", "#d98e1f", BOX),
    "leaf": Look("leaf", "#dcebfb", "#4a86c5", BOX),
    "constant": Look("constant", "#f4f5f7", "#c3c9d1", BOX | {"margin": "0.08,0.04", "height": "0.2", "width": "0"}),
    "op": Look("op", "#ffffff", "#64748b", {"shape": "ellipse", "style": "filled", "margin": "0.04,0.02"}),
    "output": Look("output", "#dcf5e3", "#3a9a5b", BOX | {"penwidth": "1.8"}),
    "cut": Look("not shown", "#ffffff", "#9ca3af", BOX | {"style": "rounded,dashed"}),
}


def draw(
    outputs: Tensor | Iterable[Tensor],
    *,
    name: str | None = None,
    params: Parameters | None = None,
    values: bool = False,
    derivatives: bool = False,
    direction: str = "TB",
    legend: bool = True,
    max_nodes: int = 300,
) -> Drawing:
    """Draw the graph behind one or more tensors; it shows itself in a notebook, and `.source` is its DOT text.

    Parameters
    ----------
    outputs : Tensor or list of Tensors
        The results, such as a loss. All of them are in one drawing.
    name : str
        A title above the graph.
    params : module, or dict of Tensors by name
        Tensors to draw as parameters and under these names; a module's `named_parameters()` are taken.
    values : bool
        Also show the values that the graph stores: outputs, saved values, and gradients of leaves after `backward`.
        Values on a GPU are copied to the host for it.
    derivatives : bool
        Also show each op's local derivative. (In an SVG it is in the tooltip anyway.)
    direction : 'TB' or 'LR'
        Downwards or to the right.
    legend : bool
        Say above the graph what the colours mean.
    max_nodes : int
        Of a larger graph the part nearest to the outputs is drawn, and a dashed box says how much is missing.

    Raises
    ------
    TypeError
        For anything that is not a Tensor.
    GradientError
        For a tensor without a graph: nothing that it was computed from needs a gradient.
    """
    if direction not in ("TB", "LR"):
        raise ValueError(f"draw: direction={direction!r}; expected 'TB' (downwards) or 'LR' (to the right).")
    if not isinstance(max_nodes, int) or max_nodes < 1:
        raise ValueError(f"draw: max_nodes={max_nodes!r}; expected an int of at least 1.")
    if not (name is None or isinstance(name, str)):
        raise TypeError(f"draw: name={name!r}; expected a string, or None for no title.")
    outputs = _checked(outputs)
    nodes = walk(tensor.node for tensor in outputs)
    picture = _Picture(outputs, names_of(params, "draw"), direction, values, derivatives)
    picture.draw(nodes, _nearest(nodes, max_nodes))
    return picture.finish(name, legend)


def save(drawing: Drawing | Tensor | Iterable[Tensor], path: str | Path, **options: Any) -> Path:
    """Write a drawing, or `draw(tensor, **options)`, to a file: .dot text, or a .svg or .png picture; returns the path.

    Text needs nothing installed; a picture needs Graphviz or graphviz-pure, and DrawingError says how to get it.
    """
    if isinstance(drawing, Drawing) and options:
        raise TypeError(f"save: the options {sorted(options)} belong to draw; this is a finished drawing.")
    return (drawing if isinstance(drawing, Drawing) else draw(drawing, **options)).save_as(path)


# --- the arguments ---


def _checked(outputs: Any) -> list[Tensor]:
    outputs = list(outputs) if isinstance(outputs, (tuple, list)) else [outputs]
    if not outputs:
        raise ValueError("draw: an empty list; give at least one tensor that was computed.")
    for tensor in outputs:
        if not isinstance(tensor, Tensor):
            hint = "; call it first and draw what it returns, as in draw(model(x))" if callable(tensor) else ""
            raise TypeError(f"draw: expected a Tensor or a list of Tensors, got {type(tensor).__name__}{hint}.")
        if tensor.node is None:
            raise GradientError(
                f"draw: this tensor of shape {tensor.shape} has no graph: nothing behind it needs a gradient. "
                "Create the inputs with requires_grad=True, and compute outside of no_grad()."
            )
    return outputs


def names_of(params: Any, asker: str) -> dict[Node, str]:
    """The nodes of the given parameters, with their names."""
    if params is None:
        return {}
    if hasattr(params, "named_parameters"):
        params = params.named_parameters()
    pairs = params.items() if isinstance(params, Mapping) else params
    try:
        return {tensor.node: str(name) for name, tensor in pairs if tensor.node is not None}
    except (TypeError, ValueError, AttributeError):
        raise TypeError(
            f"{asker}: params is {type(params).__name__}; expected a module, or a dict of Tensors by name."
        ) from None


def walk(roots: Iterable[Node]) -> list[Node]:
    """Every node that the roots depend on, oldest first. No recursion, so a chain of any length will do."""
    stack = list(dict.fromkeys(roots))
    found = set(stack)
    while stack:
        for parent in stack.pop().parents:
            if parent is not None and parent not in found:
                found.add(parent)
                stack.append(parent)
    return sorted(found, key=lambda node: node.order)


def _nearest(nodes: list[Node], limit: int) -> set[Node]:
    """The latest ops with the leaves they read, up to about `limit` nodes in all."""
    shown: set[Node] = set()
    for node in reversed(nodes):
        if node.plan is None:
            continue
        if len(shown) >= limit:
            break
        shown.add(node)
        shown.update(parent for parent in node.parents if parent is not None and parent.plan is None)
    return shown if len(nodes) > limit else set(nodes)


# --- the drawing ---


class _Picture:
    """The DOT statements, added node by node."""

    def __init__(self, outputs: list[Tensor], names: dict[Node, str], direction: str, values: bool, derivatives: bool):
        self.outputs, self.names, self.values, self.derivatives = outputs, names, values, derivatives
        self.ends = {tensor.node for tensor in outputs}
        self.ids: dict[Node, str] = {}
        self.constants: dict[Any, str] = {}
        self.kinds: set[str] = set()
        self.graph = graph = Drawing()
        graph.attr(rankdir=direction, bgcolor="white", fontname=FONT, fontcolor=INK, nodesep="0.2", ranksep="0.3")
        graph.attr("node", fontname=FONT, fontsize="12", penwidth="1.2", margin="0.12,0.06", height="0.3", width="0")
        graph.attr("edge", fontname=FONT, fontsize="9", fontcolor=MUTED, color="#94a3b8", arrowsize="0.6")

    def draw(self, nodes: list[Node], shown: set[Node]) -> None:
        """Statements for the nodes shown, oldest first, and for the outputs."""
        known = _known_values(nodes) if self.values else {}
        known |= {tensor.node: tensor.data for tensor in self.outputs}
        if len(shown) < len(nodes):
            rows = (f"{len(nodes) - len(shown):,} more", INK), (f"max_nodes={len(nodes)} shows all", MUTED)
            self.add("cut", "cut", lines(*rows))
        for i, node in enumerate(node for node in nodes if node in shown):
            self.ids[node] = f"n{i}"
            if node.plan is None:
                self.leaf(node, known.get(node))
            else:
                self.op(node, known.get(node))
        for i, tensor in enumerate(self.outputs):
            self.add(f"out{i}", "output", self.tensor_label(tensor.node, tensor.name or "output", tensor.data))
            self.connect(tensor.node, f"out{i}", "output")

    def leaf(self, node: Node, value: Any) -> None:
        kind = "parameter" if node in self.names else "leaf"
        title = self.names.get(node) or node.name or "leaf"
        self.add(self.ids[node], kind, self.tensor_label(node, title, value))

    def op(self, node: Node, value: Any) -> None:
        """An op and the edges into it, in the order of its arguments."""
        op, id = node.plan.op, self.ids[node]
        rows = [(op.symbol, INK)]
        if node.name and node not in self.ends:
            rows.append((node.name, MUTED))
        if self.derivatives and op.local:
            rows.append((f"∂ {op.local}", MUTED))
        if self.values and value is not None and node not in self.ends:
            rows.append((value_text(on_host(value)), MUTED))
        tooltip = f"{op.signature}; local derivative: {op.local}" if op.local else op.signature
        self.add(id, "op", lines(*rows), tooltip=tooltip, ordering="in", **_roomy(op.symbol, len(rows)))
        for position, parent in enumerate(node.parents):
            argument = op.argument_name(position)
            if parent is None:
                self.constant(node, position, argument)
            else:
                shape = "" if parent.plan is None else str(parent.shape)
                self.connect(parent, id, argument, shape, _head(op, argument))

    def constant(self, node: Node, position: int, argument: str) -> None:
        """An argument that no gradient reaches; its value is known if a rule asked for it, and until `backward`."""
        value, is_known = _saved_argument(node, position)
        if value is None and (is_known or node.plan.op.defaults.get(argument, ...) is None):
            return  # an optional argument that was left out, as far as the graph says
        key = id(value) if is_array(value) else (node, position)
        if key not in self.constants:
            self.constants[key] = f"c{len(self.constants)}"
            title = "const" if _is_infix(node.plan.op) else argument
            self.add(self.constants[key], "constant", self.constant_label(title, value))
        edge = {"tooltip": escaped(argument), "color": LOOKS["constant"].line}
        self.graph.edge(self.constants[key], self.ids[node], **edge, **_head(node.plan.op, argument))

    def constant_label(self, title: str, value: Any) -> str:
        if value is None:
            return lines(("const", MUTED), size=9)
        if not is_array(value) or value.size == 1:
            return lines((value_text(on_host(value)), INK), size=10)
        rows = [(title, MUTED), (f"{value.shape} {value.dtype}", MUTED)]
        if self.values:
            rows.append((value_text(on_host(value)), MUTED))
        return lines(*rows, size=9)

    def tensor_label(self, node: Node, title: str, value: Any) -> str:
        rows = [(title, INK), (f"{node.shape} {node.dtype}", MUTED)]
        if self.values and value is not None:
            rows.append((value_text(on_host(value)), MUTED))
        owner = None if node.grad_owner is None else node.grad_owner()
        if self.values and owner is not None and owner.grad is not None:
            rows.append((f"grad {value_text(on_host(owner.grad.data))}", MUTED))
        return lines(*rows)

    def add(self, id: str, kind: str, label: str, tooltip: str = "", **attributes: str) -> None:
        look = LOOKS[kind]
        self.kinds.add(kind)
        tooltip = escaped(tooltip or look.meaning)
        attributes = {"tooltip": tooltip, "fillcolor": look.fill, "color": look.line, **look.attributes, **attributes}
        self.graph.node(id, label, **attributes)

    def connect(self, start: Node, end: str, argument: str, shape: str = "", head: Mapping[str, str] = NOTHING) -> None:
        """An edge, with the shape of its value unless a box at one of its ends shows it."""
        weight = "1" if start.plan is None else "8"  # the path through the ops runs straight, leaves stand beside it
        label = f" {shape} " if shape else None
        attributes = {"tooltip": escaped(argument), "weight": weight, **head}
        self.graph.edge(self.ids.get(start, "cut"), end, label, **attributes)

    def finish(self, title: str | None, legend: bool) -> Drawing:
        kinds = [(look.meaning, look.fill, look.line) for kind, look in LOOKS.items() if legend and kind in self.kinds]
        if title or kinds:
            self.graph.attr(label=header(title, kinds), labelloc="t", tooltip=escaped(title or "graph"))
        return self.graph


def _head(op: Op, argument: str) -> dict[str, str]:
    """Which argument an edge is, written at its end: for `a - b` and the like, where order matters."""
    if not _is_infix(op) or op.name in COMMUTATIVE:
        return {}
    return {"headlabel": escaped(argument), "labelfontsize": "8", "labeldistance": "1.4"}


def _is_infix(op: Op) -> bool:
    """Whether the op's two arguments have names of one letter, such as a and b."""
    return op.arity == 2 and all(len(name) == 1 for name in op.argument_names)


def _roomy(symbol: str, rows: int) -> dict[str, str]:
    """A short symbol is drawn large in a circle."""
    if rows > 1 or len(symbol) > 2:
        return {}
    return {"shape": "circle", "fixedsize": "true", "width": "0.42", "fontsize": "15"}


# --- values that the graph stores ---


def _saved_argument(node: Node, position: int) -> tuple[Any, bool]:
    """(value, whether it is known) of one argument of an op."""
    op, name = node.plan.op, node.plan.op.argument_name(position)
    if node.saved is None or name not in node.plan.names:
        return None, False
    value = node.saved[node.plan.names.index(name)]
    return (value[position] if op.variadic else value), True


def _known_values(nodes: list[Node]) -> dict[Node, Any]:
    """What ops saved of themselves and of their arguments, by node."""
    known: dict[Node, Any] = {}
    for node in nodes:
        if node.plan is None or node.saved is None:
            continue
        if "out" in node.plan.names:
            known[node] = node.saved[node.plan.names.index("out")]
        for position, parent in enumerate(node.parents):
            if parent is not None and (value := _saved_argument(node, position)[0]) is not None:
                known[parent] = value
    return known
