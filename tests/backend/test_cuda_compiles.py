"""Our CUDA kernels where there is no GPU: their text compiles for a Hopper GPU, and computes what the arrays' rules do.

The second is found out by a C++ compiler, for which a kernel's statements are a loop's body like any other.
"""

import ctypes
import shutil
import subprocess

import numpy as np
import pytest

from minigrad.optim import adaptive_updates, updates

RULES = [rule for rule in vars(updates).values() if isinstance(rule, updates.Rule)] + adaptive_updates.all_rules()

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


LOOP = """
#include <algorithm>
#include <cmath>
using namespace std;
typedef {real} T;
extern "C" void {name}({parameters}, long count) {{
    for (long i = 0; i < count; i++) {{
        {elements}
        {operation}
    }}
}}
"""


def as_function(rule, real, folder):
    """`function(arrays, numbers, count)`, compiled from the kernel's text: the gradient's array first, then p's."""
    inputs, outputs, operation = updates.cuda_text(rule)
    arrays = [inputs[0], *outputs]
    source = LOOP.format(
        real=real,
        name="update",
        parameters=", ".join([*(f"T* all_{n}" for n in arrays), *(f"T {n}" for n in inputs[1:])]),
        elements="".join(f"T& {n} = all_{n}[i];" for n in arrays),
        operation=operation,
    )
    (folder / "update.cpp").write_text(source)
    command = ["g++", "-O1", "-shared", "-fPIC", "update.cpp", "-o", "update.so"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    number = {"float": ctypes.c_float, "double": ctypes.c_double}[real]
    function = ctypes.CDLL(str(folder / "update.so")).update
    function.argtypes = [ctypes.c_void_p] * len(arrays) + [number] * (len(inputs) - 1) + [ctypes.c_long]
    return lambda arrays, numbers, count: function(*(a.ctypes.data for a in arrays), *numbers, count)


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler here")
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_the_text_of_a_kernel_computes_what_the_rule_for_arrays_does(rule, tmp_path):
    function = as_function(rule, "double", tmp_path)
    rng = np.random.default_rng(0)
    count = 50
    p, g = rng.standard_normal((2, count))
    buffers = [rng.uniform(0.1, 2, count) for _ in rule.buffers]
    exact_p, exact_buffers = p.copy(), [b.copy() for b in buffers]
    for step in range(6):
        numbers = [round(rng.uniform(0.1, 0.9), 3) for _ in rule.numbers]
        if rule.numbers[-1] in ("gain", "share", "unscaled"):  # those that may be left out
            numbers[-1] = None if step % 2 else 0.0 if rule.numbers[-1] == "unscaled" else numbers[-1]
        sign, pull, keep = [(1.0, 0.0, 1.0), (-1.0, 0.3, 1.0), (1.0, 0.0, 0.7)][step % 3]
        function([g, p, *buffers], [1.0 if n is None else n for n in numbers] + [sign, pull, keep], count)
        d, *spare = np.empty((1 + rule.spare, count))
        turned = sign * g + pull * exact_p
        exact_p *= keep
        rule.body(np, d, turned, *updates.numbers_for(g.dtype, tuple(numbers)), *exact_buffers, *spare)
        exact_p -= d
        np.testing.assert_allclose(p, exact_p, rtol=0, atol=1e-12 * max(1, np.abs(p).max()))
        for found, expected in zip(buffers, exact_buffers, strict=True):
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
        g[:] = rng.standard_normal(count)


def test_there_are_rules_to_compile():
    assert {"sgd", "running_ahead", "adam", "rmsprop_centered_nesterov_eps_inside"} <= {rule.name for rule in RULES}
    alone = [rule for rule in vars(adaptive_updates).values() if isinstance(rule, updates.Rule)]
    assert len(RULES) == len({rule.name for rule in RULES}) and set(alone) <= set(RULES)
