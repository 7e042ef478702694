"""Mutants that compute the same as the rule: survivors that no test can catch, each with its reason.

They stand in equivalent.txt, by reason, function and change. After this file you know how they are read, and that one
that fits no mutant any more is an error.
"""

from __future__ import annotations

from pathlib import Path

from tests.mutation.mutants import mutants
from tests.mutation.units import Unit

LIST = Path(__file__).with_name("equivalent.txt")


def explanations(chosen: dict[str, Unit], text: str | None = None) -> dict[tuple[str, str], str]:
    """(function, change) -> reason, for the chosen functions. Raises ValueError for a change that is none."""
    listed = parsed(LIST.read_text(encoding="utf-8") if text is None else text)
    known = {key: reason for key, reason in listed.items() if key[0] in chosen}
    there = {(name, mutant.change) for name in {unit for unit, _ in known} for mutant in mutants(chosen[name])}
    if gone := known.keys() - there:
        lines = "".join(f"\n  {unit}: {change}" for unit, change in sorted(gone))
        raise ValueError(f"{LIST.name} explains mutants that there are not; take them out, or mend them:{lines}")
    return known


def parsed(text: str) -> dict[tuple[str, str], str]:
    """The list as a dict: "# reason", under it functions, and under each, indented, its changes."""
    found, reason, unit = {}, "", ""
    for line in text.splitlines():
        if line.startswith("# "):
            reason, unit = line[2:], ""
        elif line.startswith("  "):
            found[unit, line.strip()] = reason
        elif reason and line:
            unit = line
    return found
