"""How an optimizer walks through its parameters: small ones packed together, large ones in blocks, on all cores.

A ufunc call costs 0.2 us before it does anything, and a rule makes up to a dozen; so the small parameters' gradients
are gathered into one flat array, one set of calls makes all their steps, and each step is subtracted from its
parameter. A large parameter is taken in blocks that stay in the core's cache from the first operation to the last;
the blocks of all large parameters, if there are many, are shared out among threads. The work is elementwise: the
result does not depend on any of this.

After this file you know why parameters can stay ordinary arrays, which anybody may exchange, and the step be fast all
the same: all of this is a plan, checked at every step for a few dozen nanoseconds a parameter, and made anew when
something has changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from minigrad import Tensor
from minigrad.backend import device_of, namespace, to_device
from minigrad.backend.threads import cut, get_num_threads, parallel, scratch

from .updates import Around, Rule, cuda_kernel, numbers_for

SMALL = 4096  # parameters up to this size are packed
PACK = 32768  # elements in a pack
BLOCK = 262144  # elements in a block of a large parameter: 1 MiB of float32 an array
# Threads take turns at the interpreter after every ufunc, which costs some 5 us: blocks must be large, and many. With
# two threads SGD with momentum on 10 M numbers in 20 arrays took 7.2 ms in blocks of 16384, 5.7 of 32768, 4.4 of
# 131072, 3.8 of 262144; Adam 14.9, 13.2, 7.9, 8.0.
LARGE = 65536  # blocks of this size and more are shared out among threads,
THREADED = 500_000  # if they have this many elements in all


class Packed:
    """Small NumPy parameters; their gradients and buffers lie side by side in flat arrays."""

    def __init__(self, params: Sequence[Tensor], rule: Rule, states: dict[Tensor, dict[str, Any]]):
        self.rule = rule
        dtype = params[0].dtype
        edges = np.cumsum([0, *(p.size for p in params)])
        self.size = int(edges[-1])
        self.gradient, self.step = np.empty(self.size, dtype), np.empty(self.size, dtype)
        self.buffers = [np.zeros(self.size, dtype) for _ in rule.buffers]
        self.spare = [np.empty(self.size, dtype) for _ in range(rule.spare)]
        self.members: list[Any] = []
        for p, start, stop in zip(params, edges, edges[1:], strict=False):
            views = [flat[start:stop].reshape(p.shape) for flat in (self.gradient, self.step, *self.buffers)]
            for name, view in zip(rule.buffers, views[2:], strict=True):
                if name in states[p]:
                    view[...] = states[p][name]
                states[p][name] = view
            self.members.append((p, p.data, *views[:2]))
        self.parts = [None]

    def gather(self) -> bool:
        """Fetch the gradients; False if a parameter has none, or has been given another array."""
        for p, array, gradient, _ in self.members:
            g = p.grad
            if p.data is not array or g is None:
                return False
            gradient[...] = g.data
        return True

    def release(self) -> None:
        """Packed gradients are copies: nothing to let go of."""

    def update(self, part: None, numbers: tuple, around: Around | None) -> None:
        """Make the steps of all members and take them."""
        g, d = self.gradient, self.step
        if around:
            if around.maximize:
                np.negative(g, out=g)
            if around.pull is not None:
                for _, array, _, part in self.members:
                    np.multiply(array, around.pull, out=part)
                g += d
            if around.keep is not None:
                self.each(np.multiply, around.keep)
        self.rule.body(np, d, g, *numbers, *self.buffers, *self.spare)
        self.each(np.subtract)

    def each(self, ufunc: np.ufunc, operand: Any = None) -> None:
        """Parameter by parameter, in place, `ufunc(parameter, operand)`, where the operand is its step unless given."""
        for i, (p, array, gradient, step) in enumerate(self.members):
            other = step if operand is None else operand
            if array.ndim:
                ufunc(array, other, array)
            else:  # a NumPy scalar cannot be written to
                p.data = ufunc(array, other)
                self.members[i] = (p, p.data, gradient, step)


class Whole:
    """One parameter by itself, updated with its array library's own operations."""

    def __init__(self, p: Tensor, rule: Rule, states: dict[Tensor, dict[str, Any]]):
        self.p, self.rule, self.array = p, rule, p.data
        self.xp = namespace(p.data)
        self.gradient: Any = None
        for name in rule.buffers:
            if name not in states[p]:
                states[p][name] = self.xp.zeros(p.shape, p.dtype)
        self.buffers = [states[p][name] for name in rule.buffers]
        self.parts: list[Any] = [None]

    def gather(self) -> bool:
        """Fetch the gradient; False if there is none, or the parameter has been given another array."""
        grad = self.p.grad
        if self.p.data is not self.array or grad is None:
            return False
        g = grad.data
        self.gradient = g if g.dtype == self.array.dtype else g.astype(self.array.dtype)
        return True

    def release(self) -> None:
        """Let go of the gradient, so that `zero_grad` frees it."""
        self.gradient = None

    def update(self, part: Any, numbers: tuple, around: Around | None) -> None:
        """Take the step of one of the `parts`; here there is one, everything."""
        xp, p, g = self.xp, self.array, self.gradient
        if around:
            g = around.gradient(xp, xp.empty_like(p), p, g)
            if around.keep is not None:
                p *= around.keep
        d, *spare = (xp.empty_like(p) for _ in range(1 + self.rule.spare))
        self.rule.body(xp, d, g, *numbers, *self.buffers, *spare)
        p -= d


