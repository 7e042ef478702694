"""`python tests/mutation`: break every rule, run the tests, count what they missed. See `--help`."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
for _library in ("OPENBLAS", "OMP", "MKL"):  # the matrices are tiny
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

from tests.mutation.judging import Verdict, judge, observe  # noqa: E402

KINDS = ("sign", "factor", "swapped arguments", "missing term", "wrong axis")


def main() -> int:
    arguments = _arguments()
    from tests.mutation.checks import further_checks
    from tests.mutation.equivalent import explanations
    from tests.mutation.mutants import mutants
    from tests.mutation.units import units

    chosen = {name: unit for name, unit in units().items() if _fits(unit, arguments.ops)}
    explained = explanations(chosen)
    tried = {unit.name: [mutant.change for mutant in mutants(unit)] for unit in chosen.values()}
    if arguments.sample:
        tried = _sample(chosen, tried)
    if arguments.list:
        print(*(f"{unit}: {change}" for unit, changes in tried.items() for change in changes), sep="\n")
        return 0

    keep = Kept(arguments.keep)
    before = [v for v in keep.caught() if v.change in tried.get(v.unit, ())]
    known = {(v.unit, v.change) for v in before}
    tried = {unit: [change for change in changes if (unit, change) not in known] for unit, changes in tried.items()}
    tasks = [(unit, part, None) for unit, changes in tried.items() for part in _chunks(changes)]
    verdicts = run(tasks, arguments.workers, "own tests", keep)
    left = [v for v in verdicts if not v.caught and (v.unit, v.change) not in explained]
    if left and not arguments.own:
        where = "tests.ops.test_edges::" if arguments.sample else ""  # to watch every test takes ten minutes
        _watch(sorted({v.unit for v in left}), arguments.workers, where)
        tasks = [(v.unit, [v.change], [c.name for c in further_checks(chosen[v.unit])]) for v in left]
        verdicts = [v for v in verdicts if v not in left] + run(tasks, arguments.workers, "further tests", keep)
    return report(before + verdicts, explained)


def _arguments():
    parser = argparse.ArgumentParser(description="Break derivative rules one at a time; every mutant must be caught.")
    parser.add_argument("--ops", default="", help="regular expression: only rules of ops, or functions, it fits")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--sample", action="store_true", help="one mutant of each family, of different kinds")
    parser.add_argument("--own", action="store_true", help="run the tests of the op itself only")
    parser.add_argument("--keep", metavar="FILE", help="write verdicts there, and do not try again what was caught")
    parser.add_argument("--list", action="store_true", help="show the mutants and run nothing")
    return parser.parse_args()


def _fits(unit, pattern: str) -> bool:
    return not pattern or any(re.fullmatch(pattern, name) for name in (*unit.ops, unit.name, unit.family))


def _chunks(changes: list, size: int = 20) -> list:
    return [changes[i : i + size] for i in range(0, len(changes), size)]


def _sample(chosen: dict, tried: dict) -> dict:
    """One mutant of each family whose rules have tests of their own: one in the middle of those of a kind."""
    from tests.mutation.checks import own_checks

    # What the op table's tests ask of linear_solve is little; those that judge it would have to be watched for minutes.
    rules = [unit for unit in chosen.values() if unit.is_rule and own_checks(unit) and unit.family != "linear_solve"]
    sample = {}
    for family in sorted({unit.family for unit in rules}):
        kind = KINDS[len(family) % len(KINDS)]  # a new family leaves the others' samples as they are
        mine = [(u.name, change) for u in rules if u.family == family for change in tried[u.name]]
        fitting = [pair for pair in mine if pair[1].startswith(kind)] or mine
        name, change = fitting[len(fitting) // 2]
        sample[name] = [change]
    return sample


class Kept:
    """Verdicts in a file, so that a run can go on where another ended: what was caught is not tried again."""

    def __init__(self, path: str | None):
        self.path = path and Path(path)

    def caught(self) -> list[Verdict]:
        lines = self.path.read_text().splitlines() if self.path and self.path.exists() else []
        verdicts = {(v.unit, v.change): v for v in (Verdict(**json.loads(line)) for line in lines) if v.caught}
        return list(verdicts.values())

    def add(self, verdicts: list[Verdict]) -> None:
        if self.path:
            with self.path.open("a") as file:
                file.writelines(json.dumps(vars(verdict)) + "\n" for verdict in verdicts)


def run(tasks: list, workers: int, what: str, keep: Kept) -> list[Verdict]:
    """Judge the mutants of all tasks."""
    verdicts: list[Verdict] = []
    with tqdm(total=sum(len(changes) for _, changes, _ in tasks), desc=what, unit="mutant") as bar:
        for done in _in_processes(judge, tasks, workers):
            keep.add(done)
            verdicts += done
            bar.update(len(done))
            bar.set_postfix(left=sum(not v.caught for v in verdicts))
    return verdicts


def _watch(units: list[str], workers: int, where: str) -> None:
    """Note for every test whose name begins so which of these functions it runs; end if one fails without a mutant."""
    from tests.mutation.checks import checks

    tasks = [(units, names) for names in _chunks([name for name in checks() if name.startswith(where)])]
    failing = []
    for done in tqdm(_in_processes(observe, tasks, workers), total=len(tasks), desc="watching tests"):
        for name, seconds, seen, passed in done:
            checks()[name].seconds, checks()[name].seen = seconds, seen
            failing += [] if passed else [name]
    if failing:
        raise SystemExit(f"these tests fail without any mutant; mend that first: {', '.join(failing)}")


def _in_processes(function, tasks: list, workers: int) -> Iterator:
    """The function's results for all tasks, in the order in which they come."""
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        for done in as_completed([pool.submit(function, *task) for task in tasks]):
            yield done.result()


def report(verdicts: list[Verdict], explained: dict) -> int:
    """Print the table and the survivors; the exit code: 1 if a survivor is unexplained, or an explanation unused."""
    families = sorted({v.family for v in verdicts})
    print(f"\n{'family':<14}{'mutants':>9}{'by a check':>12}{'by an error':>13}", end="")
    print(f"{'by time':>9}{'survive':>9}{'explained':>11}")
    for family in [*families, "all"]:
        mine = [v for v in verdicts if family in (v.family, "all")]
        how = Counter(v.how for v in mine)
        known = sum((v.unit, v.change) in explained for v in mine if not v.caught)
        print(
            f"{family:<14}{len(mine):>9}{how['check']:>12}{how['error']:>13}{how['time']:>9}{how[None]:>9}{known:>11}"
        )
    tests = Counter(v.check.partition("::")[2].partition("[")[0] for v in verdicts if v.caught)
    print("\ncaught by")
    for name, count in tests.most_common():
        print(f"{count:>7}  {name}")
    survivors = sorted((v.unit, v.change) for v in verdicts if not v.caught)
    unexplained = [key for key in survivors if key not in explained]
    for key in survivors:
        if key in explained:
            print(f"\nequivalent: {key[0]}\n  {key[1]}\n  {explained[key]}")
    for unit, change in unexplained:
        print(f"\nSURVIVES: {unit}\n  {change}")
    unused = [key for key in explained if key not in survivors and any((v.unit, v.change) == key for v in verdicts)]
    for unit, change in unused:
        print(f"\nEXPLAINED, BUT CAUGHT: {unit}\n  {change}")
    print(
        f"\n{len(verdicts)} mutants, {len(verdicts) - len(survivors)} caught, {len(survivors)} survivors, "
        f"of which {len(unexplained)} unexplained."
    )
    return 1 if unexplained or unused else 0


if __name__ == "__main__":
    sys.exit(main())
