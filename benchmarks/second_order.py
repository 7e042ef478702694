"""Second-order solvers on published problems, beside SciPy's and PyTorch's: python benchmarks/second_order.py

Four sets, chosen with `--sets`. nist: curve fits with certified answers, each from both starts; runs with at least 4,
6 and 8 right digits, evaluations, and the time of the whole set, where the solvers take turns in one process and the
ratio to SciPy's `lm` (2-point Jacobian, NumPy models) is the median over the rounds; then the digits of curve_fit's
standard deviations. mgh: the sums of squares of Moré, Garbow and Hillstrom from 1, 10 and 100 times the usual start;
runs that end at the global, at any known minimum. starts: forty curve fits from starts that know nothing, beside
SciPy's curve_fit; solved, and called a success though the end is neither the answer nor a minimum. memory: bytes a
parameter at 100,000 and 1,000,000 parameters.

Every count is taken from the result's x by the problem's own NumPy formula, whatever a solver says of itself. A
solver that raises, or takes longer than a minute, has not solved the problem. `--nist-dir` adds data files in NIST's
format, `--quick` is for a first look. Written too: benchmarks/results/DATE-second-order.md and .json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import sys
import time
import tracemalloc
import warnings
from collections.abc import Iterable
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np
from second_order_solvers import REFERENCE, Solver, mgh_solvers, nist_solvers
from tqdm import tqdm

import minigrad as mg
from minigrad import optim

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from tests.support.problems import bad_starts, mgh, nist  # noqa: E402

SETS = ("nist", "mgh", "starts", "memory")
DIGITS = (4, 6, 8)
SCALES = (1, 10, 100)
SECONDS, SLOW = 60, 10
"""The time a run may take, and the time of the NIST set above which a solver is not asked to do it again."""


class Run(NamedTuple):
    """What one solver made of one problem from one start."""

    x: np.ndarray
    evaluations: int
    seconds: float = 0.0
    trouble: str = ""


# --- running them ---


@contextmanager
def limit(seconds: int):
    """A TimeoutError in a block that takes longer."""

    def stop(*_):
        raise TimeoutError(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def run(solver: Solver, problem, x0: np.ndarray) -> Run:
    with warnings.catch_warnings(), np.errstate(all="ignore"), limit(SECONDS):
        warnings.simplefilter("ignore")
        start = time.perf_counter()
        try:
            result = solver(problem, x0.copy())
        except Exception as error:
            return Run(np.full(x0.shape, np.nan), 0, time.perf_counter() - start, f"{type(error).__name__}: {error}")
        seconds = time.perf_counter() - start
        return Run(np.asarray(result.x, dtype=float), int(result.nfev), seconds)


def troubles(name: str, runs: Iterable[tuple[str, Run]]) -> list[str]:
    return [f"{name}, {which}: {one.trouble}" for which, one in runs if one.trouble]


# --- NIST ---


def measure_nist(fits: dict, rounds: int) -> dict:
    """For each solver: counts, evaluations, seconds and the ratio to the reference."""
    solvers, starts = nist_solvers(), [(fit, i) for fit in fits.values() for i in range(2)]
    first: dict[str, list[Run]] = {}
    seconds: dict[str, list[float]] = {name: [] for name in solvers}
    for _ in tqdm(range(rounds), desc="NIST", unit="round"):
        for name, solver in solvers.items():
            if sum(seconds[name][:1]) > SLOW:
                continue
            runs = [run(solver, fit, fit.starts[i]) for fit, i in starts]
            first.setdefault(name, runs)
            seconds[name].append(sum(one.seconds for one in runs))
    rows = {}
    for name, runs in first.items():
        digits = [fit.digits(one.x) for (fit, _), one in zip(starts, runs, strict=True)]
        ratios = [a / b for a, b in zip(seconds[name], seconds[REFERENCE], strict=False)]
        rows[name] = {f"{least} digits": sum(d >= least for d in digits) for least in DIGITS}
        rows[name] |= {"evaluations": sum(one.evaluations for one in runs), "seconds": statistics.median(seconds[name])}
        rows[name] |= {"ratio": statistics.median(ratios)}
        which = [f"{fit.name} start {i + 1}" for fit, i in starts]
        rows[name]["below 8"] = {w: round(d, 1) for w, d in zip(which, digits, strict=True) if d < 8}
        rows[name]["troubles"] = troubles(name, zip(which, runs, strict=True))
    return {"runs": len(starts), "rounds": rounds, "solvers": rows}


def measure_deviations(fits: dict) -> dict:
    """Digits of the standard deviations that curve_fit states, from the second start."""
    from scipy.optimize import curve_fit

    fitters = {"SciPy": curve_fit} | ({"minigrad": optim.curve_fit} if hasattr(optim, "curve_fit") else {})
    digits: dict[str, dict[str, float]] = {}
    for name, fitter in fitters.items():

        def solve(fit, b0, fitter=fitter):
            covariance = fitter(fit.curve, fit.x, fit.y, p0=b0)[1]
            return argparse.Namespace(x=np.sqrt(np.diag(np.asarray(covariance))), nfev=0)

        digits[name] = {fit.name: fit.deviation_digits(run(solve, fit, fit.starts[1]).x) for fit in fits.values()}
    return digits


def nist_report(found: dict, deviations: dict) -> str:
    columns = "".join(f"{f'>= {least}':>6}" for least in DIGITS)
    lines = [f"NIST StRD, {found['runs']} runs: digits of the worst parameter; seconds, median of {found['rounds']}"]
    lines.append(f"{'':42}{columns}{'evaluations':>13}{'seconds':>9}{'ratio':>7}")
    for name, row in found["solvers"].items():
        counts = "".join(f"{row[f'{least} digits']:6d}" for least in DIGITS)
        lines.append(f"{name:42}{counts}{row['evaluations']:13d}{row['seconds']:9.3f}{row['ratio']:7.2f}")
    lines += ["", "curve_fit: problems whose standard deviations have 8 digits or more; the fewest, Lanczos1 apart"]
    for name, digits in deviations.items():
        rest = {k: v for k, v in digits.items() if k != "Lanczos1"}
        worst = min(rest, key=lambda k: rest[k])
        enough = sum(value >= 8 for value in digits.values())
        lines.append(f"{name:42}{enough:6d} of {len(digits)}   {worst} {rest[worst]:.1f}")
    return "\n".join(lines)


# --- Moré, Garbow, Hillstrom ---


def start_of(problem, scale: int) -> np.ndarray:
    """The usual start times `scale`; a start at zero becomes `scale` in every place, as in the authors' driver."""
    return problem.x0 * scale if problem.x0.any() or scale == 1 else np.full(problem.n, float(scale))


