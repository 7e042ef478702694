"""`python -m tests.mutation.cuda`: break every CUDA kernel, run its tests, count what they missed. See `--help`.

One thing at a time is changed in the text of a `.cu` or `.cuh` file: a barrier or a bound is taken out, an operator
exchanged, an index or a number moved by one. A process that has collected the kernel's tests forks for each mutant; the
child compiles it and runs the tests, those first that caught the mutants before. Arrays lie between pages that cannot
be touched, so that to read outside of one is noticed too. What no test can notice is named in cuda_equivalent.txt.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from minigrad.backend.gpu import launching
from tests.support.cuda import compiling, guarding

ROOT = Path(__file__).parents[2]
EQUIVALENT = Path(__file__).with_name("cuda_equivalent.txt")
TESTS = {
    "augmentation.cu": ["test_augmentation"],
    "avg_pool.cu": ["test_pooling"],
    "batch_norm.cu": ["test_batch_norm"],
    "batch_norm_inference.cu": ["test_batch_norm_inference"],
    "bias.cu": ["test_bias"],
    "channel_sums.cu": ["test_bias"],
    "channels.cuh": ["test_bias", "test_batch_norm"],
    "common.cuh": ["test_gradients", "test_cross_entropy"],
    "cross_entropy.cu": ["test_cross_entropy"],
    "dropout.cu": ["test_dropout"],
    "fetch.cu": ["test_capture"],
    "gradients.cu": ["test_gradients"],
    "max_pool.cu": ["test_pooling"],
    "metrics.cu": ["test_metrics"],
    "optimizer.cu": ["test_optimizer_kernel"],
    "philox.cuh": ["test_philox", "test_dropout"],
    "pooling_windows.cuh": ["test_pooling"],
    "tensors.cuh": ["test_gradients", "test_optimizer_kernel"],
    "verdict.cuh": ["test_gradients", "test_optimizer_kernel"],
    "windows.cu": ["test_convolution"],
}
"""For each file of kernels those of tests/cuda that judge it."""

SLOWEST = 20.0  # seconds that a test of a mutant may take, beyond ten times what it takes without


# --- mutants ---


@dataclass(frozen=True)
class Mutant:
    """A changed text: `change` says which line, trimmed, became which."""

    kind: str
    line: int
    change: str
    text: str

    @property
    def key(self) -> str:
        """What tells it from every other mutant of the files as they stand."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]


SKIPPED = r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"])*\"|^[ \t]*#[^\n]*"
NUMBER = r"0[xX][0-9a-fA-F]+[uUlL]*|\d+\.?\d*(?:[eE][+-]?\d+)?[fFuUlL]*"
SIGN = r"<<=|>>=|->|\+\+|--|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|[-+*/%<>=&|^~!?:;,.(){}\[\]]"
TOKEN = re.compile(rf"(?P<skip>{SKIPPED})|(?P<number>{NUMBER})|(?P<name>[A-Za-z_]\w*)|(?P<sign>{SIGN})", re.M | re.S)
OTHER = {
    **{"+": "-", "-": "+", "*": "/", "/": "*", "%": "/", "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!="},
    **{"!=": "==", "&&": "||", "||": "&&", "+=": "-=", "-=": "+=", "*=": "/=", "/=": "*=", "^": "&", "<<": ">>"},
    **{">>": "<<", "&": "|", "|": "&"},
}
TYPES = set("REAL WIDE int unsigned long short char bool float double void auto T const __half __nv_bfloat16".split())
BARRIERS = "__syncthreads", "__syncwarp", "__threadfence"


def mutants(text: str) -> list[Mutant]:
    """Every mutant of a file's text; some do not compile, and are left out when that shows."""
    tokens = [m for m in TOKEN.finditer(text) if m.lastgroup != "skip"]
    found = []
    for kind, start, end, new in (
        *_barriers(text, tokens),
        *_conditions(tokens),
        *_operators(tokens),
        *_by_one(tokens),
    ):
        changed = text[:start] + new + text[end:]
        line = text.count("\n", 0, start) + 1
        before, after = text.splitlines()[line - 1].strip(), changed.splitlines()[line - 1].strip()
        found.append(Mutant(kind, line, f"{before}  ->  {after}", changed))
    return found


