"""Derivatives of what was recorded: `backward` and `grad`.

After this file you know reverse mode whole. Each node turns the gradient of its output into the gradients of its
arguments (its vjp rules) and hands them to its parents. A node may run only when everything that used it has run;
since every node is created after its parents, taking nodes in falling order of creation is enough. A heap does that:
no recursion, so a chain of a million ops is as good as any other.

Forward mode walks the same record the other way: see `forward.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from contextlib import ContextDecorator
from heapq import heappop, heappush
from typing import Any

from minigrad.autograd.arguments import as_list, for_each, node_of, seed
from minigrad.autograd.definitions import explain_rule, need_reference, one_for_each
from minigrad.autograd.errors import ShapeError
from minigrad.autograd.levels import refuse_to_leak, sum_what_was_shared
from minigrad.autograd.node import IN_RULES, Node, grad_mode, leaf, writes
from minigrad.autograd.saved import check_versions, restored, saved_as_tensors
from minigrad.autograd.tensor import Tensor, as_tensor
from minigrad.backend import Array, BatchedArray, namespace, newest_level

MAYBE_BATCHED = frozenset({BatchedArray, Tensor})  # of a gradient's types those that may hold one of many examples


class set_grad_enabled(ContextDecorator):
    """Switch recording on or off in this thread; a context manager and a decorator. Restores what was, on any exit."""

    def __init__(self, enabled: bool):
        self.enabled = enabled
        self.previous: list[bool] = []

    def _recreate_cm(self):
        return set_grad_enabled(self.enabled)  # as a decorator one for each call: calls in two threads may overlap

    def __enter__(self):
        self.previous.append(grad_mode.enabled)
        grad_mode.enabled = self.enabled
        return self

    def __exit__(self, *exception):
        grad_mode.enabled = self.previous.pop()


def no_grad() -> set_grad_enabled:
    """`with no_grad():` nothing is recorded, and results need no gradient. Also a decorator, `@no_grad()`."""
    return set_grad_enabled(False)


def enable_grad() -> set_grad_enabled:
    """`with enable_grad():` record again inside a `no_grad` block. Also a decorator."""
    return set_grad_enabled(True)


def is_grad_enabled() -> bool:
    """Whether ops are being recorded in this thread."""
    return bool(grad_mode.enabled)


# --- reverse mode ---


def backward(tensor: Tensor, gradient=None, *, retain_graph: bool | None = None, create_graph: bool = False) -> None:
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
    node, start = node_of(tensor, "backward"), seed(tensor, gradient, create_graph)
    if node.keeper and gradient is not None and not create_graph:
        start = start.copy()  # the caller's array stays the caller's
    _Pass(retain_graph, create_graph).run([(node, start)])


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs=None,
    *,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    materialize_grads: bool = False,
) -> tuple[Tensor | None, ...]:
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
        mode, grad_mode.enabled = grad_mode.enabled, self.create_graph and IN_RULES
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
                    if node.keeper:
                        self.store(node, gradient)
                elif node in captured:
                    captured[node] = gradient
                if node.plan is not None and (wanted is None or any(parent in wanted for parent in node.parents)):
                    self.pull(node, gradient)
            for node, gradient in pending.items():
                self.store(node, gradient)
        finally:
            grad_mode.enabled = mode

    def pull(self, node: Node, gradient: Any) -> None:
        """Run the node's rules and hand the results to its parents."""
        plan, parents, saved, wanted = node.plan, node.parents, node.saved, self.wanted
        if saved is None:
            saved = restored(node)
        if writes[-1] < node.order:
            check_versions(node)
        if plan.fused is not None:
            self.pull_together(node, gradient)
        else:
            on_arrays, arrive = not self.create_graph, self.arrive
            if not on_arrays:
                saved = saved_as_tensors(node)
            for position, rule, pick, into in plan.steps:
                parent = parents[position]
                if wanted is not None and parent not in wanted:
                    continue
                if into is not None and on_arrays and gradient.__class__ is not BatchedArray:
                    self.pull_into(parent, gradient, into, saved)
                    continue
                try:
                    arrive(parent, rule(gradient, *(saved if pick is None else pick(saved))), gradient)
                except Exception as error:
                    explain_rule(plan.op, error, position, parent.shape, gradient)
                    raise
        if not self.retain_graph:
            node.saved = None

    def pull_into(self, parent: Node, gradient: Array, into: tuple[Callable, Callable | None], saved: tuple) -> None:
        """Run the in-place form of a rule: it adds to the parent's buffer."""
        rule, pick = into
        buffer = self.buffer(parent, gradient)
        self.pending[parent] = rule(buffer, gradient, *(saved if pick is None else pick(saved)))

    def pull_together(self, node: Node, gradient: Any) -> None:
        """The same for an op whose gradients come from one kernel or, when Tensors flow, its composite reference."""
        rule, pick = node.plan.fused
        if self.create_graph or newest_level(gradient, *node.saved):
            contributions = pull_through_reference(node, gradient, self.create_graph)
        else:
            made = rule(gradient, *(node.saved if pick is None else pick(node.saved)))
            contributions = one_for_each(node.plan.op, made, len(node.parents))
        for parent, contribution in zip(node.parents, contributions, strict=True):
            wanted = parent is not None and (self.wanted is None or parent in self.wanted)
            if wanted and contribution is not None:
                self.arrive(parent, contribution)

    def arrive(self, node: Node, gradient: Any, source: Any = None) -> None:
        """Add one gradient, made of `source`, to what `node` has received; the first one puts it on the heap."""
        if gradient.__class__ in MAYBE_BATCHED:
            gradient = sum_what_was_shared(gradient, node.shape)
        if gradient.shape != node.shape:
            gradient = unbroadcast(gradient, node.shape)
        if gradient.dtype is not node.dtype and gradient.dtype != node.dtype:
            gradient = gradient.astype(node.dtype)
        so_far = self.pending.get(node)
        if so_far is None:
            if node.keeper and not self.create_graph and is_alias(gradient, source):
                gradient = gradient.copy()
            if node.plan is not None or node.hooks is not None or self.captured is not None:
                heappush(self.heap, (node.order, node))  # else a plain leaf: it just collects until the end
        elif node in self.owned:
            so_far += gradient
            gradient = so_far
        else:
            gradient = so_far + gradient
            self.owned.add(node)
        self.pending[node] = gradient

    def store(self, node: Node, gradient: Any) -> None:
        """Add to `.grad`. A new Tensor each time: a gradient somebody kept does not change under them."""
        keeper = node.keeper and node.keeper()
        if keeper is not None and keeper.node is node:  # else nobody is left who could read it, or who asks for it
            gradient = gradient if isinstance(gradient, Tensor) else Tensor(gradient)
            refuse_to_leak(gradient, node.order)
            keeper._grad = gradient if keeper.grad is None else keeper.grad + gradient

    def buffer(self, node: Node, like: Array) -> Array:
        """The node's pending gradient as an array of its full shape that may be written to."""
        so_far = self.pending.get(node)
        if so_far is None:
            heappush(self.heap, (node.order, node))
            self.pending[node] = namespace(like).zeros(node.shape, node.dtype)
        elif node not in self.owned or not node.shape:  # a sum of single numbers is a NumPy scalar again
            self.pending[node] = namespace(so_far).array(so_far)
        self.owned.add(node)
        return self.pending[node]


