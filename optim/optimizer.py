"""Optimizer: from `step()` to the numbers, whatever the formula.

Read it straight down. `step` takes the groups one by one. A group's parameters are sorted into cohorts, which have
taken the same number of steps and so share coefficients. A cohort walks through its parameters in the way that is fast
for each:

- Small ones are packed together. A NumPy call takes 0.3 us before it does anything, and a formula makes up to a dozen
  or two; so gradients are gathered into one flat array, and one set of calls computes all steps.
- Large ones are taken in chunks that stay in the core's cache from the first call to the last. The chunks of all large
  parameters, if there are many, are shared out among threads.
- A CuPy array takes one kernel.

The work is elementwise, so the result does not depend on any of this. Parameters stay ordinary arrays, which the
user may exchange: the walk is a plan, checked at every step for a few dozen nanoseconds a parameter, and made anew when
something has changed.

What an optimizer computes stands in its own file, as a formula; `_update` turns it into the calls that are made here.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from minigrad import Tensor, enable_grad
from minigrad.backend import Array, device_of, namespace, to_device
from minigrad.backend.threads import cut, get_num_threads, parallel, scratch

from ._update import (
    Formula,
    Tape,
    arguments,
    climbing,
    compiled,
    cuda_kernel,
    passes,
    trace,
    with_decoupled_decay,
    with_weight_decay,
)
from .nonfinite import CHOICES, all_finite, described_nonfinite
from .options import check_choice
from .parameter_groups import ParameterGroups

SMALL = 4096  # parameters up to this size are packed
PACK = 32768  # elements in a pack
CHUNK = 262144  # elements in a chunk of a large parameter: 1 MiB of float32 an array
# Threads take turns at the interpreter after every call, which costs some 5 us: chunks must be large, and many. With
# two threads SGD with momentum on 10 M numbers in 20 arrays took 7.2 ms in chunks of 16384, 5.7 of 32768, 4.4 of
# 131072, 3.8 of 262144; Adam 14.9, 13.2, 7.9, 8.0.
LARGE = 65536  # chunks of this size and more are shared out among threads,
THREADED = 500_000  # if they have this many elements in all
NO_ONES: frozenset[str] = frozenset()
NOTHING: dict[str, float] = {}


class Optimizer(ParameterGroups):
    """What all optimizers share. To add one, write its formula and a class that says so; see docs/extend.md.

    Parameters
    ----------
    params : iterable of Tensor, or of dict
        What to optimize: leaves with `requires_grad=True`. Dicts are parameter groups: `params`, and options that
        replace the defaults for them.
    defaults : dict
        The options of groups that do not state their own.
    nonfinite : {"pass", "skip", "raise"}
        What a step does about a NaN or an infinity among the gradients: "pass" looks for none, and they spread;
        "skip" leaves everything as it is, all parameters, buffers and counts of steps, and adds one to
        `skipped_steps`; "raise" does the same and raises `FloatingPointError`, naming the parameters. Looking costs one
        more pass over the gradients, and on a GPU a wait for it at each step, since how many steps were taken is known
        to the host. Not part of `state_dict`.

    Options that mean the same for every optimizer that has them:

    lr : float
        The learning rate, 0 or more.
    weight_decay : float
        0 or more. Coupled, unless said otherwise: the gradient of `weight_decay / 2 * ||p||^2` is added to g. Decoupled
        (`decoupled_weight_decay=True`, and where the optimizer says so): `p <- (1 - lr * weight_decay) * p` first.
    maximize : bool
        Go uphill: -g takes the place of g.
    betas : (float, float)
        How slowly the two running means forget, each from 0 to below 1.
    eps : float
        0 or more; what keeps a division from 0.
    eps_inside_sqrt : bool
        Add epsilon under the root, `sqrt(v + eps)`, instead of to the root, `sqrt(v) + eps`.

    Attributes
    ----------
    param_groups : list of dict
        Read anew at every step: to change the learning rate, set `param_groups[0]["lr"]`.
    state : dict of Tensor to dict
        For each parameter that has taken a step its buffers, arrays of its shape; a step overwrites them.
    skipped_steps : int
        How many steps `nonfinite="skip"` has left out.

    Raises
    ------
    ValueError
        No parameters, one given twice, or an option that is out of range.
    TypeError
        Parameters that are not leaf Tensors which need gradients, options of the wrong type.

    Notes
    -----
    A step changes the parameters' arrays in place. A parameter without a gradient is left alone: neither decayed nor
    moved by its momentum, and its count of steps stands still. If none has a gradient at the first step, it warns.
    """

    decoupled: ClassVar[bool] = False
    """Whether weight decay is decoupled, where there is no option for it."""
    elementwise: ClassVar[bool] = True
    """Whether the formula does the same to each element. If not, it is run as it stands, on whole arrays."""
    buffer_names: ClassVar[Mapping[str, str]] = {}
    """What the formula's buffers are called in the state, where that is not as in the formula."""

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any], *, nonfinite: str = "pass"):
        check_choice(self._name, "nonfinite", nonfinite, CHOICES)
        self.nonfinite, self.skipped_steps = nonfinite, 0
        self._looked = False  # whether the first step was looked at, see `_look_whether_anything_moves`
        self._plans: dict[int, Plan] = {}
        super().__init__(params, defaults)

    # --- what an optimizer says ---

    def formula(self, group: dict[str, Any]) -> Formula:
        """The formula that this group's parameters follow, see `_update.formula`."""
        raise NotImplementedError

    def coefficients(self, group: dict[str, Any], step: int) -> dict[str, Any]:
        """The formula's keywords at this step, counted from 1; unless overridden the options of the same names."""
        _, coefficients, choices = arguments(self.formula(group))
        return {name: group[name] for name in (*coefficients, *choices)}

    def next_coefficients(self, group: dict[str, Any], step: int, scalars: dict[str, float]) -> dict[str, Any]:
        """`coefficients`, for an optimizer that has `scalar_state`, which it updates in `scalars`."""
        return self.coefficients(group, step)

    def first_values(self, group: dict[str, Any]) -> dict[str, float]:
        """What buffers are filled with before the first step, by their names in the state; zeros unless said."""
        return {}

    # --- a step ---

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move every parameter that has a gradient by one step.

        With a `closure` that computes the loss, calls backward and returns the loss, it is called first, with
        gradients enabled, and what it returns is returned.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        if self.nonfinite != "pass" and not all_finite(self._all_params()):
            if self.nonfinite == "raise":
                raise FloatingPointError(f"{self._name}.step: {described_nonfinite(self.param_groups)}")
            self.skipped_steps += 1
            return loss
        plans = [(group, self._plan(i, group)) for i, group in enumerate(self.param_groups)]
        if not self._looked:
            self._look_whether_anything_moves([plan for _, plan in plans])
        for group, plan in plans:
            formula, decay = self._with_decay(plan.formula, group)
            for cohort in plan.cohorts:
                coefficients = self.next_coefficients(group, cohort.steps + 1, cohort.scalars)
                cohort.update(formula, coefficients | decay if decay else coefficients)
        return loss

    def _look_whether_anything_moves(self, plans: list[Plan]) -> None:
        """At the first step: a loop without backward, or with the optimizer of another model, trains nothing."""
        self._looked = True
        if any(plan.cohorts for plan in plans):
            return
        warnings.warn(
            f"{self._name}.step: none of the {len(self._all_params())} parameters has a gradient, so nothing was moved."
            " Call loss.backward() before it, and zero_grad() before that; the loss must be computed from these "
            "parameters, and outside of no_grad().",
            stacklevel=3,
        )

    def _plan(self, i: int, group: dict[str, Any]) -> Plan:
        """The group's plan, with this step's gradients; a new one if the last fits no more."""
        formula, plan = self.formula(group), self._plans.get(i)
        if plan is None or plan.formula is not formula or not plan.gather():
            self._write_steps()
            self._fill_first_values(group)
            buffers = tuple(self.buffer_names.get(name, name) for name in arguments(formula).buffers)
            kept = Kept(buffers, self.scalar_state, self._state, self.elementwise)
            plan = self._plans[i] = Plan(formula, group["params"], kept)
            plan.gather()
        return plan

    def _with_decay(self, formula: Formula, group: dict[str, Any]) -> tuple[Formula, dict[str, float]]:
        """The formula with what `weight_decay` and `maximize` put around it, and the coefficient for that."""
        decay, coefficient = group.get("weight_decay", 0), NOTHING
        if decay and group.get("decoupled_weight_decay", self.decoupled):
            formula, coefficient = with_decoupled_decay(formula), {"decay_factor": 1 - group["lr"] * decay}
        elif decay:
            formula, coefficient = with_weight_decay(formula), {"weight_decay": decay}
        return climbing(formula) if group.get("maximize") else formula, coefficient

    # --- the state, most of which lies with the cohorts ---

    @property
    def state(self) -> dict[Tensor, dict[str, Any]]:
        self._write_steps()
        return self._state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._plans.clear()

    def __getstate__(self) -> dict[str, Any]:
        self._write_steps()
        return self.__dict__ | {"_plans": {}}  # a copy makes plans anew, for arrays of its own

    def entries_of(self, group: dict[str, Any]) -> set[str]:
        buffers = {self.buffer_names.get(name, name) for name in arguments(self.formula(group)).buffers}
        return super().entries_of(group) | buffers | set(self.buffer_names.values())

    def _fill_first_values(self, group: dict[str, Any]) -> None:
        """Begin the state of parameters that take their first step, if it begins with anything but zeros."""
        values = self.first_values(group)
        for p in group["params"] if values else ():
            if p.grad is not None and p not in self._state:
                xp = namespace(p.data)
                filled = {name: xp.full(p.shape, value, p.dtype) for name, value in values.items()}
                self._state[p] = {"step": 0, **filled}

    def _write_steps(self) -> None:
        """Cohorts count steps and hold the scalar state; write both into the state of each parameter."""
        for plan in self._plans.values():
            for cohort in plan.cohorts:
                for p in cohort.params:
                    self._state[p] |= {"step": cohort.steps, **cohort.scalars}