Edit = tuple[str, int, int, str]


def _barriers(text: str, tokens: list) -> Iterator[Edit]:
    for i, token in enumerate(tokens):
        if token[0] in BARRIERS:
            yield "barrier", token.start(), tokens[_closing(tokens, i + 1)].end(), "(void)0"


def _conditions(tokens: list) -> Iterator[Edit]:
    """Each condition of an `if` always met, and never."""
    for i, token in enumerate(tokens):
        if token[0] == "if" and tokens[i + 1][0] == "(":
            start, end = tokens[i + 1].end(), tokens[_closing(tokens, i + 1)].start()
            for new in ("true", "false"):
                yield "condition", start, end, new


def _operators(tokens: list) -> Iterator[Edit]:
    for before, token, after in zip(tokens, tokens[1:], tokens[2:], strict=False):
        binary = before.lastgroup in ("name", "number") or before[0] in (")", "]")
        is_type = before[0] in TYPES or after[0] in (")", ",", ">", "&")
        if token[0] in OTHER and binary and not is_type and before[0] not in ("template", "operator", "return"):
            yield "operator", token.start(), token.end(), OTHER[token[0]]


def _by_one(tokens: list) -> Iterator[Edit]:
    """Whole numbers and indices, each one more, and the distances of shuffles, doubled.

    The size of an array where it is declared stays as it is: memory that nobody uses is no mistake.
    """
    sizes = _sizes_of_declared_arrays(tokens)
    for i, token in enumerate(tokens):
        if i in sizes:
            continue
        if token.lastgroup == "number" and (token[0][:2] in ("0x", "0X") or not re.search("[.eEfF]", token[0])):
            yield "number", token.start(), token.end(), f"({token[0]} + 1)"
        if token[0] == "[" and tokens[i - 1].lastgroup == "name" and tokens[i + 1][0] != "]":
            end = tokens[_closing(tokens, i)].start()
            yield "index", token.end(), end, f"1 + ({token.string[token.end() : end]})"
        if token[0].startswith("__shfl"):
            last = _arguments(tokens, i + 1)[2]
            yield "shuffle", last[0], last[1], f"({token.string[last[0] : last[1]]}) * 2"


def _sizes_of_declared_arrays(tokens: list) -> set[int]:
    found: set[int] = set()
    for i in range(2, len(tokens)):
        declares = tokens[i - 2][0] in TYPES and tokens[i - 1].lastgroup == "name"
        if tokens[i][0] == "[" and (declares or i - 1 in found):  # one dimension, or a further one
            found |= set(range(i, _closing(tokens, i) + 1))
    return found


def _closing(tokens: list, opening: int) -> int:
    """Where the bracket that opens there closes."""
    depth = 0
    for i in range(opening, len(tokens)):
        depth += (tokens[i][0] in "([{") - (tokens[i][0] in ")]}")
        if depth == 0:
            return i
    raise ValueError(f"no bracket closes {tokens[opening]}")


def _arguments(tokens: list, opening: int) -> list[tuple[int, int]]:
    """Start and end of each argument of a call."""
    closing, first, depth, found = _closing(tokens, opening), opening + 1, 0, []
    for i in range(opening + 1, closing + 1):
        if depth == 0 and (tokens[i][0] == "," or i == closing):
            found.append((tokens[first].start(), tokens[i - 1].end()))
            first = i + 1
        depth += (tokens[i][0] in "([{") - (tokens[i][0] in ")]}")
    return found


# --- judging, in a process of its own ---


