"""A backward pass written out: every step with its numbers, as one would do it by hand.

After this file you know that a backward pass is no more than this: latest step first, the gradients that arrived at a
value are added up, each rule of the step turns the sum into the gradient of one argument, and the gradient of an
argument that was broadcast is summed over its copies. The numbers come from the rules that `backward` runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from minigrad.autograd.arguments import node_of, seed
from minigrad.autograd.contributions import unbroadcast
from minigrad.autograd.grad_mode import no_grad
from minigrad.autograd.node import Node
from minigrad.autograd.saved import check_versions, restored
from minigrad.autograd.tensor import Tensor
from minigrad.backend import Array, namespace
from minigrad.graph.drawing import Parameters, names_of, walk
from minigrad.graph.values import UNKNOWN, Values, on_host
from minigrad.graph.wording import WIDTH, Names, formula, grad, guarded, is_large, local_text, number_text, sum_text


@dataclass(frozen=True)
class Explanation:
    """What `explain` found: `print` it, or let a notebook show it.

    text : the forward and the backward pass, step by step
    gradients : the gradient of each leaf that gets one, by its name in the text
    """

    text: str
    gradients: dict[str, Tensor] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__


def explain(
    output: Tensor,
    gradient: ArrayLike | None = None,
    *,
    params: Parameters | None = None,
    limit: int = 300,
    **names: Tensor,
) -> Explanation:
    """Write out how the gradients of a small expression come about, with all numbers.

    `print(explain(loss, x=x, w=w))` shows the forward pass; then, latest step first, the gradient that arrives at each
    step, the step's own derivatives, and what it hands to each argument; then the gradients. Nothing is changed by it:
    no `.grad` is written, no hook is called, and `loss.backward()` is still possible.

    Parameters
    ----------
    output : Tensor
    gradient : Tensor or array of the output's shape
        The gradient to start from; optional for a single number, where it is 1.
    params : module, or dict of Tensors by name
        Names for parameters, as `graph.draw` takes them.
    limit : int
        The number of steps up to which a pass is written out.
    names : Tensors
        Names for leaves, constants and intermediate results. All others are called by their `name`, or by a letter.

    Raises
    ------
    GradientError
        For a tensor without a graph, or one whose saved values a backward pass has freed.
    ValueError
        For more than `limit` steps, or a name for a tensor that the output was not computed from.
    """
    root = node_of(output, "explain")
    nodes = walk([root])
    length = sum(node.plan is not None for node in nodes)
    if length > limit:
        raise ValueError(
            f"explain: this tensor took {length:,} steps to compute, more than limit={limit:,}. Explain a smaller "
            f"expression, or pass limit={length}; graph.draw shows large ones as a picture."
        )
    _check_names(names, nodes)
    start = seed(output, gradient, create_graph=False)
    with no_grad(), np.errstate(all="ignore"):
        steps, arrived = walk_back(nodes, root, start)
        results = {tensor.node: tensor.data for tensor in (*names.values(), output) if not tensor.is_leaf}
        values = Values(nodes, results, [tensor.data for tensor in names.values() if tensor.node is None])
        called = Names(nodes, values, names_of(params, "explain"), names)
        text = _Text(root, called, values, arrived).write(nodes, steps)
    leaves = [node for node in nodes if node.plan is None and node in arrived]
    return Explanation(text, {called[node]: Tensor(added_up(arrived[node])) for node in leaves})


def _check_names(names: Mapping[str, object], nodes: list[Node]) -> None:
    known = set(nodes)
    for name, tensor in names.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"explain: {name}= must be a Tensor, got {type(tensor).__name__}.")
        if tensor.node is not None and tensor.node not in known:
            raise ValueError(f"explain: the output was not computed from the tensor given as {name}=; leave it out.")


# --- the backward pass ---


@dataclass(frozen=True)
class Share:
    """What a step hands to one of its arguments.

    local : the step's own derivative: the rule applied to ones; None for an op that is not elementwise
    result : what the rule made of the gradient
    value : the same with broadcasting undone, as it arrives at the argument
    """

    position: int
    local: Array | None
    result: Array
    value: Array


@dataclass(frozen=True)
class Step:
    """One op on the way back: the gradient that arrived at its result, and what it hands on."""

    node: Node
    gradient: Array
    shares: list[Share]


def walk_back(nodes: list[Node], root: Node, start: Array) -> tuple[list[Step], dict[Node, list[Array]]]:
    """The steps of a backward pass, latest first, and the gradients that arrived at each node, in order of arrival.

    It is the pass of `autograd/reverse.py` without what makes that fast. `nodes` are all that led to `root`, oldest
    first.
    """
    arrived, steps = {root: [start]}, []
    for node in reversed(nodes):
        if node.plan is None or node not in arrived:
            continue
        gradient = added_up(arrived[node])
        shares = [_share(node, *made) for made in _run_rules(node, gradient)]
        steps.append(Step(node, gradient, shares))
        for share in shares:
            arrived.setdefault(node.parents[share.position], []).append(share.value)
    return steps, arrived


def added_up(gradients: list[Array]) -> Array:
    """The sum of the gradients that arrived at one value."""
    total = gradients[0]
    for gradient in gradients[1:]:
        total = total + gradient
    return total


def _share(node: Node, position: int, local: Array | None, result: Array) -> Share:
    """A rule's result, and the same in the shape and dtype of its argument."""
    parent = node.parents[position]
    value = result if result.shape == parent.shape else unbroadcast(result, parent.shape)
    return Share(position, local, result, value.astype(parent.dtype))


