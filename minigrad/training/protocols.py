"""What `fit` and `evaluate` ask of the objects that they are given; any class with these methods will do.

`nn.Module` is a Model, a loss of `nn.functional` a Loss, `optim.SGD` an Optimizer, `optim.StepLR` a Scheduler, and a
`DataLoader`, or a list of pairs of Tensors, gives Batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from minigrad.autograd.tensor import Tensor

Batches = Iterable[Sequence[Tensor]]
"""Batches of (inputs, targets)."""


class Loss(Protocol):
    """The mean loss over a batch, from outputs and targets."""

    def __call__(self, output: Tensor, target: Tensor, /) -> Tensor: ...


@runtime_checkable
class Resumable(Protocol):
    """An object whose state can be saved and put back."""

    def state_dict(self) -> Mapping[str, Any]: ...

    def load_state_dict(self, state: Any, /) -> Any: ...


class Model(Resumable, Protocol):
    """A function with weights. If it has `modules` and `train`, as a Module, its mode is set too."""

    def __call__(self, inputs: Tensor, /) -> Tensor: ...


class Optimizer(Resumable, Protocol):
    """Updates the weights by their gradients; the learning rate is `param_groups[0]["lr"]`."""

    param_groups: list[dict[str, Any]]

    def zero_grad(self) -> None: ...

    def step(self) -> Any: ...


class Scaler(Resumable, Protocol):
    """Scales the loss for half precision, and lets the optimizer step with what it has scaled: `amp.GradScaler`."""

    def scale(self, outputs: Any, /) -> Any: ...

    def unscale_(self, optimizer: Any, /) -> None: ...

    def step(self, optimizer: Any, /) -> Any: ...

    def update(self) -> None: ...


class Scheduler(Resumable, Protocol):
    """Sets the optimizer's learning rate at each `step`.

    Its attribute `interval`, "epoch" by default, or "batch", says when it is stepped. One with `watches` True is given
    a metric: the loss for `mode` "min", the accuracy for "max".
    """

    @property
    def step(self) -> Callable[..., Any]: ...
