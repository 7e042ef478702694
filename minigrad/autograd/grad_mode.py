"""Whether ops are recorded: `no_grad`, `enable_grad`, and what the engine switches while derivative rules run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, overload

from minigrad.contexts import ContextDecorator, F

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
    """Switch recording on or off in this thread; a context manager and a decorator. Restores what was, on any exit.

    A decorated generator or coroutine is switched at each resumption, and back at each `yield` and `await`.
    """

    def __init__(self, enabled: bool):
        if callable(enabled):
            raise TypeError("set_grad_enabled: expected True or False; as a decorator write @set_grad_enabled(True).")
        self.enabled = bool(enabled)
        self.previous: list[tuple[bool, bool]] = []

    def again(self) -> set_grad_enabled:
        """The same switch."""
        return set_grad_enabled(self.enabled)

    def __enter__(self) -> set_grad_enabled:
        self.previous.append((grad_mode.enabled, grad_mode.in_rule))
        grad_mode.enabled, grad_mode.in_rule = self.enabled, False  # what runs inside is the user's code, not a rule
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        grad_mode.enabled, grad_mode.in_rule = self.previous.pop()


@overload
def no_grad() -> set_grad_enabled: ...


@overload
def no_grad(function: F, /) -> F: ...


def no_grad(function: Any = None, /) -> Any:
    """`with no_grad():` nothing is recorded, and results need no gradient. Also a decorator, with brackets or without.

    Leaves may be written to inside, as in `p -= 0.1 * p.grad`.
    """
    return set_grad_enabled(False) if function is None else set_grad_enabled(False)(function)


@overload
def enable_grad() -> set_grad_enabled: ...


@overload
def enable_grad(function: F, /) -> F: ...


def enable_grad(function: Any = None, /) -> Any:
    """`with enable_grad():` record again inside a `no_grad` block. Also a decorator, with brackets or without."""
    return set_grad_enabled(True) if function is None else set_grad_enabled(True)(function)


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
