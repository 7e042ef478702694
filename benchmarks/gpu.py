"""On a GPU: the tests, then whole training steps against PyTorch, and a dated log: python -m benchmarks.gpu

Run from the checkout on a machine with CuPy and PyTorch. Each way of training has a process of its own: minigrad as
it is, minigrad captured into a CUDA graph, PyTorch eager, and PyTorch compiled with mode="reduce-overhead". They take
turns, so that a GPU whose clock drifts drifts for all. Model, starting weights, batches and optimizer are the same; the
losses of the first 20 steps are compared before anything is timed. In the end CIFAR-10 is trained to a stated
accuracy, see benchmarks/cifar10.py. A ratio is PyTorch's time over minigrad's: above 1
minigrad is faster. What fails is written into the log as what it is, and the run goes on.

    python -m benchmarks.gpu --models lenet5 --ways minigrad captured torch --precisions float32     (a part of it)
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import importlib.util
import json
import re
import statistics
import subprocess
import sys
import time
import traceback
from datetime import date
from pathlib import Path

import numpy as np

from benchmarks import cifar10
from benchmarks.train_step import bn_cnn, drawn, lenet5

ROOT = Path(__file__).resolve().parents[1]
COMPARED_STEPS = 20
BATCHES = 8  # that the steps take in turn

# --- the cases: written once, since both libraries have the same names ---


def resnet18(nn):
    """ResNet-18 as it is used for images of 32 x 32: a first convolution of 3 x 3, and no pooling behind it."""

    def convolved(channels, out, size, stride=1):
        return [nn.Conv2d(channels, out, size, stride=stride, padding=size // 2, bias=False), nn.BatchNorm2d(out)]

    class Block(nn.Module):
        def __init__(self, channels, out, stride):
            super().__init__()
            self.main = nn.Sequential(*convolved(channels, out, 3, stride), nn.ReLU(), *convolved(out, out, 3))
            same = stride == 1 and channels == out
            self.shortcut = nn.Identity() if same else nn.Sequential(*convolved(channels, out, 1, stride))
            self.relu = nn.ReLU()

        def forward(self, x):
            return self.relu(self.main(x) + self.shortcut(x))

    layers, channels = [*convolved(3, 64, 3), nn.ReLU()], 64
    for out, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [Block(channels, out, stride), Block(out, out, 1)]
        channels = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


MODELS = {  # name: (model, shape of an image, batches)
    "lenet5": (lenet5, (1, 28, 28), (64, 512)),
    "bn-cnn": (bn_cnn, (3, 32, 32), (128, 512)),
    "resnet18": (resnet18, (3, 32, 32), (128, 512)),
}
WAYS = {  # name: (library, how)
    "minigrad": ("minigrad", "plain"),
    "captured": ("minigrad", "captured"),
    "torch": ("torch", "eager"),
    "compiled": ("torch", "compiled"),
}
PRECISIONS = ("float32", "tf32", "float16")
OURS, PEERS = ("minigrad", "captured"), ("torch", "compiled")


class Training:
    """The training of a model in one of the ways; `step` takes one step and returns its loss."""

    def __init__(self, way: str, model: str, batch: int, precision: str, device: str = "cuda"):
        name, self.how = WAYS[way]
        self.library = library = importlib.import_module(name)
        self.device, self.precision = device, precision
        build, shape, _ = MODELS[model]
        nn, optim = (importlib.import_module(f"{name}.{part}") for part in ("nn", "optim"))
        random = np.random.default_rng(0)
        library.manual_seed(0)
        self.model = build(nn)
        state = {key: drawn(random, key, tuple(value.shape)) for key, value in self.model.state_dict().items()}
        self.model.load_state_dict({key: library.tensor(value) for key, value in state.items()})
        self.model.to(device)
        for module in self.model.modules():  # whose random numbers are each library's own
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        self.loss = nn.CrossEntropyLoss()
        self.optimizer = optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)
        self.scaler = self._scaler()
        self.batches = [
            (
                library.tensor(random.standard_normal((batch, *shape), dtype=np.float32)).to(device),
                library.tensor(random.integers(0, 10, batch)).to(device),
            )
            for _ in range(BATCHES)
        ]
        self._allow_tf32(precision == "tf32")
        self.forward = self._forward
        self.one_step = self._step
        if self.how == "captured":
            self.one_step = library.cuda.capture(self._step)
        elif self.how == "compiled":
            self.forward = library.compile(self._forward, mode="reduce-overhead")
        self.taken = 0

    def step(self):
        x, labels = self.batches[self.taken % BATCHES]
        self.taken += 1
        return self.one_step(x, labels)

    def _forward(self, x, labels):
        return self.loss(self.model(x), labels)

    def _step(self, x, labels):
        self.optimizer.zero_grad()
        with self._autocast():
            loss = self.forward(x, labels)
        if self.scaler is None:
            loss.backward()
            self.optimizer.step()
        else:
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
        return loss

    def _autocast(self):
        if self.precision != "float16":
            return contextlib.nullcontext()
        if self.library.__name__ == "torch":
            return self.library.autocast(self.device, dtype=self.library.float16)
        return self.library.amp.autocast(self.device, dtype="float16")

    def _scaler(self):
        if self.precision != "float16":
            return None
        if self.library.__name__ == "torch":
            return self.library.amp.GradScaler(self.device)
        return self.library.amp.GradScaler()

    def _allow_tf32(self, allowed: bool) -> None:
        if self.device == "cpu":
            return  # which has no TF32
        if self.library.__name__ == "torch":
            self.library.backends.cuda.matmul.allow_tf32 = allowed
            self.library.backends.cudnn.allow_tf32 = allowed
        else:
            self.library.cuda.set_tf32(allowed)

    def wait(self) -> None:
        if self.device != "cpu":
            self.library.cuda.synchronize()

    # --- what a worker is asked for ---

    def first_losses(self) -> list[float]:
        return [self.step().item() for _ in range(COMPARED_STEPS)]

    def seconds(self, at_least: float) -> float:
        """Seconds a step, over steps that together take so long."""
        self.step()  # caches warm up again after another process's turn
        self.wait()
        steps, start = 0, time.perf_counter()
        while steps < 4 or time.perf_counter() - start < at_least:
            for _ in range(4):
                self.step()
            steps += 4
            if steps % 32 == 0:
                self.wait()  # or the host would run ahead of the device until the time is over
        self.wait()
        return (time.perf_counter() - start) / steps

    def profiled(self) -> dict:
        """Launches a step, the share of the time outside of products and convolutions, and the kernels by name.

        Each kernel is (name, launches a step, microseconds a step); those that take longest come first.
        """
        from torch.profiler import ProfilerActivity, profile  # it sees the launches of every library in the process

        self.step()
        self.wait()
        with profile(activities=[ProfilerActivity.CUDA]) as record:
            for _ in range(BATCHES):
                self.step()
            self.wait()
        events = [e for e in record.events() if e.device_type.name == "CUDA"]
        times = [(e.name, e.time_range.elapsed_us()) for e in events]
        whole = sum(t for _, t in times)
        products = sum(t for name, t in times if PRODUCT.search(name))
        return {
            "launches": len(times) / BATCHES,
            "outside": 1 - products / whole if whole else None,
            "kernels": by_name(times, BATCHES),
        }


def by_name(times: list[tuple[str, float]], steps: int) -> list[tuple[str, float, float]]:
    """(name, launches a step, microseconds a step) of launches (name, microseconds), the longest first."""
    found: dict[str, list[float]] = {}
    for name, microseconds in times:
        found.setdefault(name, []).append(microseconds)
    rows = [(name, len(each) / steps, sum(each) / steps) for name, each in found.items()]
    return sorted(rows, key=lambda row: -row[2])


PRODUCT = re.compile("gemm|gemv|conv|xmma|cutlass|cudnn|wgrad|dgrad|winograd|implicit|nchwToNhwc|nhwcToNchw", re.I)


# --- worker processes, one for each way ---


def worker(way: str) -> None:
    """Answer one JSON line for each that comes: {"ask": "case" | "turn" | "profile", ...}."""
    training = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["ask"] == "case":
                training = None  # its memory first
                training = Training(way, request["model"], request["batch"], request["precision"])
                answer = training.first_losses()
            elif request["ask"] == "turn":
                answer = training.seconds(request["seconds"])
            else:
                answer = training.profiled()
            print(json.dumps({"answer": answer}), flush=True)
        except Exception as error:
            traceback.print_exc()
            print(json.dumps({"error": f"{type(error).__name__}: {error}".splitlines()[0]}), flush=True)


class Failed(Exception):
    """A worker's error."""


