"""The layers of known networks against PyTorch's, in one process, runs taken in turn: python benchmarks/kernels.py

    python benchmarks/kernels.py                              the whole grid; can be stopped and resumed
    python benchmarks/kernels.py --seconds 60 --out ''        an even sample of it
    python benchmarks/kernels.py --networks resnet20 --batches 32 --dtypes float32 --ops conv batch_norm
    python benchmarks/kernels.py --held-out                   layers that are in none of the networks

A *pass* is a layer of one of `networks.GRID` at its image size, run forward or for one of its gradients, at one batch
size and dtype. Layers that occur several times are timed once and counted. Both libraries are called as users call
them: forward without a graph, gradients through a graph kept from one forward. Results are compared before they are
timed. Images are channels-last for minigrad, as its convolutions leave them, and for PyTorch in whichever memory order
is faster for that pass: in float64 its depthwise convolutions take ten times longer channels-last, its max pooling a
tenth (`--torch-layout nhwc` and `nchw`, one thread, batch 4).

The ratio is PyTorch's time over minigrad's: above 1 minigrad is faster. The share is the roofline's time
(`benchmarks/roofline.py`, measured at the start) over minigrad's: 1 is all that the machine can do. Results are
written to OUT.json as they come; the same command then goes on where it was stopped. OUT.md is the summary that is also
printed.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import environment

if __name__ == "__main__":
    environment.forget()  # before NumPy and PyTorch read it

import numpy as np
import threadpoolctl
import torch
from tqdm import tqdm

import minigrad as mg
from benchmarks import layers, networks, roofline
from benchmarks.layers import Layer
from minigrad.backend import threads

BATCHES = (1, 32, 128)
DTYPES = ("float32", "float64")
LAYOUTS = ("nhwc", "nchw")
LARGE = 2**16
"""Elements from which an elementwise pass is timed: smaller ones cost what a call costs, not what a kernel does."""
ELEMENTWISE = ("relu", "relu6", "add", "concatenate")
PAUSE = 0.01  # seconds: PyTorch's idle threads spin for some ms after a run, and would take a core from us
TURN = 0.002  # seconds for which a fast pass is repeated in each of its turns
SLOW = 0.2  # seconds from which two rounds must do
SAVE_EVERY = 2.0  # seconds
WORST = 10
APART = {"float32": 1e-4, "float64": 1e-10}
"""The largest norm of the difference of both libraries' results, relative to that of the result."""


class Library(NamedTuple):
    """What the same code needs to drive either of the two."""

    module: Any
    functional: Any
    from_numpy: Callable[[np.ndarray], Any]


LIBRARIES = (
    Library(mg, mg.nn.functional, mg.Tensor),
    Library(torch, torch.nn.functional, torch.from_numpy),
)


# --- the passes ---


class Kind(NamedTuple):
    """A kind of layer. passes: the names of its passes, and the places of the inputs whose gradients each takes."""

    call: Callable[..., Any]  # (library, layer, *inputs)
    passes: dict[str, tuple[int, ...]]


INPUT = {"forward": (), "input gradient": (0,)}

PASSES = {
    "conv": Kind(
        lambda lib, of, x, w, b=None: lib.functional.conv2d(x, w, b, of.stride, of.padding, of.dilation, of.groups),
        {**INPUT, "weight gradient": (1, 2)},
    ),
    "max_pool": Kind(lambda lib, of, x: lib.functional.max_pool2d(x, of.kernel, of.stride, of.padding), INPUT),
    "mean": Kind(lambda lib, of, x: lib.functional.adaptive_avg_pool2d(x, 1), INPUT),
    "batch_norm": Kind(
        lambda lib, of, x, w, b: lib.functional.batch_norm(x, None, None, w, b, True),
        {"forward": (), "gradients": (0, 1, 2)},
    ),
    "relu": Kind(lambda lib, of, x: lib.functional.relu(x), INPUT),
    "relu6": Kind(lambda lib, of, x: torch.nn.functional.relu6(x) if lib.module is torch else mg.clip(x, 0, 6), INPUT),
    "add": Kind(lambda lib, of, x, y: x + y, {"forward": ()}),  # both gradients are the incoming one
    "concatenate": Kind(lambda lib, of, *parts: lib.module.cat(parts, 1), {"forward": ()}),  # gradients are views
}