class Blocks(Whole):
    """A large NumPy array, in blocks; their scratch arrays belong to the thread and stay in its core's cache."""

    def __init__(self, p: Tensor, rule: Rule, states: dict[Tensor, dict[str, Any]]):
        for name in rule.buffers:
            if name in states[p]:
                states[p][name] = np.ascontiguousarray(states[p][name])
        super().__init__(p, rule, states)
        flat = [array.reshape(-1) for array in (self.array, *self.buffers)]
        self.parts = [(place, *(array[place] for array in flat)) for place in cut(p.size, BLOCK)]

    def gather(self) -> bool:
        ready = super().gather()
        if ready:
            self.gradient = self.gradient.reshape(-1)
        return ready

    def update(self, part: tuple, numbers: tuple, around: Around | None) -> None:
        place, p, *buffers = part
        g, d = self.gradient[place], scratch("optimizer step", p.shape, p.dtype)
        if around:
            g = around.gradient(np, scratch("optimizer gradient", p.shape, p.dtype), p, g)
            if around.keep is not None:
                np.multiply(p, around.keep, out=p)
        spare = [scratch(f"optimizer spare {i}", p.shape, p.dtype) for i in range(self.rule.spare)]
        self.rule.body(np, d, g, *numbers, *buffers, *spare)
        np.subtract(p, d, out=p)


class Fused(Whole):
    """A CuPy array, in one kernel of our own."""

    def update(self, part: Any, numbers: tuple, around: Around | None) -> None:
        sign, pull, keep = 1.0, 0.0, 1.0
        if around:
            sign = -1.0 if around.maximize else 1.0
            pull = 0.0 if around.pull is None else around.pull
            keep = 1.0 if around.keep is None else around.keep
        with self.array.device:
            numbers = tuple(1.0 if number is None else number for number in numbers)
            cuda_kernel(self.rule)(self.gradient, *numbers, sign, pull, keep, self.array, *self.buffers)


