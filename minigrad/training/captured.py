"""The steps of `fit` as launches of a CUDA graph, where that can be; and in words why, where it cannot.

What goes into the graph: `zero_grad`, the forward pass, the loss, the backward pass, the totals, and the optimizer's
step. Python code does not run in a replay. So the user's `before_step` and `after_step` stay outside, and run as
always; with a `before_step`, or an optimizer whose step is no kernel, the graph ends at the gradients.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from minigrad.autograd.tensor import Tensor
from minigrad.cuda import CaptureError, capture
from minigrad.training.protocols import Model, Optimizer

log = logging.getLogger("minigrad.training")
NUMBERS = ("lr", "initial_lr", "max_lr", "min_lr")  # options that never change the formula


def device_of_model(model: Any) -> str:
    """Where the first parameter lies."""
    first = next(iter(model.parameters()), None) if hasattr(model, "parameters") else None
    return "cpu" if first is None else first.device


def why_not(model: Any, chunks: int) -> str | None:
    """Why no step of this model can be captured, or None."""
    if not hasattr(type(model), "modules"):
        return f"the model is a {type(model).__name__}, no Module, so that what it works on is not known"
    if any(getattr(module, "_forward_hooks", None) for module in model.modules()):
        return "a module has forward hooks, which would not be called"
    if chunks > 1:
        return "micro_batches are counted by the host"
    return None


def check_capture(capture: object, model: Any, chunks: int) -> None:
    """Raise for a `capture` that makes no sense, or that is True for what cannot be captured."""
    if capture is not None and not isinstance(capture, bool):
        raise TypeError(f"fit: capture={capture!r}; expected True, False, or None, which captures where that can be.")
    if not capture:
        return
    device, reason = device_of_model(model), why_not(model, chunks)
    if device == "cpu":
        raise ValueError('fit: capture=True, and the model lies on "cpu"; expected one on a GPU: model.to("cuda").')
    if reason is not None:
        raise ValueError(f"fit: capture=True, and the steps cannot be captured: {reason}. Use capture=None or False.")


def captured_steps(
    function: Callable[[Tensor, Tensor], None],
    asked: bool | None,
    model: Model,
    loss: Any,
    optimizer: Optimizer,
    chunks: int,
) -> CapturedSteps | None:
    """The steps of a run, or None for one whose steps are taken as they are; on a GPU the log says why."""
    if asked is False or device_of_model(model) == "cpu":
        return None
    reason = why_not(model, chunks)
    if reason is not None:
        log.warning("fit: the steps are not captured: %s.", reason)
        return None
    return CapturedSteps(function, asked is True, [model, loss, optimizer], optimizer)


class CapturedSteps:
    """A function of a batch, replayed. `take` says whether it was; if not, nothing has happened.

    Parameters
    ----------
    function : function of (inputs, targets)
    must : bool
        Raise CaptureError for a step that cannot be captured, instead of giving up with a line in the log.
    works_on : list
        Model, loss and optimizer.
    """

    def __init__(self, function: Callable[[Tensor, Tensor], None], must: bool, works_on: list, optimizer: Optimizer):
        def fit_step(inputs: Tensor, targets: Tensor, options: tuple) -> None:
            function(inputs, targets)

        self._step: Any = capture(fit_step, model=works_on)
        self._must, self._optimizer = must, optimizer

    def take(self, inputs: Tensor, targets: Tensor) -> bool:
        """Take the step of a batch, if it can be captured."""
        if self._step is None:
            return False
        if inputs.device == "cpu" or inputs.requires_grad or targets.requires_grad:
            self._refuse("a batch lies on the CPU, or needs a gradient")
            return False
        try:
            self._step(inputs, targets, _kinds_of_options(self._optimizer))
        except CaptureError as error:
            if self._must:
                raise
            self._refuse(str(error))
            return False
        return True

    def _refuse(self, reason: str) -> None:
        if self._must:
            raise CaptureError(f"fit: capture=True, and {reason}.")
        self._step = None
        log.warning("fit: the steps are not captured from here on: %s", reason)


def _kinds_of_options(optimizer: Optimizer) -> tuple:
    """What of the options decides on the formula: flags and choices, and which numbers are 0."""
    return tuple(
        (name, value if isinstance(value, (bool, str, type(None))) else bool(value))
        for group in optimizer.param_groups
        for name, value in group.items()
        if name != "params" and name not in NUMBERS and isinstance(value, (bool, str, int, float, type(None)))
    )
