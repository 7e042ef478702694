"""A cuBLAS for the strict stand-in: fake_cublas.cpp, which refuses what cuBLAS refuses and multiplies on the CPU."""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from minigrad.backend.gpu import cublas
from tests.support.cuda import compiling, work

SOURCE = Path(__file__).with_name("fake_cublas.cpp")
FLAGS = ["-std=c++17", "-O3", "-shared", "-fPIC", "-ffp-contract=off"]
PRODUCTS = {"cublasGemmEx", "cublasGemmStridedBatchedEx"}

calls: list[tuple[str, tuple]] = []
"""(function, arguments) of every product."""


class Library:
    """The library as `cublas.find` gives it; products count as launches."""

    def __init__(self, library: ctypes.CDLL):
        self._library = library

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._library, name)
        if name not in PRODUCTS:
            return function

        def launched(*args: Any) -> int:
            calls.append((name, args))
            return work.launch(name, lambda: function(*args)) or 0

        return launched


@cache
def library() -> Library:
    """The fake library, compiled once and kept in the folder for temporary files."""
    code = SOURCE.read_bytes() + compiling._header().encode() + " ".join(FLAGS).encode()
    compiling.CACHE.mkdir(exist_ok=True)
    built = compiling.CACHE / f"cublas_{hashlib.sha256(code).hexdigest()[:24]}.so"
    if not built.exists():
        with tempfile.TemporaryDirectory(dir=compiling.CACHE) as folder:
            subprocess.run(["g++", *FLAGS, f"-I{SOURCE.parent}", str(SOURCE), "-o", f"{folder}/cublas.so"], check=True)
            os.replace(f"{folder}/cublas.so", built)  # another process may be making the same
    return Library(cublas.declare(ctypes.CDLL(str(built))))


@contextmanager
def installed(namespace: Any) -> Iterator[None]:
    """Products of the arrays of `namespace` go to the fake library while this lasts."""
    found = cublas.find
    cublas.find = lambda xp: library() if xp is namespace else found(xp)
    try:
        yield
    finally:
        cublas.find = found