@dataclass(frozen=True)
class Pass:
    """A layer, one of its passes, a batch size and a dtype."""

    layer: Layer
    name: str
    batch: int
    dtype: str

    def __str__(self) -> str:
        return f"{self.layer} | {self.name} | batch {self.batch} | {self.dtype}"

    @property
    def gradients(self) -> tuple[int, ...]:
        """Places of the inputs whose gradients are taken; none for a forward pass."""
        places = PASSES[self.layer.kind].passes[self.name]
        return places if self.layer.bias or self.layer.kind != "conv" else tuple(i for i in places if i < 2)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Of the inputs: images, then weight and bias, or further images."""
        layer, images = self.layer, (self.batch, *self.layer.image)
        if layer.kind == "concatenate":
            return [(self.batch, width, *layer.image[1:]) for width in layer.branches]
        further = {
            "conv": [layer.weight, (layer.out,)][: 2 if layer.bias else 1],
            "batch_norm": [(layer.channels,)] * 2,
            "add": [images],
        }
        return [images, *further.get(layer.kind, [])]

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (self.batch, *self.layer.output)

    @property
    def bytes(self) -> int:
        """Least traffic: what the pass cannot do without, read once, and its results, written once.

        A gradient reads the incoming one; besides, a weight's reads the input, a convolution's input gradient the
        weight, and those of the layers that are not linear the input or the mask, here counted as the input.
        """
        inputs, output = [math.prod(shape) for shape in self.shapes], math.prod(self.output_shape)
        if not self.gradients:
            count = sum(inputs) + output
        elif self.layer.kind == "conv":
            count = inputs[0] + inputs[1] + output
        elif self.layer.kind == "mean":
            count = inputs[0] + output
        else:
            count = 2 * inputs[0] + output
        return count * np.dtype(self.dtype).itemsize

    @property
    def operations(self) -> int:
        """Of a convolution: the same for each of its three passes."""
        return 2 * self.batch * self.layer.multiply_adds

    @property
    def exists(self) -> bool:
        """Whether a training step has this pass, and the grid asks for it."""
        layer = self.layer
        if layer.first and self.name == "input gradient":
            return False
        if layer.kind == "batch_norm":  # one number has no variance
            return self.batch * layer.image[1] * layer.image[2] > 1
        return layer.kind not in ELEMENTWISE or self.batch * math.prod(layer.image) >= LARGE


def passes_of(
    found: Iterable[Layer], batches: Iterable[int], dtypes: Iterable[str], kinds: Iterable[str]
) -> list[Pass]:
    """All passes, in an order of which each beginning is an even sample."""
    every = [
        Pass(layer, name, batch, dtype)
        for kind in kinds
        for name in PASSES[kind].passes
        for dtype in dtypes
        for batch in batches
        for layer in found
        if layer.kind == kind
    ]
    return evenly([one for one in every if one.exists])


def evenly(items: list) -> list:
    """The items in the order of their numbers' bits, read backwards (van der Corput's): 0, 4, 2, 6, 1, 5, 3, 7."""
    bits = max(len(items) - 1, 1).bit_length()
    return [items[i] for i in sorted(range(len(items)), key=lambda i: f"{i:0{bits}b}"[::-1])]


# --- running one ---


def in_layout(array: np.ndarray, layout: str) -> np.ndarray:
    """The same images in another memory order: nchw, or nhwc (channels-last)."""
    if array.ndim != 4 or layout == "nchw":
        return np.ascontiguousarray(array)
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def runner(library: Library, one: Pass, layout: str) -> Callable[[], Any]:
    """A function that runs the pass once. The first layer's images, and weights, lie as users make them."""
    random = np.random.default_rng(0)
    inputs = []
    for place, shape in enumerate(one.shapes):
        array = random.standard_normal(shape, dtype=one.dtype)  # type: ignore[arg-type]
        plain = one.layer.first or (place and one.layer.kind == "conv")
        inputs.append(library.from_numpy(in_layout(array, "nchw" if plain else layout)))
    call = PASSES[one.layer.kind].call

    def forward() -> Any:
        with library.module.no_grad():
            return call(library, one.layer, *inputs)

    if not one.gradients:
        return forward
    wanted = [inputs[place].requires_grad_(True) for place in one.gradients]
    output = call(library, one.layer, *inputs)
    cotangent = random.standard_normal(one.output_shape, dtype=one.dtype)  # type: ignore[arg-type]
    g = library.from_numpy(in_layout(cotangent, layout))
    return lambda: library.module.autograd.grad(output, wanted, g, retain_graph=True)