# --- the walk through the parameters of a group ---


class Kept(NamedTuple):
    """What is kept for each parameter: buffers, and scalars with their first values; and where, in `states`."""

    buffers: tuple[str, ...]
    scalars: dict[str, float]
    states: dict[Tensor, dict[str, Any]]
    elementwise: bool


class Plan:
    """How one group's parameters are walked through; those without a gradient are left out."""

    def __init__(self, formula: Formula, params: list[Tensor], kept: Kept):
        self.formula = formula
        self.cohorts = list(cohorts_of([p for p in params if p.grad is not None], kept))
        self.idle = [p for p in params if p.grad is None]

    def gather(self) -> bool:
        """Fetch the gradients; False if this plan no longer fits."""
        for cohort in self.cohorts:
            if not cohort.gather():
                return False
        return not any(p.grad is not None for p in self.idle) if self.idle else True


def cohorts_of(params: list[Tensor], kept: Kept) -> Iterator[Cohort]:
    """Sort parameters by device, dtype and the steps in their states; buffers are brought to their devices."""
    found: dict[Any, list[Tensor]] = {}
    for p in params:
        state = kept.states.setdefault(p, {})
        for name in kept.buffers:
            if name in state:
                state[name] = _at_home(p, name, state[name])
        known = any(name in state for name in kept.buffers)
        steps = int(state.get("step", 1)) if known else 0
        scalars = tuple(state.get(name, first) if known else first for name, first in kept.scalars.items())
        found.setdefault((device_of(p.data), p.dtype, steps, scalars), []).append(p)
    for (_, _, steps, scalars), members in found.items():
        yield Cohort(members, kept, steps, dict(zip(kept.scalars, scalars, strict=True)))


