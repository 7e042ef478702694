"""The mutation check of CUDA kernels: what it changes, that it sees what the tests see, and what the guards notice.

The whole check takes long and is run by hand (docs/testing.md); here it breaks one header in a few places.
"""

import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minigrad.backend.gpu import launching
from tests.mutation import cuda
from tests.mutation.cuda import Verdict, explanations, mutants, report
from tests.support.cuda import compiling, guarding

ROOT = Path(__file__).parents[2]
needs_compiler = pytest.mark.skipif(not compiling.AVAILABLE, reason="no C++ compiler to run CUDA kernels with")

KERNEL = """
// a + b, a comment
#define N 4 + 4
extern "C" __global__ void sum(const float* __restrict__ x, float* y, int n)
{
    __shared__ float all[32][2];
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    __syncthreads();
    for (int k = 0; k < 2; k++) y[i] += __shfl_down_sync(MASK(1, 2), x[i], 16);
    __threadfence();
}
"""


def changes(text):
    return {(m.kind, m.change.partition("  ->  ")[2]) for m in mutants(text)}


def test_what_is_changed():
    found = changes(KERNEL)
    assert {
        ("barrier", "(void)0;"),
        ("condition", "if (true) return;"),
        ("condition", "if (false) return;"),
        ("operator", "if (i > n) return;"),
        ("operator", "const int i = blockIdx.x / blockDim.x + threadIdx.x;"),
        ("operator", "const int i = blockIdx.x * blockDim.x - threadIdx.x;"),
        ("operator", "for (int k = 0; k <= 2; k++) y[i] += __shfl_down_sync(MASK(1, 2), x[i], 16);"),
        ("operator", "for (int k = 0; k < 2; k++) y[i] -= __shfl_down_sync(MASK(1, 2), x[i], 16);"),
        ("index", "for (int k = 0; k < 2; k++) y[1 + (i)] += __shfl_down_sync(MASK(1, 2), x[i], 16);"),
        ("number", "for (int k = (0 + 1); k < 2; k++) y[i] += __shfl_down_sync(MASK(1, 2), x[i], 16);"),
        ("shuffle", "for (int k = 0; k < 2; k++) y[i] += __shfl_down_sync(MASK(1, 2), x[i], (16) * 2);"),
    } <= found
    assert sum(kind == "barrier" for kind, _ in found) == 1  # two barriers, one and the same changed line
    assert len([m for m in mutants(KERNEL) if m.kind == "barrier"]) == 2


def test_comments_pointers_declared_sizes_and_preprocessor_lines_stay():
    for mutant in mutants(KERNEL):
        for kept in ("// a + b, a comment", "#define N 4 + 4", "const float* __restrict__ x", "float all[32][2]"):
            assert kept in mutant.text, mutant.change


def test_every_file_of_kernels_has_tests_that_judge_it():
    files = {path.name for path in launching.HERE.glob("*.cu*")}
    assert files == cuda.TESTS.keys()
    for names in cuda.TESTS.values():
        assert all((ROOT / "tests" / "cuda" / f"{name}.py").exists() for name in names), names


def test_every_explanation_is_of_a_mutant():
    there = {(file, m.change) for file in cuda.TESTS for m in mutants((launching.HERE / file).read_text())}
    assert not [key for key in explanations() if key not in there]
    text = "A title.\nIts second line.\n\n# a reason\nx.cu\n  a  ->  b\n  c  ->  d\n"
    assert explanations(text) == {("x.cu", "a  ->  b"): "a reason", ("x.cu", "c  ->  d"): "a reason"}


def test_a_survivor_makes_the_command_fail_unless_it_is_explained(capsys):
    caught = Verdict("x.cu", "number", 3, "a  ->  b", "check", "test")
    survivor = Verdict("x.cu", "number", 3, "a  ->  c", None, None)
    refused = Verdict("x.cu", "number", 3, "a  ->  d", "refused", "test")
    assert report([caught, refused], {}) == 0
    assert report([caught, survivor], {}) == 1
    assert "SURVIVES: x.cu:3 number\n  a  ->  c" in capsys.readouterr().out
    assert report([caught, survivor], {("x.cu", "a  ->  c"): "a reason"}) == 0
    assert report([caught, survivor], {("x.cu", "a  ->  c"): "a reason", ("x.cu", "a  ->  b"): "none"}) == 1
    assert "EXPLAINED, BUT CAUGHT" in capsys.readouterr().out


@needs_compiler
def test_mutants_of_a_header_are_caught_by_its_tests_and_by_others_not():
    command = [sys.executable, "-m", "tests.mutation.cuda", "philox.cuh", "--sample", "2", "--tests"]
    run = subprocess.run([*command, "test_philox"], capture_output=True, text=True, cwd=ROOT)
    assert re.search(r"\n2 mutants, 2 caught, 0 survivors", run.stdout), run.stdout + run.stderr
    assert run.returncode == 0


# --- guards ---

BEYOND = """
extern "C" __global__ void beyond(float* x, int write_at, int read_at) { x[write_at] = read_at < 0 ? 1 : x[read_at]; }
"""


def launch(array, *places):
    kernel = compiling.RawModule(code=BEYOND).get_function("beyond")
    kernel((1,), (1,), (array, *map(np.int32, places)))


@needs_compiler
@pytest.mark.parametrize("size", [1, 3, 4, 1000])
def test_a_write_outside_of_an_array_is_an_error(size):
    x = np.zeros(size, np.float32)
    for place in range(size):
        launch(x, place, -1)
    np.testing.assert_array_equal(x, 1)
    with pytest.raises(compiling.LaunchError, match="beyond, argument 0: the kernel wrote before the array"):
        launch(x, -1, -1)
    with pytest.raises(compiling.LaunchError, match="argument 0: the kernel wrote behind the array"):
        launch(x[:1], size, -1)


@needs_compiler
def test_views_share_one_guarded_copy_and_are_written_back():
    x = np.zeros(10, np.float32)
    with guarding.guarded({0: x[2:5], 1: x[::2]}) as addresses:
        assert addresses[0] - addresses[1] == 8
    launch(x[4:], 3, -1)
    np.testing.assert_array_equal(np.flatnonzero(x), [7])


@needs_compiler
def test_between_pages_reading_beyond_the_end_ends_the_process():
    code = (
        "from tests.mutation import test_cuda as t; import numpy as np; t.guarding.mode = 'pages'\n"
        "x = np.zeros(4, np.float32); t.launch(x, 0, 3); print('inside'); t.launch(x, 0, 4)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert run.stdout == "inside\n" and run.returncode == -signal.SIGSEGV, run.stderr


# --- the order of memory, which the CPU does not disturb ---

COUNTING = """
extern "C" __global__ void count(unsigned* counter, int fences_before, int fences_after) {
    if (fences_before) __threadfence();
    __syncthreads();
    if (threadIdx.x == 0 && atomicInc(counter, gridDim.x - 1) == gridDim.x - 1 && fences_after) __threadfence();
}
"""


@needs_compiler
@pytest.mark.parametrize("blocks", [1, 3])
def test_blocks_that_count_themselves_without_fences_are_an_error(blocks):
    kernel = compiling.RawModule(code=COUNTING).get_function("count")

    def counts(before, after):
        kernel((blocks,), (64,), (np.zeros(1, np.uint32), np.int32(before), np.int32(after)))

    counts(1, 1)
    with pytest.raises(compiling.LaunchError, match="counts a block that has called no __threadfence"):
        counts(0, 1)
    with pytest.raises(compiling.LaunchError, match="calls no __threadfence before it reads what others wrote"):
        counts(1, 0)
