"""The verdict on a mutant: what a worker process of the mutation check does."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from tests.mutation.checks import checks, failure, first_failure, own_checks, watch
from tests.mutation.mutants import mutants
from tests.mutation.units import units


@dataclass
class Verdict:
    """Which test caught a mutant, and how ("check", "error", "time"); None and None for a survivor."""

    unit: str
    family: str
    change: str
    check: str | None
    how: str | None

    @property
    def caught(self) -> bool:
        return self.check is not None


@cache
def _units():
    return units()


@cache
def _mutants(unit: str) -> dict:
    return {mutant.change: mutant for mutant in mutants(_units()[unit])}


def judge(name: str, changes: list[str], further: list[str] | None) -> list[Verdict]:
    """Verdicts on mutants of one function, by the tests of its ops, or by those named.

    Whatever failed last is run once more without a mutant: it must pass, or the verdicts are worth nothing.
    """
    unit = _units()[name]
    candidates = own_checks(unit) if further is None else [checks()[check] for check in further]
    verdicts = []
    for change in changes:
        with unit.with_body(_mutants(name)[change].node):
            verdicts.append(Verdict(name, unit.family, change, *first_failure(candidates)))
    failed = [v.check for v in verdicts if v.caught]
    if failed and failure(checks()[failed[-1]]):
        raise RuntimeError(f"{failed[-1]} fails without a mutant too: mend that first (or a mutant left a trace)")
    return verdicts


def observe(names: list[str], candidates: list[str]) -> list[tuple[str, float, set[str], bool]]:
    """For tests without a mutant: (name, seconds, which of these functions it runs, whether it passes)."""
    tests = [checks()[name] for name in candidates]
    failing = watch([_units()[name] for name in names], tests)
    return [(test.name, test.seconds, test.seen, test.name not in failing) for test in tests]
