"""Whether ops are recorded: `no_grad`, `enable_grad`, and what the engine switches while derivative rules run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ContextDecorator, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minigrad.backend import Level


class GradMode(threading.local):
    """The switches of one thread.

    enabled : whether ops that are called leave nodes in the graph
    in_rule : whether derivative rules are being recorded; a number taken out of a Tensor is then a term lost
    taken_out : how many times numbers were taken out of Tensors with gradients, by float(), item() or numpy()
    opened : while a checkpointed function runs for the first time, the list that notes its `vmap` levels
    replayed : while it runs again, those levels in turn
    """

    enabled: bool = True
    in_rule: bool = False
    taken_out: int = 0
    opened: list[Level] | None = None
    replayed: Iterator[Level] | None = None


grad_mode = GradMode()


class set_grad_enabled(ContextDecorator):
    """Switch recording on or off in this thread; a context manager and a decorator. Restores what was, on any exit."""

    def __init__(self, enabled: bool):
        self.enabled = bool(enabled)
        self.previous: list[tuple[bool, bool]] = []

    def _recreate_cm(self) -> set_grad_enabled:
        return set_grad_enabled(self.enabled)  # as a decorator one for each call: calls in two threads may overlap

    def __enter__(self) -> set_grad_enabled:
        self.previous.append((grad_mode.enabled, grad_mode.in_rule))
        grad_mode.enabled, grad_mode.in_rule = self.enabled, False  # what runs inside is the user's code, not a rule
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        grad_mode.enabled, grad_mode.in_rule = self.previous.pop()


def no_grad() -> set_grad_enabled:
    """`with no_grad():` nothing is recorded, and results need no gradient. Also a decorator, `@no_grad()`."""
    return set_grad_enabled(False)


def enable_grad() -> set_grad_enabled:
    """`with enable_grad():` record again inside a `no_grad` block. Also a decorator."""
    return set_grad_enabled(True)


def is_grad_enabled() -> bool:
    """Whether ops are being recorded in this thread."""
    return grad_mode.enabled


@contextmanager
def running_rules(recorded: bool) -> Iterator[None]:
    """Derivative rules run inside: on arrays, or, if their derivatives are wanted too, recorded on Tensors."""
    outside = grad_mode.enabled, grad_mode.in_rule
    grad_mode.enabled = grad_mode.in_rule = recorded
    try:
        yield
    finally:
        grad_mode.enabled, grad_mode.in_rule = outside


@contextmanager
def recording() -> Iterator[None]:
    """Ops are recorded inside, whether in a rule or not."""
    outside, grad_mode.enabled = grad_mode.enabled, True
    try:
        yield
    finally:
        grad_mode.enabled = outside
