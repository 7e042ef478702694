"""Optimizer: parameter groups, the state kept for each parameter, and the step, whatever the rule.

After this file you know how an optimizer is put together: a subclass says which rule of `updates.py` applies to a
group and which numbers it takes at step t, and everything else (groups, checks, `zero_grad`, `state_dict`, what is done
about a gradient that is no number) is here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import numpy as np

from minigrad import Tensor, enable_grad, tensor, zeros_like
from minigrad.backend import namespace

from .nonfinite import CHOICES, all_finite, described_nonfinite
from .options import described
from .pieces import Cohort, make_cohorts
from .updates import Rule


class Optimizer:
    """What all optimizers share. To add one, write `rule` and `numbers`, as `SGD` and `Adam` do.

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
    moved by its momentum, and its count of steps stands still.
    """

    decoupled = False  # whether weight decay shrinks the parameters directly instead of joining the gradient
    counts_steps = False  # whether `step` is part of the state that is saved
    # Numbers of the state that are carried from step to step, and their first values.
    carried: ClassVar[dict[str, float]] = {}
    own_options: tuple[str, ...] = ()  # those that PyTorch has not: a state that lacks them leaves them as they are

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any], *, nonfinite: str = "pass"):
        if nonfinite not in CHOICES:
            raise ValueError(f"{self._name}: nonfinite={nonfinite!r}; expected one of {', '.join(map(repr, CHOICES))}.")
        self.nonfinite, self.skipped_steps = nonfinite, 0
        self.defaults = dict(defaults)
        self.param_groups: list[dict[str, Any]] = []
        self._state: dict[Tensor, dict[str, Any]] = {}
        self._plans: list[_Plan | None] = []
        if isinstance(params, Tensor) or not isinstance(params, Iterable):
            raise TypeError(
                f"{self._name}: params must be a list of Tensors or of dicts, got {described(params)}; "
                "pass model.parameters(), or [tensor]."
            )
        groups = list(params)
        if not groups:
            raise ValueError(
                f"{self._name}: got an empty list of parameters. Has the model any, and was its parameters() "
                "generator used up before?"
            )
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    # --- what a subclass says ---

    def rule(self, group: dict[str, Any]) -> Rule:
        """Which rule of `updates.py` this group's parameters follow."""
        raise NotImplementedError

    def numbers(self, group: dict[str, Any], step: int) -> tuple[float | None, ...]:
        """The rule's coefficients at this step, counted from 1, in the order of `Rule.numbers`."""
        raise NotImplementedError

    def numbers_carrying(self, group: dict[str, Any], step: int, carried: dict[str, float]) -> tuple[float | None, ...]:
        """`numbers`, for an optimizer with numbers of its own in the state: `carried`, which it updates."""
        return self.numbers(group, step)

    def first_values(self, group: dict[str, Any]) -> dict[str, float]:
        """What buffers are filled with before the first step, by name; the others begin with zeros."""
        return {}

    def check(self, group: dict[str, Any]) -> None:
        """Raise TypeError or ValueError for options that make no sense."""

    # --- what users call ---

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
        plans = self._plans
        ready = []
        for i, group in enumerate(self.param_groups):
            rule, plan = self.rule(group), plans[i]
            if plan is None or plan.rule is not rule or not plan.gather():
                self._write_steps()
                self._fill_first_values(group)
                plan = plans[i] = _Plan(group["params"], rule, self._state, self.carried)
                plan.gather()
            ready.append((group, plan))
        for group, plan in ready:
            around = self._around(group)
            for cohort in plan.cohorts:
                cohort.update(self.numbers_carrying(group, cohort.steps + 1, cohort.carried), around)
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients; with `set_to_none=False` make them zeros (a parameter then counts as having one)."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.grad = None if set_to_none else zeros_like(p.grad)

    def add_param_group(self, group: dict[str, Any]) -> None:
        """Optimize more parameters, with options of their own: `{"params": [...], "lr": 0.01}`."""
        if not isinstance(group, dict) or "params" not in group:
            raise TypeError(
                f'{self._name}: a parameter group is a dict with the key "params", got {described(group)}. '
                "Give either Tensors or groups, not both."
            )
        params = group["params"]
        params = [params] if isinstance(params, Tensor) else list(params)
        if not params:
            raise ValueError(f"{self._name}: a parameter group with an empty list of parameters.")
        unknown = group.keys() - self.defaults.keys() - {"params"}
        if unknown:
            raise ValueError(
                f"{self._name}: unknown option {', '.join(map(repr, sorted(unknown)))} in a parameter group; "
                f"expected {', '.join(self.defaults)}."
            )
        seen = {id(p) for other in self.param_groups for p in other["params"]}
        for position, p in enumerate(params):
            self._check_parameter(p, position)
            if id(p) in seen:
                raise ValueError(
                    f"{self._name}: parameter {position} of this group, shape {p.shape}, was given before; "
                    "each may be given once, or it would be moved twice a step."
                )
            seen.add(id(p))
        group = {"params": params, **{name: group.get(name, value) for name, value in self.defaults.items()}}
        if not isinstance(group.get("maximize", False), (bool, np.bool_)):
            raise TypeError(f"{self._name}: maximize must be True or False, got {group['maximize']!r}.")
        self.check(group)
        self.param_groups.append(group)
        self._plans.append(None)

    @property
    def state(self) -> dict[Tensor, dict[str, Any]]:
        self._write_steps()
        return self._state

    # --- saving and going on ---

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on as if nothing had happened, copied, in PyTorch's layout.

        Returns
        -------
        dict
            `state`: by the parameter's index, its buffers as Tensors. `param_groups`: the options of each group, with
            `params` the list of indices.
        """
        index = {id(p): i for i, p in enumerate(self._all_params())}
        state = {}
        for p, kept in self.state.items():
            entries = {
                key: value if key in self.carried else tensor(value) for key, value in kept.items() if key != "step"
            }
            if self.counts_steps and "step" in kept:
                entries = {"step": kept["step"], **entries}
            if entries:
                state[index[id(p)]] = entries
        groups = [{**group, "params": [index[id(p)] for p in group["params"]]} for group in self.param_groups]
        return {"state": dict(sorted(state.items())), "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a `state_dict`. Values are copied, to the devices and dtypes of the parameters.

        Raises
        ------
        ValueError
            The state does not fit: another optimizer's, other groups, or buffers of other shapes. Nothing is changed.
        """
        missing = {"state", "param_groups"} - set(state_dict)
        if missing:
            raise ValueError(
                f"{self._name}.load_state_dict: {sorted(missing)} not found; expected what state_dict() gave."
            )
        given = state_dict["param_groups"]
        sizes, expected = [len(g["params"]) for g in given], [len(g["params"]) for g in self.param_groups]
        if sizes != expected:
            raise ValueError(
                f"{self._name}.load_state_dict: the state is of groups of {sizes} parameters, but this optimizer has "
                f"{expected}; build the model and the optimizer as they were when the state was saved."
            )
        for group in given:
            absent = self.defaults.keys() - group.keys() - set(self.own_options)
            if absent:
                raise ValueError(
                    f"{self._name}.load_state_dict: a group lacks {', '.join(sorted(absent))}; "
                    f"is this the state of another optimizer? It has {', '.join(sorted(group.keys() - {'params'}))}."
                )
        of_index = dict(zip((i for group in given for i in group["params"]), self._all_params(), strict=True))
        loaded: dict[Tensor, dict[str, Any]] = {}
        for i, entries in state_dict["state"].items():
            p = of_index.get(int(i))
            if p is None:
                raise ValueError(f"{self._name}.load_state_dict: state of parameter {i}, but no group has that index.")
            loaded[p] = {key: self._loaded(p, i, key, value) for key, value in entries.items() if value is not None}
        self._state = loaded
        for group, saved in zip(self.param_groups, given, strict=True):
            group.update({key: value for key, value in saved.items() if key != "params"})
            for key, default in self.defaults.items():
                if isinstance(default, tuple):
                    group[key] = tuple(group[key])  # JSON gives back lists
        self._plans = [None] * len(self.param_groups)

    def _loaded(self, p: Tensor, index: Any, key: str, value: Any) -> Any:
        if key == "step":
            return int(value)
        if key in self.carried:
            return float(value)
        shape = getattr(value, "shape", None)
        if shape is None or tuple(shape) != p.shape:
            found = type(value).__name__ if shape is None else f"shape {tuple(shape)}"
            raise ValueError(
                f"{self._name}.load_state_dict: {key} of parameter {index} has {found}, expected shape {p.shape}."
            )
        array = value.numpy() if hasattr(value, "numpy") else value
        return tensor(array, dtype=p.dtype, device=p.device).data

    # --- inside ---

    def _around(self, group: dict[str, Any]) -> tuple | None:
        """What is done around the rule: (maximize, pull, keep), see `updates.Around`."""
        decay, maximize = group.get("weight_decay", 0), group.get("maximize", False)
        if not decay:
            return (True, None, None) if maximize else None
        decoupled = group.get("decoupled_weight_decay", self.decoupled)
        return (maximize, None, 1 - group["lr"] * decay) if decoupled else (maximize, decay, None)

    def _fill_first_values(self, group: dict[str, Any]) -> None:
        """Begin the state of parameters that take their first step, if it begins with anything but zeros."""
        values = self.first_values(group)
        for p in group["params"] if values else ():
            if p.grad is not None and p not in self._state:
                xp = namespace(p.data)
                filled = {name: xp.full(p.shape, value, p.dtype) for name, value in values.items()}
                self._state[p] = {"step": 0, **filled}

    def _write_steps(self) -> None:
        """Cohorts count steps and carry numbers; write them into the state of each parameter."""
        for plan in self._plans:
            for cohort in plan.cohorts if plan else ():
                for p in cohort.params:
                    self._state[p] |= {"step": cohort.steps, **cohort.carried}

    def _all_params(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def _check_parameter(self, p: Any, position: int) -> None:
        if not isinstance(p, Tensor):
            raise TypeError(f"{self._name}: parameter {position} must be a Tensor, got {described(p)}.")
        if not p.is_leaf:
            raise TypeError(
                f"{self._name}: parameter {position}, shape {p.shape}, was computed; only leaves, tensors that you "
                "made, can be optimized. Use tensor.detach().requires_grad_(), or optimize what it was computed from."
            )
        if not p.requires_grad:
            raise TypeError(
                f"{self._name}: parameter {position}, shape {p.shape}, takes no gradient; "
                "create it with requires_grad=True, or leave it out."
            )

    @property
    def _name(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        lines = [
            f"  group {i}: {len(group['params'])} parameters, "
            + ", ".join(f"{key}={value}" for key, value in group.items() if key != "params")
            for i, group in enumerate(self.param_groups)
        ]
        return "\n".join([f"{self._name}(", *lines, ")"])


class _Plan:
    """One group's cohorts, and the parameters that had no gradient when the plan was made."""

    def __init__(
        self, params: list[Tensor], rule: Rule, states: dict[Tensor, dict[str, Any]], carried: dict[str, float]
    ):
        self.rule = rule
        self.cohorts: list[Cohort] = make_cohorts([p for p in params if p.grad is not None], rule, states, carried)
        self.idle = [p for p in params if p.grad is None]

    def gather(self) -> bool:
        """Fetch the gradients; False if this plan no longer fits."""
        for cohort in self.cohorts:
            if not cohort.gather():
                return False
        return not any(p.grad is not None for p in self.idle) if self.idle else True
