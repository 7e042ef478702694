"""A model's loss, or its residuals, as a function of one flat vector: a closure computes it, from parameters it reads.

After this file you know how a search looks at many points while a model has one set of parameters. For each point the
parameters get arrays of their own, cut from the flat vector, and what is recorded there stays good when they go on to
the next one. At the end they get their own arrays back, and only then is anything written over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np

from minigrad import Tensor, enable_grad, no_grad, ones_like, tensor, zeros_like
from minigrad.autograd.reverse import grad, nodes_between
from minigrad.backend import Array
from minigrad.transforms.jacobians import jacobian_matrix
from minigrad.transforms.trace import Graph
from minigrad.transforms.trees import flatten

from ..solve.objective import Objective, Point
from ..solve.residuals import ResidualPoint, Residuals, joined


@contextmanager
def borrowed(params: Sequence[Tensor]) -> Iterator[None]:
    """For the time of the block the parameters may be sent anywhere; then they get back all that was their own."""
    own = [(p.data, p.node, p.grad) for p in params]
    try:
        yield
    finally:
        for p, (data, node, gradient) in zip(params, own, strict=True):
            p.data, p.node = data, node
            p.grad = gradient


def send(p: Tensor, array: Array) -> Tensor:
    """Let the parameter be this array, as a new leaf. Returns what stays there: the array and its node."""
    hooks = p.node.hooks
    p.replace_data(array)
    p.node.hooks = hooks
    return Tensor(array, p.node)


class ClosureObjective(Objective):
    """The loss that `closure()` returns, as a function of the parameters in one flat vector. Used while `borrowed`.

    The closure is of the one or the other kind: it returns the loss, whose record is then followed back; or it has
    called backward itself, and the gradients lie in the parameters.

    first_loss : what the closure returned at the first point
    went_backward : whether the closure calls backward
    """

    def __init__(self, closure: Callable[[], Any], params: Sequence[Tensor], owner: str):
        super().__init__(closure, [p.detach() for p in params], owner=owner)
        self.params = params
        self.first_loss: Any = None
        self.went_backward = False

    def at(self, x: Array) -> ClosurePoint:
        self.nfev += 1
        point = self.point(x)
        if self.nfev == 1:
            self.first_loss = point.loss
        return point

    def point(self, x: Array) -> ClosurePoint:
        return ClosurePoint(self, x)


class CurvedObjective(ClosureObjective):
    """The same where second derivatives are wanted: the closure must leave the record of the loss alone."""

    def point(self, x: Array) -> ClosurePoint:
        return CurvedPoint(self, x)


class ClosurePoint(Point):
    """What the closure said at a point. loss : what it returned, cut off from the record; a Tensor or a number."""

    objective: ClosureObjective
    may_go_backward = True

    def _evaluate(self) -> float:
        problem = self.objective
        inputs, loss = call_at(problem, self.x)
        gradients = [p.grad for p in problem.params]
        problem.went_backward = any(g is not None for g in gradients)
        check_loss(loss, problem.owner, recorded=not problem.went_backward)
        if problem.went_backward:
            if not self.may_go_backward:
                raise RuntimeError(went_backward_in_vain(problem.owner, "loss"))
            pairs = zip(gradients, inputs, strict=True)
            self.pulled = problem.variables.flat([zeros_like(x.detach()) if g is None else g for g, x in pairs])
        else:
            self.trace: Any = Graph(inputs, [loss])
            check_reach(self.trace, problem, "loss")
        self.loss = loss.detach() if isinstance(loss, Tensor) else loss
        return problem.number(loss.data if isinstance(loss, Tensor) else np.asarray(float(loss)))

    @cached_property
    def g(self) -> Array:
        if "pulled" not in vars(self):
            return Point.g.func(self)  # type: ignore[attr-defined]
        self.objective.njev += 1
        return self.pulled


class CurvedPoint(ClosurePoint):
    """A point whose gradient is recorded, so that it can be differentiated once more."""

    may_go_backward = False

    @cached_property
    def slopes(self) -> Any:
        """The record from the parameters to the gradient."""
        inputs, (loss,) = self.trace.inputs, self.trace.outputs
        with enable_grad(), np.errstate(all="ignore"):
            found = grad(loss, inputs, ones_like(loss.detach()), create_graph=True, allow_unused=True)
        pairs = zip(found, inputs, strict=True)
        return Graph(inputs, [zeros_like(x.detach()) if g is None else g for g, x in pairs])

    @cached_property
    def g(self) -> Array:
        self.objective.njev += 1
        return self.objective.variables.flat(self.slopes.outputs)

    @cached_property
    def hessian(self) -> Array:
        """(n, n): all columns pushed through the record of the gradient together."""
        self.objective.nhev += 1
        with no_grad(), np.errstate(all="ignore"):
            matrix = jacobian_matrix(self.slopes)
        return (matrix + matrix.T) / 2

    def hvp(self, v: Array) -> Array:
        """The Hessian is symmetric, so v is pulled back through the gradient: one walk, without the matrix."""
        variables = self.objective.variables
        self.objective.nhev += 1
        with no_grad(), np.errstate(all="ignore"):
            return variables.flat(self.slopes.pull([Tensor(leaf) for leaf in variables.leaves(v)]))


class ClosureResiduals(Residuals):
    """The residuals that `closure()` returns, as a function of the parameters; see `ClosureObjective`.

    first_loss : half the sum of their squares at the first point
    """

    went_backward = False

    def __init__(self, closure: Callable[[], Any], params: Sequence[Tensor], owner: str):
        super().__init__(closure, [p.detach() for p in params], owner=owner)
        self.params = params
        self.first_loss: Any = None

    def at(self, x: Array) -> ClosureResidualPoint:  # type: ignore[override]
        self.nfev += 1
        point = ClosureResidualPoint(self, x)
        if self.nfev == 1:
            self.first_loss = tensor(point.cost, dtype=point.r.dtype, device=Tensor(point.r).device)
        return point


class ClosureResidualPoint(ResidualPoint):
    """The residuals that the closure returned at a point."""

    problem: ClosureResiduals
    trace: Any

    def _evaluate(self) -> Array:
        problem = self.problem
        inputs, returned = call_at(problem, self.x)
        if any(p.grad is not None for p in problem.params):
            raise RuntimeError(went_backward_in_vain(problem.owner, "residuals"))
        self.trace = Graph(inputs, check_residuals(returned, problem.owner))
        check_reach(self.trace, problem, "residuals")
        return joined(self.trace.outputs, problem)


# --- calling a closure, and what may be wrong with it ---


def call_at(problem: Any, x: Array) -> tuple[list[Tensor], Any]:
    """The parameters at x, as Tensors that stay there, and what the closure returns when the model has them."""
    arrays = problem.variables.leaves(x)
    inputs = [send(p, array) for p, array in zip(problem.params, arrays, strict=True)]
    with enable_grad():
        return inputs, problem.fun()


def check_loss(loss: Any, owner: str, recorded: bool) -> None:
    """Raise unless the closure returned one number, of which gradients are known."""
    if isinstance(loss, Tensor) and loss.size != 1:
        raise ValueError(f"{owner}: the closure returned shape {loss.shape}; expected the loss, a single number.")
    if not isinstance(loss, (Tensor, int, float, np.number)):
        raise TypeError(
            f"{owner}: the closure returned {_described(loss)}; expected the loss. End the closure with `return loss`."
        )
    if recorded and not isinstance(loss, Tensor):
        raise TypeError(
            f"{owner}: the closure returned the number {loss!r} and called no backward, so there is no gradient; "
            "return the loss as a Tensor."
        )


def check_residuals(returned: Any, owner: str) -> list[Tensor]:
    """The leaves of what the closure returned, which must be Tensors of numbers that can be differentiated."""
    found: list[Any] = [None] if returned is None else flatten(returned)[0]
    for y in found:
        if not isinstance(y, Tensor) or y.dtype.kind != "f":
            raise TypeError(
                f"{owner}: the closure returned {_described(y)}; expected residuals, a Tensor of floats "
                "(or a tuple, list or dict of them)."
            )
    if len(found) == 1 and not found[0].ndim:
        raise ValueError(
            f"{owner}: the closure returned a single number; expected residuals, one for each observation, such as "
            "model(x) - y: their squares are summed here."
        )
    if not sum(y.size for y in found):
        raise ValueError(f"{owner}: the closure returned no residuals; expected one for each observation.")
    return found


def check_reach(graph: Graph, problem: Any, what: str) -> None:
    """Raise at the first point if what was returned does not depend on any of the parameters."""
    sinks = [y.node for y in graph.outputs if y.node is not None]
    if problem.nfev == 1 and not nodes_between([x.node for x in graph.inputs], sinks):
        raise ValueError(
            f"{problem.owner}: the {what} that the closure returned does not depend on any of the parameters. Was it "
            "computed under no_grad or detached, or are these the parameters of another model?"
        )


def went_backward_in_vain(owner: str, what: str) -> str:
    return (
        f"{owner}: the closure called backward, which used up the record of the {what} that this method "
        f"differentiates itself. Leave out backward() and return the {what}; zero_grad() is not needed either."
    )


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a Tensor of {value.dtype}"
    return "nothing" if value is None else f"a {type(value).__name__}"
