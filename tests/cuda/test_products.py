"""Products of matrices through our handle of cuBLAS, with a library of the same interface in its place."""

import shutil
import subprocess

import numpy as np
import pytest

from minigrad.backend import gpu
from minigrad.backend.gpu import cublas, precision, products
from tests.support import strict_backend
from tests.support.cuda import compiling, fake_cublas, wheels
from tests.support.strict_backend import StrictArray

pytestmark = pytest.mark.skipif(not compiling.AVAILABLE, reason="no C++ compiler to build the library with")

ERROR = {"f2": 2e-3, "f4": 2e-6, "f8": 1e-14}
SHAPES = [
    ((64, 400), (400, 120)), ((3, 5), (5, 7)), ((1, 4), (4, 6)), ((4, 1), (1, 6)), ((4, 6), (6, 1)), ((1, 1), (1, 1)),
    ((5,), (5,)), ((5,), (5, 3)), ((3, 5), (5,)), ((2, 3, 5), (5,)), ((5,), (2, 5, 3)),
    ((2, 3, 4), (2, 4, 5)), ((2, 3, 4), (4, 5)), ((3, 4), (2, 4, 5)), ((2, 1, 3, 4), (5, 4, 2)),
    ((2, 3, 1, 4), (3, 4, 2)), ((1, 2, 3), (6, 3, 2)), ((7, 1, 2, 3), (1, 4, 3, 5)), ((2, 2, 2, 3, 4), (2, 1, 2, 4, 3)),
    ((0, 3), (3, 2)), ((2, 0), (0, 3)), ((2, 3), (3, 0)), ((0, 2, 3), (3, 4)), ((2, 2, 0), (2, 0, 3)), ((0,), (0,)),
]  # fmt: skip


@pytest.fixture(autouse=True)
def on_the_stand_in():
    with strict_backend.installed():
        fake_cublas.calls.clear()
        yield
        precision.set_tf32(False)


def random(shape, dtype="f4", seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def assert_product(a, b, dtype):
    found = gpu.matmul(StrictArray(a), StrictArray(b)).host
    expected = a.astype("f8") @ b.astype("f8")
    size = abs(a.astype("f8")) @ abs(b.astype("f8"))  # what rounding errors are relative to
    assert found.shape == expected.shape and found.dtype == dtype
    assert (abs(found - expected) <= ERROR[dtype] * size).all()


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("a, b", SHAPES, ids=str)
def test_matmul_is_numpys_for_every_shape(a, b, dtype):
    assert_product(random(a, dtype), random(b, dtype, 1), dtype)
    empty = not np.empty(a).size or not np.empty(b).size
    assert len(fake_cublas.calls) == (not empty), "one product is one call"


def turned(x):
    return np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2)


def part(x):
    wider = np.full((*x.shape[:-2], x.shape[-2] + 1, x.shape[-1] + 3), np.nan, x.dtype)
    wider[..., 1:, :-3] = x
    return wider[..., 1:, :-3]


def axes_exchanged(x):  # as heads of attention lie: (batch, time, head, channel)
    return np.ascontiguousarray(x.swapaxes(-3, -2)).swapaxes(-3, -2)


DESCRIBED = [np.ascontiguousarray, turned, part, lambda x: turned(part(turned(x)))]


@pytest.mark.parametrize("of_a", DESCRIBED)
@pytest.mark.parametrize("of_b", DESCRIBED)
@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize("m, k, n", [(4, 5, 6), (1, 5, 6), (4, 1, 6), (4, 5, 1), (1, 1, 1)])
def test_operands_are_multiplied_where_they_lie(of_a, of_b, batch, m, k, n, monkeypatch):
    a, b = of_a(random((*batch, m, k))), of_b(random((*batch, k, n), seed=1))
    monkeypatch.setattr(strict_backend.namespace, "ascontiguousarray", None, raising=False)  # a copy would call it
    assert_product(a, b, "f4")
    assert len(fake_cublas.calls) == 1


OTHERS = [
    lambda x: x[::-1], lambda x: x[..., ::-1], lambda x: x[..., ::-1, :],
    lambda x: np.repeat(x, 2, axis=-1)[..., ::2], lambda x: np.broadcast_to(x[..., :1, :], x.shape),
    lambda x: np.broadcast_to(x[:1], x.shape), axes_exchanged,
    lambda x: np.lib.stride_tricks.as_strided(x, x.shape, (*x.strides[:-2], x.itemsize, x.itemsize)),
]  # fmt: skip


