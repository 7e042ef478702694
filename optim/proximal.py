"""Regularizers given to an optimizer: decay beside its step, soft thresholds and projections after it.

>>> optimizer = optim.Regularized(optim.SGD(model.parameters(), lr=0.1), model, optim.ProximalL1(1e-3, where=is_weight))

A penalty with a kink at its minimum, or a constraint, does not work as part of the loss: its gradient does not say
where to stop. The proximal step does: after the optimizer's step to w it solves
`min over u of penalty(u) + ||u - w||^2 / (2 lr)`, which for L1 is a soft threshold and for a constraint the projection
(Parikh & Boyd 2014, "Proximal algorithms", sections 4.2 and 6). So L1 gives weights that are exactly zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minigrad import Tensor, autograd, enable_grad
from minigrad.backend import namespace
from minigrad.backend.gpu.replay import refuse_capture
from minigrad.nn.regularization import Where, is_weight, select_parameters

from .nonfinite import all_finite
from .optimizer import Optimizer
from .options import check_number
from .wrapper import OptimizerWrapper


class StepRegularizer:
    """What is done to chosen parameters around a step. `lr` is the rate of the parameter's group at that step."""

    def __init__(self, where: Where = None):
        self.where = where

    def before_step(self, p: Tensor, lr: float) -> None:
        """Change a parameter, in place, before the optimizer's step; the gradient is there already."""

    def after_step(self, p: Tensor, lr: float) -> None:
        """Change a parameter, in place, after the optimizer's step."""


class DecoupledDecay(StepRegularizer):
    """`p <- p - lr * rate * p` before the step, for any optimizer: Loshchilov & Hutter 2019, algorithms 1 and 2.

    For plain SGD it is the same as its `weight_decay`, the gradient of an L2 penalty. For Adam it is not: there a
    penalty's gradient is divided like the rest, so that weights with large gradients decay less. With Adam it makes
    AdamW.
    """

    def __init__(self, rate: float, where: Where = None):
        super().__init__(where)
        check_number("DecoupledDecay", "rate", rate, 0)
        self.rate = rate

    def before_step(self, p: Tensor, lr: float) -> None:
        _multiply(p, 1 - lr * self.rate)


class ProximalElasticNet(StepRegularizer):
    """The proximal step of `l1 * |w| + l2 / 2 * w^2`: `w <- soft(w, lr * l1) / (1 + lr * l2)`.

    `soft(w, t) = sign(w) * max(|w| - t, 0)`: the soft threshold, which makes what is no larger than t zero.
    """

    def __init__(self, l1: float, l2: float, where: Where = None):
        super().__init__(where)
        check_number(type(self).__name__, "l1", l1, 0)
        check_number(type(self).__name__, "l2", l2, 0)
        self.l1, self.l2 = l1, l2

    def after_step(self, p: Tensor, lr: float) -> None:
        threshold = lr * self.l1
        if threshold:  # w - clip(w, -t, t) is the soft threshold, in two passes
            _subtract(p, namespace(p.data).clip(p.data, -threshold, threshold))
        if self.l2:
            _multiply(p, 1 / (1 + lr * self.l2))


class ProximalL1(ProximalElasticNet):
    """The proximal step of `strength * |w|`: `w <- sign(w) * max(|w| - lr * strength, 0)`. Weights become exactly zero.

    With plain SGD it is ISTA (Beck & Teboulle 2009, "A fast iterative shrinkage-thresholding algorithm", equation 1.4)
    and solves the lasso. The threshold is that of the plain rate with any optimizer: where momentum m makes the steps
    1 / (1 - m) times as long in the long run, the penalty counts 1 - m times as much.
    """

    def __init__(self, strength: float, where: Where = None):
        super().__init__(strength, 0, where)


class MaxNorm(StepRegularizer):
    """After each step, bring the weights of every unit back to a norm of `limit`: `w <- w * min(1, limit / ||w||)`.

    Srebro & Shraibman 2005; Srivastava et al. 2014, "Dropout", section 5.1, with limits of 3 to 4. For weights
    (out, in, ...) the norm is over all axes but the first, the weights that come into one unit; a vector has one norm.

    Parameters
    ----------
    limit : float
        Above 0.
    where : see `nn.Where`
        Unless given, all but biases and other vectors.
    """

    def __init__(self, limit: float, where: Where = is_weight):
        super().__init__(where)
        check_number("MaxNorm", "limit", limit, 0)
        if limit == 0:
            raise ValueError("MaxNorm: limit=0 leaves no weights; expected a number above 0.")
        self.limit = limit

    def after_step(self, p: Tensor, lr: float) -> None:
        xp, data = namespace(p.data), p.data
        axes = tuple(range(1, p.ndim)) if p.ndim > 1 else None
        norms = xp.sqrt((data * data).sum(axis=axes, keepdims=True))
        _multiply(p, (self.limit / xp.maximum(norms, self.limit)).reshape(norms.shape if p.ndim else ()))