class Worker:
    """The parent's end of a worker process; one that died is started again when it is next asked for a case."""

    def __init__(self, way: str):
        self.way = way
        self.process: subprocess.Popen | None = None

    def ask(self, **request):
        if self.process is None or self.process.poll() is not None:
            command = [sys.executable, "-m", "benchmarks.gpu", "--worker", self.way]
            self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        while answer := self.process.stdout.readline():
            if answer.startswith('{"'):
                found = json.loads(answer)
                if "error" in found:
                    raise Failed(found["error"])
                return found["answer"]
        raise Failed(f"the process ended (exit code {self.process.wait()})")

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process = None


# --- one row ---


def measure(workers: dict[str, Worker], model: str, batch: int, precision: str, rounds: int, seconds: float) -> dict:
    """Milliseconds a step in every way, ratios, how far the losses lie apart; errors where a way fails."""
    losses, errors = {}, {}
    for way, one in workers.items():
        try:
            losses[way] = one.ask(ask="case", model=model, batch=batch, precision=precision)
        except Failed as error:
            errors[way] = str(error)
    times: dict[str, list[float]] = {way: [] for way in losses}
    for _ in range(rounds):
        for way in list(times):
            try:
                times[way].append(workers[way].ask(ask="turn", seconds=seconds))
            except Failed as error:
                errors[way] = str(error)
                del times[way]
    profiles = {}
    for way in times:
        with contextlib.suppress(Failed):
            profiles[way] = workers[way].ask(ask="profile")
    row = {"model": model, "batch": batch, "precision": precision, "errors": errors, "profiles": profiles}
    row["ms"] = {way: statistics.median(found) * 1e3 for way, found in times.items()}
    row["images_per_second"] = {way: batch / (ms / 1e3) for way, ms in row["ms"].items()}
    row["ratios"] = {
        f"{peer} / {way}": statistics.median(b / a for a, b in zip(times[way], times[peer], strict=True))
        for way in OURS
        for peer in PEERS
        if way in times and peer in times
    }
    reference = losses.get("torch")
    row["losses_apart"] = {
        way: float(np.max(np.abs(np.subtract(found, reference)) / np.abs(reference)))
        for way, found in losses.items()
        if reference and way != "torch"
    }
    return row


