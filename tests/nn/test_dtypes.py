"""Layers and losses of every dtype: integers, float16 beyond its range, and labels in the smallest integers.

Claimed, of every case in the tables of layers and losses: with integers the result is that of the same numbers in
float64, or a TypeError that says `.astype`; with float16 it is that of float32, rounded once; a label means the same in
every integer dtype that holds it, and one that names no class is refused in every dtype.
"""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.nn import functional
from tests.support.nn_cases import LAYERS, LOSSES, loss_label

INTEGERS = ("u1", "i1", "u2", "i4", "i8", "?")
every_integer = pytest.mark.parametrize("dtype", INTEGERS)


def whole_numbers(dtype, *shape):
    high = 2 if dtype == "?" else 120
    return np.random.default_rng(0).integers(0 if dtype[0] in "u?" else -high, high, shape).astype(dtype)


def right_or_refused(f, found, exact):
    """Whether f(found) is f(exact), or a TypeError that says how to convert."""
    try:
        value = f(mg.tensor(found)).numpy()
    except TypeError as error:
        assert "astype" in str(error), error
        return
    tolerance = 1e-3 if value.dtype == np.float16 else 1e-6  # NumPy's functions make float16 of the smallest integers
    np.testing.assert_allclose(value.astype("f8"), f(mg.tensor(exact)).numpy(), rtol=tolerance, atol=tolerance)


# --- integers ---


@every_integer
@pytest.mark.parametrize("name, args, options, shape", LAYERS)
def test_a_layer_of_integers_is_right_or_says_how_to_convert(name, args, options, shape, dtype):
    x = whole_numbers(dtype, *shape)
    layer = getattr(nn, name)(*args, **options)

    def run(x):
        layer.to(x.dtype if x.dtype.kind == "f" else "float32")
        return layer(x)

    right_or_refused(run, x, x.astype("f8"))


@every_integer
@pytest.mark.parametrize(
    "name", ["mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss", "binary_cross_entropy_with_logits"]
)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_a_loss_between_integers_is_right(name, dtype, reduction):
    x, t = whole_numbers(dtype, 5, 4), whole_numbers(dtype, 4, 5).T
    loss = getattr(functional, name)
    expected = loss(mg.tensor(x.astype("f8")), mg.tensor(t.astype("f8")), reduction=reduction).numpy()
    np.testing.assert_allclose(loss(mg.tensor(x), mg.tensor(t), reduction=reduction).numpy(), expected, rtol=1e-12)
    mixed = loss(mg.tensor(x), mg.tensor(t.astype("f4")), reduction=reduction)
    assert mixed.dtype == np.float32
    np.testing.assert_allclose(mixed.numpy(), expected, rtol=1e-5, atol=1e-4)


@every_integer
def test_binary_cross_entropy_of_integers_is_right(dtype):
    p, t = (np.array(values).astype(dtype) for values in ([0, 1, 1, 0], [0, 1, 0, 1]))
    loss = functional.binary_cross_entropy
    assert loss(mg.tensor(p), mg.tensor(t)).item() == loss(mg.tensor(p * 1.0), mg.tensor(t * 1.0)).item() == 50


@every_integer
@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss", "multi_margin_loss"])
def test_scores_that_are_integers_are_refused_with_the_conversion(name, dtype):
    with pytest.raises(TypeError, match="astype"):
        getattr(functional, name)(mg.tensor(whole_numbers(dtype, 3, 4)), mg.tensor([0, 1, 2]))


@every_integer
@pytest.mark.parametrize("name", ["dropout", "dropout1d", "stochastic_depth"])
def test_dropping_integers_scales_what_is_kept(name, dtype):
    x = mg.tensor(np.ones((50, 20, 3), dtype))
    found = np.unique(getattr(functional, name)(x, 0.6).numpy())
    np.testing.assert_allclose(found, [0, 2.5])


# --- float16 ---


@pytest.mark.parametrize("case", LOSSES, ids=loss_label)
def test_a_loss_of_float16_is_that_of_float32_rounded_once(case):
    name, options, (x, t) = case
    x = x.astype("f2")
    t = t.astype("f2") if t.dtype.kind == "f" else t
    loss = getattr(nn, name)(**options)
    values = []
    for dtype in ("f2", "f8"):
        scores = mg.tensor(x.astype(dtype), requires_grad=True)
        y = loss(scores, mg.tensor(t.astype(dtype) if t.dtype.kind == "f" else t))
        y.backward()
        assert y.dtype == scores.grad.dtype == dtype
        values.append((y.detach().numpy().astype("f8"), scores.grad.numpy().astype("f8")))
    (found, slope), (exact, exact_slope) = values
    if name == "BCELoss":  # its logarithms end at another probability in float16
        return
    np.testing.assert_allclose(found, exact, rtol=2e-3, atol=1e-4)
    np.testing.assert_allclose(slope, exact_slope, rtol=4e-3, atol=1e-4 * np.abs(exact_slope).max())


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss"])
def test_the_mean_loss_of_more_float16_numbers_than_float16_counts(name):
    x = mg.tensor(np.full(100_000, 3.0, "f2"), requires_grad=True)
    y = getattr(functional, name)(x, mg.zeros(100_000, dtype="f2"))
    y.backward()
    assert y.item() == {"mse_loss": 9, "l1_loss": 3}.get(name, 2.5)
    slope = {"mse_loss": 6e-5}.get(name, 1e-5)
    np.testing.assert_allclose(x.grad.numpy().astype("f8"), slope, rtol=6e-3)  # the step of float16 there


