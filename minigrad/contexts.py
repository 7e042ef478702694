"""A context manager as a decorator: of functions, and of what runs piece by piece, generators and coroutines.

`contextlib.ContextDecorator` would enter the context when a generator is made, and leave it before the first line of
its body runs. Here the context is entered anew at each resumption and left at each `yield` and `await`, so that the
code between them, which is the caller's, never runs inside.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from functools import wraps
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class ContextDecorator:
    """The base of context managers that can be decorators too; `again()` gives each call a context of its own."""

    def again(self) -> AbstractContextManager[Any]:
        """Another context manager with the same options: calls in two threads, or of a recursion, may overlap."""
        raise NotImplementedError

    def __call__(self, function: F) -> F:
        """The function, run inside of this context; a generator or coroutine at each of its resumptions."""
        if isinstance(function, (staticmethod, classmethod)):
            return type(function)(self(function.__func__))  # type: ignore[return-value]
        if inspect.isclass(function) or not callable(function):
            raise TypeError(
                f"{type(self).__name__} as a decorator: expected a function, got {function!r}. Of a class decorate the "
                "methods, each by itself; of a property the function under @property."
            )
        for is_kind, run in _KINDS.items():
            if is_kind(function) or is_kind(type(function).__call__):
                return wraps(function)(run(self.again, function))  # type: ignore[return-value]
        return wraps(function)(_function(self.again, function))  # type: ignore[return-value]


Enter = Callable[[], AbstractContextManager[Any]]


def _function(enter: Enter, function: Callable[..., Any]) -> Callable[..., Any]:
    def inside(*args: Any, **kwargs: Any) -> Any:
        with enter():
            return function(*args, **kwargs)

    return inside


def _generator(enter: Enter, function: Callable[..., Any]) -> Callable[..., Any]:
    def inside(*args: Any, **kwargs: Any) -> Any:
        return (yield from _resumed(enter, function(*args, **kwargs)))

    return inside


def _coroutine(enter: Enter, function: Callable[..., Any]) -> Callable[..., Any]:
    async def inside(*args: Any, **kwargs: Any) -> Any:
        return await _awaited(enter, function(*args, **kwargs))

    return inside


def _async_generator(enter: Enter, function: Callable[..., Any]) -> Callable[..., Any]:
    async def inside(*args: Any, **kwargs: Any) -> Any:
        generator = function(*args, **kwargs)
        step = generator.asend(None)
        try:
            while True:
                value = await _awaited(enter, step)
                try:
                    sent = yield value
                except GeneratorExit:
                    await _awaited(enter, generator.aclose())
                    raise
                except BaseException as error:
                    step = generator.athrow(error)
                else:
                    step = generator.asend(sent)
        except StopAsyncIteration:
            return

    return inside


_KINDS: dict[Callable[[Any], bool], Callable[[Enter, Callable[..., Any]], Callable[..., Any]]] = {
    inspect.isgeneratorfunction: _generator,
    inspect.iscoroutinefunction: _coroutine,
    inspect.isasyncgenfunction: _async_generator,
}


def _resumed(enter: Enter, steps: Any) -> Generator[Any, Any, Any]:
    """A generator that goes through `steps`, another one, and runs each of its steps inside of a context."""
    try:
        with enter():
            value = next(steps)
        while True:
            try:
                sent = yield value
            except GeneratorExit:
                with enter():
                    steps.close()
                raise
            except BaseException as error:
                with enter():
                    value = steps.throw(error)
            else:
                with enter():
                    value = next(steps) if sent is None else steps.send(sent)
    except StopIteration as end:
        return end.value


@types.coroutine
def _awaited(enter: Enter, awaitable: Any) -> Generator[Any, Any, Any]:
    """What a coroutine waits for when it waits for another one, each of whose steps runs inside of a context."""
    return (yield from _resumed(enter, awaitable.__await__()))