def results_of(run: Callable[[], Any]) -> list[np.ndarray]:
    found = run()
    return [part.detach().numpy() for part in (found if isinstance(found, (tuple, list)) else [found])]


def compare(one: Pass, ours: Callable[[], Any], theirs: Callable[[], Any]) -> None:
    """Raise SystemExit unless both compute the same."""
    for mine, peer in zip(results_of(ours), results_of(theirs), strict=True):
        apart = np.linalg.norm((mine - peer).ravel()) / max(float(np.linalg.norm(peer.ravel())), 1e-30)
        if mine.shape != peer.shape or not apart <= APART[one.dtype]:
            raise SystemExit(f"{one}: the libraries do not compute the same: {apart:.1e} apart, relative to the norm.")


def seconds_of(run: Callable[[], Any], repeats: int) -> float:
    """The median of some runs in a row, after a pause and one run that warms the caches."""
    time.sleep(PAUSE)
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def faster(one: Pass, torch_layout: str) -> tuple[str, Callable[[], Any]]:
    """PyTorch's memory order and runner: the one asked for, or whichever of both is faster for this pass."""
    orders = LAYOUTS if torch_layout == "best" else (torch_layout,)
    runners = {order: runner(LIBRARIES[1], one, order) for order in orders}
    best = min(runners, key=lambda order: seconds_of(runners[order], 3)) if len(runners) > 1 else torch_layout
    return best, runners[best]


def measure(one: Pass, layout: str, torch_layout: str, rounds: int) -> dict[str, Any]:
    """Medians over the rounds, in which the two take turns, and the median of the rounds' ratios."""
    ours = runner(LIBRARIES[0], one, layout)
    order, theirs = faster(one, torch_layout)
    compare(one, ours, theirs)
    slowest = max(seconds_of(run, 1) for run in (ours, theirs))
    repeats = min(max(round(TURN / slowest), 1), 20)
    turns = [(seconds_of(ours, repeats), seconds_of(theirs, repeats)) for _ in range(rounds if slowest < SLOW else 2)]
    mine, peer = (statistics.median(times) for times in zip(*turns, strict=True))
    ratio = statistics.median(theirs / ours for ours, theirs in turns)
    return {"minigrad_ms": mine * 1e3, "pytorch_ms": peer * 1e3, "ratio": ratio, "torch_layout": order}


# --- results ---


def beside(out: Path, ending: str) -> Path:
    """The file OUT with an ending."""
    return out.with_name(out.name + ending)


class Results:
    """The rows found so far, and the facts under which they were found, kept in a file."""

    def __init__(self, facts: dict[str, Any], out: Path | None):
        self.facts, self.out = facts, out
        self.rows: dict[str, dict] = {}
        self.machine: roofline.Machine | None = None
        self._saved = 0.0
        if out is not None and (file := beside(out, ".json")).exists():
            self._resume(file)

    def _resume(self, file: Path) -> None:
        found = json.loads(file.read_text())
        changed = [key for key, value in self.facts.items() if found["facts"].get(key) != value]
        if changed:
            was = ", ".join(f"{key} {found['facts'].get(key)!r}, now {self.facts[key]!r}" for key in changed)
            raise SystemExit(f"{file} holds results under other conditions ({was}). Give another --out.")
        self.rows = {row["pass"]: row for row in found["rows"]}
        self.machine = roofline.Machine.from_json(found["machine"])

    def add(self, one: Pass, counts: dict[str, int], measured: dict[str, Any]) -> None:
        assert self.machine is not None
        floor = self.machine.seconds(one.bytes, one.operations, one.dtype) * 1e3
        self.rows[str(one)] = {
            "pass": str(one),
            "kind": one.layer.kind,
            "name": one.name,
            "batch": one.batch,
            "dtype": one.dtype,
            "networks": counts,
            **measured,
            "bytes": one.bytes,
            "operations": one.operations,
            "roofline_ms": floor,
            "share": floor / measured["minigrad_ms"],
            "pytorch_share": floor / measured["pytorch_ms"],
        }
        if time.monotonic() - self._saved > SAVE_EVERY:
            self.save()

    def save(self) -> None:
        """Write all rows. The file is replaced at once, so that a run that is killed leaves a whole one."""
        self._saved = time.monotonic()
        if self.out is None or self.machine is None:
            return
        self.out.parent.mkdir(parents=True, exist_ok=True)
        new = beside(self.out, ".json.new")
        rows = ",\n".join(json.dumps(row) for row in self.rows.values())
        facts, machine = json.dumps(self.facts), json.dumps(self.machine.as_json())
        new.write_text(f'{{"facts": {facts},\n"machine": {machine},\n"rows": [\n{rows}\n]}}\n')
        os.replace(new, beside(self.out, ".json"))


