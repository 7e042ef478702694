"""Searches that train a model: what the classes share, from the parameters at the start to those at the end.

After this file you know how one call of `step(closure)` is a search of some iterations by a pair of `minimize` or
`least_squares`, a direction and a step rule, or a model and the trust in it; and that a call goes on where the last one
ended, since what such a pair has learnt is kept in between (`learnt_state`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from minigrad import Tensor

from ..optimizer import Optimizer
from ..saved_state import CLASS, checked_layout, checked_scalar
from ..solve.result import INTERRUPTED, TOO_MANY_EVALUATIONS, OptimizeResult, Reason, fields_of_the_end
from .borrowing import borrowed
from .learnt_state import loaded, put_back, saved, short, taken_from
from .option_checks import Group, check_options
from .step_watch import ENOUGH_FOR_NOW, SETTLED, StepWatch

LIMIT_OF_EVALUATIONS = TOO_MANY_EVALUATIONS._replace(message="max_eval evaluations were made; call step again to go on")
TO_BE_CONTINUED = (ENOUGH_FOR_NOW, SETTLED, TOO_MANY_EVALUATIONS, INTERRUPTED)
"""Ends after which what was learnt is kept. After a search that ended by itself, the next one starts afresh."""


class ClosureOptimizer(Optimizer):
    """What the classes share. Each says which method it is, with which options: `parts` and `search`.

    An `Optimizer`, so that schedules, `zero_grad`, `param_groups` and checkpoints are as for all others. There is one
    group only, because the methods look at all parameters together.

    Attributes
    ----------
    result : OptimizeResult or None
        Of the last step: fun (the loss reached), nfev, njev, nhev, nit, success, status, and in words why it ended.
    n_iter, func_evals : int
        Iterations and evaluations of all steps.
    """

    problem: Callable[..., Any]
    """Makes the function that is searched, from the closure, the parameters and a name for errors."""

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]):
        self.learnt: dict[str, Any] = {}
        self.n_iter = self.func_evals = 0
        self.result: OptimizeResult | None = None
        super().__init__(params, defaults)

    # --- what a subclass says ---

    def parts(self, group: Group) -> Any:
        """The pair that searches, made anew from the options."""
        raise NotImplementedError

    def search(self, problem: Any, parts: Any, group: Group, watch: StepWatch) -> tuple[Any, int, Reason]:
        """The last point, the number of iterations, and the reason to end."""
        raise NotImplementedError

    def lowered(self, last: Any) -> float:
        """The value that the search lowers, at a point: the loss, or half the sum of squares."""
        raise NotImplementedError

    def check(self, group: Group) -> None:
        check_options(self._name, group)

    # --- what users call ---

    def step(self, closure: Callable[[], Any] | None = None) -> Tensor | float:
        """Search on from the parameters as they are, for at most `max_iter` iterations.

        Parameters
        ----------
        closure : callable
            Computes the loss, or the residuals, from the parameters, each time in the same way: without dropout, on the
            same data. It is called with gradients enabled, several times for a step.

        Returns
        -------
        The loss before the step, as the first call of the closure gave it, detached; for residuals half the sum of
        their squares.

        Notes
        -----
        The parameters end at the last point that was accepted, also when the closure raises, or on Ctrl-C, which passes
        through. Their `.grad` is left alone; where the closure calls backward it is then the gradient at that point.
        """
        group, params = self.param_groups[0], self.param_groups[0]["params"]
        self._check_step(closure, params)
        problem = self.problem(closure, params, f"{self._name}.step")
        parts, watch = self.parts(group), StepWatch(problem, group)
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

    def add_param_group(self, group: Group) -> None:
        """Take the only group; raise for a second one."""
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
        """A copy of all that is needed to go on as if there had been no break.

        Returns
        -------
        dict
            `state`: under 0, counts and what was learnt, such as curvature pairs, a radius, a damping. `param_groups`:
            the options.
        """
        entries = {0: {key: saved(value) for key, value in self._entries().items()}} if self.func_evals else {}
        groups = [{**group, "params": list(range(len(group["params"])))} for group in self.param_groups]
        return {"state": entries, "param_groups": groups, CLASS: self._name}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a `state_dict`. Values are copied, to the device and dtype of the parameters.

        Raises
        ------
        ValueError, TypeError
            The state does not fit: another optimizer's, of parameters of other sizes, or an option out of range.
            Nothing is changed.
        """
        group = self.param_groups[0]
        before = dict(group)
        state, _ = checked_layout(self._name, state_dict, [len(group["params"])])
        super().load_state_dict({**state_dict, "state": {}})
        try:
            if state.keys() - {0, "0"}:
                raise ValueError(
                    f"{self._name}.load_state_dict: state of parameters {', '.join(map(str, state))}; expected one "
                    "entry, of the parameters together. Is it that of another optimizer?"
                )
            self._load(dict(state.get(0, state.get("0", {}))))
        except BaseException:
            group.clear()
            group.update(before)
            raise

    def _load(self, entries: dict[str, Any]) -> None:
        params = self.param_groups[0]["params"]
        size, dtype = sum(p.size for p in params), np.result_type(*[p.dtype for p in params])
        n_iter, func_evals = (
            int(checked_scalar(self._name, 0, name, entries.pop(name, 0), whole=True))
            for name in ("n_iter", "func_evals")
        )
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
        """Set `result` and the counts; a Ctrl-C that ended the step goes on to the caller."""
        self.n_iter += iterations
        if reason not in TO_BE_CONTINUED:
            self.learnt = {}
        if reason is TOO_MANY_EVALUATIONS:
            reason = LIMIT_OF_EVALUATIONS
        self.result = OptimizeResult(fun=self.lowered(last), **fields_of_the_end(problem, iterations, reason))
        if reason is INTERRUPTED:
            raise KeyboardInterrupt