def _at_home(p: Tensor, name: str, array: Array) -> Array:
    if array.shape != p.shape:
        raise ValueError(
            f"optimizer: a parameter has shape {p.shape} but its {name} has {array.shape}; "
            "make a new optimizer after changing the shape of a parameter."
        )
    return to_device(array, device_of(p.data)).astype(p.dtype, copy=False)


class Cohort:
    """Parameters of one dtype and one device that have taken the same `steps`: they share coefficients.

    Attributes
    ----------
    scalars : dict
        The scalar state, which they share too.
    formula, coefficients, tape : Formula, dict, Tape
        Of the last step; there is a tape only for an elementwise formula.
    numbers : sequence
        What the tape's operations take; on the host arrays of the cohort's dtype.
    ones : frozenset of str
        The names of those that are 1.
    """

    tape: Tape

    def __init__(self, params: Sequence[Tensor], kept: Kept, steps: int, scalars: dict[str, float]):
        self.params, self.steps, self.scalars = params, steps, scalars
        self.dtype = params[0].dtype
        self.on_host = namespace(params[0].data) is np
        self.elementwise = kept.elementwise
        self.formula: Any = None
        self.coefficients: dict[str, Any] = {}
        self.choices: dict[str, Any] = {}
        self.values: tuple[float, ...] = ()
        self.numbers: Sequence[Any] = ()
        self.ones: frozenset[str] = NO_ONES
        self.ready: dict[bool, tuple[Callable[..., None], tuple[str, ...]]] = {}
        self.walkers = list(walkers_of(params, kept))
        self.alone = [(walker, chunk) for walker in self.walkers for chunk in walker.chunks]
        self.shared: list[tuple[Any, Any]] = []  # out among threads
        if self.on_host and not kept.elementwise:  # matrix products, say: one parameter a thread, if there are enough
            if len(self.alone) > get_num_threads():
                self.shared, self.alone = self.alone, []
        elif self.on_host:
            large = [(walker, chunk) for walker, chunk in self.alone if walker.size_of(chunk) >= LARGE]
            if len(large) > 1 and sum(walker.size_of(chunk) for walker, chunk in large) >= THREADED:
                self.shared = large
                self.alone = [(walker, chunk) for walker, chunk in self.alone if walker.size_of(chunk) < LARGE]

    def gather(self) -> bool:
        """Fetch all gradients; False if the plan no longer fits."""
        for walker in self.walkers:  # noqa: SIM110  (a generator would cost as much as all the rest)
            if not walker.gather():
                return False
        return True

    def update(self, formula: Formula, coefficients: dict[str, Any]) -> None:
        """Take one step with the gathered gradients."""
        if coefficients != self.coefficients or formula is not self.formula:
            self.prepare(formula, coefficients)
        if self.shared:
            parallel(lambda task: task[0].update(task[1], self), self.shared)
        for walker, chunk in self.alone:
            walker.update(chunk, self)
        for walker in self.walkers:
            walker.release()
        for p in self.params:
            p.touch()
        self.steps += 1

    def prepare(self, formula: Formula, coefficients: dict[str, Any]) -> None:
        """Trace the formula, unless that was done before, and compute the numbers of this step."""
        if self.elementwise:
            if formula is not self.formula or any(coefficients.get(k, v) != v for k, v in self.choices.items()):
                defaults = arguments(formula).choices
                self.choices = {name: coefficients.get(name, default) for name, default in defaults.items()}
                self.tape, self.ready = trace(formula, tuple(self.choices.items())), {}
                self.values = self.numbers = (math.nan,) * len(self.tape.numbers)
            values = self.tape.evaluate(**coefficients)
            self.numbers = self._on_host(self.tape, values) if self.on_host else values
            self.values = values
        self.formula, self.coefficients = formula, coefficients

    def _on_host(self, tape: Tape, values: tuple[float, ...]) -> Sequence[Any]:
        """Values as 0-d arrays: a NumPy call takes 0.2 us with one, 0.5 us with a Python float (timeit, 16x16)."""
        ones = (
            frozenset(name for name, v in zip(tape.numbers, values, strict=True) if v == 1) if 1 in values else NO_ONES
        )
        if ones != self.ones:
            self.ones, self.ready = ones, {}
        return [
            number if value == before else np.array(value, self.dtype)
            for value, before, number in zip(values, self.values, self.numbers)  # noqa: B905
        ]

    def passes(self, xp: Any, packed: bool) -> tuple[Callable[..., None], tuple[str, ...]]:
        """The function that makes the step of one chunk, and names for the scratch arrays that it takes."""
        if packed not in self.ready:
            calls = passes(self.tape, self.ones, gradient_is_ours=packed)
            names = tuple(f"optimizer {i}" for i in range(calls.scratch))
            self.ready[packed] = compiled(calls, xp, packed), names
        return self.ready[packed]


