"""The Tensor itself: making one, looking at it, indexing, operators, moving, overwriting, copying."""

import copy
import operator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import DeviceError, Tensor
from minigrad.autograd.node import tick, was_written_since
from minigrad.autograd.tensor import as_tensor
from tests.support.strategies import FLOATS, INTEGERS, arrays, indices, shapes, uniform

# --- making ---


@pytest.mark.parametrize(
    "data, dtype",
    [
        (1.5, "f4"),
        ([1.0, 2.0], "f4"),
        (3, "i8"),
        ([1, 2], "i8"),
        (True, "?"),
        ([[True], [False]], "?"),
        ([1, 2.5], "f4"),
        ([], "f4"),
    ],
)
def test_python_numbers_become_float32_int64_and_bool(data, dtype):
    t = mg.tensor(data)
    assert t.dtype == np.dtype(dtype) and t.shape == np.shape(data)
    np.testing.assert_array_equal(t.numpy(), np.asarray(data, dtype))


@given(arrays(dtypes=(*FLOATS, *INTEGERS)))
def test_arrays_keep_dtype_and_values_and_are_copied(array):
    t = mg.tensor(array)
    assert t.dtype == array.dtype and t.shape == array.shape and t.size == array.size and t.ndim == array.ndim
    np.testing.assert_array_equal(t.numpy(), array)
    assert not np.shares_memory(t.data, array)
    assert not np.shares_memory(mg.tensor(t).data, t.data)


@given(arrays())
def test_from_numpy_shares_memory(array):
    t = mg.from_numpy(array)
    assert np.shares_memory(t.data, array) or not array.size
    with pytest.raises(TypeError, match=r"list.*minigrad\.tensor"):
        mg.from_numpy([1.0])


def test_writing_to_a_shared_array_is_seen():
    array = np.zeros(3)
    t = mg.from_numpy(array)
    array[1] = 5
    assert t[1].item() == 5
    t.numpy()[2] = 7
    assert array[2] == 7


def test_the_array_of_a_tracked_tensor_is_read_only():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(ValueError, match="read-only"):
        x.numpy()[0] = 5


def test_foreign_byte_order_is_made_native():
    t = mg.tensor(np.array([1.0, 2.0], ">f4"))
    assert t.dtype == np.float32 and t.dtype.isnative and t.tolist() == [1, 2]


SHAPE_MAKERS = {
    "zeros": (mg.zeros, np.zeros),
    "ones": (mg.ones, np.ones),
}


@pytest.mark.parametrize("name", SHAPE_MAKERS)
@given(shapes(), st.sampled_from([None, *FLOATS, *INTEGERS, "?"]))
def test_tensors_made_from_a_shape_are_float32_unless_told_otherwise(name, shape, dtype):
    ours, theirs = SHAPE_MAKERS[name]
    options = {} if dtype is None else {"dtype": dtype}
    expected = theirs(shape, dtype or "f4")
    for t in (ours(shape, **options), ours(*shape, **options), ours(list(shape), **options)):
        assert t.dtype == expected.dtype
        np.testing.assert_array_equal(t.numpy(), expected)


