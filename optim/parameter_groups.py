"""Parameter groups: which parameters an optimizer has, their options and state, and how all of it is saved."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from minigrad import Tensor, tensor, zeros_like
from minigrad.autograd import explain_constructor

from .options import CHECKS, Check, described


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
            `params` the list of indices.
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

    def _loaded(self, p: Tensor, index: Any, key: str, value: Any) -> Any:
        if key == "step":
            return int(value)
        if key in self.scalar_state:
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