def geometric_mean(values: Iterable[float], weights: Iterable[int] | None = None) -> float:
    logarithms = [math.log(value) for value in values]
    return math.exp(float(np.average(logarithms, weights=None if weights is None else list(weights))))


def summary(rows: list[dict], total: int, machine: roofline.Machine) -> str:
    """What is printed at the end and written as OUT.md: means, by several divisions, and the worst rows."""
    if not rows:
        return "No pass was timed."
    lines = [f"{len(rows)} of {total} passes. Ratio: PyTorch's time / minigrad's, above 1 minigrad is faster.", ""]
    weighted = geometric_mean((row["ratio"] for row in rows), (sum(row["networks"].values()) for row in rows))
    lines += [
        f"- geometric mean of the ratio: {geometric_mean(row['ratio'] for row in rows):.3f}; "
        f"each layer as often as the networks have it: {weighted:.3f}",
        f"- share of the roofline, geometric mean: {geometric_mean(row['share'] for row in rows):.3f}, "
        f"PyTorch's {geometric_mean(row['pytorch_share'] for row in rows):.3f}",
        f"- {machine}",
        "",
    ]
    divisions = {
        "pass": lambda row: [f"{row['kind']}, {row['name']}"],
        "batch and dtype": lambda row: [f"batch {row['batch']}, {row['dtype']}"],
        "network": lambda row: row["networks"],
    }
    for title, keys in divisions.items():
        lines += [*division(title, rows, keys), ""]
    worst = sorted(rows, key=lambda row: row["ratio"])[:WORST]
    lines += [
        f"The {len(worst)} worst:",
        "",
        "| pass | minigrad ms | PyTorch ms | ratio | share |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['pass'].replace(' | ', ', ')} | {row['minigrad_ms']:.3f} | {row['pytorch_ms']:.3f} "
        f"| {row['ratio']:.2f} | {row['share']:.2f} |"
        for row in worst
    ]
    return "\n".join(lines)


def division(title: str, rows: list[dict], keys: Callable[[dict], Iterable[str]]) -> list[str]:
    """A table of means over the rows that share a key."""
    groups: dict[str, list[dict]] = {}
    for row in rows:
        for key in keys(row):
            groups.setdefault(key, []).append(row)
    lines = [f"| {title} | passes | ratio, mean | worst | share, mean | PyTorch's |", "|---|---|---|---|---|---|"]
    for key, group in sorted(groups.items()):
        mean, share, peer = (geometric_mean(row[of] for row in group) for of in ("ratio", "share", "pytorch_share"))
        worst = min(row["ratio"] for row in group)
        lines.append(f"| {key} | {len(group)} | {mean:.2f} | {worst:.2f} | {share:.2f} | {peer:.2f} |")
    return lines


