"""What `fit` and `evaluate` are given, checked: options, the parts of a run, loaders, batches and losses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from minigrad.autograd.errors import ShapeError
from minigrad.autograd.tensor import Tensor
from minigrad.training.protocols import Batches


def check_options(
    epochs: object, patience: object, micro_batches: object, resume: bool, out: Any, capture: object
) -> None:
    if capture not in (None, True, False):
        raise ValueError(f"fit: capture={capture!r}; expected True, False, or None to capture on a GPU if possible.")
    for name, value in (("epochs", epochs), ("patience", patience), ("micro_batches", micro_batches)):
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= 1
        if not whole and not (name == "patience" and value is None):
            raise ValueError(f"fit: {name}={value!r}; expected a whole number, 1 or more.")
    if out is not None and not os.fspath(out):
        raise ValueError("fit: out is an empty text; expected a folder, as in out='runs/first', or None for no files.")
    if resume and out is None:
        raise ValueError("fit: resume=True without out=...; give the folder of the run to go on with.")


def check_parts(model: Any, loss: Any, optimizer: Any) -> None:
    """Raise for an optimizer that has none of the model's parameters: it would train nothing, and say nothing."""
    for name, part in (("model", model), ("loss", loss)):
        if not callable(part):
            raise TypeError(f"fit: the {name} is a {type(part).__name__}; expected a Module, or a function.")
    if not hasattr(optimizer, "param_groups"):
        raise TypeError(f"fit: the optimizer is a {type(optimizer).__name__}; expected one of minigrad.optim.")
    own = {id(p) for p in model.parameters()} if hasattr(model, "parameters") else set()
    given = [p for group in optimizer.param_groups for p in group["params"]]
    if own and not any(id(p) in own for p in given):
        raise ValueError(
            f"fit: the optimizer has {len(given)} parameters, none of which is one of the model's {len(own)}; make it "
            "of this model, as in Adam(model.parameters()), after the model's last layer was set."
        )


def check_loader(what: str, loader: Any) -> None:
    if hasattr(loader, "__iter__"):
        return
    if hasattr(loader, "__getitem__") and hasattr(loader, "__len__"):
        raise TypeError(
            f"{what} is a {type(loader).__name__}, a data set of single samples; expected batches. Put it into a "
            "loader: DataLoader(dataset, batch_size=64, shuffle=True)."
        )
    raise TypeError(f"{what} is a {type(loader).__name__}; expected a DataLoader, or a list of (inputs, targets).")


def single_number(who: str, loss: Any) -> Tensor:
    if not isinstance(loss, Tensor):
        raise TypeError(
            f"{who}: the loss function gave a {type(loss).__name__}; expected a Tensor, before item() or float()."
        )
    if loss.size != 1:
        raise ShapeError(
            f"{who}: the loss has shape {loss.shape}; expected a single number, the mean over the batch: "
            "reduction='mean', or .mean()."
        )
    return loss


def batches_of(who: str, loader: Batches, device: str | None) -> Iterator[tuple[Tensor, Tensor]]:
    check_loader(f"{who}: the loader", loader)
    for batch in loader:
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            found = f"{len(batch)} fields" if isinstance(batch, (tuple, list)) else f"a {type(batch).__name__}"
            raise ValueError(f"{who}: expected batches of (inputs, targets), got {found}.")
        for name, part in zip(("inputs", "targets"), batch, strict=True):
            if not hasattr(part, "shape"):
                raise TypeError(
                    f"{who}: the {name} of a batch are a {type(part).__name__}; expected a Tensor with the samples "
                    "along its first axis. Of single samples a DataLoader makes batches."
                )
        inputs, targets = batch if device is None else [part.to(device) for part in batch]
        yield inputs, targets
