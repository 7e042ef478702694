"""How good a model is: its mean loss and accuracy over a loader."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from minigrad.autograd.grad_mode import enable_grad, no_grad
from minigrad.autograd.tensor import Tensor
from minigrad.backend import faults
from minigrad.backend.plain.losses import nothing_to_average
from minigrad.training.counting import Counting
from minigrad.training.fit_arguments import batches_of, single_number
from minigrad.training.history import Totals, TotalsThere
from minigrad.training.protocols import Batches, Loss


def evaluate(
    model: Callable[[Tensor], Tensor], loader: Batches, loss: Loss, *, device: str | None = None
) -> tuple[float, float | None]:
    """The mean loss and the accuracy of a model over a loader, with dropout off and the running statistics in use.

    Parameters
    ----------
    model : Module, or any function
        Its mode, training or evaluation, is put back afterwards.
    loader : iterable of (inputs, targets)
    loss : function
        `loss(outputs, targets)`, the mean over a batch.
    device : str, optional
        Where to move each batch.

    Returns
    -------
    loss, accuracy : float, float or None
        Means over all samples, whatever the sizes of batches; for losses with an `ignore_index` over the labels that
        are not ignored, by the weights of their classes. The accuracy counts where the largest of the outputs
        (N, classes, ...) is at the integer targets (N, ...), of those that name a class and are not ignored; None where
        outputs and targets are something else, or no label counts.
    """
    totals, there, counting, batches = Totals(), None, Counting(loss), 0
    with no_grad(), mode_of(model, training=False):
        for inputs, targets in batches_of("evaluate", loader, device):
            batches += 1
            output = model(inputs)
            if getattr(output, "device", "cpu") != "cpu":
                there = there or TotalsThere(output.data)
                _add_there(there, loss, output, targets, counting)
                continue
            if counting.known and not counting.denominator(targets):
                continue  # every label is ignored
            value = single_number("evaluate", loss(output, targets)).item()
            totals.add(value, output, targets, counting)
    if not batches:
        raise ValueError("evaluate: the loader gave no batches; expected at least one (inputs, targets).")
    return (totals if there is None else there.read()).means()


def _add_there(there: TotalsThere, loss: Loss, output: Tensor, targets: Tensor, counting: Counting) -> None:
    """Add a batch on a GPU, where nobody looks whether every label is ignored: the totals then leave it out."""
    with faults.tolerated(nothing_to_average) if counting.known else nullcontext():
        value = single_number("evaluate", loss(output, targets))
    there.add(value, output, targets, counting)


@contextmanager
def mode_of(model: Any, training: bool) -> Iterator[None]:
    """Put every module into a mode, and put back the mode that each had."""
    modes = [(module, module.training) for module in model.modules()] if hasattr(model, "modules") else []
    if modes:
        model.train(training)
    try:
        if training:
            with enable_grad():
                yield
        else:
            yield
    finally:
        for module, mode in modes:
            module.training = mode
