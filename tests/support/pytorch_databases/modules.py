"""PyTorch's database of modules: the same layer in both libraries, with the same weights."""

from __future__ import annotations

from typing import Any

import minigrad as mg
from minigrad import nn

from .comparing import Finding, Question, answer, blamed, difference, requiring_gradients
from .samples import restart
from .translation import ours, torch

NO_SECOND = {"MultiMarginLoss"}
"""PyTorch itself has no second derivative of these, though its database says so of ops only."""


def inputs(entry: Any, training: bool) -> list:
    restart()
    return list(entry.module_inputs_func(entry, "cpu", torch.float64, True, training))


def compare_modules(entry: Any, sample: Any, training: bool) -> Finding | None:
    """Output, gradients of inputs and parameters, their derivatives, and buffers afterwards: None where all agree."""
    made = sample.constructor_input
    theirs = entry.module_cls(*made.args, **made.kwargs).double().train(training)
    options = {name: ours(value) for name, value in made.kwargs.items()}
    try:
        mine = getattr(nn, entry.module_cls.__name__)(*ours(tuple(made.args)), **options)
    except Exception as error:
        return blamed(error)
    mine.to("float64")
    mine.train(training)
    mine.load_state_dict({name: ours(value) for name, value in theirs.state_dict().items()})
    given = sample.forward_input
    values, named = ours(tuple(given.args)), {name: ours(value) for name, value in given.kwargs.items()}
    found = answer(
        Question(
            ours=lambda: mine(*values, **named),
            theirs=lambda: theirs(*given.args, **given.kwargs),
            our_inputs=requiring_gradients((values, named), mg.Tensor) + list(mine.parameters()),
            their_inputs=requiring_gradients((given.args, given.kwargs), torch.Tensor) + list(theirs.parameters()),
            gradients=True,
            second=entry.supports_gradgrad and entry.module_cls.__name__ not in NO_SECOND,
        )
    )
    return found or _differ_in_state(mine.state_dict(), theirs.state_dict())


def _differ_in_state(mine: dict, theirs: dict) -> Finding | None:
    if list(mine) != list(theirs):
        return Finding("value", f"state {list(mine)}; expected {list(theirs)}")
    for name, value in theirs.items():
        text = difference(mine[name], value)
        if text:
            return Finding("value", f"{name} afterwards: {text}")
    return None