def facts_of(options: argparse.Namespace) -> dict[str, Any]:
    """What must be the same for rows of two runs to stand in one file."""
    blas = {info["internal_api"]: info.get("architecture") for info in threadpoolctl.threadpool_info()}
    return {
        "revision": revision(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": options.threads,
        "layout": options.layout,
        "torch_layout": options.torch_layout,
        "numpy": np.__version__,
        "torch": importlib.metadata.version("torch"),
        "blas": blas.get("openblas"),  # OpenBLAS chooses its kernels for the processor once, when it is loaded
    }


def revision() -> str:
    """The commit that is timed, marked where files have changed since."""
    command = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


# --- the command ---


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--networks", nargs="+", default=list(networks.GRID), choices=networks.GRID, metavar="NAME")
    add("--held-out", action="store_true", help="layers outside of the grid, at other batch sizes, instead")
    add("--batches", nargs="+", type=int)
    add("--dtypes", nargs="+", default=list(DTYPES), choices=DTYPES)
    add("--ops", nargs="+", default=list(PASSES), choices=PASSES, metavar="OP", help=", ".join(PASSES))
    add("--seconds", type=float, default=math.inf, help="stop after this time; what was timed is an even sample")
    add("--rounds", type=int, default=5, help="turns of each library that are counted")
    add("--threads", type=int, default=threads.get_num_threads())
    add("--layout", choices=LAYOUTS, default="nhwc", help="memory order of minigrad's images")
    add("--torch-layout", choices=["best", *LAYOUTS], default="best", help="of PyTorch's; best is the faster of both")
    add("--out", help="where to write, without ending; '' not to (default: benchmarks/results/DATE-kernels)")
    options = parser.parse_args(arguments)
    if options.out is None:
        name = f"{date.today()}-kernels" + ("-held-out" if options.held_out else "")
        options.out = str(ROOT / "benchmarks" / "results" / name)
    options.batches = options.batches or (layers.HELD_OUT_BATCHES if options.held_out else BATCHES)
    return options


def main(arguments: list[str] | None = None) -> None:
    options = parse_arguments(arguments)
    torch.set_num_threads(options.threads)
    threads.set_num_threads(options.threads)
    found = layers.held_out() if options.held_out else layers.grid(options.networks)
    every = passes_of(found, options.batches, options.dtypes, options.ops)
    print_plan(options, found, len(every))
    out = Path(options.out) if options.out else None
    results = Results(facts_of(options), out)
    try:
        with threadpoolctl.threadpool_limits(options.threads, user_api="blas"):
            results.machine = results.machine or roofline.Machine.measured()
            run(every, found, results, options)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here" if out else "stopped")
    finally:
        results.save()
    report(every, results, out, sys.argv[1:] if arguments is None else arguments)


def report(every: list[Pass], results: Results, out: Path | None, arguments: list[str]) -> None:
    """Print the summary of these passes, and write it with the conditions."""
    if results.machine is None:  # stopped before anything was measured
        return
    names = {str(one) for one in every}
    text = summary([row for name, row in results.rows.items() if name in names], len(every), results.machine)
    print(text)
    if out is not None:
        conditions = "\n".join(f"- {key}: {value}" for key, value in results.facts.items())
        command = " ".join(["python", "benchmarks/kernels.py", *arguments])
        beside(out, ".md").write_text(f"# Layers against PyTorch's\n\n`{command}`\n\n{conditions}\n\n{text}\n")
        print(f"written: {out}.json, {out}.md")


def print_plan(options: argparse.Namespace, found: dict[Layer, dict[str, int]], count: int) -> None:
    kinds = Counter(layer.kind for layer in found)
    print(f"{len(found)} layers ({', '.join(f'{kind} {n}' for kind, n in kinds.items())}), {count} passes")
    if not options.held_out:
        for name in options.networks:
            if name in networks.LEFT_OUT:
                print(f"left out of {name}: {networks.LEFT_OUT[name]}")


def run(every: list[Pass], found: dict[Layer, dict[str, int]], results: Results, options: argparse.Namespace) -> None:
    """Time what has no row yet, until all is done or the time is over."""
    end = time.monotonic() + options.seconds
    todo = [one for one in every if str(one) not in results.rows]
    with tqdm(total=len(every), initial=len(every) - len(todo), unit="pass", disable=None) as bar:
        for one in todo:
            if time.monotonic() > end:
                break
            bar.set_postfix_str(str(one.layer))
            results.add(one, found[one.layer], measure(one, options.layout, options.torch_layout, options.rounds))
            bar.update()


if __name__ == "__main__":
    main()
