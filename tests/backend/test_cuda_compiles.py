"""The optimizers' CUDA kernels where there is no GPU: they compile for a Hopper GPU, and compute what the passes do.

The second is found out by executing the very kernels on the CPU, in several orders of threads and blocks.
"""

import shutil
import subprocess

import numpy as np
import pytest

import minigrad as mg
from minigrad import optim
from minigrad.backend.gpu import launching
from minigrad.optim import adadelta, adagrad, adam, adamax, heavy_ball, lion, nadam, nesterov, radam, rmsprop, sgd
from minigrad.optim._update import (
    ROWS,
    Launches,
    arguments,
    climbing,
    compiled,
    passes,
    tables,
    trace,
    with_decoupled_decay,
    with_weight_decay,
)
from minigrad.optim._update.kernel_text import defines
from tests.support.cuda import compiling
from tests.support.optim_zoo import ELEMENTWISE, combinations
from tests.support.strict_backend import StrictArray, namespace

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


def awkward_names(p, g, new, a, *, double, x):  # which are no names for variables in a kernel
    return p - double * new - x * a, new + g, np.maximum(a, 0)


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no CUDA compiler here")
@pytest.mark.parametrize("dtype", launching.REALS)
@pytest.mark.parametrize(("formula", "choices"), CASES)
def test_a_formula_compiles(formula, choices, dtype, tmp_path):
    source = defines(trace(formula, choices), ROWS) + launching.text_of("optimizer.cu")
    (tmp_path / "update.cu").write_text(source)
    command = ["nvcc", *launching.options_for(dtype), "-arch=sm_90", "-ptx", "update.cu", "-o", "update.ptx"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


SIZES = [57, 1024, 0, 1, 2500]


def coefficients_at(step, formula):
    """Some coefficients, every other time with those that are 1 in many steps: the passes leave products with 1 out."""
    rng = np.random.default_rng(step)
    found = {name: round(rng.uniform(0.1, 0.9), 3) for name in arguments(formula).coefficients}
    return {name: 1 if step % 2 and name in ("gain", "share", "lr") else c for name, c in found.items()}


@pytest.mark.skipif(not compiling.AVAILABLE, reason="no C++ compiler here")
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(("formula", "choices"), [*CASES, pytest.param(awkward_names, (), id="awkward names")])
def test_a_kernel_computes_to_the_bit_what_the_passes_do(formula, choices, dtype, monkeypatch):
    tape, rng = trace(formula, choices), np.random.default_rng(0)
    ours = [[rng.uniform(0.1, 2, size).astype(dtype) for _ in tape.arrays[1:]] for size in SIZES]
    theirs = [[StrictArray(array.copy()) for array in arrays] for arrays in ours]
    launches = Launches(tape, 1, [arrays[0] for arrays in theirs], [arrays[1:] for arrays in theirs])
    for step, order in enumerate([0, 1, 7, 0, 1, 7]):
        monkeypatch.setattr(compiling, "order", order)
        gradients = [rng.standard_normal(size).astype(dtype) for size in SIZES]
        gradients[0][:5] = 0, np.nan, -0.0, np.inf, -np.inf
        keywords = {**coefficients_at(step, formula), **dict(choices)}
        found, _ = tables(lambda step, scalars, keywords=keywords: (formula, keywords), 1, [{}], 0, 1)
        launches.run([StrictArray(g) for g in gradients], found[tape], None, None, None)
        numbers = tape.evaluate(**keywords)
        ones = frozenset(name for name, value in zip(tape.numbers, numbers, strict=True) if value == 1)
        calls = passes(tape, ones)
        for g, (p, *buffers) in zip(gradients, ours, strict=True):
            scratch = np.empty((calls.scratch, *g.shape), dtype)
            with np.errstate(all="ignore"):
                compiled(calls, np)(p, g, *buffers, *scratch, *(np.array(value, dtype) for value in numbers))
        for found_arrays, expected in zip(theirs, ours, strict=True):
            for x, y in zip(found_arrays, expected, strict=True):
                np.testing.assert_array_equal(x.host, y)


def half(values, dtype):
    """Numbers rounded to a half precision, as it lies in memory and as float32; bfloat16 is the upper half of one."""
    if dtype == "float16":
        stored = values.astype("f2")
        return stored, stored.astype("f4")
    bits = values.astype("f4").view("u4")
    stored = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("u2")
    return stored, (stored.astype("u4") << 16).view("f4")


@pytest.mark.skipif(not compiling.AVAILABLE, reason="no C++ compiler here")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_rounded_once_a_step(dtype):
    """Adam's step is computed in float32 and stored in the dtype of the parameters."""
    tape, rng = trace(adam.adam, (("eps_inside_sqrt", False),)), np.random.default_rng(0)
    stored, wide = zip(*(half(rng.uniform(0.1, 2, 700), dtype) for _ in "pgmv"), strict=True)
    keywords = {"lr": 0.01, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8}
    found, _ = tables(lambda step, scalars: (adam.adam, keywords), 1, [{}], 0, 1)
    launches = Launches(tape, 1, [StrictArray(stored[0])], [[StrictArray(stored[2]), StrictArray(stored[3])]])
    (batch,), table = launches.batches, found[tape]
    batch.point(1, [StrictArray(stored[1])])
    source = launches.defines + launching.text_of("optimizer.cu")
    module = namespace.RawModule(code=source, options=launching.options_for(dtype), backend="nvrtc")
    numbers, null = table.view([("table", "f8", table.shape)]).reshape(()), launching.NULL
    module.get_function("update")((batch.blocks,), (256,), (batch.struct, numbers, null, null, null))
    p, g, m, v = wide
    for array, expected in zip((stored[0], *stored[2:]), adam.adam(p, g, m, v, **keywords), strict=True):
        unit = 1 if dtype == "bfloat16" else 1e-3
        error = array.astype("i4") - half(expected, dtype)[0].astype("i4") if dtype == "bfloat16" else array - expected
        assert np.abs(error).max() <= unit
        assert array.any()


@pytest.mark.skipif(not compiling.AVAILABLE, reason="no C++ compiler here")
@pytest.mark.parametrize("skipped", [0, 1, 5, ROWS - 1])
def test_the_device_takes_the_row_of_as_many_steps_as_it_has_skipped(skipped):
    tape, known, p = trace(sgd.sgd, ()), 3, StrictArray(np.ones(5, "f4"))
    found, _ = tables(lambda step, scalars: (sgd.sgd, {"lr": step / 64}), 20, [{}] * ROWS, known, ROWS)
    verdict = StrictArray(np.array([0, known + skipped, 0], "i4"))
    Launches(tape, ROWS, [p], [[]]).run([StrictArray(np.ones(5, "f4"))], found[tape], None, verdict, None)
    np.testing.assert_array_equal(p.host, np.full(5, 1 - (20 - skipped) / 64))


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_every_formula_of_an_optimizer_is_tried(name):
    for options in combinations(name):
        optimizer = getattr(optim, name)([mg.zeros(2, requires_grad=True)], **options)
        assert optimizer.formula(optimizer.param_groups[0]) in FORMULAS
