"""What a method of `minimize` is: a direction and a step rule, each made anew for a run from the user's options.

After this file you know the form of an entry in the table of methods, and so how to write one of your own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from .descent_loop import Direction, StepRule


class Method(NamedTuple):
    """A direction times a step rule, as two functions of the user's options (a mapping).

    direction : Callable, from the options to a fresh Direction
    step_rule : Callable, from the options to a fresh StepRule
    """

    direction: Callable[[Mapping[str, Any]], Direction]
    step_rule: Callable[[Mapping[str, Any]], StepRule]


class Options(Mapping):
    """The user's options, which remember what they were asked for: what nobody asks for is an option nobody knows."""

    def __init__(self, given: Mapping[str, Any]):
        self.given = dict(given)
        self.asked: list[str] = []

    def __getitem__(self, name: str) -> Any:
        if name not in self.asked:
            self.asked.append(name)
        return self.given[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.given)

    def __len__(self) -> int:
        return len(self.given)

    def check(self, owner: str) -> None:
        """An error for an option that was given and not asked for."""
        unknown = sorted(set(self.given) - set(self.asked))
        if unknown:
            raise ValueError(
                f"{owner} has no option {', '.join(map(repr, unknown))}; it has {', '.join(sorted(self.asked))}."
            )
