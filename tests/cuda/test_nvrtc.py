"""Every .cu file is compiled by NVIDIA's own compiler, for two generations of GPUs and every dtype. No GPU is needed.

By NVRTC, which is what CuPy compiles with, where its wheel and that of CUDA's headers are installed; by nvcc where that
is on PATH. Neither: skipped.
"""

import ctypes
import shutil
import subprocess
from ctypes import byref, c_char_p, c_int, c_size_t, c_void_p
from functools import cache

import pytest

from minigrad.backend.gpu import launching
from tests.support.cuda.wheels import folders, headers

FILES = sorted(path.name for path in launching.HERE.glob("*.cu"))
DTYPES = [*launching.REALS]
FLOATS = "cuda_fp16.h"  # the header that our kernels need, with its neighbours


@cache
def nvrtc():
    """The library, or None where it or the headers are not installed."""
    for library in (path for folder in folders("lib") for path in folder.glob("libnvrtc.so.*")):
        if "alt" not in library.name:
            return ctypes.CDLL(str(library)) if headers(FLOATS) else None
    return None


def compile_by_nvrtc(text, options):
    """What the compiler says; empty if it is content."""
    library, program, size = nvrtc(), c_void_p(), c_size_t()
    arguments = [option.encode() for option in (*options, f"--include-path={headers(FLOATS)}")]
    assert not library.nvrtcCreateProgram(byref(program), c_char_p(text.encode()), b"kernels.cu", 0, None, None)
    try:
        failed = library.nvrtcCompileProgram(program, c_int(len(arguments)), (c_char_p * len(arguments))(*arguments))
        assert not library.nvrtcGetProgramLogSize(program, byref(size))
        log = ctypes.create_string_buffer(size.value)
        assert not library.nvrtcGetProgramLog(program, log)
        return log.value.decode() or (f"status {failed}" if failed else "")
    finally:
        library.nvrtcDestroyProgram(byref(program))


def compile_by_nvcc(text, options, folder):
    """What the compiler says; empty if it is content."""
    (source := folder / "kernels.cu").write_text(text.replace("#pragma once", ""))  # which is for headers
    command = ["nvcc", "-ptx", *options, str(source), "-o", str(folder / "kernels.ptx")]
    done = subprocess.run(command, capture_output=True, text=True)
    return (done.stdout + done.stderr) or (f"status {done.returncode}" if done.returncode else "")


def said_by_the_compiler(text, options, folder):
    if nvrtc():
        return compile_by_nvrtc(text, options)
    if shutil.which("nvcc"):
        return compile_by_nvcc(text, options, folder)
    pytest.skip("neither NVRTC's wheel with CUDA's headers nor nvcc is installed")


@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("file", FILES)
def test_every_file_compiles_without_a_warning(file, dtype, target, tmp_path):
    options = (*launching.options_for(dtype), f"-arch={target}")
    assert not said_by_the_compiler(launching.text_of(file), options, tmp_path)


def test_a_mistake_is_found(tmp_path):
    wrong = 'extern "C" __global__ void kernel(float* x) { *x = missing; }'
    assert "missing" in said_by_the_compiler(wrong, ("-std=c++17", "-arch=sm_80"), tmp_path)


def test_there_are_files():
    assert "windows.cu" in FILES and "channel_sums.cu" in FILES
