"""Searches that train a model: what the classes share, from the parameters at the start to those at the end.

After this file you know how one call of `step(closure)` is a search of some iterations by a pair of `minimize` or
`least_squares`, a direction and a step rule, or a model and the trust in it; and that a call goes on where the last one
ended, since what such a pair has learnt is a handful of arrays and numbers, kept in between.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from functools import reduce
from types import SimpleNamespace
from typing import Any

import numpy as np

from minigrad import Tensor, tensor
from minigrad.backend import is_array

from ..fitting.fit_loop import Limits as FitLimits
from ..fitting.fit_loop import fit
from ..minimizers.descent_loop import Limits, descend
from ..minimizers.lbfgs import Pair
from ..optimizer import Optimizer
from ..solve.result import INTERRUPTED, TOO_MANY_EVALUATIONS, OptimizeResult, Reason
from .closure_problems import ClosureObjective, ClosureResiduals, borrowed

ENOUGH_FOR_NOW = Reason(0, False, "max_iter iterations were made; call step again to go on")
SETTLED = Reason(2, True, "the loss or the parameters change by less than tolerance_change")
LIMIT_OF_EVALUATIONS = TOO_MANY_EVALUATIONS._replace(message="max_eval evaluations were made; call step again to go on")
TO_BE_CONTINUED = (ENOUGH_FOR_NOW, SETTLED, TOO_MANY_EVALUATIONS, INTERRUPTED)
"""Ends after which what was learnt is kept. A search that ends by itself leaves nothing to go on with."""

LEARNT = """
    direction.H direction.pairs direction.eta direction.steepest.gained
    step_rule.step_rule.radius
    model_at.scaling.largest trust.extent trust.damping trust.growth trust.share
