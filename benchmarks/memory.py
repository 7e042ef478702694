"""The most memory a training step takes, minigrad against PyTorch eager: python benchmarks/memory.py   (Linux)

Each library trains each model of `train_step.py` in a process of its own. After one step, with all caches warm, the
process's high-water mark is set back (/proc/self/clear_refs) and two more steps are taken. Printed is how far the mark
rises above what the process held before the model was made: weights, gradients, optimizer state, activations and
scratch space. The ratio is PyTorch's over minigrad's: above 1 minigrad takes less.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys

import train_step


def status(field: str) -> int:
    """A line of /proc/self/status, in bytes."""
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith(field))
    return int(line.split()[1]) * 1024


def peak(library_name: str, case: str, batch: int) -> dict[str, int]:
    """Bytes above the empty process: at the highest, and between steps."""
    library = importlib.import_module(library_name)
    train_step.Training(library, "cpu", "tiny-mlp").step()  # what a library allocates once is not the step's
    build, shape, *rest = train_step.MODELS[case]
    train_step.MODELS[case] = (build, (batch, *shape[1:]), *rest)
    before = status("VmRSS")
    training = train_step.Training(library, "cpu", case)
    training.step()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    for _ in range(2):
        training.step()
    return {"peak": status("VmHWM") - before, "between": status("VmRSS") - before}


def ask(library: str, case: str, batch: int) -> dict[str, int]:
    environment = {key: value for key, value in os.environ.items() if key not in train_step.PINNED_KERNELS}
    command = [sys.executable, __file__, "--worker", library, "--cases", case, "--batch", str(batch)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", nargs="*", default=["mlp", "lenet5", "bn-cnn"], choices=list(train_step.MODELS))
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--worker")
    parser.add_argument("--json")
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(peak(options.worker, options.cases[0], options.batch)))
        return
    found = {}
    print(f"batch {options.batch}: MB at the highest (between steps)")
    for case in options.cases:
        ours, theirs = (ask(name, case, options.batch) for name in ("minigrad", "torch"))
        found[case] = {"minigrad": ours, "torch": theirs, "ratio": theirs["peak"] / ours["peak"]}
        text = "   ".join(
            f"{name} {one['peak'] / 1e6:7.1f} ({one['between'] / 1e6:.1f})"
            for name, one in (("minigrad", ours), ("PyTorch", theirs))
        )
        print(f"{case:10} {text}   ratio {found[case]['ratio']:.2f}")
    if options.json:
        with open(options.json, "w") as file:
            json.dump(found, file, indent=1)


if __name__ == "__main__":
    main()
