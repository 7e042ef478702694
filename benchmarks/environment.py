"""The variables of the environment under which libraries are timed. To be applied before NumPy is loaded."""

import os

PINNED_KERNELS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR")
"""Each library is to choose its matrix kernels for the processor, as it does where nobody sets these."""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MINIGRAD_NUM_THREADS")
"""How many threads each library uses, where no call says so."""


def forget() -> None:
    """Take all of these out of this process's environment."""
    for variable in (*PINNED_KERNELS, *THREADS):
        os.environ.pop(variable, None)