""".split()
"""Where directions, step rules and their kin keep what they learn from step to step; each has some of these."""


class Stepper(Optimizer):
    """What the classes share. One of them says which method it is, with which options: `parts`.

    An `Optimizer`, so that schedules, `zero_grad`, `param_groups` and checkpoints are as for all others. There is one
    group only, because the methods look at all parameters together.

    Attributes
    ----------
    result : OptimizeResult or None
        Of the last step: fun (the loss reached), nfev, njev, nhev, nit, success, status, and in words why it ended.
    n_iter, func_evals : int
        Iterations and evaluations of all steps.
    """

    problem: Any
    """From the closure, the parameters and a name for errors: the function that is searched."""

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]):
        self.learnt: dict[str, Any] = {}
        self.n_iter = self.func_evals = 0
        self.result: OptimizeResult | None = None
        super().__init__(params, defaults)

    # --- what a subclass says ---

    def parts(self, group: dict[str, Any]) -> SimpleNamespace:
        """The pair that searches, made anew from the options."""
        raise NotImplementedError

    def search(self, problem: Any, parts: Any, group: dict[str, Any], watch: Watch) -> tuple[Any, int, Reason]:
        """The last point, the number of iterations, and the reason to end."""
        raise NotImplementedError

    # --- what users call ---

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Search on from the parameters as they are, for at most `max_iter` iterations.

        Parameters
        ----------
        closure : callable
            Computes the loss, or the residuals, from the parameters, each time in the same way: without dropout, on the
            same data. It is called with gradients enabled, several times for a step.

        Returns
        -------
        The loss before the step, as the first call of the closure gave it, cut off from its record; for residuals half
        the sum of their squares.

        Notes
        -----
        The parameters end at the last point that was accepted, also when the closure raises, or on Ctrl-C, which passes
        through. Their `.grad` is left alone; where the closure calls backward it is then the gradient at that point.
        """
        group, params = self.param_groups[0], self.param_groups[0]["params"]
        self._check_step(closure, params)
        problem = self.problem(closure, params, f"{self._name}.step")
        parts, watch = self.parts(group), Watch(problem, group)
        put_back(self.learnt, parts)
        gradients = None
        try:
            with borrowed(params), np.errstate(all="ignore"):
                last, iterations, reason = self.search(problem, parts, group, watch)
                watch.x = last.x
                if problem.went_backward:
                    gradients = problem.variables.leaves(last.g)
        finally:
            self.learnt = taken_from(parts)
            self.func_evals += problem.nfev
            if watch.x is not problem.variables.start:
                for p, array in zip(params, problem.variables.leaves(watch.x), strict=True):
                    p.copy_(array)
        if gradients is not None:
            for p, array in zip(params, gradients, strict=True):
                p.grad = Tensor(array)
        self._finish(problem, last, iterations, reason)
        return problem.first_loss

    def add_param_group(self, group: dict[str, Any]) -> None:
        """The one group; an error for a second."""
        if self.param_groups:
            raise ValueError(
                f"{self._name}: takes one parameter group only, since it looks at all parameters together; give them "
                "in one list, without options of their own."
            )
        super().add_param_group(group)

    # --- saving and going on ---

    @property
    def state(self) -> dict[Tensor, dict[str, Any]]:
        """What was learnt so far, under the first parameter, as in PyTorch; arrays are as long as all together."""
        return {self.param_groups[0]["params"][0]: self._entries()} if self.func_evals else {}

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on as if nothing had happened, copied.

        Returns
        -------
        dict
            `state`: under 0, counts and what was learnt, such as curvature pairs, a radius, a damping. `param_groups`:
            the options.
        """
        entries = {0: {key: saved(value) for key, value in self._entries().items()}} if self.func_evals else {}
        groups = [{**group, "params": list(range(len(group["params"])))} for group in self.param_groups]
        return {"state": entries, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a `state_dict`. Values are copied, to the device and dtype of the parameters.

        Raises
        ------
        ValueError
            The state does not fit: another optimizer's, or of parameters of other sizes. Nothing is changed.
        """
        group = self.param_groups[0]
        before = dict(group)
        super().load_state_dict({**state_dict, "state": {}} if "state" in state_dict else state_dict)
        try:
            given = state_dict["state"]
            self._load(dict(given.get(0, given.get("0", {}))))
        except ValueError:
            group.update(before)
            raise

    def _load(self, entries: dict[str, Any]) -> None:
        params = self.param_groups[0]["params"]
        size, dtype = sum(p.size for p in params), np.result_type(*[p.dtype for p in params])
        n_iter, func_evals = int(entries.pop("n_iter", 0)), int(entries.pop("func_evals", 0))
        known = {short(name): name for name in taken_from(self.parts(self.param_groups[0]))}
        if entries.keys() - known.keys():
            raise ValueError(
                f"{self._name}.load_state_dict: the state holds {', '.join(map(str, entries))}, expected "
                f"{', '.join(known)}; is it that of another optimizer?"
            )
        self.learnt = {
            known[key]: loaded(value, size, dtype, params[0].device, f"{self._name}.load_state_dict: {key}")
            for key, value in entries.items()
        }
        self.n_iter, self.func_evals = n_iter, func_evals

    # --- inside ---

    def _entries(self) -> dict[str, Any]:
        learnt = {short(name): value for name, value in self.learnt.items()}
        return {"n_iter": self.n_iter, "func_evals": self.func_evals, **learnt}

    def _check_step(self, closure: Any, params: list[Tensor]) -> None:
        if not callable(closure):
            raise TypeError(
                f"{self._name}.step needs a closure, a function without arguments that computes the loss, or the "
                f"residuals, anew from the parameters as they are then; got {closure!r}."
            )
        for position, p in enumerate(params):
            if not p.requires_grad:
                raise ValueError(
                    f"{self._name}.step: parameter {position}, shape {p.shape}, takes no gradient any more; make a new "
                    "optimizer of those that are still to be trained."
                )
        if len({p.device for p in params}) > 1:
            raise ValueError(f"{self._name}.step: the parameters lie on several devices; move the model to one.")

    def _finish(self, problem: Any, last: Any, iterations: int, reason: Reason) -> None:
        """Note how the step ended; a Ctrl-C that ended it goes on to the caller."""
        self.n_iter += iterations
        if reason not in TO_BE_CONTINUED:
            self.learnt = {}
        if reason is TOO_MANY_EVALUATIONS:
            reason = LIMIT_OF_EVALUATIONS
        self.result = OptimizeResult(
            fun=last.cost if isinstance(problem, ClosureResiduals) else last.f,
            nfev=problem.nfev,
            njev=problem.njev,
            nhev=problem.nhev,
            nit=iterations,
            success=reason.success,
            status=reason.status,
            message=reason.message,
        )
        if reason is INTERRUPTED:
            raise KeyboardInterrupt


