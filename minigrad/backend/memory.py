"""Keeping freed memory for the next array, instead of returning it to the system.

A training step makes and frees the same arrays over and over. glibc returns large ones to the system at once, and
getting them back costs a page fault for every 4 KiB: a tenth of a whole step of a small CNN (71 ms against 62, case
bn-cnn of benchmarks/train_step.py, measured by setting MALLOC_TRIM_THRESHOLD_ and MALLOC_MMAP_THRESHOLD_ to 1e9).
Two settings of glibc's malloc decide it (see `man mallopt`).
"""

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 1 << 30


def keep_freed_memory() -> bool:
    """Let malloc keep up to a gigabyte of freed memory; whether that could be done here (glibc only).

    malloc is left as it is if the environment has MINIGRAD_KEEP_MEMORY=0 or malloc's own variables.
    """
    already = any(name in os.environ for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"))
    if already or not sys.platform.startswith("linux") or os.environ.get("MINIGRAD_KEEP_MEMORY") == "0":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, KEPT_BYTES) and mallopt(M_MMAP_THRESHOLD, KEPT_BYTES))