def measure_mgh(scales: Iterable[int]) -> dict:
    found: dict[str, dict] = {}
    solvers = mgh_solvers()
    progress = tqdm(total=len(solvers) * len(list(scales)), desc="MGH", unit="solver")
    for scale in scales:
        for name, solver in solvers.items():
            runs = [run(solver, problem, start_of(problem, scale)) for problem in mgh.PROBLEMS]
            with np.errstate(all="ignore"):
                ends = [
                    float((problem.residuals(one.x) ** 2).sum())
                    for problem, one in zip(mgh.PROBLEMS, runs, strict=True)
                ]
            kinds = [mgh.solved(problem, end) for problem, end in zip(mgh.PROBLEMS, ends, strict=True)]
            missed = {str(p): end for p, end, kind in zip(mgh.PROBLEMS, ends, kinds, strict=True) if kind != "global"}
            found.setdefault(name, {})[str(scale)] = {
                "global": kinds.count("global"),
                "any": sum(kind is not None for kind in kinds),
                "evaluations": statistics.median(one.evaluations for one in runs),
                "not global": missed,
                "troubles": troubles(name, zip(map(str, mgh.PROBLEMS), runs, strict=True)),
            }
            progress.update()
    progress.close()
    return found


def mgh_report(found: dict) -> str:
    scales = list(next(iter(found.values())))
    lines = [f"Moré-Garbow-Hillstrom, {len(mgh.PROBLEMS)} sizes: at the global / any known minimum, median evaluations"]
    lines.append(f"{'start times':28}" + "".join(f"{scale:>21}" for scale in scales))
    for name, rows in found.items():
        cells = [f"{row['global']:8d} /{row['any']:3d}{row['evaluations']:8.0f}" for row in rows.values()]
        lines.append(f"{name:28}" + "".join(cells))
    return "\n".join(lines)


# --- bad starts ---


def start_fitters() -> dict:
    """What makes (x, success, evaluations) of a problem, by name."""
    from scipy.optimize import curve_fit

    def ours(problem, method):
        found = optim.least_squares(problem.residuals, problem.start, method=method)
        return found.x, found.success, found.nfev

    def scipys(problem, method):
        found = curve_fit(problem.curve, problem.x, problem.y, p0=problem.start, method=method, full_output=True)
        return found[0], True, found[2]["nfev"]

    fitters = {f"SciPy {m}": (scipys, m) for m in ("lm", "trf", "dogbox")}
    return fitters | {f"minigrad {m}": (ours, m) for m in ("lm", "levenberg", "marquardt", "gauss-newton")}


def measure_starts() -> dict:
    rows: dict[str, dict] = {}
    solved_by: dict[str, int] = {problem.name: 0 for problem in bad_starts.PROBLEMS}
    for name, (fitter, method) in start_fitters().items():
        solved, false, evaluations = [], [], []
        for problem in bad_starts.PROBLEMS:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                try:
                    x, success, nfev = fitter(problem, method)
                except Exception:  # it says that it failed
                    continue
            evaluations.append(int(nfev))
            if problem.is_solved(x):
                solved.append(problem.name)
                solved_by[problem.name] += 1
            elif success and not problem.is_stationary(x):
                false.append(problem.name)
        rows[name] = {"solved": solved, "false": false, "evaluations": statistics.median(evaluations)}
    return {"solvers": rows, "nobody": [name for name, count in solved_by.items() if not count]}