def described(row: dict) -> str:
    """One row of the log's table."""
    cells = [row["model"], str(row["batch"]), row["precision"]]
    for way in WAYS:
        cells.append(f"{row['ms'][way]:.3f}" if way in row["ms"] else "failed" if way in row["errors"] else "-")
    for peer in PEERS:
        ratio = row["ratios"].get(f"{peer} / captured")
        cells.append("-" if ratio is None else f"{ratio:.2f}")
    apart = [row["losses_apart"].get(way) for way in OURS]
    cells.append(" ".join("-" if a is None else f"{a:.1e}" for a in apart))
    for way in ("minigrad", "torch"):
        found = row["profiles"].get(way)
        outside = None if found is None else found["outside"]
        cells.append(
            "-" if found is None else f"{found['launches']:.0f}" + ("" if outside is None else f", {outside:.0%}")
        )
    return "| " + " | ".join(cells) + " |"


def listed(row: dict) -> list[str]:
    """The kernels of a step of minigrad's by name, as lines of the log."""
    kernels = row["profiles"].get("minigrad", {}).get("kernels", ())
    if not kernels:
        return []
    title = f"### {row['model']}, batch {row['batch']}, {row['precision']}"
    lines = [f"| `{name}` | {count:g} | {microseconds:.1f} |" for name, count, microseconds in kernels]
    return [title, "", "| kernel | launches a step | microseconds a step |", "|---|---|---|", *lines, ""]