def test_other_creation_functions_are_numpys():
    x = mg.tensor(np.ones((2, 3), "f8"))
    cases = [
        (mg.full((2, 3), 1.5), np.full((2, 3), 1.5, "f4")),
        (mg.full(3, 2), np.full(3, 2)),
        (mg.full(np.int64(3), 2), np.full(3, 2)),
        (mg.randint(4, 5, 3), np.full(3, 4)),
        (mg.full((), True), np.full((), True)),
        (mg.arange(5), np.arange(5)),
        (mg.arange(1, 7, 2), np.arange(1, 7, 2)),
        (mg.arange(0, 1, 0.25), np.arange(0, 1, 0.25, "f4")),
        (mg.arange(3, dtype="f8"), np.arange(3.0)),
        (mg.linspace(0, 1, 5), np.linspace(0, 1, 5, dtype="f4")),
        (mg.eye(3), np.eye(3, dtype="f4")),
        (mg.eye(2, 3, dtype="i8"), np.eye(2, 3, dtype="i8")),
        (mg.zeros_like(x), np.zeros((2, 3))),
        (mg.ones_like(x, dtype="f4"), np.ones((2, 3), "f4")),
        (mg.full_like(x, 7), np.full((2, 3), 7.0)),
        (mg.full_like(x, 1 / 3), np.full((2, 3), 1 / 3)),  # not rounded to float32 on the way
        (mg.ones_like(x, device="cpu"), np.ones((2, 3))),
        (mg.rand_like(x, dtype="f4", device="cpu") * 0, np.zeros((2, 3), "f4")),
        (mg.randn_like(x, dtype="f4") * 0, np.zeros((2, 3), "f4")),
        (mg.randint(4, 5, 3, dtype="u1"), np.full(3, 4, "u1")),
        (mg.linspace(mg.tensor(0.0), 1, 3, dtype="f8"), np.linspace(0, 1, 3)),
    ]
    for found, expected in cases:
        assert found.dtype == expected.dtype and not found.requires_grad
        np.testing.assert_array_equal(found.numpy(), expected)
    assert mg.zeros(2, requires_grad=True).requires_grad


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: mg.arange(0, 3, 0), "arange: from 0 to 3 in steps of 0"),
        (lambda: mg.arange(0, float("inf")), "arange: .*finite"),
        (lambda: mg.arange(0, -8, -4, dtype="u1"), "arange: from 0 to -8 in steps of -4 does not fit uint8"),
        (lambda: mg.linspace(0, 1, -1), "linspace: num is -1"),
        (lambda: mg.linspace(0, 1, 2.5), "linspace: num is 2.5"),
        (lambda: mg.eye(-1), "eye: n is -1"),
        (lambda: mg.eye(2, -3), "eye: m is -3"),
    ],
)
def test_impossible_ranges_and_sizes_are_refused_by_name(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_expand_keeps_a_size_for_minus_one():
    x = mg.ones(5, 1, 3)
    assert x.expand(-1, 4, -1).shape == (5, 4, 3) and x.expand(2, -1, 4, -1).shape == (2, 5, 4, 3)
    with pytest.raises(mg.ShapeError):
        x.expand(-1, 5, 4, 3)  # no size is there to be kept


def test_random_numbers_repeat_from_a_seed_and_have_their_distribution():
    def draw():
        mg.manual_seed(3)
        return [mg.rand(2000), mg.randn(2000), mg.randint(0, 5, (2000,)), mg.randperm(2000), mg.rand(2, dtype="f2")]

    first, second = draw(), draw()
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    uniform_, normal, integers, order, half = (t.numpy() for t in first)
    assert uniform_.dtype == np.float32 and half.dtype == np.float16 and integers.dtype == np.int64
    assert 0 <= uniform_.min() < 0.05 and 0.95 < uniform_.max() < 1
    assert abs(normal.mean()) < 0.1 and abs(normal.std() - 1) < 0.1
    assert set(integers) == set(range(5)) and sorted(order) == list(range(2000))
    x = mg.tensor(np.ones((2, 3)))
    assert mg.rand_like(x).dtype == mg.randn_like(x).dtype == np.float64 and mg.rand_like(x).shape == (2, 3)


def test_dropout_keeps_the_mean_and_scales_gradients_alike():
    mg.manual_seed(0)
    x = mg.tensor(np.ones(10_000), requires_grad=True)
    y = mg.dropout(x, 0.25)
    values = y.detach().numpy()
    np.testing.assert_allclose(np.unique(values), [0, 4 / 3])
    assert abs(values.mean() - 1) < 0.05
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), values)
    assert mg.dropout(x, 0.25, training=False) is x and mg.dropout(x, 0.0) is x
    assert not mg.dropout(x, 1.0).detach().numpy().any()


# --- looking ---


def test_repr_tells_values_dtype_and_where_gradients_go():
    assert repr(mg.tensor([1.0, 2.5])) == "tensor([1. , 2.5], dtype=float32, device='cpu')"
    assert repr(mg.tensor(3, requires_grad=False)) == "tensor(3, dtype=int64, device='cpu')"
    x = mg.tensor([1.0], requires_grad=True)
    assert repr(x) == "tensor([1.], dtype=float32, device='cpu', requires_grad=True)"
    assert repr(mg.exp(x)).endswith("dtype=float32, device='cpu', grad_fn=<exp>)")
    assert "..." in repr(mg.zeros(1000)) and len(repr(mg.zeros(1000))) < 200
    assert repr(mg.tensor([[1, 2], [3, 4]])).splitlines()[1].startswith("        [3")