@dataclass(frozen=True)
class Verdict:
    """How a mutant was caught: "check", "error", "time", or None; "refused" if it does not compile."""

    file: str
    kind: str
    line: int
    change: str
    how: str | None
    test: str | None
    key: str = ""


class Judge:
    """A plugin that, in the place of running the collected tests, runs them for each mutant in a forked child."""

    def __init__(self, file: str, chosen: list[int], keep: str | None = None):
        self.keep = keep
        self.file, self.text = file, (launching.HERE / file).read_text(encoding="utf-8")
        every = mutants(self.text)
        self.mutants = [every[i] for i in chosen]
        self.verdicts: list[Verdict] = []
        self.seconds: dict[str, float] = {}

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.items = session.items
        outcome, test = self._run(self.text)
        if outcome is not None:
            raise pytest.UsageError(f"{test} fails without any mutant ({outcome}); mend that first")
        ready = set(compiling.CACHE.iterdir())
        for mutant in self.mutants:
            how, test = self._run(mutant.text)
            verdict = Verdict(self.file, mutant.kind, mutant.line, mutant.change, how, test, mutant.key)
            self.verdicts.append(verdict)
            print(json.dumps(asdict(verdict)), file=sys.__stderr__, flush=True)
            if self.keep:
                with open(self.keep, "a", encoding="utf-8") as kept:
                    kept.write(json.dumps(asdict(verdict)) + "\n")
            self.items.sort(key=lambda item: item.nodeid != test)  # the one that caught it goes first next time
            for made in set(compiling.CACHE.iterdir()) - ready:
                made.unlink(missing_ok=True)
        return True

    def _run(self, text: str) -> tuple[str | None, str | None]:
        """How the tests notice this text, and which one does; None if they do not."""
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            _run_in_child(self.items, self.file, text, writing)
        os.close(writing)
        try:
            return self._watched(child, reading)
        finally:
            os.close(reading)

    def _watched(self, child: int, reading: int) -> tuple[str | None, str | None]:
        left, now, begun = b"", None, time.perf_counter()
        while True:
            patience = SLOWEST + 10 * self.seconds.get(now or "", 0.0)
            if not select.select([reading], [], [], patience)[0]:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return "time", now
            data = os.read(reading, 4096)
            if not data:
                os.waitpid(child, 0)
                return "error", now  # it ended without a word: a crash
            *lines, left = (left + data).split(b"\n")
            for line in lines:
                word, _, test = line.decode().partition(" ")
                if word == "runs":
                    now, begun = test, time.perf_counter()
                elif word == "passed":
                    self.seconds.setdefault(test, time.perf_counter() - begun)
                else:
                    os.waitpid(child, 0)
                    return (None, None) if word == "survived" else (word, test)


class Reporting:
    """In the child: how the test under way ended."""

    failure: str | None = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and self.failure is None:
            text = str(report.longrepr)
            errors = ("LaunchError", "g++ refuses", "CUDA")
            self.failure = (
                "refused" if "g++ refuses" in text else "error" if any(e in text for e in errors) else "check"
            )