class Cohort:
    """Parameters of one dtype and one device that have taken the same steps: they share the numbers.

    `steps` is how many, `carried` the numbers that an optimizer carries from one step to the next besides.
    """

    def __init__(
        self,
        params: Sequence[Tensor],
        rule: Rule,
        states: dict[Tensor, dict[str, Any]],
        steps: int,
        carried: dict[str, float],
    ):
        self.params, self.steps, self.carried = params, steps, carried
        self.dtype = params[0].dtype
        self.on_host = namespace(params[0].data) is np
        self.pieces = list(_pieces(params, rule, states))
        self.tasks = [(piece, part) for piece in self.pieces for part in piece.parts]
        self.shared: list[tuple] = []
        if self.on_host and rule.kernel is None:  # matrix products, say: one parameter a thread, if there are enough
            if len(self.tasks) > get_num_threads():
                self.shared, self.tasks = self.tasks, []
        elif self.on_host:
            large = [(piece, part) for piece, part in self.tasks if part is not None and part[1].size >= LARGE]
            if len(large) > 1 and sum(part[1].size for _, part in large) >= THREADED:
                self.shared = large
                self.tasks = [task for task in self.tasks if task[1] is None or task[1][1].size < LARGE]
        self.given: Any = None

    def gather(self) -> bool:
        """Fetch all gradients; False if the plan no longer fits."""
        for piece in self.pieces:  # noqa: SIM110  (a generator would cost as much as all the rest)
            if not piece.gather():
                return False
        return True

    def update(self, numbers: tuple[float | None, ...], around: tuple[bool, float | None, float | None] | None) -> None:
        """Take one step with the gathered gradients. `around`: maximize, pull and keep of `updates.Around`."""
        if self.given != (numbers, around):
            self.given = (numbers, around)
            self.numbers = self._convert(numbers)
            self.around = around and Around(around[0], *self._convert(around[1:]))
        converted = self.numbers, self.around
        if self.shared:
            parallel(lambda task: task[0].update(task[1], *converted), self.shared)
        for piece, part in self.tasks:
            piece.update(part, *converted)
        for piece in self.pieces:
            piece.release()
        for p in self.params:
            p.touch()
        self.steps += 1

    def _convert(self, numbers: tuple[float | None, ...]) -> tuple:
        return numbers_for(self.dtype, numbers) if self.on_host else numbers


def make_cohorts(
    params: Sequence[Tensor], rule: Rule, states: dict[Tensor, dict[str, Any]], carried: dict[str, float]
) -> list[Cohort]:
    """Sort parameters into cohorts by the steps in their states, which are brought to where the parameters are.

    `carried` says with which value each of the numbers begins that are carried from step to step.
    """
    found: dict[Any, list[Tensor]] = {}
    for p in params:
        state = states.setdefault(p, {})
        for name in rule.buffers:
            if name in state:
                state[name] = _at_home(p, name, state[name])
        known = any(name in state for name in rule.buffers)
        steps = int(state.get("step", 1)) if known else 0
        numbers = tuple(state.get(name, start) if known else start for name, start in carried.items())
        found.setdefault((device_of(p.data), p.dtype, steps, numbers), []).append(p)
    return [
        Cohort(members, rule, states, steps, dict(zip(carried, numbers, strict=True)))
        for (_, _, steps, numbers), members in found.items()
    ]


def _at_home(p: Tensor, name: str, array: Any) -> Any:
    if array.shape != p.shape:
        raise ValueError(
            f"optimizer: a parameter has shape {p.shape} but its {name} has {array.shape}; "
            "make a new optimizer after changing the shape of a parameter."
        )
    return to_device(array, device_of(p.data)).astype(p.dtype, copy=False)


def _pieces(params: Sequence[Tensor], rule: Rule, states: dict[Tensor, dict[str, Any]]) -> Iterator[Packed | Whole]:
    waiting: list[Tensor] = []
    size = 0
    for p in params:
        xp = namespace(p.data)
        if rule.kernel is None:
            yield Whole(p, rule, states)
        elif xp is not np:
            yield (Fused if xp.__name__ == "cupy" else Whole)(p, rule, states)
        elif p.size > SMALL and p.data.flags.c_contiguous:  # type: ignore[attr-defined]  # NumPy, see above
            yield Blocks(p, rule, states)
        else:
            if waiting and size + p.size > PACK:
                yield Packed(waiting, rule, states)
                waiting, size = [], 0
            waiting.append(p)
            size += p.size
    if waiting:
        yield Packed(waiting, rule, states)
