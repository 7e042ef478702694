"""What the engine costs per op, in instructions instead of seconds: python benchmarks/instructions.py --against OTHER

Runs small graphs under valgrind's callgrind, which counts the instructions of a process. The count is the same in each
run, whatever else the machine does, so two checkouts can be compared on a busy machine: OTHER is the folder of another
one. It needs `valgrind`, and takes some minutes. Time in kernels is not what this is for: see `train_step.py`.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
TURNS = 20

CASES = {
    "scalar chain": """
        x = y = mg.tensor(0.5, requires_grad=True)
        for _ in range(100):
            y = (mg.sin(y) * x + y) * 0.5
        y.backward()
    """,
    "shapes and sums": """
        x = y = mg.tensor(np.ones((4, 5), "f4"), requires_grad=True)
        for _ in range(40):
            y = y.reshape(5, 4).transpose().reshape(4, 5) + y.sum(axis=0)
            y = y - y.mean(axis=1, keepdims=True)
        y.sum().backward()
    """,
    "MLP 2-16-16-1, a step of SGD": """
        optimizer.zero_grad()
        loss = ((model(inputs) - targets) ** 2).mean()
        loss.backward()
        optimizer.step()
    """,
}

PROGRAM = """
import numpy as np
import minigrad as mg
from minigrad import nn, optim

mg.manual_seed(0)
model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1))
optimizer = optim.SGD(model.parameters(), lr=0.01)
inputs, targets = mg.randn(100, 2), mg.randn(100, 1)
for _ in range({turns}):
{step}
"""


def instructions(step: str, turns: int, checkout: Path) -> int:
    """The instructions of a process that takes so many turns of a step, in the minigrad of a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
    program = PROGRAM.format(turns=turns, step=step)
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=checkout)
    if done.returncode:
        raise SystemExit(f"the step failed in {checkout}:\n{done.stderr}")
    return int(re.search(r"Collected : (\d+)", done.stderr)[1])


def per_turn(step: str, checkout: Path) -> float:
    """The instructions of one turn, without what importing and the first turns take."""
    return (instructions(step, 3 + TURNS, checkout) - instructions(step, 3, checkout)) / TURNS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, required=True, metavar="OTHER", help="the folder of another checkout")
    other = parser.parse_args().against.resolve()
    if shutil.which("valgrind") is None:
        raise SystemExit("valgrind is not installed (`apt install valgrind`).")
    print(f"{'case':32} {'here':>12} {'there':>12}  there / here")
    for name, step in CASES.items():
        ours, theirs = per_turn(step, HERE), per_turn(step, other)
        print(f"{name:32} {ours:12,.0f} {theirs:12,.0f}  {theirs / ours:.3f}", flush=True)


if __name__ == "__main__":
    main()
