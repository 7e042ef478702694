"""Parameter groups: which parameters an optimizer has, their options and state, and how all of it is saved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from minigrad import Tensor, tensor, zeros_like
from minigrad.autograd import explain_constructor

from .options import CHECKS, Check, described
from .saved_state import CLASS, check_kin, checked_layout, checked_options, checked_scalar, like_defaults


class ParameterGroups:
    """Everything of an optimizer but its steps; see `Optimizer`."""

    checks: ClassVar[dict[str, Check]] = {}
    """What options may be that `options.CHECKS` does not know, or that may be something else here."""
    own_options: ClassVar[tuple[str, ...]] = ()
    """Options that PyTorch lacks: a state without them leaves them as they are."""
    scalar_state: ClassVar[dict[str, float]] = {}
    """Numbers of the state, kept from step to step for each parameter, and their first values."""
    counts_steps: ClassVar[bool] = False
    """Whether `step` is part of the state that is saved."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        explain_constructor(cls)

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]):
        self.defaults = dict(defaults)
        self.param_groups: list[dict[str, Any]] = []
        self._state: dict[Tensor, dict[str, Any]] = {}
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

    def check(self, group: dict[str, Any]) -> None:
        """Raise TypeError or ValueError for options that make no sense. To compare options, extend it."""
        checks = {**CHECKS, **self.checks}
        for name, value in group.items():
            if name in checks:
                checks[name](self._name, name, value)

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
        self.check(group)
        self.param_groups.append(group)

    @property
    def state(self) -> dict[Tensor, dict[str, Any]]:
        """For each parameter that has taken a step its buffers, by name, and how many steps it took."""
        return self._state

    # --- saving and going on ---

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on as if nothing had happened, copied, in PyTorch's layout.

        Returns
        -------
        dict
            `state`: by the parameter's index, its buffers as Tensors. `param_groups`: the options of each group, with
            `params` the list of indices. `class`: the optimizer's name, so that the state is not given to another.
        """
        index = {id(p): i for i, p in enumerate(self._all_params())}
        state = {}
        for p, kept in self.state.items():
            scalars = {"step", *self.scalar_state}
            entries = {key: value if key in scalars else tensor(value) for key, value in kept.items() if key != "step"}
            if self.counts_steps and "step" in kept:
                entries = {"step": kept["step"], **entries}
            if entries:
                state[index[id(p)]] = entries
        groups = [{**group, "params": [index[id(p)] for p in group["params"]]} for group in self.param_groups]
        return {"state": dict(sorted(state.items())), "param_groups": groups, CLASS: self._name}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a `state_dict`. Values are copied, to the devices and dtypes of the parameters.

        The options of the state replace those of the groups, and are checked as the constructor checks them.

        Raises
        ------
        ValueError, TypeError
            The state does not fit: another optimizer's, other groups, buffers of other names or shapes, or an option
            out of range. Nothing is changed.
        """
        sizes = [len(group["params"]) for group in self.param_groups]
        state, given = checked_layout(self._name, state_dict, sizes)
        groups = []
        for i, (group, saved) in enumerate(zip(self.param_groups, given, strict=True)):
            check_kin(self._name, state_dict.get(CLASS), saved, self.defaults.keys(), self.own_options)
            groups.append({**group, **like_defaults(self.defaults, saved)})
            checked_options(self._name, i, self.check, groups[-1])
        indices = [index for group in given for index in group["params"]]
        of_index = dict(zip(indices, self._all_params(), strict=True))
        group_of = {index: group for group, saved in zip(groups, given, strict=True) for index in saved["params"]}
        loaded: dict[Tensor, dict[str, Any]] = {}
        for key, entries in state.items():
            index = int(key) if isinstance(key, str) and key.isdecimal() else key  # JSON has no other keys than text
            if index not in of_index:
                raise ValueError(
                    f"{self._name}.load_state_dict: state of parameter {key}, but no group has that index."
                )
            self._check_entries(index, entries, group_of[index])
            p = of_index[index]
            loaded[p] = {k: self._loaded(p, index, k, value) for k, value in entries.items() if value is not None}
        self._state = loaded
        for group, options in zip(self.param_groups, groups, strict=True):
            group.update(options)

    def entries_of(self, group: dict[str, Any]) -> set[str]:
        """The names that the state of a parameter in this group may have."""
        return {"step", *self.scalar_state}

    def _check_entries(self, index: Any, entries: Mapping[str, Any], group: dict[str, Any]) -> None:
        unknown = entries.keys() - self.entries_of(group)
        if unknown:
            names = ", ".join(sorted(map(str, unknown)))
            raise ValueError(
                f"{self._name}.load_state_dict: the state of parameter {index} has {names}, which {self._name} does "
                f"not know; is this the state of another optimizer? Nothing was changed."
            )

    def _loaded(self, p: Tensor, index: Any, key: str, value: Any) -> Any:
        if key == "step" or key in self.scalar_state:
            return checked_scalar(self._name, index, key, value, whole=key == "step")
        shape = getattr(value, "shape", None)
        if shape is None or tuple(shape) != p.shape:
            found = type(value).__name__ if shape is None else f"shape {tuple(shape)}"
            raise ValueError(
                f"{self._name}.load_state_dict: {key} of parameter {index} has {found}, expected shape {p.shape}."
            )
        array = value.numpy() if hasattr(value, "numpy") else value
        return tensor(array, dtype=p.dtype, device=p.device).data

    # --- inside ---

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