class Regularized(OptimizerWrapper):
    """An optimizer with regularizers, of a model's chosen parameters, around each of its steps.

    Parameters
    ----------
    optimizer : Optimizer
        Any. Its groups, state and options are this one's too; schedules take either.
    model : Module
        Whose parameters the optimizer has: it knows their names.
    regularizers : StepRegularizer or Penalty
        In the order in which they are applied. The gradient of a penalty (`nn.L2Penalty`, or any function of the model
        that gives a number) is added to the gradients before the step, as if it were part of the loss.

    Notes
    -----
    As for the optimizer itself, a parameter without a gradient is left alone. A step that is skipped or raises because
    of gradients that are not finite (`nonfinite` of the optimizer) changes nothing.

    Raises
    ------
    ValueError
        A regularizer that chooses none of the model's parameters.
    TypeError
        Something that is no optimizer or no regularizer.
    """

    def __init__(self, optimizer: Optimizer, model: Any, *regularizers: StepRegularizer | Callable[[Any], Tensor]):
        super().__init__(optimizer)
        self.model = model
        self.regularizers = regularizers
        self._stepwise: list[tuple[StepRegularizer, set[int]]] = []
        self._penalties: list[Callable[[Any], Tensor]] = []
        for one in regularizers:
            if isinstance(one, StepRegularizer):
                self._stepwise.append((one, {id(p) for p in select_parameters(model, one.where).values()}))
            elif callable(one):
                self._penalties.append(one)
            else:
                raise TypeError(f"Regularized: expected a StepRegularizer or a penalty, got a {type(one).__name__}.")

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one regularized step; see `Optimizer.step`."""
        refuse_capture("Regularized.step")
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        if self.nonfinite != "pass" and not all_finite(self._all_params()):
            self.optimizer.step()  # which skips, or raises
            return loss
        moving = [(p, group["lr"]) for group in self.param_groups for p in group["params"] if p.grad is not None]
        self._add_gradients_of_penalties([p for p, _ in moving])
        for one, chosen in self._stepwise:
            for p, lr in moving:
                if id(p) in chosen:
                    one.before_step(p, lr)
        self.optimizer.step()
        for one, chosen in self._stepwise:
            for p, lr in moving:
                if id(p) in chosen:
                    one.after_step(p, lr)
        return loss

    def _add_gradients_of_penalties(self, params: list[Any]) -> None:
        for penalty in self._penalties if params else ():
            with enable_grad():
                value = penalty(self.model)
            for p, gradient in zip(params, autograd.grad(value, params, allow_unused=True), strict=True):
                if gradient is not None:
                    p.grad = p.grad + gradient

    def words(self) -> str:
        return ", ".join(type(one).__name__ for one in self.regularizers)


def no_decay_groups(model: Any, weight_decay: float, no_decay: Where = None) -> list[dict[str, Any]]:
    """Parameter groups in which biases and normalisations are not decayed.

    >>> optimizer = optim.AdamW(optim.no_decay_groups(model, weight_decay=0.05), lr=1e-3)

    Parameters
    ----------
    model : Module
    weight_decay : float
        Of the other parameters.
    no_decay : see `nn.Where`
        Which are not decayed; unless given, all that are no matrices or kernels (`nn.is_weight`).

    Returns
    -------
    list of dict
        Two groups, with `weight_decay` as given and 0; one if the other would be empty. Frozen parameters are left out.
    """
    check_number("no_decay_groups", "weight_decay", weight_decay, 0)
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if no_decay is None:
        spared = {name for name, p in named.items() if not is_weight(name, p)}
    else:
        spared = set(select_parameters(model, no_decay))
    decayed = [p for name, p in named.items() if name not in spared]
    others = [p for name, p in named.items() if name in spared]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _multiply(p: Tensor, factor: Any) -> None:
    if p.ndim:
        data = p.data
        data *= factor
        p.touch()
    else:  # a NumPy scalar cannot be written to
        p.copy_(Tensor(p.data * factor))


def _subtract(p: Tensor, amount: Any) -> None:
    if p.ndim:
        data = p.data
        data -= amount
        p.touch()
    else:
        p.copy_(Tensor(p.data - amount))
