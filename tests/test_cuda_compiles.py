"""The text of our CUDA kernels compiles for a Hopper GPU: all that can be said of them where there is none."""

import shutil
import subprocess

import pytest

from minigrad.optim import updates

RULES = [rule for rule in vars(updates).values() if isinstance(rule, updates.Rule)]

SOURCE = """
typedef {real} T;
extern "C" __global__ void update({parameters}, long count) {{
    long i = blockIdx.x * (long)blockDim.x + threadIdx.x;
    if (i >= count) return;
    {elements}
    {operation}
}}
"""


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no CUDA compiler here")
@pytest.mark.parametrize("real", ["float", "double"])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_an_update_rule_compiles(rule, real, tmp_path):
    inputs, outputs, operation = updates.cuda_text(rule)
    source = SOURCE.format(
        real=real,
        parameters=", ".join(
            [f"const T* all_{inputs[0]}", *(f"T {n}" for n in inputs[1:]), *(f"T* all_{n}" for n in outputs)]
        ),
        elements="".join([f"const T {inputs[0]} = all_{inputs[0]}[i];", *(f"T& {n} = all_{n}[i];" for n in outputs)]),
        operation=operation,
    )
    (tmp_path / "update.cu").write_text(source)
    command = ["nvcc", "-arch=sm_90", "-ptx", "update.cu", "-o", "update.ptx"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_there_are_rules_to_compile():
    assert {"sgd", "adam"} <= {rule.name for rule in RULES}
