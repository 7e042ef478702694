"""Integers and the numbers beside them: what a dtype does not hold is refused by name, and never wraps around.

The oracle is Python's own integers: an op either gives their result, or it raises.
"""

import numpy as np
import pytest

import minigrad as mg

LIMITS = {dtype: (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)) for dtype in ("i1", "i2", "i4", "i8", "u1", "u8")}

OPS = {
    "add": lambda u, n: u + n,
    "add on the left": lambda u, n: n + u,
    "subtract": lambda u, n: u - n,
    "multiply": lambda u, n: u * n,
    "remainder": lambda u, n: u % n,
    "floor_divide": lambda u, n: u // n,
    "power": lambda u, n: u**n,
    "bitwise_and": lambda u, n: u & n,
    "maximum": mg.maximum,
    "minimum": mg.minimum,
    "where": lambda u, n: mg.where(u > 1, u, n),
    "where on the left": lambda u, n: mg.where(u > 1, n, u),
    "index_update": lambda u, n: mg.index_update(u, 0, n),
    "index_add": lambda u, n: mg.index_add(u, 0, n),
    "pad": lambda u, n: mg.pad(u, 1, constant_values=n),
    "clip": lambda u, n: mg.clip(u, u, n),
    "full_like": mg.full_like,
}


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("batched", [False, True])
def test_a_python_integer_that_the_dtype_does_not_hold_is_refused_by_name(op, dtype, batched):
    low, high = LIMITS[dtype]
    u = mg.tensor(np.array([[0, 1, 2]], dtype))
    for n in (low - 1, high + 1, 2**70):
        with pytest.raises(OverflowError, match=rf"^{op.split()[0]}: .*does not fit .*astype"):
            mg.vmap(lambda a, n=n: OPS[op](a, n))(u) if batched else OPS[op](u[0], n)


@pytest.mark.parametrize("dtype", LIMITS)
def test_the_limits_themselves_fit(dtype):
    low, high = LIMITS[dtype]
    u = mg.tensor(np.array([0, 1, 2], dtype))
    assert mg.maximum(u, high).tolist() == [high] * 3 and mg.minimum(u, low).tolist() == [low] * 3
    assert mg.where(u > 1, u, high).tolist() == [high, high, 2] and mg.where(u > 1, low, u).dtype == dtype
    assert mg.tensor([low, high], dtype=dtype).tolist() == [low, high]
    assert mg.full((1,), high, dtype=dtype).tolist() == mg.full_like(u[:1], high).tolist() == [high]


@pytest.mark.parametrize("dtype", LIMITS)
def test_comparisons_and_clip_take_every_integer(dtype):
    low, high = LIMITS[dtype]
    u = mg.tensor(np.array([0, 1, 2], dtype))
    assert (u > low - 1).numpy().all() and (u < high + 1).numpy().all() and not (u == high + 1).numpy().any()
    assert mg.clip(u, low - 1, high + 1).tolist() == [0, 1, 2]


@pytest.mark.parametrize("x", [np.ones(2, np.float32), np.ones(2, bool)], ids=["float32", "bool"])
def test_beside_other_dtypes_integers_stay_as_they_were(x):
    assert (mg.tensor(x) + 300).tolist() == [301, 301] and mg.where(mg.tensor(x) > 2, mg.tensor(x), -5).tolist() == [
        -5
    ] * 2


MAKE = {
    "tensor": lambda n, dtype: mg.tensor([0, n], dtype=dtype),
    "a single number": lambda n, dtype: mg.tensor(n, dtype=dtype),
    "as_tensor": lambda n, dtype: mg.as_tensor([[n]], dtype=dtype),
    "NumPy's numbers": lambda n, dtype: mg.tensor([np.float64(n)], dtype=dtype),
    "copy_": lambda n, dtype: mg.zeros(2, dtype=dtype).copy_([n, 0]),
    "full": lambda n, dtype: mg.full((2,), n, dtype=dtype),
    "full_like": lambda n, dtype: mg.full_like(mg.zeros(2, dtype=dtype), n),
    "index_update": lambda n, dtype: mg.index_update(mg.zeros(2, dtype=dtype), 0, n),
}


@pytest.mark.parametrize("make", MAKE)
@pytest.mark.parametrize("n", [300, -1, 256.0, -1.0, float("inf"), -float("inf"), float("nan")])
def test_no_tensor_of_integers_is_made_of_numbers_it_does_not_hold(make, n):
    with pytest.raises(OverflowError, match="does not fit uint8"):
        MAKE[make](n, "u1")


def test_of_a_float_that_fits_the_whole_part_is_taken_as_in_numpy():
    assert mg.tensor([3.5, 255.9, -0.5], dtype="u1").tolist() == [3, 255, 0]
    assert mg.tensor([-128.9, 127.9], dtype="i1").tolist() == [-128, 127]
    for n in (2.0**63, -(2.0**63) - 2048):  # float64 rounds the limit of int64 up to a number beyond it
        with pytest.raises(OverflowError):
            mg.tensor([n], dtype="i8")
    assert mg.tensor([-(2.0**63)], dtype="i8").tolist() == [-(2**63)]
    assert mg.tensor([], dtype="u1").shape == (0,)


@pytest.mark.parametrize(
    "make, name",
    [
        (lambda: mg.arange(0, 400, 50, dtype="u1"), "arange"),
        (lambda: mg.arange(-3, 3, dtype="u1"), "arange"),
        (lambda: mg.linspace(0, 300, 4, dtype="u1"), "linspace"),
        (lambda: mg.randint(0, 300, (5,), dtype="u1"), "randint"),
        (lambda: mg.randint(-5, 5, (5,), dtype="u8"), "randint"),
    ],
)
def test_ranges_that_the_dtype_does_not_hold_are_refused(make, name):
    with pytest.raises(ValueError, match=f"^{name}: .* does not fit uint"):
        make()


def test_ranges_that_just_fit():
    assert mg.arange(0, 256, 255, dtype="u1").tolist() == [0, 255]
    assert mg.arange(0, 300, 50, dtype="u1").tolist() == [0, 50, 100, 150, 200, 250]
    assert mg.randint(255, 256, (3,), dtype="u1").tolist() == [255] * 3


def test_numbers_written_into_float64_are_not_rounded_to_float32_on_the_way():
    x = mg.tensor(np.zeros(2))
    assert mg.index_update(x, 0, 0.1).tolist() == [0.1, 0.0]
    assert x.copy_([0.1, 0.2]).tolist() == [0.1, 0.2]
