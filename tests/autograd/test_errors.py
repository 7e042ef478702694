"""What a wrong call says: the kind of error, and the words that tell what was given, what was expected, what to do."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import DeviceError, GradientError, ShapeError


def t(*shape, dtype="f4"):
    return mg.tensor(np.ones(shape, dtype))


def tracked(*shape):
    return mg.tensor(np.ones(shape, "f4"), requires_grad=True)


IMAGE = (2, 3, 5, 5)

# what was tried: (call, error, words of its message)
BAD_CALLS = {
    # shapes
    "add, shapes that do not fit": (lambda: t(2, 3) + t(2, 4), ShapeError, ["add", "(2, 3)", "(2, 4)", "broadcast"]),
    "multiply by an array": (lambda: t(3) * np.ones(4), ShapeError, ["multiply", "(3,)", "(4,)"]),
    "where": (lambda: mg.where(t(2) > 0, t(3), t(3)), ShapeError, ["where", "(2,)", "(3,)"]),
    "matmul": (lambda: t(64, 400) @ t(120, 400), ShapeError, ["matmul", "(64, 400)", "(120, 400)", "weight.T"]),
    "matmul of a number": (lambda: mg.matmul(t(2), 3.0), ShapeError, ["matmul", "at least one axis"]),
    "matmul, batches": (lambda: t(2, 3, 4) @ t(3, 4, 5), ShapeError, ["matmul", "(2, 3, 4)", "(3, 4, 5)"]),
    "linear": (
        lambda: mg.linear(t(4, 3, 8, 8), t(10, 192)),
        ShapeError,
        ["linear", "(4, 3, 8, 8)", "(10, 192)", "Flatten"],
    ),
    "linear, bias": (lambda: mg.linear(t(4, 3), t(2, 3), t(5)), ShapeError, ["linear", "(5,)"]),
    "reshape": (lambda: t(2, 3).reshape(4, 2), ShapeError, ["reshape", "6 elements", "(2, 3)", "(4, 2)"]),
    "transpose": (lambda: t(2, 3).transpose(0, 0), ShapeError, ["transpose", "(0, 0)", "(2, 3)"]),
    "permute": (lambda: t(2, 3).permute(0), ShapeError, ["permute", "(0,)", "(2, 3)"]),
    "moveaxis": (lambda: mg.moveaxis(t(2, 3), (0, 1), 0), ShapeError, ["moveaxis", "(0, 1)"]),
    "swapaxes": (lambda: t(2, 3).swapaxes(0, 2), ShapeError, ["swapaxes", "axis 2", "-2 to 1"]),
    "squeeze": (lambda: mg.squeeze(t(2, 3), 0), ShapeError, ["squeeze", "axis 0", "(2, 3)", "size 1"]),
    "expand_dims": (lambda: mg.expand_dims(t(2), (0, 0)), ShapeError, ["expand_dims", "(0, 0)", "twice"]),
    "flatten": (lambda: mg.flatten(t(2, 3), 1, 0), ShapeError, ["flatten", "start_dim 1", "end_dim 0"]),
    "concatenate nothing": (lambda: mg.concatenate([]), ShapeError, ["concatenate", "empty"]),
    "concatenate": (
        lambda: mg.concatenate([t(2, 3), t(2, 4)]),
        ShapeError,
        ["concatenate", "(2, 3)", "(2, 4)", "axis 0"],
    ),
    "stack": (lambda: mg.stack([t(2), t(3)]), ShapeError, ["stack", "(2,)", "(3,)"]),
    "split": (lambda: mg.split(t(5), 2), ShapeError, ["split", "size 5", "2 equal"]),
    "pad, negative": (lambda: mg.pad(t(2), -1), ShapeError, ["pad", "-1", "slices"]),
    "pad, widths": (lambda: mg.pad(t(2), ((1, 1), (1, 1))), ShapeError, ["pad", "(2,)", "1 pairs"]),
    "diagonal": (lambda: mg.diagonal(t(2, 2), 0, 1, 1), ShapeError, ["diagonal", "two different"]),
    "broadcast_to": (lambda: t(2).broadcast_to(3), ShapeError, ["broadcast_to", "(2,)"]),
    "einsum, terms": (lambda: mg.einsum("ij,jk", t(2, 2)), ShapeError, ["einsum", "ij,jk", "2 terms", "1 operands"]),
    "einsum, axes": (lambda: mg.einsum("ijk->i", t(2, 2)), ShapeError, ["einsum", "'ijk'", "(2, 2)"]),
    "einsum, twice": (lambda: mg.einsum("ii", t(2, 3)), ShapeError, ["einsum", "'i'", "2 and 3"]),
    "tensordot": (lambda: mg.tensordot(t(2, 3), t(2, 3), 1), ShapeError, ["tensordot", "(2, 3)"]),
    "var": (lambda: mg.var(t(1), correction=1), ShapeError, ["var", "(1,)", "correction=1"]),
    "std": (lambda: mg.std(t(0)), ShapeError, ["std", "0 values"]),
    "topk": (lambda: mg.topk(t(3), 4), ShapeError, ["topk", "k=4", "size 3"]),
    "take_along_axis": (lambda: mg.take_along_axis(t(2, 2), [0], 0), ShapeError, ["take_along_axis", "1 axes", "2"]),
    "gather": (lambda: mg.gather(t(2, 2), 0, np.zeros((1, 3), int)), ShapeError, ["gather", "(1, 3)", "(2, 2)"]),
    "cross entropy": (
        lambda: mg.softmax_cross_entropy(t(4, 3), t(4)),
        ShapeError,
        ["softmax_cross_entropy", "(4, 3)", "float32", "(N, classes)", "integers"],
    ),
    "conv2d, channels": (
        lambda: mg.conv2d(t(*IMAGE), t(4, 2, 3, 3)),
        ShapeError,
        ["conv2d", "3 channels", "(4, 2, 3, 3)"],
    ),
    "conv2d, size": (lambda: mg.conv2d(t(*IMAGE), t(4, 3, 7, 7)), ShapeError, ["conv2d", "7 pixels", "larger than"]),
    "conv2d, axes": (lambda: mg.conv2d(t(5, 5), t(4, 3, 7, 7)), ShapeError, ["conv2d", "(5, 5)", "(N, C, H, W)"]),
    "conv2d, stride": (lambda: mg.conv2d(t(*IMAGE), t(4, 3, 3, 3), stride=0), ShapeError, ["stride 0", "at least 1"]),
    "conv2d, bias": (lambda: mg.conv2d(t(*IMAGE), t(4, 3, 3, 3), t(3)), ShapeError, ["bias", "(3,)", "(4,)"]),
    "max_pool2d": (lambda: mg.max_pool2d(t(*IMAGE), 6), ShapeError, ["max_pool2d", "height 6", "image of 5"]),
    "max_pool2d, padding": (lambda: mg.max_pool2d(t(*IMAGE), 2, padding=2), ShapeError, ["padding (2, 2)", "half"]),
    "batch_norm, axes": (lambda: mg.batch_norm(t(3)), ShapeError, ["batch_norm", "(3,)", "(N, C)"]),
    "batch_norm, one value": (lambda: mg.batch_norm(t(1, 3)), ShapeError, ["batch_norm", "(1, 3)", "single value"]),
    "batch_norm, weight": (lambda: mg.batch_norm(t(2, 3), t(2)), ShapeError, ["weight", "(2,)", "(3,)"]),
    "zeros": (lambda: mg.zeros(-1), ShapeError, ["shape", "-1"]),
    "zeros of a float": (lambda: mg.zeros(2.5), ShapeError, ["shape", "2.5"]),
    # axes
    "sum, axis": (lambda: t(2, 3).sum(axis=2), ValueError, ["sum", "axis 2", "float32(2, 3)"]),
    "repeat, axis": (lambda: mg.repeat(t(2), 2, 1), ShapeError, ["repeat", "axis 1", "-1 to 0"]),
    "concatenate, axis": (lambda: mg.concatenate([t(2)], 1), ShapeError, ["concatenate", "axis 1"]),
    # values
    "clip": (lambda: mg.clip(t(2)), ValueError, ["clip", "both bounds are None"]),
    "norm": (lambda: mg.norm(t(2), "nuc"), ValueError, ["norm", "ord='nuc'"]),
    "gelu": (lambda: mg.gelu(t(2), "fast"), ValueError, ["gelu", "'fast'", "'tanh'"]),
    "dropout": (lambda: mg.dropout(t(2), 1.5), ValueError, ["dropout", "p=1.5"]),
    "one_hot": (lambda: mg.one_hot(mg.tensor([3]), num_classes=3), IndexError, ["one_hot", "index 3", "0 to 2"]),
    "embedding": (lambda: mg.embedding([-1], t(3, 2)), IndexError, ["embedding", "index -1", "0 to 2"]),
    "index out of range": (lambda: t(3)[5], IndexError, ["5", "3", "getitem"]),
    "index twice": (
        lambda: mg.index_update(t(3), [0, 0], 1.0),
        ValueError,
        ["index_update", "more than once", "index_add"],
    ),
    "ragged data": (lambda: mg.tensor([[1.0], [1.0, 2.0]]), ValueError, ["one array", "list"]),
    "item": (lambda: t(2).item(), ValueError, ["item()", "(2,)", "2 values"]),
    "bool": (lambda: bool(t(2)), ValueError, ["(2,)", "ambiguous", ".any()"]),
    "grad of a wrong shape": (lambda: setattr(tracked(2), "grad", t(3)), ValueError, ["(2,)", "(3,)"]),
    # types
    "add a string": (lambda: t(2) + "a", TypeError, ["add", "str", "minigrad.tensor"]),
    "exp of None": (lambda: mg.exp(None), TypeError, ["exp", "NoneType"]),
    "sum of text": (lambda: mg.sum("1"), TypeError, ["sum", "str", "minigrad.tensor"]),
    "a list of tensors": (lambda: mg.tensor([t(2), t(2)]), TypeError, ["list of Tensors", "minigrad.stack"]),
    "complex data": (lambda: mg.tensor(1j), TypeError, ["complex128", "float32"]),
    "a dtype unknown": (lambda: t(2).astype("complex64"), TypeError, ["complex64", "float32"]),
    "no dtype": (lambda: t(2).astype(None), TypeError, ["None", "float32"]),
    "gradients of integers": (lambda: mg.tensor([1], requires_grad=True), TypeError, ["int64", "astype(float)"]),
    "random integers as floats": (lambda: mg.rand(2, dtype="i8"), TypeError, ["int64", "randint"]),
    "one_hot of floats": (lambda: mg.one_hot(t(2)), TypeError, ["one_hot", "float32", "integer"]),
    "take of floats": (lambda: mg.take(t(2), [0.5]), TypeError, ["take", "float64", "integer"]),
    "index of floats": (lambda: t(3)[1.5], TypeError, ["index", "integers", "float"]),
    "index a float tensor": (lambda: t(3)[t(2)], TypeError, ["index", "float32 array"]),
    "a float as index": (lambda: [1, 2][mg.tensor(1.0)], TypeError, ["integers", "float32"]),
    "setitem": (lambda: t(2).__setitem__(0, 1), TypeError, ["index_update", "copy_"]),
    "len": (lambda: len(mg.tensor(1.0)), TypeError, ["0-d"]),
    "np.asarray": (lambda: np.asarray(tracked(2)), TypeError, ["detach().numpy()"]),
    "an unknown option": (lambda: mg.sum(t(2), axes=0), TypeError, ["sum", "'axes'", "axis=None"]),
    "too many arguments": (lambda: mg.sum(t(2), 0, True, 3), TypeError, ["sum", "4 positional", "axis=None"]),
    "an argument missing": (lambda: mg.linear(t(2)), TypeError, ["linear", "'weight' is missing"]),
    # gradients
    "backward of a vector": (lambda: (tracked(2) * 2).backward(), GradientError, ["(2,)", ".sum().backward()"]),
    "backward of data": (lambda: t(2).sum().backward(), GradientError, ["requires_grad=True"]),
    "a gradient of another shape": (lambda: (tracked(2) * 2).backward(np.ones(3)), ShapeError, ["(3,)", "(2,)"]),
    "hook without gradient": (lambda: t(2).register_hook(print), ValueError, ["requires_grad_()"]),
    # devices
    "a device unknown": (lambda: t(2).to("cpu2"), DeviceError, ["'cpu2'", "'cuda'"]),
    "tpu": (lambda: mg.zeros(2, device="tpu"), DeviceError, ["'tpu'", "'cpu'"]),
}


@pytest.mark.parametrize("call, error, words", BAD_CALLS.values(), ids=BAD_CALLS)
def test_a_bad_call_says_what_was_given_and_what_was_expected(call, error, words):
    with pytest.raises(error) as caught:
        call()
    said = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    missing = [word for word in words if word not in said]
    assert not missing, f"{missing} not said in: {type(caught.value).__name__}: {said}"


def test_our_errors_can_be_caught_as_pythons():
    assert issubclass(ShapeError, ValueError)
    assert issubclass(GradientError, RuntimeError) and issubclass(DeviceError, RuntimeError)
    assert issubclass(mg.GradcheckError, AssertionError)


def test_a_failed_call_leaves_nothing_behind():
    x = tracked(2)
    with pytest.raises(ShapeError):
        x + t(3)
    (x * 2).sum().backward()
    assert x.grad.tolist() == [2, 2]


@pytest.mark.parametrize(
    "call", [lambda: mg.maximum(mg.ones(2)), lambda: mg.maximum(mg.ones(2), 1, 2), lambda: mg.exp(y=1)]
)
def test_a_wrong_number_of_arguments_is_said_under_the_ops_name(call):
    with pytest.raises(TypeError, match=r"^(maximum|exp)\(\) "):
        call()