def unbroadcast(gradient: Any, shape: tuple[int, ...]) -> Any:
    """Sum a gradient over the axes along which its argument, of this shape, was repeated by broadcasting."""
    extra = len(gradient.shape) - len(shape)
    padded = (1,) * extra + shape
    axes = tuple(i for i, size in enumerate(gradient.shape) if padded[i] == 1 and (size != 1 or i < extra))
    if extra < 0 or any(p not in (1, size) for p, size in zip(padded, gradient.shape, strict=True)):
        raise ShapeError(
            f"a rule gave a gradient of shape {gradient.shape} for an argument of shape {shape}; "
            "it must have that shape, or one that broadcasting made of it."
        )
    return gradient.sum(axis=axes).reshape(shape)


def is_alias(contribution: Array, gradient: Array) -> bool:
    """Whether a rule's result may share memory with something else, so that a leaf must not keep it as its own."""
    return contribution is gradient or contribution.base is not None


def run_reference(node: Node, connect: bool) -> tuple[Tensor, dict[int, Tensor]]:
    """Run the composite reference of a fused op on its saved arguments: (result, the tracked arguments by position).

    The arguments are stand-ins, so that a walk from the result ends at them. With `connect` each is a recorded copy of
    the original, through which second derivatives reach the rest of the graph.
    """
    op = node.plan.op
    need_reference(op)
    saved = dict(zip(node.plan.names, node.saved, strict=True))
    arguments = [saved[name] for name in op.argument_names]
    stand_ins = {}
    for position, parent in enumerate(node.parents):
        if parent is not None:
            value = arguments[position]
            stand_in = Tensor(value, parent).clone() if connect else Tensor(value, leaf(value))
            arguments[position] = stand_ins[position] = stand_in
    with set_grad_enabled(grad_mode.enabled or True):
        return op.reference(*arguments, **{name: saved[name] for name in op.options}), stand_ins


def pull_through_reference(node: Node, gradient: Any, create_graph: bool) -> list[Any]:
    """The gradients of all arguments, by the composite reference; Tensors with a graph if asked for, else arrays."""
    result, stand_ins = run_reference(node, connect=create_graph)
    found = grad(result, list(stand_ins.values()), gradient, create_graph=create_graph, allow_unused=True)
    values = [g if create_graph or g is None else g.data for g in found]
    by_position = dict(zip(stand_ins, values, strict=True))
    return [by_position.get(position) for position in range(len(node.parents))]


def run_hooks(node: Node, gradient: Any) -> Any:
    """Show the gradient to the tensor's hooks in turn; what a hook returns, if not None, takes its place."""
    is_tensor = isinstance(gradient, Tensor)
    gradient = as_tensor(gradient)
    for hook in tuple(node.hooks.values()):
        with set_grad_enabled(is_grad_enabled()):  # no longer in a rule: a hook may take numbers out
            replaced = hook(gradient)
        if replaced is not None:
            replaced = as_tensor(replaced, gradient.dtype, gradient.device)
            if replaced.shape != gradient.shape:
                raise ShapeError(
                    f"a gradient hook returned shape {replaced.shape} for a gradient of shape {gradient.shape}; "
                    "return a gradient of the same shape, or None to leave it as it is."
                )
            gradient = replaced
    return gradient if is_tensor else gradient.data


# --- walking the record ---


def nodes_between(sources: Iterable[Node], sinks: Sequence[Node]) -> dict[Node, None]:
    """The nodes on paths from `sources` to `sinks`, both included, oldest first (a dict as an ordered set)."""
    sources = set(sources)
    oldest = max((node.order for node in sources), default=0)
    found, stack = set(sinks), list(sinks)
    while stack:
        for parent in stack.pop().parents:
            if parent is not None and parent not in found and parent.order <= oldest:
                found.add(parent)
                stack.append(parent)
    between: dict[Node, None] = {}
    for node in sorted(found, key=lambda node: -node.order):
        if node in sources or any(parent in between for parent in node.parents):
            between[node] = None
    return between
