"""The user's options of `minimize`: a mapping that records which names were read, so that a misspelt one is found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

OptionValues = Mapping[str, Any]
"""Options by name: a dict, or an `Options`."""


class Options(Mapping):
    """A mapping that records which keys were read; a key never read is an unknown option."""

    def __init__(self, given: OptionValues):
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
        """Raise for an option that was given and never read."""
        unknown = sorted(set(self.given) - set(self.asked))
        if unknown:
            raise ValueError(
                f"{owner} has no option {', '.join(map(repr, unknown))}; it has {', '.join(sorted(self.asked))}."
            )