def walkers_of(params: Sequence[Tensor], kept: Kept) -> Iterator[Packed | Whole]:
    """How each parameter of a cohort is walked through."""
    waiting: list[Tensor] = []
    size = 0
    for p in params:
        xp = namespace(p.data)
        if not kept.elementwise:
            yield AsItStands(p, kept)
        elif xp is not np:
            yield (Fused if xp.__name__ == "cupy" else Whole)(p, kept)
        elif p.size > SMALL and np.asarray(p.data).flags.c_contiguous:
            yield Chunked(p, kept)
        else:
            if waiting and size + p.size > PACK:
                yield Packed(waiting, kept)
                waiting, size = [], 0
            waiting.append(p)
            size += p.size
    if waiting:
        yield Packed(waiting, kept)


# --- the numbers, at last ---


class Packed:
    """Small NumPy parameters; their gradients and buffers lie side by side in flat arrays."""

    chunks: Sequence[Any] = (None,)

    def __init__(self, params: Sequence[Tensor], kept: Kept):
        self.dtype = params[0].dtype
        self.edges = np.cumsum([0, *(p.size for p in params)])
        self.shapes = [p.shape for p in params]
        # A single number is a NumPy scalar, which cannot be written to: an array of it takes the step.
        written = [p.data if p.ndim else np.array(p.data) for p in params]
        self.flat: list[Any] = [None]  # as `packed_text` has them: p, g, the buffers, scratch arrays
        self.parts: list[list[Any]] = [written]
        for _ in ("g", *kept.buffers):
            self._add_flat(np.zeros(self.edges[-1], self.dtype))
        self.fixed = len(self.flat)
        for name, views in zip(kept.buffers, self.parts[2:], strict=True):
            for p, view in zip(params, views, strict=True):
                state = kept.states[p]
                if name in state:
                    view[...] = state[name]
                state[name] = view
        self.members = [(p, p.data, gradient) for p, gradient in zip(params, self.parts[1], strict=True)]
        self.single = [(i, array) for i, (p, array) in enumerate(zip(params, written, strict=True)) if not p.ndim]

    def _add_flat(self, array: np.ndarray) -> None:
        self.flat.append(array)
        cuts = zip(self.edges, self.edges[1:], self.shapes, strict=False)
        self.parts.append([array[start:stop].reshape(shape) for start, stop, shape in cuts])

    def size_of(self, chunk: None) -> int:
        """Not counted: a pack is too small to be shared out among threads."""
        return 0

    def gather(self) -> bool:
        """Fetch the gradients; False if a parameter has none, or has been given another array."""
        for p, array, gradient in self.members:
            g = p.grad
            if p.data is not array or g is None:
                return False
            gradient[...] = g.data
        return True

    def release(self) -> None:
        """Packed gradients are copies: nothing to let go of."""

    def update(self, chunk: None, cohort: Cohort) -> None:
        """Take the steps of all members."""
        run, names = cohort.passes(np, True)
        while len(self.flat) < self.fixed + len(names):
            self._add_flat(np.empty(self.edges[-1], self.dtype))
        run(self.flat, self.parts, *cohort.numbers)
        for i, array in self.single:
            p, _, gradient = self.members[i]
            p.data = array[()]
            self.members[i] = p, p.data, gradient