def test_squares_beyond_float16_have_a_mean_within_it():
    x = mg.tensor(np.array([300.0] + [0.0] * 99, "f2"))
    assert functional.mse_loss(x, mg.zeros(100, dtype="f2")).item() == 900


def test_cross_entropy_of_many_float16_rows_and_classes():
    x = mg.tensor(np.zeros((70_000, 2), "f2"), requires_grad=True)
    labels = np.arange(70_000) % 2
    for options in ({}, {"weight": [1.0, 1.0]}, {"ignore_index": 5}, {"label_smoothing": 0.1}):
        y = functional.cross_entropy(x, mg.tensor(labels), **options)
        assert y.item() == pytest.approx(np.log(2), rel=1e-3)
    y.backward()
    np.testing.assert_allclose(np.abs(x.grad.numpy().astype("f8")), 0.9 * 0.5 / 70_000, rtol=1e-2)
    wide = mg.tensor(np.zeros((1, 70_000), "f2"))
    assert functional.cross_entropy(wide, mg.tensor([3])).item() == pytest.approx(np.log(70_000), rel=1e-3)


# --- labels ---

LABEL_LOSSES = ("cross_entropy", "nll_loss", "multi_margin_loss")


@pytest.mark.parametrize("name", LABEL_LOSSES)
@pytest.mark.parametrize("classes", [4, 127, 128, 129, 255, 256, 257, 300, 70_000])
@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"])
def test_a_label_that_names_no_class_is_refused_in_every_dtype(name, classes, dtype):
    loss, info = getattr(functional, name), np.iinfo(dtype)
    scores = mg.tensor(np.random.default_rng(0).standard_normal((2, classes)).astype("f4"))
    good = min(classes - 1, int(info.max))
    expected = loss(scores, mg.tensor([0, good])).item()
    assert loss(scores, mg.tensor(np.array([0, good], dtype))).item() == expected
    for wrong in {-1, -100, int(info.min), classes, int(info.max)}:
        if not info.min <= wrong <= info.max or 0 <= wrong < classes or (wrong == -100 and name != "multi_margin_loss"):
            continue
        with pytest.raises(IndexError, match=f"label {wrong} "):
            loss(scores, mg.tensor(np.array([0, wrong], dtype)))


@pytest.mark.parametrize("name", LABEL_LOSSES[:2])
@pytest.mark.parametrize("ignore_index", [-100, -1, 2, 255, 299, 1000])
@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "i8", "u8"])
@pytest.mark.parametrize("classes", [4, 300])
def test_an_ignored_label_is_ignored_in_every_dtype(name, ignore_index, dtype, classes):
    loss, info = getattr(functional, name), np.iinfo(dtype)
    scores = mg.tensor(np.random.default_rng(0).standard_normal((3, classes)).astype("f4"))
    held = info.min <= ignore_index <= info.max
    labels = [1, ignore_index if held else 0, 3]
    found = loss(scores, mg.tensor(np.array(labels, dtype)), ignore_index=ignore_index).item()
    kept = [0, 2] if held else [0, 1, 2]
    assert found == pytest.approx(loss(scores[kept], mg.tensor([labels[i] for i in kept])).item(), rel=1e-6)


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u4", "i8", "u8"])
def test_indices_mean_the_same_in_every_dtype(dtype):
    x, index = np.arange(1200.0).reshape(300, 4), np.array([0, 5, 127, 5])
    given, wide = index.astype(dtype), index.astype("i8")
    calls = {
        "take": lambda i: mg.take(mg.tensor(x), i, 0),
        "take_along_axis": lambda i: mg.take_along_axis(mg.tensor(x), i[:, None], 0),
        "gather": lambda i: mg.gather(mg.tensor(x), 0, i[:, None]),
        "scatter_add": lambda i: mg.scatter_add(mg.tensor(x), 0, i[:, None], mg.ones(4, 1, dtype="f8")),
        "embedding": lambda i: mg.embedding(i, mg.tensor(x)),
        "one_hot": lambda i: mg.one_hot(mg.tensor(i), 300),
        "index_add": lambda i: mg.index_add(mg.tensor(x), i, 1.0),
        "getitem": lambda i: mg.tensor(x)[i],
    }
    for name, call in calls.items():
        np.testing.assert_array_equal(call(given).numpy(), call(wide).numpy(), name)
    if dtype[0] == "i":
        for name in ("embedding", "one_hot"):
            with pytest.raises(IndexError, match="-3"):
                calls[name](np.array([0, -3], dtype))


# --- infinite gradients ---


def test_an_infinite_gradient_of_a_margin_concerns_its_own_classes_only():
    x = mg.tensor([[0.0, 0.5, -9.0, 2.0]], requires_grad=True)
    losses = functional.multi_margin_loss(x, mg.tensor([1]), reduction="none")
    losses.backward(np.array([np.inf], "f4"))
    np.testing.assert_array_equal(x.grad.numpy(), [[np.inf, -np.inf, 0, np.inf]])
