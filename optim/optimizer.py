"""Optimizer: from `step()` to the numbers, whatever the formula.

Read it straight down. `step` takes the groups one by one. A group's parameters are sorted into cohorts, which have
taken the same number of steps and so share coefficients. A cohort walks through its parameters in the way that is fast
for each:

- Small ones are packed together. A NumPy call takes 0.3 us before it does anything, and a formula makes up to a dozen
  or two; so gradients are gathered into one flat array, and one set of calls computes all steps.
- Large ones are taken in chunks that stay in the core's cache from the first call to the last. The chunks of all large
  parameters, if there are many, are shared out among threads.
- On a GPU one launch of a kernel takes all of them.

The work is elementwise, so the result does not depend on any of this. Parameters stay ordinary arrays, which the
user may exchange: the walk is a plan, checked at every step for a few dozen nanoseconds a parameter, and made anew when
something has changed.

What an optimizer computes stands in its own file, as a formula; `_update` turns it into the calls that are made here.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np

from minigrad import Tensor, enable_grad
from minigrad.backend import Array, device_of, namespace, to_device
from minigrad.backend.device import backend_of
from minigrad.backend.gpu import gradients as on_device
from minigrad.backend.gpu.many_tensors import can_launch, in_order_of
from minigrad.backend.gpu.replay import changing, is_recording, refuse_capture
from minigrad.backend.threads import cut, get_num_threads, parallel, scratch

from ._update import (
    ROWS,
    Formula,
    Launches,
    Tape,
    arguments,
    climbing,
    compiled,
    empty_table,
    passes,
    tables,
    tape_for,
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
LATE = 1_000_000  # a step at which no formula still follows the one of its first steps
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
        more pass over the gradients. On a GPU "raise" waits for it; "skip" decides on the device, and waits only when
        someone asks for the state or for `skipped_steps`, and once in 15 steps. Not part of `state_dict`.

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
        How many steps `nonfinite="skip"`, or a `GradScaler`, has left out. On a GPU, asking for it waits.

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
        self.nonfinite = nonfinite
        self._skipped = 0  # steps, as far as the host knows
        self._verdict: Any = None  # on the device: what was found in the gradients, see verdict.cuh
        self._known = 0  # how many of the skipped steps counted there the host knows of
        self._unread = 0  # how many steps were decided there since the host last knew
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
        self._take_step()
        return loss

    def _take_step(self, scale: Array | None = None, known: Array | None = None) -> None:
        """The step itself.

        A `GradScaler` gives the `scale` of gradients that are not yet unscaled, and the verdict that is `known` if they
        are; both only if `decides_on_device`. Either means that gradients which are not finite are skipped.
        """
        skipping = self.nonfinite == "skip" or scale is not None or known is not None
        on_gpu = skipping and self.decides_on_device()
        if not on_gpu and self.nonfinite != "pass" and not all_finite(self._all_params()):
            if self.nonfinite == "raise":
                raise FloatingPointError(f"{self._name}.step: {described_nonfinite(self.param_groups)}")
            self._skipped += 1
            return
        if not on_gpu:
            self._find_out()
        plans = [(group, self._plan(i, group)) for i, group in enumerate(self.param_groups)]
        if not self._looked:
            self._look_whether_anything_moves([plan for _, plan in plans])
        fused = [(group, cohort) for group, plan in plans for cohort in plan.cohorts if cohort.fused]
        if fused:
            verdict = self._judge(known) if on_gpu else None
            self._launch(fused, verdict, scale)
        for group, plan in plans:
            for cohort in plan.cohorts:
                if cohort.fused:
                    continue
                if is_recording():
                    refuse_capture(f"{self._name}.step of whole arrays, or of parameters with gaps in memory,")
                cohort.update(*self._coefficients(group, cohort.steps + 1, cohort.scalars))

    def _coefficients(self, group: dict[str, Any], step: int, scalars: dict[str, float]) -> tuple[Formula, dict]:
        """The formula of a group's step, with all that is around it, and its keywords; updates `scalars`."""
        formula, decay = self._with_decay(self.formula(group), group)
        coefficients = self.next_coefficients(group, step, scalars)
        return formula, coefficients | decay if decay else coefficients

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
            before = set(self._state)
            try:
                plan = self._plans[i] = Plan(formula, group["params"], kept)
            except MemoryError:  # buffers without a count of steps would be taken for those of a step that was taken
                for p in self._state.keys() - before:
                    del self._state[p]
                raise
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

    # --- on a GPU ---

    def decides_on_device(self) -> bool:
        """Whether steps can be skipped without the host's knowledge: the gradients lie on one GPU, and kernels fit."""
        params = [p for p in self._all_params() if p.grad is not None]
        gradients: list[Any] = [p.grad.data for p in params if p.grad is not None]
        return self.elementwise and on_device.takes(gradients) and all(can_launch(p.data) for p in params)

    def _judge(self, known: Array | None) -> Array:
        """The verdict on the gradients."""
        gradients: list[Any] = [p.grad.data for p in self._all_params() if p.grad is not None]
        if self._verdict is None or device_of(self._verdict) != device_of(gradients[0]):
            self._find_out()
            self._verdict, self._known = on_device.new_verdict(gradients[0]), 0
        on_device.look_for_nonfinite([] if known is not None else gradients, self._verdict, known)
        return self._verdict

    def _launch(self, fused: list[tuple[dict[str, Any], Cohort]], verdict: Array | None, scale: Array | None) -> None:
        """Take the steps of cohorts that take them by kernels."""
        rows = 1 if verdict is None else ROWS
        given, there = self._record(fused, rows) if is_recording() else (self._count(fused, rows), None)
        first = 0
        for (_, cohort), tables_of_cohort in zip(fused, given, strict=True):
            for tape, table in tables_of_cohort.items():
                last = first + table.size
                cohort.launch(tape, rows, table, None if there is None else there[first:last], verdict, scale)
                first = last
            cohort.finish()
        if there is None and self._unread == ROWS - 1:
            self._find_out()

    def _record(
        self, fused: list[tuple[dict[str, Any], Cohort]], rows: int
    ) -> tuple[list[dict[Tape, np.ndarray]], Array | None]:
        """For a step that is being captured: tables without numbers, and where the numbers of each replay will lie."""
        recorded = self._tables_of_all_times(fused, rows)
        plans, choices = dict(self._plans), self._choices()

        def of_replay() -> np.ndarray:
            """The numbers of a captured step, one table after the other; it counts the step."""
            given = self._count(fused, rows)
            for now, ever in zip(given, recorded, strict=True):
                if not now.keys() <= ever.keys():
                    raise RuntimeError(
                        f"{self._name}: an option of a parameter group has changed the formula of the captured step. "
                        "Only numbers such as lr may change; capture the step anew."
                    )
            pairs = [
                (now, tape, nothing)
                for now, ever in zip(given, recorded, strict=True)
                for tape, nothing in ever.items()
            ]
            return np.concatenate([now.get(tape, nothing) for now, tape, nothing in pairs])

        def holds() -> bool:
            """Whether the parameters are still walked through as they were: no new group, no state that was loaded."""
            same = all(self._plans.get(i) is plan for i, plan in plans.items())
            return same and len(self.param_groups) == len(plans) and self._choices() == choices

        form = np.zeros(sum(table.size for ever in recorded for table in ever.values()))
        return recorded, changing(fused[0][1].params[0].data, of_replay, form, holds)

    def _count(self, fused: list[tuple[dict[str, Any], Cohort]], rows: int) -> list[dict[Tape, np.ndarray]]:
        """Count a step that the device takes or skips, and give its numbers: for each cohort tables by tape."""
        if self._unread == ROWS:
            self._find_out()
        given = []
        for group, cohort in fused:
            at = partial(self._coefficients, group)
            numbers, scalars = tables(at, cohort.steps + 1, cohort.before, self._known, rows)
            cohort.count(scalars, rows)
            given.append(numbers)
        self._unread += rows > 1
        return given

    def _tables_of_all_times(
        self, fused: list[tuple[dict[str, Any], Cohort]], rows: int
    ) -> list[dict[Tape, np.ndarray]]:
        """Tables without numbers for every tape that a captured step may come to follow.

        RAdam, for one, has one formula for the first steps and another for all that come later.
        """
        found = []
        for group, cohort in fused:
            steps = (1, cohort.steps + 1, LATE)
            tapes = [tape_for(*self._coefficients(group, step, dict(cohort.scalars))) for step in steps]
            found.append({tape: empty_table(tape, 0, rows) for tape in tapes})
        return found

    def _choices(self) -> list[tuple[Any, ...]]:
        """What of the groups' options decides on the formula: flags, words, and which numbers are 0. (Never the lr.)"""

        def kind(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(map(kind, value))
            return bool(value) if isinstance(value, (int, float)) else value

        names = self.defaults.keys() - {"lr"}
        return [tuple(kind(group[name]) for name in names if name in group) for group in self.param_groups]

    def _find_out(self) -> None:
        """Learn how many steps the device has skipped since the host last knew, and set the counts right."""
        if not self._unread:
            return
        skipped = int(backend_of(self._verdict).to_numpy(self._verdict)[1]) - self._known
        self._known, self._unread = self._known + skipped, 0
        self._skipped += skipped
        for plan in self._plans.values():
            for cohort in plan.cohorts:
                cohort.take_back(skipped)

    @property
    def capturable(self) -> bool:
        """Whether a step may be part of a captured one (`minigrad.cuda.capture`): the device is told its numbers."""
        ours = type(self).step is Optimizer.step and self.elementwise and self.nonfinite != "raise"
        return ours and all(can_launch(p.data) for p in self._all_params())

    @property
    def skipped_steps(self) -> int:
        self._find_out()
        return self._skipped

    # --- the state, most of which lies with the cohorts ---

    @property
    def state(self) -> dict[Tensor, dict[str, Any]]:
        self._write_steps()
        self._forget_steps_never_taken()
        return self._state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._plans.clear()

    def __getstate__(self) -> dict[str, Any]:
        self._write_steps()
        # A copy makes plans anew, for arrays of its own.
        return self.__dict__ | {"_plans": {}, "_verdict": None, "_known": 0}

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

    def _forget_steps_never_taken(self) -> None:
        """Leave parameters without a state whose steps were all skipped on the device."""
        never = [
            p for plan in self._plans.values() for cohort in plan.cohorts if not cohort.steps for p in cohort.params
        ]
        for p in never:
            del self._state[p]
        if never:
            self._plans.clear()

    def _write_steps(self) -> None:
        """Cohorts count steps and hold the scalar state; write both into the state of each parameter."""
        self._find_out()
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
        fused = kept.elementwise and can_launch(p.data)
        found.setdefault((device_of(p.data), p.dtype, fused, steps, scalars), []).append(p)
    for (_, _, _, steps, scalars), members in found.items():
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
    fused : list of Fused
        All walkers, if the steps are taken by kernels that take all parameters in one launch (`_update.one_launch`),
        or none.
    before : list of dict
        For those, the scalar state if 0, 1, 2, ... steps were skipped on the device since the host last knew.
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
        self.fused = [walker for walker in self.walkers if isinstance(walker, Fused)]
        self.before = [scalars]
        self.launches: dict[tuple[Tape, int], Launches] = {}
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

    # --- steps by kernels ---

    def launch(
        self,
        tape: Tape,
        rows: int,
        table: np.ndarray,
        captured: Array | None,
        verdict: Array | None,
        scale: Array | None,
    ) -> None:
        """Follow a tape with the gathered gradients; the numbers stand in a table, or lie where they are `captured`."""
        if (tape, rows) not in self.launches:
            params, buffers = [one.array for one in self.fused], [one.buffers for one in self.fused]
            self.launches[tape, rows] = Launches(tape, rows, params, buffers)
        self.launches[tape, rows].run([one.gradient for one in self.fused], table, captured, verdict, scale)

    def count(self, scalars: dict[str, float], rows: int) -> None:
        """Count a step, after which the scalar state is this if the device has skipped none."""
        self.steps += 1
        self.scalars = scalars
        self.before = [scalars, *self.before] if rows > 1 else [scalars]

    def take_back(self, skipped: int) -> None:
        """Count so many steps less, which the device has skipped."""
        self.steps -= skipped
        self.scalars = self.before[skipped]
        self.before = [self.scalars]

    def finish(self) -> None:
        """Let go of the gradients, and say that the parameters have changed."""
        for walker in self.walkers:
            walker.release()
        for p in self.params:
            p.touch()

    # --- steps in passes ---

    def update(self, formula: Formula, coefficients: dict[str, Any]) -> None:
        """Take one step with the gathered gradients."""
        if coefficients != self.coefficients or formula is not self.formula:
            self.prepare(formula, coefficients)
        if self.shared:
            parallel(lambda task: task[0].update(task[1], self), self.shared)
        for walker, chunk in self.alone:
            walker.update(chunk, self)
        self.finish()
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
            yield (Fused if can_launch(p.data) else Whole)(p, kept)
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
    """One parameter on a GPU, whose gradient and buffers lie in memory as it does. Its cohort launches the kernel."""

    def __init__(self, p: Tensor, kept: Kept):
        state: Any = kept.states[p]
        for name in kept.buffers:
            state[name] = in_order_of(state[name], p.data) if name in state else namespace(p.data).zeros_like(p.data)
        super().__init__(p, kept)

    def gather(self) -> bool:
        grad = self.p.grad
        if self.p.data is not self.array or grad is None:
            return False
        self.gradient = in_order_of(grad.data, self.array)
        return True


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
