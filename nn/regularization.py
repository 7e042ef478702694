"""Penalties: functions of a model's parameters, or of what its layers give out, that are added to the loss.

>>> penalty = L2Penalty(1e-4, where=is_weight) + L1Penalty(1e-5, where="head.*")
>>> loss = cross_entropy(model(images), labels) + penalty(model)

After this file you know each penalty as its formula, how the parameters it touches are chosen by name or by a
predicate, and why a penalty does not make a weight exactly zero: a step along its gradient goes past zero. The
proximal step, which does, is in `minigrad.optim` (`ProximalL1`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from numpy.typing import ArrayLike

import minigrad as mg
from minigrad import HookHandle, ShapeError, Tensor

from .module import Module
from .parameter import Parameter

Where = None | str | Iterable[str] | Callable[[str, Tensor], bool]
"""Which parameters: all (None), by a pattern of their names such as "features.*.weight", by several, or by a predicate
`(name, parameter) -> bool` such as `is_weight`."""


# --- choosing parameters ---


def is_weight(name: str, parameter: Tensor) -> bool:
    """Whether a parameter is a matrix or a kernel: not a bias, nor a scale or shift of a normalisation."""
    return parameter.ndim > 1


def select_parameters(model: Module, where: Where = None) -> dict[str, Parameter]:
    """The parameters of a model that `where` chooses (see `Where`), by name; ValueError if there are none."""
    chosen = _predicate(where)
    found = {name: p for name, p in model.named_parameters() if chosen(name, p)}
    if not found:
        names = [name for name, _ in model.named_parameters()]
        raise ValueError(
            f"where={where!r} chooses none of the parameters of {type(model).__name__}; they are "
            f"{', '.join(names) or 'none'}. Patterns are like '*.weight'."
        )
    return found


def _predicate(where: Where) -> Callable[[str, Any], bool]:
    if where is None:
        return lambda name, parameter: True
    if callable(where):
        return where
    patterns = [where] if isinstance(where, str) else list(where)
    if not all(isinstance(pattern, str) for pattern in patterns):
        raise TypeError(f"where={where!r}: expected a pattern, several, a predicate (name, parameter), or None.")
    return lambda name, parameter: any(fnmatchcase(name, pattern) for pattern in patterns)


# --- penalties ---


class Penalty:
    """The base of penalties: `penalty(model)` is a Tensor of one number, and penalties can be added."""

    def __call__(self, model: Module) -> Tensor:
        raise NotImplementedError

    def __add__(self, other: Penalty) -> Penalty:
        return _Sum(self, other) if isinstance(other, Penalty) else NotImplemented


class _Sum(Penalty):
    def __init__(self, first: Penalty, second: Penalty):
        self.terms = first, second

    def __call__(self, model: Module) -> Tensor:
        return self.terms[0](model) + self.terms[1](model)


class L2Penalty(Penalty):
    """`strength / 2 * sum(w^2)`: ridge, Tikhonov. Its gradient is `strength * w`.

    For SGD it is the optimizer's `weight_decay=strength`, by another way. (Where a text writes lambda * sum(w^2),
    strength is twice its lambda.)
    """

    def __init__(self, strength: float, where: Where = None):
        self.strength, self.where = _strength("L2Penalty", strength), where

    def __call__(self, model: Module) -> Tensor:
        return 0.5 * self.strength * _total(mg.square(p).sum() for p in select_parameters(model, self.where).values())


class L1Penalty(Penalty):
    """`strength * sum(|w|)`: the lasso. Its gradient is `strength * sign(w)`, of one size however small w is.

    Weights come near zero, and then swing about it by the length of a step; `optim.ProximalL1` makes them zero.
    """

    def __init__(self, strength: float, where: Where = None):
        self.strength, self.where = _strength("L1Penalty", strength), where

    def __call__(self, model: Module) -> Tensor:
        return self.strength * _total(mg.abs(p).sum() for p in select_parameters(model, self.where).values())


class ElasticNet(Penalty):
    """`l1 * sum(|w|) + l2 / 2 * sum(w^2)` (Zou & Hastie 2005, "Regularization and variable selection via the elastic
    net"): zeros as with L1, while weights of inputs that go together stay together as with L2.
    """

    def __init__(self, l1: float, l2: float, where: Where = None):
        self.l1, self.l2 = L1Penalty(_strength("ElasticNet", l1), where), L2Penalty(_strength("ElasticNet", l2), where)

    def __call__(self, model: Module) -> Tensor:
        return self.l1(model) + self.l2(model)


class WeightDistance(Penalty):
    """`strength / 2 * sum((w - w0)^2)`: stay near given weights.

    With the weights of a pretrained model it is the L2-SP of Li, Grandvalet & Davoine 2018, "Explicit inductive bias
    for transfer learning with convolutional networks", equation 2.

    Parameters
    ----------
    reference : Module, or mapping from names to Tensors or arrays
        The weights to stay near, copied now: `WeightDistance(model, 0.01)` before training means where it begins.
    strength : float
    where : see `Where`
        Of the model's parameters; all of these must be in the reference, so leave out a new head.
    squared : bool
        False for `strength * ||w - w0||`, the norm itself over all weights as one vector: its gradient is as long
        at every distance. (At w0 it is taken as zero.)
    """

    def __init__(
        self, reference: Module | Mapping[str, ArrayLike], strength: float, where: Where = None, squared: bool = True
    ):
        named = reference.state_dict() if isinstance(reference, Module) else reference
        if not isinstance(named, Mapping):
            raise TypeError(
                f"WeightDistance: expected a Module or a mapping from names to weights, got {type(reference).__name__}."
            )
        self.reference = {name: mg.tensor(value) for name, value in named.items()}
        self.strength, self.where, self.squared = _strength("WeightDistance", strength), where, squared

    def __call__(self, model: Module) -> Tensor:
        parameters = select_parameters(model, self.where)
        missing = [name for name in parameters if name not in self.reference]
        if missing:
            raise ValueError(
                f"WeightDistance: the reference has no {', '.join(missing)}; choose others by where=, such as "
                "where=lambda name, p: not name.startswith('head')."
            )
        pairs = [(p, self._like(name, p)) for name, p in parameters.items()]
        return _distance("WeightDistance", pairs, self.strength, self.squared)

    def _like(self, name: str, parameter: Tensor) -> Tensor:
        """The reference for a parameter, brought once to its device and dtype."""
        moved = self.reference[name] = self.reference[name].to(parameter.device).to(parameter.dtype)
        return moved


class LayerDistance(Penalty):
    """`strength / 2 * sum((w1 - w2)^2)` over the parameters of two layers of one kind: soft sharing of weights.

    Parameters
    ----------
    first, second : str or Module
        Names within the model, such as "encoder.0", or the layers themselves.
    strength : float
    where : see `Where`
        Of the first layer's parameters, by their names within it.
    squared : bool
        As for `WeightDistance`.
    """

    def __init__(
        self,
        first: str | Module,
        second: str | Module,
        strength: float,
        where: Where = None,
        squared: bool = True,
    ):
        self.layers, self.where, self.squared = (first, second), where, squared
        self.strength = _strength("LayerDistance", strength)

    def __call__(self, model: Module) -> Tensor:
        first, second = (_layer(model, layer) for layer in self.layers)
        others = dict(second.named_parameters())
        parameters = select_parameters(first, self.where)
        missing = [name for name in parameters if name not in others]
        if missing:
            raise ValueError(
                f"LayerDistance: the second layer, a {type(second).__name__}, has no {', '.join(missing)} to compare."
            )
        pairs = [(p, others[name]) for name, p in parameters.items()]
        return _distance("LayerDistance", pairs, self.strength, self.squared)


class ActivationL1(Penalty):
    """`strength * sum(|h|) / N` over the outputs h of chosen layers in the last forward pass: sparse representations.

    Call it after the forward pass that the loss comes from. Only passes in training mode, with gradients, count.

    Parameters
    ----------
    model : Module
    where : type, str, predicate `(name, module) -> bool`
        Which modules: `nn.ReLU`, a pattern of names, ...
    strength : float

    Examples
    --------
    >>> sparse = ActivationL1(model, nn.ReLU, 1e-3)
    >>> loss = cross_entropy(model(images), labels) + sparse(model)
    >>> sparse.remove()      # takes the hooks off again
    """

    def __init__(self, model: Module, where: type | Where, strength: float):
        self.strength = _strength("ActivationL1", strength)
        chosen = (lambda name, module: isinstance(module, where)) if isinstance(where, type) else _predicate(where)
        layers = [module for name, module in model.named_modules() if name and chosen(name, module)]
        if not layers:
            raise ValueError(f"ActivationL1: where={where!r} chooses none of the modules of {type(model).__name__}.")
        self._given: list[Tensor] = []
        self._complete = True
        self._handles: list[HookHandle] = [layer.register_forward_hook(self._collect) for layer in layers]
        self._handles.append(model.register_forward_hook(self._close))

    def __call__(self, model: Module | None = None) -> Tensor:
        if not self._given:
            raise RuntimeError(
                "ActivationL1: no layer has given out anything since the last call; run the model in training mode "
                "first, and ask once for each forward pass."
            )
        given, self._given = self._given, []
        return self.strength * _total(mg.abs(h).sum() / max(len(h) if h.ndim else 1, 1) for h in given)

    def remove(self) -> None:
        """Take the hooks off the model."""
        for handle in self._handles:
            handle.remove()

    def _collect(self, module: Module, arguments: tuple, output: Tensor) -> None:
        if self._complete:
            self._given, self._complete = [], False
        if module.training and isinstance(output, Tensor) and output.requires_grad:
            self._given.append(output)

    def _close(self, module: Module, arguments: tuple, output: object) -> None:
        self._complete = True


def penalized(loss: Callable[..., Tensor], penalty: Callable[[Module], Tensor], model: Module) -> Callable[..., Tensor]:
    """`loss(...) + penalty(model)` while the model is in training mode, the loss alone otherwise.

    For `training.fit(model, penalized(cross_entropy, penalty, model), ...)`: what it validates by is then the plain
    loss.
    """

    def with_penalty(*args: Any, **options: Any) -> Tensor:
        plain = loss(*args, **options)
        return plain + penalty(model) if model.training else plain

    return with_penalty


# --- inside ---


def _strength(owner: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
        raise ValueError(f"{owner}: strength={value!r}; expected a number, 0 or more.")
    return value


def _total(terms: Iterable[Tensor]) -> Tensor:
    first, *rest = terms
    for term in rest:
        first = first + term
    return first


def _distance(owner: str, pairs: Sequence[tuple[Tensor, Tensor]], strength: float, squared: bool) -> Tensor:
    for first, second in pairs:
        if first.shape != second.shape:
            raise ShapeError(f"{owner}: weights of shapes {first.shape} and {second.shape} have no distance.")
    if squared:
        return 0.5 * strength * _total(mg.square(first - second).sum() for first, second in pairs)
    return strength * mg.norm(mg.stack([mg.norm(first - second) for first, second in pairs]))


def _layer(model: Module, layer: str | Module) -> Module:
    if isinstance(layer, Module):
        return layer
    found = dict(model.named_modules()).get(layer)
    if found is None:
        names = ", ".join(name for name, _ in model.named_modules() if name)
        raise ValueError(f"LayerDistance: {type(model).__name__} has no module {layer!r}; it has {names}.")
    return found