@pytest.mark.parametrize("of_a", OTHERS)
@pytest.mark.parametrize("of_b", OTHERS)
def test_operands_that_cublas_cannot_be_told_are_copied(of_a, of_b):
    assert_product(of_a(random((3, 4, 4))), of_b(random((3, 4, 4), seed=1)), "f4")
    assert len(fake_cublas.calls) == 1


def test_many_rows_times_one_matrix_are_one_product_of_two_matrices():
    assert_product(random((4, 5, 6, 7)), turned(random((7, 8), seed=1)), "f4")
    [(function, args)] = fake_cublas.calls
    assert function == "cublasGemmEx"
    assert args[3:6] == (8, 120, 7)


def test_heads_of_attention_are_multiplied_where_they_lie():
    q = axes_exchanged(random((2, 3, 5, 4)))
    assert_product(q[0], q[0].swapaxes(-1, -2), "f4")
    assert fake_cublas.calls[0][1][9:11] == (12, 4), "rows 12 apart, heads 4 apart"


@pytest.mark.parametrize("dtype, compute", [("f2", 68), ("f4", 68), ("f8", 70)])
def test_sums_are_taken_in_float32_or_wider(dtype, compute):
    assert_product(random((3, 4), dtype), random((4, 5), dtype, 1), dtype)
    assert fake_cublas.calls[0][1][-2] == compute


def test_a_sum_of_many_float16_is_rounded_once():
    ones = StrictArray(np.ones((1, 5000), "f2"))
    assert gpu.matmul(ones, ones.T).host == 5000  # a sum in float16 would stop at 2048


def test_16_bits_can_be_multiplied_into_float32():
    a, b = StrictArray(random((3, 4), "f2")), StrictArray(random((4, 5), "f2", 1))
    out = StrictArray(np.empty((3, 5), "f4"))
    products.multiply(a, b, out)
    np.testing.assert_allclose(out.host, a.host.astype("f8") @ b.host.astype("f8"), rtol=1e-5, atol=1e-6)


def test_a_batch_is_written_where_its_matrices_lie_side_by_side():
    a, b = random((3, 4, 5)), random((3, 5, 2), seed=1)
    out = StrictArray(np.full((4, 3, 2), np.nan, "f4"))
    products.multiply(StrictArray(a), StrictArray(b), StrictArray(out.host.swapaxes(0, 1)))
    np.testing.assert_allclose(out.host.swapaxes(0, 1), a @ b, rtol=1e-5, atol=1e-6)


def test_tf32_is_off_until_it_is_switched_on_and_concerns_float32_alone():
    a = StrictArray(np.array([[1 + 2**-12]], "f4"))
    assert gpu.matmul(a, a).host == (1 + 2**-12) ** 2
    precision.set_tf32(True)
    assert precision.tf32()
    assert gpu.matmul(a, a).host == 1
    for dtype in ("f2", "f8"):
        assert_product(random((3, 4), dtype), random((4, 5), dtype, 1), dtype)
    with pytest.raises(TypeError, match="True or False"):
        precision.set_tf32(1)


def test_dtypes_are_promoted():
    a, b = random((3, 4), "f4"), random((4, 5), "f8", 1)
    assert gpu.matmul(StrictArray(a), StrictArray(b)).dtype == "f8"
    assert_product(a, b, "f8")


EINSUMS = [
    ("ij,jk->ik", (3, 4), (4, 5)), ("ij,kj->ki", (3, 4), (5, 4)), ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)),
    ("bthd,bshd->bhts", (2, 3, 4, 5), (2, 6, 4, 5)), ("bhts,bshd->bthd", (2, 4, 3, 6), (2, 6, 4, 5)),
    ("ijk,kjl->il", (2, 3, 4), (4, 3, 5)), ("i,i->", (5,), (5,)), ("bi,bi->b", (3, 4), (3, 4)), ("i,j->ij", (3,), (4,)),
    ("ij,jk,kl->il", (2, 3), (3, 4), (4, 5)), ("ij,ik,il->jkl", (5, 2), (5, 3), (5, 4)),
    ("aij,jk->k", (2, 3, 4), (4, 5)),
    ("ij->ji", (2, 3)), ("ij->", (2, 3)), ("ij,jk->ik", (3, 0), (0, 2)), ("ij,jk->ik", (1, 4), (1, 5)),
    ("bi,bj->ij", (0, 2), (0, 3)),
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("subscripts, shapes", [(case[0], case[1:]) for case in EINSUMS], ids=str)
def test_einsum_is_numpys(subscripts, shapes, dtype):
    operands = [random(shape, dtype, seed) for seed, shape in enumerate(shapes)]
    found = gpu.einsum(subscripts, *map(StrictArray, operands)).host
    exact = np.einsum(subscripts, *(x.astype("f8") for x in operands))
    size = np.einsum(subscripts, *(abs(x.astype("f8")) for x in operands))
    assert found.dtype == dtype and found.shape == exact.shape
    assert (abs(found - exact) <= len(operands) * ERROR[dtype] * size).all()


