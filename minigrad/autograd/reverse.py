"""Reverse mode: derivatives of what was recorded, by `backward` and `grad`.

After this file you know reverse mode whole. Each node turns the gradient of its output into the gradients of its
arguments (its vjp rules) and hands them to its parents, where those of several uses are added. A node may run only when
everything that used its value has run. Every node is created after its parents, so it is enough to take nodes in
falling order of creation. A heap does that without recursion: a chain of a million ops is as good as any other.

`simple_backward` is that, and nothing else. What `_Pass` does beside: it frees saved values, adds in place, stops at
the inputs of `grad`, calls hooks, runs fused vjps, and runs rules on Tensors when the gradients are to be
differentiated again. Forward mode walks the same graph the other way: see `forward.py`.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from heapq import heappop, heappush
from typing import Any

from minigrad.autograd import methods
from minigrad.autograd.arguments import as_list, for_each, node_of, seed
from minigrad.autograd.contributions import MAYBE_BATCHED, fitted, its_own, run_hooks, store, unbroadcast
from minigrad.autograd.definitions import explain_rule, one_for_each
from minigrad.autograd.grad_mode import grad_mode
from minigrad.autograd.levels import is_batched
from minigrad.autograd.node import Node, latest_write, nodes_between
from minigrad.autograd.plan import Getter, Rule
from minigrad.autograd.saved import check_versions, restored, run_reference, saved_as_tensors
from minigrad.autograd.tensor import Tensor
from minigrad.backend import Array, namespace


def simple_backward(output: Tensor) -> dict[Node, Any]:
    """The whole algorithm: the gradient of a single number with respect to every value it was computed from, by node.

    To read and to retype; `backward` is what to use. It knows no fused ops, and the tests compare the two.
    """
    gradients: dict[Node, Any] = {output.node: namespace(output.data).ones_like(output.data)}
    heap = [(-output.node.order, output.node)]
    while heap:
        node = heappop(heap)[1]  # the latest node: everything that used its value has run
        if node.plan is None:  # a leaf, where gradients end
            continue
        for position, rule, pick, _ in node.plan.steps:
            parent = node.parents[position]
            saved = node.saved if pick is None else pick(node.saved)
            contribution = unbroadcast(rule(gradients[node], *saved), parent.shape)
            if parent not in gradients:
                heappush(heap, (-parent.order, parent))
            gradients[parent] = gradients.get(parent, 0.0) + contribution
    return gradients


def backward(
    tensor: Tensor,
    gradient: Tensor | Array | None = None,
    *,
    retain_graph: bool | None = None,
    create_graph: bool = False,
) -> None:
    """Add the gradient of `tensor` to `.grad` of every leaf it depends on.

    Parameters
    ----------
    gradient : Tensor or array of `tensor`'s shape
        The cotangent to pull back; may be left out for a single number, where it is 1.
    retain_graph : bool
        Keep the saved values, so that one can go backward again. Defaults to `create_graph`.
    create_graph : bool
        Record the backward pass itself, so that the gradients can be differentiated.
    """
    node = node_of(tensor, "backward")
    start = seed(tensor, gradient, create_graph, read_only=not create_graph and is_only_read(node))
    if node.grad_owner and gradient is not None and not create_graph:
        start = start.copy()  # the caller's array stays the caller's
    _Pass(retain_graph, create_graph).run([(node, start)])


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Any = None,
    *,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    materialize_grads: bool = False,
) -> tuple[Any, ...]:
    """Gradients of `outputs` with respect to `inputs`, as PyTorch's `torch.autograd.grad`; `.grad` is left alone.

    Returns one Tensor per input, of its shape. An input that the outputs do not depend on is an error, unless
    `allow_unused`, which gives None for it, or `materialize_grads`, which gives zeros. Only the part of the graph
    between inputs and outputs is walked.
    """
    outputs, inputs = as_list(outputs), as_list(inputs)
    cotangents = as_list(grad_outputs) if grad_outputs is not None else [None] * len(outputs)
    if len(cotangents) != len(outputs):
        raise ValueError(f"grad: {len(outputs)} outputs but {len(cotangents)} grad_outputs; give one for each output.")
    targets = [node_of(tensor, "grad of an input") for tensor in inputs]
    roots = [
        (node_of(tensor, "grad of an output"), seed(tensor, cotangent, create_graph))
        for tensor, cotangent in zip(outputs, cotangents, strict=True)
    ]
    captured: dict[Node, Any] = dict.fromkeys(targets)
    _Pass(retain_graph, create_graph, captured).run(roots)
    return for_each(inputs, [captured[node] for node in targets], allow_unused, materialize_grads)


def is_only_read(node: Node) -> bool:
    """Whether the gradient of a node meets nobody but a kernel of ours that reads it.

    Then it may be an array that all passes share: nobody can write to it, keep it, or hand it on.
    """
    plan = node.plan
    return (
        plan is not None and plan.fused is not None and plan.op.is_minigrads
        and node.hooks is None and not node.grad_owner and not getattr(node.shape, "levels", ())
    )  # fmt: skip


class _Pass:
    """One walk from the roots towards the leaves.

    With `captured` None the gradients are added to the leaves' `.grad`; otherwise they are caught at the nodes that are
    its keys, and nodes that lead to none of them are not visited.
    """

    def __init__(self, retain_graph: bool | None, create_graph: bool, captured: dict[Node, Any] | None = None):
        self.create_graph = create_graph
        self.retain_graph = create_graph if retain_graph is None else retain_graph
        self.captured = captured
        self.wanted: Container[Node] | None = None  # None: every node
        self.pending: dict[Node, Any] = {}  # what has arrived so far, by node
        self.owned: set[Node] = set()  # nodes whose pending buffer only this pass knows: it may be added to in place
        self.heap: list[tuple[int, Node]] = []

    def run(self, roots: Sequence[tuple[Node, Any]]) -> None:
        """Take nodes in falling order of creation until none is left."""
        if self.captured is not None:
            self.wanted = nodes_between(self.captured, [node for node, _ in roots])
        outside = grad_mode.enabled, grad_mode.in_rule
        grad_mode.enabled = grad_mode.in_rule = self.create_graph
        try:
            for node, gradient in roots:
                if self.wanted is None or node in self.wanted:
                    self.arrive(node, gradient)
            heap, pending, captured, wanted = self.heap, self.pending, self.captured, self.wanted
            while heap:
                node = heappop(heap)[1]
                gradient = pending.pop(node)
                if node.hooks is not None:
                    gradient = run_hooks(node, gradient)
                if captured is None:
                    if node.grad_owner:
                        store(node, gradient)
                elif node in captured:
                    captured[node] = gradient
                if node.plan is not None and (wanted is None or any(parent in wanted for parent in node.parents)):
                    self.pull(node, gradient)
            for node, gradient in pending.items():
                store(node, gradient)
        finally:
            grad_mode.enabled, grad_mode.in_rule = outside

    def pull(self, node: Node, gradient: Any) -> None:
        """Run the node's rules and hand the results to its parents."""
        plan, parents, saved, wanted = node.plan, node.parents, node.saved, self.wanted
        if saved is None:
            saved = restored(node)
        if latest_write.written > node.order:
            check_versions(node)
        if plan.fused is not None:
            self.pull_fused(node, gradient, plan.fused)
        else:
            on_arrays, arrive = not self.create_graph, self.arrive
            if not on_arrays:
                saved = saved_as_tensors(node)
            for position, rule, pick, into in plan.steps:
                parent = parents[position]
                if wanted is not None and parent not in wanted:
                    continue
                if into is not None and on_arrays and gradient.__class__ not in MAYBE_BATCHED:
                    self.pull_into(parent, gradient, into, saved)
                    continue
                try:
                    arrive(parent, rule(gradient, *(saved if pick is None else pick(saved))), gradient)
                except Exception as error:
                    explain_rule(plan.op, error, position, parent.shape, gradient)
                    raise
        if not self.retain_graph:
            node.saved = None

    def pull_into(
        self, parent: Node, gradient: Array, into: tuple[Rule, Getter | None], saved: tuple[Any, ...]
    ) -> None:
        """Run the in-place form of a rule: it adds to the parent's buffer."""
        rule, pick = into
        buffer = self.buffer(parent, gradient)
        self.pending[parent] = rule(buffer, gradient, *(saved if pick is None else pick(saved)))

    def pull_fused(self, node: Node, gradient: Any, fused: tuple[Rule, Getter | None]) -> None:
        """The same for an op whose gradients come from one kernel or, when Tensors flow, its composite reference."""
        rule, pick = fused
        if self.create_graph or is_batched(gradient, *node.saved):
            contributions = pull_through_reference(node, gradient, self.create_graph)
        else:
            made = rule(gradient, *(node.saved if pick is None else pick(node.saved)))
            contributions = one_for_each(node.plan.op, made, len(node.parents))
        for parent, contribution in zip(node.parents, contributions, strict=True):
            if parent is not None and (self.wanted is None or parent in self.wanted) and contribution is not None:
                self.arrive(parent, contribution)

    def arrive(self, node: Node, gradient: Any, source: Any = None) -> None:
        """Add one gradient, made of `source`, to what `node` has received; the first one puts it on the heap."""
        if (
            gradient.shape != node.shape
            or gradient.dtype is not node.dtype
            or gradient.__class__ in MAYBE_BATCHED  # most gradients fit, and are spared the call
        ):
            gradient = fitted(gradient, node)
        so_far = self.pending.get(node)
        if so_far is None:
            if node.grad_owner:
                gradient = its_own(gradient, source)
            if node.plan is not None or node.hooks is not None or self.captured is not None:
                heappush(self.heap, (-node.order, node))  # a plain leaf does without: it just collects until the end
        elif node in self.owned:
            so_far += gradient
            gradient = so_far
        else:
            gradient = so_far + gradient
            self.owned.add(node)
        self.pending[node] = gradient

    def buffer(self, node: Node, like: Array) -> Array:
        """The node's pending gradient as an array of its full shape that may be written to."""
        so_far = self.pending.get(node)
        if so_far is None:
            heappush(self.heap, (-node.order, node))
            self.pending[node] = namespace(like).zeros(node.shape, node.dtype)
        elif node not in self.owned or not node.shape:  # a sum of single numbers is a NumPy scalar again
            self.pending[node] = namespace(so_far).array(so_far)
        self.owned.add(node)
        return self.pending[node]  # type: ignore[no-any-return]


def pull_through_reference(node: Node, gradient: Any, create_graph: bool) -> list[Any]:
    """The gradients of all arguments, by the composite reference; Tensors with a graph if asked for, else arrays."""
    result, copies = run_reference(node, connect=create_graph)
    found = grad(result, list(copies.values()), gradient, create_graph=create_graph, allow_unused=True)
    values = [g if create_graph or g is None else g.data for g in found]
    by_position = dict(zip(copies, values, strict=True))
    return [by_position.get(position) for position in range(len(node.parents))]


methods.bind(backward=backward)