class Whole:
    """One parameter by itself, in passes over whole arrays of its own array library."""

    def __init__(self, p: Tensor, kept: Kept):
        self.p, self.array, self.xp = p, p.data, namespace(p.data)
        self.gradient: Any = None  # an array between gather and release
        state = kept.states[p]
        for name in kept.buffers:
            if name not in state:
                state[name] = self.xp.zeros(p.shape, p.dtype)
        self.buffers = [state[name] for name in kept.buffers]
        self.chunks: Sequence[Any] = (None,)

    def size_of(self, chunk: Any) -> int:
        """How many elements a chunk has, if it may be shared out among threads."""
        return 0

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

    def update(self, chunk: Any, cohort: Cohort) -> None:
        """Take the step of one of the `chunks`; here there is one, everything."""
        run, names = cohort.passes(self.xp, False)
        free = [self.xp.empty_like(self.array) for _ in names]
        run(self.array, self.gradient, *self.buffers, *free, *cohort.numbers)


class Chunked(Whole):
    """A large NumPy array, in chunks; their scratch arrays belong to the thread and stay in its core's cache."""

    def __init__(self, p: Tensor, kept: Kept):
        state = kept.states[p]
        for name in kept.buffers:
            if name in state:
                state[name] = np.ascontiguousarray(state[name])
        super().__init__(p, kept)
        flat = [array.reshape(-1) for array in (self.array, *self.buffers)]
        self.chunks = [(place, *(array[place] for array in flat)) for place in cut(p.size, CHUNK)]

    def size_of(self, chunk: Any) -> int:
        return chunk[1].size

    def gather(self) -> bool:
        ready = super().gather()
        if ready:
            self.gradient = self.gradient.reshape(-1)
        return ready

    def update(self, chunk: Any, cohort: Cohort) -> None:
        run, names = cohort.passes(np, False)
        place, p, *buffers = chunk
        free = [scratch(name, p.shape, p.dtype) for name in names]
        run(p, self.gradient[place], *buffers, *free, *cohort.numbers)


class Fused(Whole):
    """A CuPy array, in one kernel of our own."""

    def update(self, chunk: Any, cohort: Cohort) -> None:
        with self.array.device:
            cuda_kernel(cohort.tape)(self.gradient, *cohort.numbers, self.array, *self.buffers)


class AsItStands(Whole):
    """One parameter whose formula is not elementwise: it is called with the arrays themselves."""

    def update(self, chunk: Any, cohort: Cohort) -> None:
        # A scalar of NumPy's would make float64 of all it meets, a number of Python's does not.
        plain = {k: v.item() if isinstance(v, np.number) else v for k, v in cohort.coefficients.items()}
        results = cohort.formula(self.array, self.gradient, *self.buffers, **plain)
        p, *buffers = results if self.buffers else (results,)
        if isinstance(self.array, np.generic):  # which cannot be written to
            self.p.data = self.array = self.array.dtype.type(p)
        else:
            self.array[...] = p
        for buffer, result in zip(self.buffers, buffers, strict=True):
            buffer[...] = result
