"""The samples of PyTorch's database, the same in every run."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from .translation import torch

USUAL = 48
"""How many samples of an op the default profile compares in each dtype, drawn from all; the deep one compares all."""


def database(name: str) -> list:
    """op_db, module_db or optim_db, read when first needed: that takes ten seconds. Skips where it cannot be had."""
    homes = {"op_db": "common_methods_invocations", "module_db": "common_modules", "optim_db": "common_optimizers"}
    module = pytest.importorskip(f"torch.testing._internal.{homes[name]}", exc_type=ImportError)
    return getattr(module, name)


def full_name(op: Any) -> str:
    return f"{op.name}:{op.variant_test_name}" if op.variant_test_name else op.name


def restart() -> None:
    """All the generators that PyTorch draws its samples from."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)


def samples(op: Any, dtypes: tuple, deep: bool) -> tuple[list, bool]:
    """The op's samples in these dtypes, or in an integer or Boolean one if it knows no floats; and whether all."""
    known = [dtype for dtype in dtypes if dtype in op.dtypes]
    known = known or [dtype for dtype in (torch.int64, torch.bool) if dtype in op.dtypes][:1]  # none: complex only
    drawn: list = []
    for dtype in known:
        restart()
        drawn += op.sample_inputs("cpu", dtype, requires_grad=op.supports_autograd and dtype.is_floating_point)
    limit = USUAL * len(known)
    return (drawn, True) if deep or len(drawn) <= limit else (random.Random(0).sample(drawn, limit), False)


def errors(op: Any) -> Iterator:
    """The inputs that PyTorch refuses."""
    restart()
    return iter(op.error_inputs("cpu")) if op.error_inputs_func else iter(())