HEAD = (
    "| model | batch | precision | minigrad ms | captured ms | PyTorch ms | compiled ms | PyTorch / captured | "
    "compiled / captured | losses apart (plain, captured) | launches, time outside products | the same of PyTorch |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|"
)


# --- the tests, and the facts about the machine ---


def run_tests() -> str:
    """The last line of pytest for all tests that need a GPU, or run kernels."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/laws/test_gpu.py", "tests/cuda"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lines = (done.stdout + done.stderr).strip().splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return "\n".join([lines[-1] if lines else "no output", *failed])


def facts() -> dict:
    """What ran on what."""
    import cupy

    import minigrad

    properties = cupy.cuda.runtime.getDeviceProperties(0)
    found = {
        "date": str(date.today()),
        "device": properties["name"].decode(),
        "multiprocessors": properties["multiProcessorCount"],
        "memory_gib": round(properties["totalGlobalMem"] / 2**30, 1),
        "driver": cupy.cuda.runtime.driverGetVersion(),
        "runtime": cupy.cuda.runtime.runtimeGetVersion(),
        "python": sys.version.split()[0],
        "info": str(minigrad.backend.info()),
    }
    for package in ("numpy", "cupy-cuda12x", "cupy-cuda13x", "nvidia-cudnn-frontend", "torch"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def write_log(path: Path, machine: dict, tests: str, rows: list[dict], to_accuracy: dict | None = None) -> None:
    """The log as a page, and beside it the figures as JSON. Written after each row, so that little is lost."""
    lines = [f"# On a GPU, {machine['date']}", ""]
    lines += [f"- {name}: {value}" for name, value in machine.items() if name != "info"]
    lines += ["", "```", machine["info"], "```", "", "## Tests", "", "```", tests, "```", "", "## Training steps", ""]
    lines += [
        "A ratio above 1 means that minigrad is faster. Losses apart: the largest relative difference from PyTorch's"
    ]
    lines += [f"over the first {COMPARED_STEPS} steps.", "", HEAD, *map(described, rows), ""]
    for row in rows:
        for way, error in row["errors"].items():
            lines.append(f"- {row['model']} {row['batch']} {row['precision']}, {way} failed: {error}")
    kernels = [line for row in rows for line in listed(row)]
    lines += ["", "## Kernels of a step, minigrad as it is", "", *kernels] if kernels else []
    if to_accuracy is not None:
        lines += ["", "## To a stated accuracy", "", cifar10.described(to_accuracy)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    figures = {**machine, "tests": tests, "rows": rows, "cifar10": to_accuracy}
    path.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--no-cifar10", action="store_true", help="leave CIFAR-10 to a stated accuracy out")
    cifar10.add_options(parser)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--precisions", nargs="+", default=list(PRECISIONS), choices=PRECISIONS)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each way that are counted")
    parser.add_argument("--seconds", type=float, default=0.5, help="of a turn, at least")
    parser.add_argument("--no-tests", action="store_true", help="only the figures")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / f"{date.today()}-gpu.md")
    parser.add_argument("--worker", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments.worker)
        return 0
    import minigrad

    if not minigrad.cuda_is_available():
        print("benchmarks.gpu: no CuPy with a GPU here, so nothing was run or measured.", file=sys.stderr)
        return 2
    ways = [way for way in arguments.ways if importlib.util.find_spec(WAYS[way][0])]
    machine = facts()
    tests = "left out" if arguments.no_tests else run_tests()
    print(tests, HEAD, sep="\n", flush=True)
    rows: list[dict] = []
    workers = {way: Worker(way) for way in ways}
    for model in arguments.models:
        for batch in MODELS[model][2]:
            for precision in arguments.precisions:
                rows.append(measure(workers, model, batch, precision, arguments.rounds, arguments.seconds))
                print(described(rows[-1]), flush=True)
                write_log(arguments.out, machine, tests, rows)
    for one in workers.values():
        one.end()
    if not arguments.no_cifar10:
        to_accuracy = cifar10.run_with(arguments)
        print(cifar10.described(to_accuracy), flush=True)
        write_log(arguments.out, machine, tests, rows, to_accuracy)
    print(f"written to {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
