"""OptimizerWrapper: an optimizer around another, which stands wherever an optimizer is expected, in schedules say."""

from __future__ import annotations

from typing import Any

from minigrad import Tensor

from .optimizer import Optimizer


class OptimizerWrapper(Optimizer):
    """What the optimizers around another share: the groups, options and state of the one inside are theirs too.

    To add one, write `step`, which calls `self.optimizer.step`.

    Parameters
    ----------
    optimizer : Optimizer
        Any.

    Raises
    ------
    TypeError
        Something that is no optimizer.
    """

    def __init__(self, optimizer: Optimizer):
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{self._name}: expected an Optimizer to wrap, got a {type(optimizer).__name__}.")
        self.optimizer = optimizer

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__  # the optimizer inside sees to its own

    def words(self) -> str:
        """Its own options, for `repr`."""
        return ""

    def add_param_group(self, group: dict[str, Any]) -> None:
        """Optimize more parameters, see `Optimizer.add_param_group`."""
        self.optimizer.add_param_group(group)

    def state_dict(self) -> dict[str, Any]:
        """The state of the optimizer inside."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a `state_dict`, see `Optimizer.load_state_dict`."""
        self.optimizer.load_state_dict(state_dict)

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        return self.optimizer.param_groups

    @property
    def defaults(self) -> dict[str, Any]:  # type: ignore[override]
        return self.optimizer.defaults

    @property
    def state(self) -> dict[Tensor, dict[str, Any]]:
        return self.optimizer.state

    @property
    def nonfinite(self) -> str:  # type: ignore[override]
        return self.optimizer.nonfinite

    @property
    def skipped_steps(self) -> int:  # type: ignore[override]
        return self.optimizer.skipped_steps

    def __repr__(self) -> str:
        inside = repr(self.optimizer).replace("\n", "\n  ")
        return f"{self._name}({self.words()},\n  {inside}\n)"