def starts_report(found: dict) -> str:
    lines = [
        f"Bad starts, {len(bad_starts.PROBLEMS)} curve fits: solved, called a success and none, median evaluations"
    ]
    for name, row in found["solvers"].items():
        lines.append(f"{name:28}{len(row['solved']):8d}{len(row['false']):8d}{row['evaluations']:8.0f}")
    lines.append("solved by nobody: " + (", ".join(found["nobody"]) or "none"))
    return "\n".join(lines)


# --- memory ---


def rosenbrock(x):
    """The extended function, two by two."""
    odd, even = x[0::2], x[1::2]
    return (100 * (even - odd * odd) ** 2 + (1 - odd) ** 2).sum()


def tridiagonal(x):
    """Broyden's residuals without the couplings at the ends."""
    inner = x[1:-1]
    return (3 - 2 * inner) * inner - x[:-2] - 2 * x[2:] + 1


def measure_memory(sizes: Iterable[int]) -> dict:
    """The peak of the memory that NumPy took, in numbers of 8 bytes for each parameter; start and result included."""
    jobs = {
        "gradient alone (the function of L-BFGS)": lambda x0: mg.grad(rosenbrock)(mg.tensor(x0)),
        "L-BFGS, 30 iterations": lambda x0: optim.minimize(
            rosenbrock, x0, method="l-bfgs", options={"maxiter": 30, "gtol": 0}
        ),
        "matrix-free LM, 10 evaluations": lambda x0: optim.least_squares(
            tridiagonal, x0, method="matrix-free", max_nfev=10
        ),
    }
    found: dict[str, dict] = {}
    for n in sizes:
        for name, job in jobs.items():
            x0 = np.tile([-1.2, 1.0], n // 2)
            tracemalloc.start()
            start = time.perf_counter()
            try:
                job(x0)
                peak = tracemalloc.get_traced_memory()[1] / (8 * n)
                found.setdefault(name, {})[str(n)] = {"numbers": peak, "seconds": time.perf_counter() - start}
            except Exception as error:
                found.setdefault(name, {})[str(n)] = {"trouble": f"{type(error).__name__}: {error}"}
            tracemalloc.stop()
    return found


def memory_report(found: dict) -> str:
    lines = ["memory at the highest, in numbers of 8 bytes for each parameter (seconds with tracing on)"]
    for name, rows in found.items():
        cells = (
            row.get("trouble") or f"n = {int(n):,}: {row['numbers']:6.1f} ({row['seconds']:.1f} s)"
            for n, row in rows.items()
        )
        lines.append(f"{name:42}" + "   ".join(cells))
    return "\n".join(lines)


# --- the whole ---


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--nist-dir", help="a folder with further .dat files of NIST's")
    parser.add_argument("--rounds", type=int, default=7, help="times that the NIST set is run by each solver")
    parser.add_argument("--quick", action="store_true", help="one round, the usual starts, 100,000 parameters")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="where to write; '' not to")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    fits = nist.PROBLEMS | (nist.load(options.nist_dir) if options.nist_dir else {})
    record: dict = {"date": str(date.today()), "machine": platform.processor() or platform.machine()}
    record |= {"cores": os.cpu_count(), "numpy": np.__version__, "command": " ".join(sys.argv)}
    reports = []
    if "nist" in options.sets:
        record["nist"] = measure_nist(fits, 1 if options.quick else options.rounds)
        record["deviations"] = measure_deviations(fits)
        reports.append(nist_report(record["nist"], record["deviations"]))
    if "mgh" in options.sets:
        record["mgh"] = measure_mgh(SCALES[:1] if options.quick else SCALES)
        reports.append(mgh_report(record["mgh"]))
    if "starts" in options.sets:
        record["starts"] = measure_starts()
        reports.append(starts_report(record["starts"]))
    if "memory" in options.sets:
        record["memory"] = measure_memory((100_000,) if options.quick else (100_000, 1_000_000))
        reports.append(memory_report(record["memory"]))
    text = "\n\n".join(reports)
    print(text)
    if str(options.out) != ".":
        write(options.out, record, text)


def write(folder: Path, record: dict, text: str) -> None:
    name = f"{record['date']}-second-order"
    title = f"# Second-order solvers: {record['cores']} cores, NumPy {record['numpy']}, {record['date']}"
    indented = "\n".join(f"    {line}".rstrip() for line in text.splitlines())
    (folder / f"{name}.md").write_text(f"{title}\n\n`{record['command']}`\n\n{indented}\n")
    (folder / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
