"""What a saved state of an optimizer must be, before anything of it is taken over.

A state may come from a file that was damaged, from another optimizer, from another model, or from PyTorch. Everything
is checked first, so that an error leaves the optimizer as it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

CLASS = "class"
"""Under this key a state holds the name of the class it is of. States from PyTorch have none."""

OF_OTHERS = frozenset(
    "foreach fused capturable differentiable param_names initial_lr max_lr min_lr base_momentum max_momentum".split()
)
"""Entries of a group that are no options of ours: PyTorch's options that change no number, and what schedules keep."""

HINT = "Build the model and the optimizer as they were when the state was saved. Nothing was changed."


def checked_layout(name: str, state_dict: Any, sizes: Sequence[int]) -> tuple[Mapping[Any, Any], list[dict[str, Any]]]:
    """The two parts of a state, `state` and `param_groups`, for groups of `sizes` parameters; ValueError for others."""
    missing = {"state", "param_groups"} - set(state_dict) if isinstance(state_dict, Mapping) else {"state"}
    if missing:
        found = (
            f"{sorted(missing)} not found" if isinstance(state_dict, Mapping) else f"got {type(state_dict).__name__}"
        )
        raise ValueError(f"{name}.load_state_dict: {found}; expected what state_dict() gave.")
    state, groups = state_dict["state"], state_dict["param_groups"]
    if not isinstance(state, Mapping) or not all(isinstance(entries, Mapping) for entries in state.values()):
        raise ValueError(f"{name}.load_state_dict: 'state' must be a dict of dicts. {HINT}")
    if not isinstance(groups, (list, tuple)) or not all(_is_group(group) for group in groups):
        raise ValueError(
            f"{name}.load_state_dict: 'param_groups' must be a list of dicts, each with the list 'params' of whole "
            f"numbers. {HINT}"
        )
    given = [len(group["params"]) for group in groups]
    if given != list(sizes):
        raise ValueError(
            f"{name}.load_state_dict: the state is of groups of {given} parameters, but this optimizer has "
            f"{list(sizes)}. {HINT}"
        )
    indices = [index for group in groups for index in group["params"]]
    if len(set(indices)) < len(indices):
        raise ValueError(f"{name}.load_state_dict: a parameter is listed twice in 'param_groups'. {HINT}")
    return state, [dict(group) for group in groups]


def _is_group(group: Any) -> bool:
    params = group.get("params") if isinstance(group, Mapping) else None
    return isinstance(params, (list, tuple)) and all(is_whole(index) for index in params)


def is_whole(value: Any) -> bool:
    """Whether this is a whole number, 0 or more."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and bool(value >= 0)


def check_kin(name: str, saved_class: Any, group: Mapping[str, Any], options: Collection[str], own: Sequence[str]):
    """Raise ValueError if a group is another optimizer's: by the name of the class, or by the names of its options."""
    absent = set(options) - group.keys() - set(own)
    known = {*options, *OF_OTHERS, "params"}
    asked = {key for key, value in group.items() if value is not None and value is not False}  # the rest do nothing
    unknown = asked - known if saved_class != name else set()
    if not absent and not unknown and saved_class in (None, name):
        return
    of = f"the state is that of {saved_class}" if saved_class not in (None, name) else "a group does not fit"
    lacks = f"; a group lacks {', '.join(sorted(absent))}" if absent else ""
    has = f"; it has {', '.join(sorted(unknown))}, which {name} does not know" if unknown else ""
    raise ValueError(f"{name}.load_state_dict: {of}{lacks}{has}; is this the state of another optimizer? {HINT}")


def like_defaults(defaults: Mapping[str, Any], group: Mapping[str, Any]) -> dict[str, Any]:
    """A group's options, lists made tuples again where the default is a tuple: JSON has no tuples."""
    pairs = {key: value for key, value in group.items() if key != "params"}
    return {
        key: tuple(value) if isinstance(defaults.get(key), tuple) and isinstance(value, list) else value
        for key, value in pairs.items()
    }


def checked_options(name: str, number: int, check: Callable[[dict[str, Any]], None], group: dict[str, Any]) -> None:
    """Check a group's options as the constructor does; the error says that they are those of the state."""
    try:
        check(group)
        rate = group.get("initial_lr", 0.0)
        if isinstance(rate, bool) or not isinstance(rate, (int, float, np.number)) or not 0 <= rate < math.inf:
            raise ValueError(f"initial_lr={rate!r}; expected a finite number, 0 or more.")
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"{name}.load_state_dict: group {number} of the state: {error} Nothing was changed."
        ) from error


def checked_scalar(name: str, index: Any, key: str, value: Any, whole: bool) -> int | float:
    """A number of the state: how many steps were taken, or a finite scalar."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or (whole and (number < 0 or number != int(number))):
        expected = "a whole number, 0 or more" if whole else "a finite number"
        raise ValueError(
            f"{name}.load_state_dict: {key} of parameter {index} is {value!r}; expected {expected}. {HINT}"
        )
    return int(number) if whole else number
