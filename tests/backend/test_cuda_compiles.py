"""Our CUDA kernels where there is no GPU: their text compiles for a Hopper GPU, and computes what the passes do.

The second is found out by a C++ compiler, for which a kernel's statements are a loop's body like any other.
"""

import ctypes
import shutil
import subprocess

import numpy as np
import pytest

import minigrad as mg
from minigrad import optim
from minigrad.optim import adadelta, adagrad, adam, adamax, heavy_ball, lion, nadam, nesterov, radam, rmsprop, sgd
from minigrad.optim._update import arguments, climbing, compiled, passes, trace, with_decoupled_decay, with_weight_decay
from minigrad.optim._update.kernel_text import FUNCTIONS, cuda_text
from tests.support.optim_zoo import ELEMENTWISE, combinations

MODULES = [adadelta, adagrad, adam, adamax, heavy_ball, lion, nadam, nesterov, radam, rmsprop, sgd]


def formulas_of(module):
    """The functions of a module that have the shape of a formula."""
    own = [f for f in vars(module).values() if getattr(f, "__module__", "") == module.__name__ and callable(f)]
    return [f for f in own if not isinstance(f, type) and f.__code__.co_varnames[:2] == ("p", "g")]


def choices_of(formula):
    """Every combination of a formula's choices, all of which are flags."""
    combinations = [()]
    for name in arguments(formula).choices:
        combinations = [(*chosen, (name, value)) for chosen in combinations for value in (False, True)]
    return combinations


FORMULAS = [formula for module in MODULES for formula in formulas_of(module)]
AROUND = [climbing(with_weight_decay(adam.adam)), with_decoupled_decay(lion.lion), climbing(sgd.sgd)]
CASES = [
    pytest.param(formula, choices, id=f"{i} {formula.__name__} {dict(choices)}")
    for i, formula in enumerate([*FORMULAS, *AROUND])
    for choices in choices_of(formula)
]

SOURCE = """
{functions}
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
@pytest.mark.parametrize(("formula", "choices"), CASES)
def test_a_formula_compiles(formula, choices, real, tmp_path):
    inputs, outputs, operation = cuda_text(trace(formula, choices))
    source = SOURCE.format(
        functions=FUNCTIONS,
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
extern "C" void {name}({parameters}, long count) {{
    typedef {real} T;
    for (long i = 0; i < count; i++) {{
        {elements}
        {operation}
    }}
}}
"""
REALS = {"float": np.float32, "double": np.float64}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """All kernels for float and double in one library: the statements as loops."""
    folder = tmp_path_factory.mktemp("kernels")
    source = ["#define __device__", "#include <cmath>", "using namespace std;", FUNCTIONS]
    for case in CASES:
        inputs, outputs, operation = cuda_text(trace(*case.values))
        arrays = [inputs[0], *outputs]
        source += [
            LOOP.format(
                name=name_of(case.values, real),
                real=real,
                parameters=", ".join([*(f"{real}* all_{n}" for n in arrays), *(f"{real} {n}" for n in inputs[1:])]),
                elements="".join(f"T& {n} = all_{n}[i];" for n in arrays),
                operation=operation,
            )
            for real in REALS
        ]
    (folder / "update.cpp").write_text("\n".join(source))
    # Without contraction into fused multiply-adds, which round once where NumPy's passes round twice.
    command = ["g++", "-O1", "-ffp-contract=off", "-shared", "-fPIC", "update.cpp", "-o", "update.so"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(folder / "update.so"))


def name_of(case, real):
    return f"update_{[c.values for c in CASES].index(case)}_{real}"


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler here")
@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize(("formula", "choices"), CASES)
def test_the_text_of_a_kernel_computes_to_the_bit_what_the_passes_do(formula, choices, real, library):
    tape, dtype = trace(formula, choices), REALS[real]
    function = library[name_of((formula, choices), real)]
    number = {"float": ctypes.c_float, "double": ctypes.c_double}[real]
    function.argtypes = [ctypes.c_void_p] * len(tape.arrays) + [number] * len(tape.numbers) + [ctypes.c_long]
    rng, count = np.random.default_rng(0), 57
    p, *buffers = (rng.uniform(0.1, 2, count).astype(dtype) for _ in tape.arrays[1:])
    theirs = [array.copy() for array in (p, *buffers)]
    for step in range(6):
        g = rng.standard_normal(count).astype(dtype)
        g[:3] = 0, np.nan, -0.0
        coefficients = {name: round(rng.uniform(0.1, 0.9), 3) for name in arguments(formula).coefficients}
        if step % 2:  # multiplications by 1 are left out of the passes
            coefficients = {name: 1 if name in ("gain", "share", "lr") else c for name, c in coefficients.items()}
        numbers = tape.evaluate(**coefficients)
        function(*(array.ctypes.data for array in (g, *theirs)), *numbers, count)
        ones = frozenset(name for name, value in zip(tape.numbers, numbers, strict=True) if value == 1)
        calls = passes(tape, ones)
        scratch = np.empty((calls.scratch, count), dtype)
        compiled(calls, np)(p, g, *buffers, *scratch, *(np.array(value, dtype) for value in numbers))
        for found, expected in zip(theirs, (p, *buffers), strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_every_formula_of_an_optimizer_is_tried(name):
    for options in combinations(name):
        optimizer = getattr(optim, name)([mg.zeros(2, requires_grad=True)], **options)
        assert optimizer.formula(optimizer.param_groups[0]) in FORMULAS