def test_single_numbers_convert_to_pythons():
    x = mg.tensor(2.5, requires_grad=True)
    assert x.item() == float(x) == 2.5 and int(x) == 2 and type(x.item()) is float
    assert f"{x:.2f}" == "2.50" and f"{mg.tensor([1.0])}" == repr(mg.tensor([1.0]))
    assert mg.tensor([[3]]).item() == 3 and type(mg.tensor(3).item()) is int and mg.tensor(True).item() is True
    assert [10, 20, 30][mg.tensor(1)] == 20 and list(range(mg.tensor(3))) == [0, 1, 2]
    assert bool(mg.tensor([1.0])) and not mg.tensor(0.0)
    assert mg.tensor([[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]]


def test_len_and_iteration_go_along_the_first_axis():
    x = mg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    assert len(x) == 2
    first, second = x
    (first * 2 + second).sum().backward()
    assert x.grad.tolist() == [[2, 2], [1, 1]]
    assert 2.0 in mg.tensor([1.0, 2.0])


# --- indexing ---


@given(st.data())
def test_indexing_is_numpys(data):
    array = data.draw(uniform(shapes()))
    index = data.draw(indices(array.shape))
    np.testing.assert_array_equal(mg.tensor(array)[index].numpy(), array[index])
    if isinstance(index, np.ndarray):
        np.testing.assert_array_equal(mg.tensor(array)[mg.tensor(index)].numpy(), array[index])


def test_tuples_ranges_and_tensors_in_an_index_are_integers():
    array = np.arange(12.0).reshape(3, 4)
    t = mg.tensor(array)
    for index in [((0, 1), (1, 2)), ([0, 1], (1, 2)), (slice(None), (0, 3))]:
        np.testing.assert_array_equal(t[index].numpy(), array[index])
    np.testing.assert_array_equal(t[range(2)].numpy(), array[:2])
    np.testing.assert_array_equal(t[mg.tensor(2), mg.tensor([0, 3])].numpy(), array[2, [0, 3]])
    np.testing.assert_array_equal(t[t > 5].numpy(), array[array > 5])
    assert t[np.int32(1), mg.tensor(2)].item() == 6


def test_assignment_to_an_index_is_refused_and_says_what_to_do():
    x = mg.tensor([1.0, 2.0])
    with pytest.raises(TypeError, match=r"not changed in place.*index_update.*copy_"):
        x[0] = 5.0
    y = x
    y += 1
    assert x.tolist() == [1, 2] and y.tolist() == [2, 3]


def test_unpacking_into_too_few_names_says_what_the_tensor_holds():
    """As `values, indices = x.max(1)` would be in PyTorch."""
    x = mg.tensor([[1.0, 2.0], [3.0, 4.0], [6.0, 5.0]])
    with pytest.raises(ValueError, match=r"shape \(3,\) has 3 entries.*2 names.*argmax"):
        _values, _indices = x.max(1)
    a, (b, *c), d = x
    assert a.tolist() == [1, 2] and b.item() == 3 and len(c) == 1 and d.tolist() == [6, 5]
    assert [len(row) for row in x] == [2, 2, 2] and len([*x]) == 3
    with pytest.raises(TypeError, match="0-d"):
        a, b = mg.tensor(1.0)


# --- operators ---

BINARY = "add sub mul truediv floordiv mod pow matmul lt le gt ge eq ne".split()


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("kind", ["tensor", "array", "float", "int", "NumPy scalar"])
def test_operators_take_tensors_arrays_and_numbers_on_either_side(name, kind):
    function = getattr(operator, name)
    a = np.array([1.5, 2.0, 4.0])
    b = {"float": 2.0, "int": 2, "NumPy scalar": np.float64(2)}.get(kind, np.array([2.0, 2.0, 0.5]))
    if name == "matmul" and not np.ndim(b):
        with pytest.raises(ValueError, match="matmul: expected tensors with at least one axis"):
            mg.tensor(a) @ b
        return
    other = mg.tensor(b) if kind == "tensor" else b
    for found, expected in (
        (function(mg.tensor(a), other), function(a, b)),
        (function(other, mg.tensor(a)), function(b, a)),
    ):
        assert isinstance(found, Tensor), f"{name} with a {kind} gave a {type(found).__name__}"
        assert found.dtype == np.asarray(expected).dtype
        np.testing.assert_allclose(found.numpy(), expected)


def test_operators_with_an_array_on_the_left_are_tracked():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    for y in (np.array([3.0, 4.0]) * x, np.float32(3) * x, np.array([3.0, 4.0]) @ x, 2 - x, 1 / x, 2**x):
        assert y.requires_grad, "the array took the operation for itself"


def test_unary_operators_and_bits():
    x = mg.tensor([-1.0, 2.0])
    assert (-x).tolist() == [1, -2] and abs(x).tolist() == [1, 2] and (+x) is x
    a, b = mg.tensor([True, False]), mg.tensor([True, True])
    assert (a & b).tolist() == [True, False] and (a | b).tolist() == [True, True] and (a ^ b).tolist() == [False, True]
    assert (~a).tolist() == [False, True] and (~mg.tensor([5])).tolist() == [-6]
    assert (np.array([True, False]) & a).tolist() == [True, False] and (6 ^ mg.tensor([5])).tolist() == [3]


def test_tensors_compare_with_other_things_and_hash_by_identity():
    x = mg.tensor([1.0])
    assert (x == None) is False and (x != "text") is True  # noqa: E711
    assert len({x, x, mg.tensor([1.0])}) == 2


# --- NumPy ---


def test_numpy_takes_an_untracked_tensor_and_refuses_a_tracked_one():
    x = mg.tensor([1.0, 2.0])
    np.testing.assert_array_equal(np.asarray(x), [1, 2])
    assert np.asarray(x, dtype="f8").dtype == np.float64
    x.requires_grad_()
    for convert in (np.asarray, np.array, lambda x: np.stack([x, x])):
        with pytest.raises(TypeError, match=r"lose them in silence.*detach\(\)\.numpy\(\)"):
            convert(x)
    with pytest.raises(TypeError):
        np.sin(x)
    with pytest.raises(TypeError):
        np.sum(x)


# --- dtypes and devices ---


def test_to_and_astype_change_the_dtype_and_let_gradients_through():
    x = mg.tensor([1.5, 2.5], requires_grad=True)
    assert x.to(np.float32) is x and x.astype("f4") is x and x.to("cpu") is x and x.cpu() is x
    y = x.to("float64") * 2
    assert y.dtype == np.float64 and x.to(mg.float16).dtype == np.float16 and x.astype(float).dtype == np.float32
    y.sum().backward()
    assert x.grad.dtype == np.float32 and x.grad.tolist() == [2, 2]
    whole = x.astype(int)
    assert whole.dtype == np.int64 and not whole.requires_grad


def test_cuda_without_cupy_says_what_to_install():
    if mg.cuda_is_available():
        pytest.skip("this machine has a GPU")
    for move in (
        lambda x: x.to("cuda"),
        lambda x: x.cuda(),
        lambda x: x.to("cuda:1"),
        lambda x: mg.zeros(2, device="cuda"),
    ):
        with pytest.raises(DeviceError, match=r"cuda.*(minigrad\[cuda12\]|no GPU)"):
            move(mg.tensor([1.0]))


# --- overwriting and copying ---


def test_copy_overwrites_a_leaf_in_its_dtype_and_marks_the_version():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    before, data = tick(), x.data
    assert x.copy_(np.array([5.0, 6.0])) is x
    assert x.data is data and x.dtype == np.float32 and x.tolist() == [5, 6] and was_written_since(x.data, before)
    number = mg.tensor(1.0, requires_grad=True)
    number.copy_(2.0)
    assert number.item() == 2 and number.dtype == np.float32
    with pytest.raises(ValueError, match=r"expected shape \(2,\), got \(3,\)"):
        x.copy_(np.zeros(3))
    with pytest.raises(ValueError, match="only leaves"):
        (x * 2).copy_([1.0, 2.0])


def test_deepcopy_makes_a_leaf_of_its_own():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    x.name = "weight"
    (x * 2).sum().backward()
    twin = copy.deepcopy(x)
    assert twin.requires_grad and twin.is_leaf and twin.name == "weight" and twin.grad.tolist() == [2, 2]
    assert not np.shares_memory(twin.data, x.data) and twin.node is not x.node
    one, other = copy.deepcopy([x, x])
    assert one is other
    with pytest.raises(ValueError, match=r"only leaves.*detach"):
        copy.deepcopy(x * 2)


def test_leaves_and_computed_tensors_know_which_they_are():
    x = mg.tensor([1.0], requires_grad=True)
    y = x * 2
    assert x.is_leaf and x.grad_fn is None and not y.is_leaf and y.grad_fn.op.name == "multiply"
    assert mg.tensor([1.0]).is_leaf and not mg.tensor([1.0]).requires_grad
    x.requires_grad_(False)
    assert not x.requires_grad
    with pytest.raises(ValueError, match=r"detach\(\)"):
        y.requires_grad_(False)
    assert y.requires_grad_() is y


def test_as_tensor_copies_nothing():
    array, t = np.zeros(3), mg.tensor([1.0])
    assert as_tensor(t) is t and as_tensor(array).data is array
    assert as_tensor(t, dtype="f8").dtype == np.float64


def test_axes_and_shapes_are_given_as_in_numpy_and_in_pytorch():
    x = mg.tensor([[1.0, -2.0], [3.0, 4.0]])
    assert x.view(4).shape == x.reshape((4,)).shape == x.flatten().shape == (4,)
    assert x.permute(1, 0).tolist() == x.transpose().tolist() == x.T.tolist() == x.swapaxes(0, 1).tolist()
    assert x.unsqueeze(0).squeeze(0).shape == x.expand(3, 2, 2)[0].shape == (2, 2)
    assert x.max(axis=0).tolist() == [3, 4] and x.sum(1, keepdims=True).shape == (2, 1)