class Downhill(Stepper):
    """Where the closure gives a loss, and a pair of `minimize` lowers it."""

    problem = ClosureObjective

    def search(self, problem: Any, parts: Any, group: dict[str, Any], watch: Watch) -> tuple[Any, int, Reason]:
        limits = Limits(gtol=group["tolerance_grad"], maxiter=math.inf, max_nfev=evaluations(group))
        last, iterations, reason = descend(problem, parts.direction, parts.step_rule, limits, watch)
        return last, iterations, watch.reason or reason


class Fitting(Stepper):
    """Where the closure gives residuals, and a method of `least_squares` makes them small."""

    problem = ClosureResiduals

    def search(self, problem: Any, parts: Any, group: dict[str, Any], watch: Watch) -> tuple[Any, int, Reason]:
        least = 4 * problem.variables.eps
        ftol, xtol, gtol = (max(group[name], least) for name in ("ftol", "xtol", "gtol"))
        limits = FitLimits(ftol, xtol, gtol, max_nfev=int(evaluations(group)))
        last, iterations, reason = fit(problem, parts.model_at, parts.trust, limits, watch)
        return last, iterations, watch.reason or reason


class Watch:
    """What looks on: it knows the last accepted point, should the search break off, and when it has gone on enough.

    x : the last accepted point; the start, the very array, as long as there is none
    reason : why the search was stopped, if it was
    """

    def __init__(self, problem: Any, group: dict[str, Any]):
        self.problem, self.group = problem, group
        self.x = problem.variables.start
        self.f: float | None = None
        self.reason: Reason | None = None

    def __call__(self, here: Any, iteration: int) -> bool:
        is_over = "tolerance_grad" in self.group and here.steepness <= self.group["tolerance_grad"]
        if not is_over and "tolerance_change" in self.group and self._is_settled(here, self.group["tolerance_change"]):
            self.reason = SETTLED
        if not is_over and iteration >= self.group["max_iter"]:
            self.reason = ENOUGH_FOR_NOW
        self.x = here.x
        return self.reason is not None

    def _is_settled(self, here: Any, tolerance: float) -> bool:
        before, self.f = (float(self.problem.first_loss) if self.f is None else self.f), here.f
        return abs(before - here.f) < tolerance * abs(here.f) or float(abs(here.x - self.x).max()) < tolerance


def evaluations(group: dict[str, Any]) -> float:
    """How many a step may make; if the group does not say, so many that max_iter ends nearly all steps first."""
    return 2 * group["max_iter"] + 10 if group["max_eval"] is None else group["max_eval"]


# --- what was learnt: out of the parts, into them, and as part of a state ---


def short(name: str) -> str:
    return name.rpartition(".")[2]


def keeper(parts: Any, name: str) -> Any:
    """The part that keeps what has this name, or None where there is none."""
    *path, last = name.split(".")
    owner = reduce(lambda part, step: getattr(part, step, None), path, parts)
    return owner if hasattr(owner, last) else None


def taken_from(parts: Any) -> dict[str, Any]:
    """What these parts have learnt, by name."""
    owners = {name: keeper(parts, name) for name in LEARNT}
    return {name: getattr(owner, short(name)) for name, owner in owners.items() if owner is not None}


def put_back(learnt: dict[str, Any], parts: Any) -> None:
    """Give fresh parts what former ones have learnt, as far as they have a place for it."""
    for name, value in learnt.items():
        owner = keeper(parts, name)
        if isinstance(value, deque) and owner is not None:
            owner.pairs.extend(value)
        elif owner is not None:
            setattr(owner, short(name), value)


def saved(value: Any) -> Any:
    """A number, array or curvature pairs as part of a state: arrays as Tensors, copied."""
    if isinstance(value, deque):
        return [[tensor(s), tensor(y), curvature] for s, y, curvature in value]
    return tensor(value) if is_array(value) else value


def loaded(value: Any, size: int, dtype: Any, device: str, what: str) -> Any:
    """The same from a state; an error for arrays of another size than the parameters have."""
    if isinstance(value, (list, tuple)):
        arrays = [[loaded(x, size, dtype, device, what) for x in (s, y)] for s, y, _ in value]
        return deque(Pair(s, y, float(pair[2])) for (s, y), pair in zip(arrays, value, strict=True))
    if value is None or not hasattr(value, "shape"):
        return value
    if not value.shape or set(value.shape) != {size}:
        raise ValueError(
            f"{what} has shape {tuple(value.shape)}, but there are {size} parameters; build the model as it was when "
            "the state was saved."
        )
    return tensor(value.numpy() if hasattr(value, "numpy") else value, dtype=dtype, device=device).data