def _run_in_child(items: list, file: str, text: str, writing: int) -> None:
    """Run the tests on a kernel's text until one fails; never returns."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)

    def say(words: str) -> None:
        os.write(writing, f"{words}\n".encode())

    try:
        folder = Path(tempfile.mkdtemp(dir=compiling.CACHE.parent))
        for path in launching.HERE.glob("*.cu*"):
            (folder / path.name).write_text(path.read_text(encoding="utf-8") if path.name != file else text)
        launching.HERE = folder
        reporting = Reporting()
        items[0].config.pluginmanager.register(reporting)
        for item, following in zip(items, [*items[1:], None], strict=True):
            say(f"runs {item.nodeid}")
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if reporting.failure:
                say(f"{reporting.failure} {item.nodeid}")
                os._exit(0)
            say(f"passed {item.nodeid}")
        say("survived")
    finally:
        os._exit(0)


def _prepare_compiler(folder: Path) -> None:
    """Make each compilation short: no optimization, the header compiled once, and what all kernels share too."""
    header, flags = f"{compiling.HERE}/cuda_on_cpu.h", [flag for flag in compiling.FLAGS if flag != "-O1"]
    once = ["g++", *(flag for flag in flags if flag != "-shared"), "-x"]
    subprocess.run([*once, "c++", "-O1", "-c", header, "-o", f"{folder}/launching.o"], check=True)
    flags += ["-O0", "-DCUDA_ON_CPU_APART"]
    if shutil.which("ld.gold"):  # of 0.4 s that a kernel takes, it saves 0.13
        flags += ["-fuse-ld=gold"]
    once = ["g++", *(flag for flag in flags if flag != "-shared"), "-x"]
    subprocess.run([*once, "c++-header", header, "-o", f"{folder}/cuda_on_cpu.h.gch"], check=True)
    compiling.FLAGS = [*flags, f"-I{folder}", f"{folder}/launching.o"]


def judge(file: str, chosen: list[int], tests: list[str], keep: str | None = None) -> None:
    """Judge the chosen mutants of a file; verdicts go to standard error, a line each."""
    guarding.mode = "pages"
    with tempfile.TemporaryDirectory() as folder:
        compiling.CACHE = Path(folder) / "compiled"
        compiling.CACHE.mkdir()
        _prepare_compiler(Path(folder))
        tests = [str(ROOT / "tests" / "cuda" / f"{name}.py") for name in tests]
        code = pytest.main(["-q", "-p", "no:cacheprovider", *tests], plugins=[Judge(file, chosen, keep)])
    if code not in (0, pytest.ExitCode.NO_TESTS_COLLECTED):
        sys.exit(int(code))


# --- the command ---


def main() -> int:
    """Judge the mutants of the files that were asked for, and print the table."""
    arguments = _options()
    if arguments.judge:
        chosen, tests = json.loads(sys.stdin.read()), arguments.tests or TESTS[arguments.judge]
        judge(arguments.judge, chosen, tests, arguments.keep)
        return 0
    tasks, verdicts, kept = [], [], kept_verdicts(arguments.keep)
    for file in arguments.files or sorted(TESTS):
        every = mutants((launching.HERE / file).read_text(encoding="utf-8"))
        chosen = list(range(len(every)))
        if arguments.sample:
            chosen = sorted(
                random.Random(f"{arguments.seed} {file}").sample(chosen, min(arguments.sample, len(chosen)))
            )
        if arguments.list:
            print(*(f"{file}:{every[i].line} {every[i].kind}: {every[i].change}" for i in chosen), sep="\n")
        before = {i: kept[every[i].key] for i in chosen if every[i].key in kept}
        if not arguments.table:  # what survived is tried again, as tests may be new
            before = {i: verdict for i, verdict in before.items() if verdict.how is not None}
        verdicts += before.values()
        chosen = [i for i in chosen if i not in before]
        if arguments.table:
            print(f"{file}: {len(before)} mutants judged, {len(chosen)} not")
            continue
        parts = arguments.workers if len(chosen) > 20 else 1
        tests = arguments.tests or TESTS[file]
        tasks += [Task(file, chosen[i::parts], tests, arguments.keep) for i in range(parts) if chosen[i::parts]]
    if arguments.list:
        return 0
    with ThreadPoolExecutor(arguments.workers) as pool:
        verdicts += [verdict for part in pool.map(_judged, tasks) for verdict in part]
    return report(verdicts, explanations())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Break CUDA kernels one place at a time; every mutant must be caught.")
    parser.add_argument("files", nargs="*", help="such as dropout.cu; every file of kernels unless given")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--sample", type=int, default=0, help="so many mutants of each file, drawn by --seed")
    parser.add_argument("--tests", nargs="+", help="files of tests/cuda that judge, in the place of those in the table")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--list", action="store_true", help="show the mutants and run nothing")
    parser.add_argument("--keep", help="a file of verdicts: new ones are added, what was caught is not run again")
    parser.add_argument("--table", action="store_true", help="run nothing, and print the table of the verdicts kept")
    parser.add_argument("--judge", help=argparse.SUPPRESS)
    return parser.parse_args()


class Task(NamedTuple):
    """What one process is to judge: some mutants of a file, by some tests."""

    file: str
    chosen: list[int]
    tests: list[str]
    keep: str | None


def kept_verdicts(keep: str | None) -> dict[str, Verdict]:
    """What a file of verdicts says of each mutant, by its key: that it was caught, if it ever was."""
    if keep is None or not Path(keep).exists():
        return {}
    found = [Verdict(**json.loads(line)) for line in Path(keep).read_text(encoding="utf-8").splitlines()]
    return {verdict.key: verdict for verdict in sorted(found, key=lambda verdict: verdict.how is not None)}


def _judged(task: Task) -> list[Verdict]:
    file, chosen, tests, keep = task
    command = [sys.executable, "-m", "tests.mutation.cuda", "--judge", file, "--tests", *tests]
    command += ["--keep", os.path.abspath(keep)] if keep else []
    run = subprocess.run(command, input=json.dumps(chosen), capture_output=True, text=True, cwd=ROOT)
    found = [Verdict(**json.loads(line)) for line in run.stderr.splitlines() if line.startswith("{")]
    if run.returncode or len(found) != len(chosen):
        raise SystemExit(f"{file}: {len(found)} of {len(chosen)} mutants judged.\n{run.stdout}\n{run.stderr}")
    caught = sum(v.how is not None for v in found)
    print(f"{file}: {caught} of {len(found)} caught or refused", flush=True)
    for verdict in found:
        if verdict.how is None:
            print(f"  {verdict.line} {verdict.kind}: {verdict.change}", flush=True)
    return found


def explanations(text: str | None = None) -> dict[tuple[str, str], str]:
    """(file, change) of each mutant that no test can notice, and why."""
    reason = file = ""
    found = {}
    for line in (EQUIVALENT.read_text(encoding="utf-8") if text is None else text).splitlines()[2:]:
        if line.startswith("# "):
            reason = line[2:]
        elif line.startswith("  "):
            found[file, line.strip()] = reason
        elif line:
            file = line
    return found


def report(verdicts: list[Verdict], explained: dict[tuple[str, str], str]) -> int:
    """Print the table and the survivors; the exit code: 1 if one is unexplained, or an explanation wrong."""
    titles = ("mutants", "caught", "by an error", "by time", "equivalent", "open")
    print(f"\n{'file':<22}" + "".join(f"{title:>13}" for title in titles))
    compiled = [v for v in verdicts if v.how != "refused"]
    for file in [*sorted({v.file for v in compiled}), "all"]:
        mine = [v for v in compiled if file in (v.file, "all")]
        how: Counter[Any] = Counter(v.how for v in mine)
        known = sum((v.file, v.change) in explained for v in mine if v.how is None)
        counts = (len(mine), len(mine) - how[None], how["error"], how["time"], known, how[None] - known)
        print(f"{file:<22}" + "".join(f"{count:>13}" for count in counts))
    left = [v for v in compiled if v.how is None and (v.file, v.change) not in explained]
    for verdict in left:
        print(f"\nSURVIVES: {verdict.file}:{verdict.line} {verdict.kind}\n  {verdict.change}")
    survivors = sum(v.how is None for v in compiled)
    wrong = [v for v in compiled if v.how is not None and (v.file, v.change) in explained]
    for verdict in wrong:
        print(f"\nEXPLAINED, BUT CAUGHT: {verdict.file}:{verdict.line}\n  {verdict.change}")
    print(
        f"\n{len(compiled)} mutants, {len(compiled) - survivors} caught, {survivors} survivors, of which {len(left)} "
        f"unexplained; {len(verdicts) - len(compiled)} more do not compile."
    )
    return 1 if left or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