def test_contractions_are_products_by_cublas():
    q, k = (StrictArray(random((2, 3, 4, 5), seed=seed)) for seed in (0, 1))
    gpu.einsum("bthd,bshd->bhts", q, k)
    assert [function for function, _ in fake_cublas.calls] == ["cublasGemmStridedBatchedEx"]


def test_products_of_float16_that_are_only_summed_are_not_rounded_before():
    a = StrictArray(np.array([[300, 300]], "f2"))
    b = StrictArray(np.array([[300, -300]], "f2"))
    assert gpu.einsum("bi,bi->b", a, b).host == 0  # 90000 is more than float16 holds


def test_einsum_of_integers():
    a = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(gpu.einsum("ij,kj->ik", StrictArray(a), StrictArray(a)).host, a @ a.T)
    large = np.array([2**31 + 1])
    np.testing.assert_array_equal(gpu.einsum("i,i->i", StrictArray(large), StrictArray(large)).host, large * large)


def test_integers_are_left_to_the_array_library():
    a = StrictArray(np.arange(6).reshape(2, 3))
    np.testing.assert_array_equal(gpu.matmul(a, a.T).host, a.host @ a.host.T)
    assert not fake_cublas.calls


@pytest.mark.parametrize("b", [(4, 3), (2, 5, 2), (4,)])
def test_shapes_that_do_not_fit_are_the_array_librarys_error(b):
    with pytest.raises(ValueError, match="mismatch"):
        gpu.matmul(StrictArray(random((3, 3, 5))), StrictArray(random(b)))


def test_an_array_of_the_host_is_refused():
    with pytest.raises(TypeError, match="Unsupported type"):
        gpu.matmul(StrictArray(random((2, 2))), random((2, 2)))


def test_the_library_in_cublass_place_has_the_interface_of_nvidias_header(tmp_path):
    include = wheels.headers("cublas_v2.h")
    if include is None or not shutil.which("nvcc"):
        pytest.skip("cuBLAS's wheel or nvcc is not installed")
    command = ["nvcc", "-std=c++17", "-DWITH_HEADER", f"-I{include}", "-c", fake_cublas.SOURCE, "-o", tmp_path / "x.o"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_nan_and_infinity_pass_through():
    a = np.array([[np.inf, 1], [np.nan, 1], [0, 1]], "f4")
    found = gpu.matmul(StrictArray(a), StrictArray(np.array([[1.0], [2]], "f4"))).host
    np.testing.assert_array_equal(found, [[np.inf], [np.nan], [2]])


def test_each_stream_has_a_handle_and_a_workspace_of_its_own(monkeypatch):
    a = StrictArray(random((2, 2)))
    monkeypatch.setattr(cublas, "_handles", {})
    streams = iter([5, 5, 6, 5])
    monkeypatch.setattr("minigrad.backend.gpu.streams.current_stream", lambda like: next(streams))
    handles = [cublas.handle(a) for _ in range(4)]
    assert handles[0] is handles[1] is handles[3] is not handles[2]
    assert handles[0]._workspace is not handles[2]._workspace


def test_a_failure_of_cublas_names_the_function_and_the_reason():
    handle = cublas.handle(StrictArray(random((2, 2))))
    wrong = cublas.Stored(0, False, 2, 0)
    with pytest.raises(cublas.CublasError, match=r"cublasGemmEx: invalid value \(cuBLAS status 7\)"):
        handle.multiply(wrong, wrong, wrong, (2, 2, 2), "float32", "float32")


def test_without_cublas_the_array_library_multiplies(monkeypatch):
    monkeypatch.setattr(cublas, "find", lambda xp: None)
    assert_product(random((2, 3, 4)), random((4, 5), seed=1), "f4")
    out = StrictArray(np.empty((3, 5), "f4"))
    products.multiply(StrictArray(random((3, 4))), StrictArray(random((4, 5), seed=1)), out)
    np.testing.assert_array_equal(out.host, random((3, 4)) @ random((4, 5), seed=1))
    assert not fake_cublas.calls
