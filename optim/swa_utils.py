"""Averages of weights: a second copy of a model that holds the mean of what the first one was, evenly or lately.

Stochastic weight averaging is an even mean, taken at the end of epochs late in training; an exponential moving average
is taken at every step. Batch-norm's running statistics must then be computed anew, because those of none of the models
fit the mean of their weights. The names are PyTorch's.

>>> averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.999))
>>> for images, labels in loader:
...     ...  # a training step of model
...     averaged.update_parameters(model)
>>> update_bn(loader, averaged)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from itertools import chain
from typing import Any

import numpy as np

from minigrad import Tensor, no_grad, tensor
from minigrad.nn import Module

from .options import check_number

AvgFn = Callable[[Tensor, Tensor, int], Tensor]
MultiAvgFn = Callable[[Sequence[Tensor], Sequence[Tensor], int], None]


class AveragedModel(Module):
    """A copy of a model whose parameters are an average of the model's over the updates.

    Parameters
    ----------
    model : Module
        Copied; called as the copy is, `averaged(x)`.
    device : str, optional
        Where the average is kept; where the model is, unless given.
    avg_fn : function, optional
        `avg_fn(averaged, current, n)`, the new average of one parameter as a Tensor, with n how many updates came
        before; `get_ema_avg_fn(decay)`, say.
    multi_avg_fn : function, optional
        `multi_avg_fn(averaged, current, n)` for lists of parameters of one device and dtype; overwrites the averaged
        ones with `copy_`. Without either function the average is even (Izmailov et al. 2018, "Averaging weights leads
        to wider optima and better generalization", equation in algorithm 1).
    use_buffers : bool
        Average the buffers too, batch-norm's running statistics say, instead of copying them at each update.

    Attributes
    ----------
    module : Module
        The averaged copy.
    n_averaged : Tensor
        How many updates there were; saved in `state_dict`, as PyTorch does.

    Raises
    ------
    TypeError, ValueError
        No module; both functions.
    """

    n_averaged: Tensor

    def __init__(
        self,
        model: Module,
        device: str | None = None,
        avg_fn: AvgFn | None = None,
        multi_avg_fn: MultiAvgFn | None = None,
        use_buffers: bool = False,
    ):
        super().__init__()
        if not isinstance(model, Module):
            raise TypeError(f"AveragedModel: expected a Module, got a {type(model).__name__}.")
        if avg_fn is not None and multi_avg_fn is not None:
            raise ValueError("AveragedModel: got both avg_fn and multi_avg_fn; expected one at most.")
        self.module = deepcopy(model)
        self.register_buffer("n_averaged", tensor(0, dtype=np.int64))
        if device is not None:
            self.to(device)
        self.avg_fn, self.multi_avg_fn, self.use_buffers = avg_fn, multi_avg_fn, use_buffers
        self._known: tuple[Any, int] = (None, 0)  # so that a device need not be asked for n_averaged each time

    def forward(self, *args: Any, **options: Any) -> Any:
        return self.module(*args, **options)

    def update_parameters(self, model: Module) -> None:
        """Let the model's present parameters into the average; the first ones are the first average.

        Raises
        ------
        ValueError
            The model is not of the shape of the one that was copied; nothing is changed.
        """
        averaged, current = self._to_average(self.module), self._to_average(model)
        shapes = [[t.shape for t in tensors] for tensors in (averaged, current)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"AveragedModel.update_parameters: the model has {len(current)} tensors of shapes {shapes[1]}, but "
                f"the average was made of one with {shapes[0]}."
            )
        n = self._count()
        with no_grad():
            current = [t.detach().to(a.device) for a, t in zip(averaged, current, strict=True)]
            if n == 0:
                for a, t in zip(averaged, current, strict=True):
                    a.copy_(t)
            elif self.avg_fn is not None:
                for a, t in zip(averaged, current, strict=True):
                    a.copy_(self.avg_fn(a.detach(), t, n))
            else:
                for ours, theirs in _alike(averaged, current):
                    (self.multi_avg_fn or get_swa_multi_avg_fn())(ours, theirs, n)
            if not self.use_buffers:
                for a, t in zip(self.module.buffers(), model.buffers(), strict=True):
                    a.copy_(t.to(a.device))
        self.n_averaged.replace_data(self.n_averaged.data + 1)
        self._known = (self.n_averaged.data, n + 1)

    def _to_average(self, module: Module) -> list[Tensor]:
        return list(chain(module.parameters(), module.buffers() if self.use_buffers else ()))

    def _count(self) -> int:
        array, count = self._known
        return count if array is self.n_averaged.data else int(self.n_averaged.item())


def _alike(averaged: list[Tensor], current: list[Tensor]) -> Iterable[tuple[list[Tensor], list[Tensor]]]:
    """Both lists, sorted into lists of one device and dtype."""
    found: dict[Any, tuple[list[Tensor], list[Tensor]]] = {}
    for a, t in zip(averaged, current, strict=True):
        ours, theirs = found.setdefault((a.device, a.dtype), ([], []))
        ours.append(a)
        theirs.append(t)
    return found.values()


def get_ema_avg_fn(decay: float = 0.999) -> AvgFn:
    """For `AveragedModel(avg_fn=...)`: `decay * averaged + (1 - decay) * current`."""
    check_number("get_ema_avg_fn", "decay", decay, 0, 1)
    return lambda averaged, current, n: _moved(averaged, current, 1 - decay)


def get_swa_avg_fn() -> AvgFn:
    """For `AveragedModel(avg_fn=...)`: the even mean, `averaged + (current - averaged) / (n + 1)`."""
    return lambda averaged, current, n: _moved(averaged, current, 1 / (n + 1))


def get_ema_multi_avg_fn(decay: float = 0.999) -> MultiAvgFn:
    """`get_ema_avg_fn` for lists, for `AveragedModel(multi_avg_fn=...)`."""
    check_number("get_ema_multi_avg_fn", "decay", decay, 0, 1)
    return lambda averaged, current, n: _move_all(averaged, current, 1 - decay)


def get_swa_multi_avg_fn() -> MultiAvgFn:
    """`get_swa_avg_fn` for lists, for `AveragedModel(multi_avg_fn=...)`."""
    return lambda averaged, current, n: _move_all(averaged, current, 1 / (n + 1))


def _move_all(averaged: Sequence[Tensor], current: Sequence[Tensor], share: float) -> None:
    for a, t in zip(averaged, current, strict=True):
        a.copy_(_moved(a, t, share))


def _moved(averaged: Tensor, current: Tensor, share: float) -> Tensor:
    """Where `averaged` comes to by going `share` of the way to `current`; whole numbers are cut off, as in PyTorch."""
    with no_grad():
        gap = (current.data - averaged.data) * share
        return Tensor((averaged.data + gap).astype(averaged.dtype))


def update_bn(loader: Iterable[Any], model: Module, device: str | None = None) -> None:
    """Compute batch-norm's running statistics of a model anew, as even means over the batches of a loader.

    For averaged weights the statistics of none of the models they are the mean of are right.

    Parameters
    ----------
    loader : iterable
        Of batches: Tensors, or tuples or lists whose first entry is one.
    model : Module
        Called on every batch in training mode, without gradients; its mode is put back afterwards.
    device : str, optional
        Where to move each batch.
    """
    norms: list[Any] = [m for m in model.modules() if hasattr(m, "reset_running_stats")]
    norms = [m for m in norms if m.track_running_stats]
    if not norms:
        return
    modes = [(m, m.training) for m in model.modules()]
    momenta = [m.momentum for m in norms]
    for m in norms:
        m.reset_running_stats()
        m.momentum = None
    try:
        model.train()
        with no_grad():
            for batch in loader:
                x = batch[0] if isinstance(batch, (tuple, list)) else batch
                model(x if device is None else x.to(device))
    finally:
        for m, momentum in zip(norms, momenta, strict=True):
            m.momentum = momentum
        for m, training in modes:
            object.__setattr__(m, "training", training)