def _run_rules(node: Node, gradient: Array) -> Iterator[tuple[int, Array | None, Array]]:
    """(position, local derivative or None, gradient) of each argument that gets a gradient."""
    plan, saved = node.plan, node.saved if node.saved is not None else restored(node)
    check_versions(node)
    if plan.fused is not None:
        rule, pick = plan.fused
        for position, result in enumerate(rule(gradient, *(saved if pick is None else pick(saved)))):
            if result is not None and node.parents[position] is not None:
                yield position, None, result
        return
    for position, rule, pick, _ in plan.steps:
        values = saved if pick is None else pick(saved)
        ones = namespace(gradient).ones_like(gradient)
        local = rule(ones, *values) if plan.op.kind == "elementwise" else None
        yield position, local, rule(gradient, *values)


# --- the text ---


class _Text:
    """The lines of an explanation."""

    def __init__(self, root: Node, names: Names, values: Values, arrived: Mapping[Node, list[Array]]):
        self.root, self.names, self.values, self.arrived = root, names, values, arrived

    def write(self, nodes: list[Node], steps: list[Step]) -> str:
        leaves = [node for node in nodes if node.plan is None]
        sections = [
            ("forward", self.forward(nodes)),
            (f"backward, last step first{self.legend(steps)}", chain.from_iterable(map(self.backward, steps))),
            (f"gradients of {self.names[self.root]}", map(self.gradient, leaves)),
        ]
        paragraphs = ["\n".join([heading, *(f"  {line}" for line in lines)]) for heading, lines in sections]
        return "\n\n".join([*paragraphs, *self.remarks(nodes)])

    def remarks(self, nodes: list[Node]) -> Iterator[str]:
        hooked = [self.names[node] for node in nodes if node.hooks]
        if hooked:
            yield f"Hooks are not called here; backward() calls those of {', '.join(hooked)}."
        words = (word for node in nodes if node.plan is not None for word in self.names.arguments(node).values())
        if "const" in words:
            yield "const: a constant that no rule asked for, so the graph does not store it."

    def forward(self, nodes: list[Node]) -> Iterator[str]:
        shown = set()
        for node in nodes:
            value = self.values.of.get(node, UNKNOWN)
            if node.plan is None:
                yield f"{self.names[node]} = {f'? {node.shape}' if value is UNKNOWN else number_text(value)}"
                continue
            for position, constant in enumerate(self.values.arguments(node)):
                name = self.names.constants.get((node, position))
                if name and name not in shown:
                    shown.add(name)
                    yield f"{name} = {number_text(constant)}, a constant"
            yield self.computed(node, value)

    def computed(self, node: Node, out: Any) -> str:
        """c = a * b = 2 * 3 = 6"""
        values, line = self.values.arguments(node), self.step(node)
        if out is UNKNOWN:
            return line
        known = not any(value is UNKNOWN or is_large(value) for value in values)
        numbers = formula(node, [number_text(value) for value in values if value is not None])
        short, full = f"{line} = {number_text(out)}", f"{line} = {numbers} = {number_text(out)}"
        return full if known and numbers != number_text(out) and len(full) <= WIDTH else short

    def step(self, node: Node) -> str:
        """c = a * b"""
        return f"{self.names[node]} = {formula(node, list(self.names.arguments(node).values()))}"

    def legend(self, steps: list[Step]) -> str:
        """What the symbols mean, shown on the last step to be written."""
        for step in reversed(steps):
            for share in step.shares:
                c, a = self.names[step.node], self.names[step.node.parents[share.position]]
                return f"; {grad(c)} is the gradient at {c}, {grad(c)}/{grad(a)} the derivative of one step alone"
        return ""

    def backward(self, step: Step) -> Iterator[str]:
        """What arrived at a step, the step, and what it hands to each argument."""
        yield self.gradient(step.node)
        yield f"{self.step(step.node)}:"
        rows = [(self.local(step, share), self.handed(step, share)) for share in step.shares]
        width = max((len(left) for left, _ in rows), default=0)
        if any(len(right) + width > WIDTH for _, right in rows):
            yield from (line for left, right in rows for line in (f"  {left}", f"      {right}"))
        else:
            yield from (f"  {left:{width}}    {right}" for left, right in rows)

    def gradient(self, node: Node) -> str:
        """da = 1 + 3 = 4 (two paths)"""
        name, parts = grad(self.names[node]), self.arrived.get(node)
        return f"{name} = {sum_text(parts, added_up(parts))}" if parts else f"{name}: none, for no rule gives it one"

    def local(self, step: Step, share: Share) -> str:
        """dc/da = b = 3, or in words where the op is not elementwise"""
        node, words = step.node, self.names.arguments(step.node)
        parent, name = node.parents[share.position], grad(self.names[node])
        place = f" in place {share.position + 1}" if node.parents.count(parent) > 1 else ""
        left = f"{name}/{grad(self.names[parent])}{place}"
        if not _is_product(step, share):
            text = local_text(node, share.position, {"g": name, **words})
            return f"{left}: {text or 'by its rule'}"
        text = local_text(node, share.position, words)
        number = number_text(_once(share.local))
        return f"{left} = {number}" if text in ("", number) else f"{left} = {text} = {number}"

    def handed(self, step: Step, share: Share) -> str:
        """to a: 1 * 3 = 3; and where a was repeated to fit, the sum over its copies"""
        parent, result = step.node.parents[share.position], number_text(share.result)
        c, a = grad(self.names[step.node]), self.names[parent]
        if _is_product(step, share):
            product = f"{number_text(step.gradient)} * {guarded(number_text(_once(share.local)))}"
            if is_large(share.result) or len(product) > WIDTH // 2:
                product = f"{c} * {c}/{grad(a)}"
            result = f"{product} = {result}"
        elif share.result.ndim and not is_large(share.result):
            result += f", shape {share.result.shape}"
        if share.result.shape != parent.shape:
            axes = _repeated(share.result.shape, parent.shape)
            result += f", summed over {axes}, because {a} was repeated: {number_text(share.value)}"
        return f"to {a}: {result}"


def _is_product(step: Step, share: Share) -> bool:
    """Whether the result is gradient times local derivative; where 0 meets infinity, it need not be."""
    if share.local is None:
        return False
    product = on_host(step.gradient * share.local)
    return np.allclose(product, on_host(share.result), rtol=1e-2, equal_nan=True)


def _once(array: Array | None) -> Any:
    """The number that all elements equal, or the array where they differ."""
    flat = on_host(array).reshape(-1)
    return flat[0] if flat.size and (flat == flat[0]).all() else array


def _repeated(shape: tuple[int, ...], original: tuple[int, ...]) -> str:
    """The axes of `shape` along which a tensor of shape `original` was repeated, in words."""
    padded = (1,) * (len(shape) - len(original)) + original
    extra = len(shape) - len(original)
    axes = [str(i) for i, (n, m) in enumerate(zip(shape, padded, strict=True)) if i < extra or n != m]
    return f"ax{'is' if len(axes) == 1 else 'es'} {' and '.join(axes)}"
