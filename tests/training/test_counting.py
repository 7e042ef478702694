"""Micro-batches are the step of the whole batch, and metrics those of all labels that count, whatever the loss."""

import functools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn, optim
from minigrad.data import ArrayDataset, DataError, DataLoader, micro_batches
from minigrad.nn import functional as F
from minigrad.training import TrainingError, evaluate, fit

WEIGHT = np.array([0.2, 1.0, 3.0])


def labelled(seed, ignored, pixels, n=12):
    random = np.random.default_rng(seed)
    shape = (n, 4, 3, 2) if pixels else (n, 4)
    labels = random.integers(0, 3, (n, 3, 2) if pixels else n)
    if ignored is not None:
        labels[random.random(labels.shape) < 0.4] = ignored
        labels[: n // 3] = ignored  # whole chunks without a label
        labels[-1] = 1 if ignored != 1 else 0
    return mg.tensor(random.standard_normal(shape)), mg.tensor(labels)


def network(pixels):
    mg.manual_seed(1)
    return (nn.Conv2d(4, 3, 1) if pixels else nn.Linear(4, 3)).double()


LOSSES = {
    "ignored": (lambda: nn.CrossEntropyLoss(), -100),
    "ignored 0": (lambda: nn.CrossEntropyLoss(ignore_index=0), 0),
    "weighted": (lambda: nn.CrossEntropyLoss(WEIGHT), None),
    "both": (lambda: nn.CrossEntropyLoss(WEIGHT, ignore_index=1), 1),
    "sum": (lambda: nn.CrossEntropyLoss(WEIGHT, reduction="sum"), -100),
    "smooth": (lambda: nn.CrossEntropyLoss(WEIGHT, ignore_index=2, label_smoothing=0.1), 2),
    "partial": (lambda: functools.partial(F.cross_entropy, weight=mg.tensor(WEIGHT), ignore_index=255), 255),
    "function": (lambda: F.cross_entropy, -100),
    "lambda": (lambda: lambda o, t: F.cross_entropy(o, t, mg.tensor(WEIGHT), ignore_index=1), 1),
    "lambda sum": (lambda: lambda o, t: F.cross_entropy(o, t, reduction="sum"), -100),
    "by hand": (lambda: lambda o, t: -(mg.log_softmax(o, axis=1)[:, 0] * (t != 7)).mean(), None),
}


@pytest.mark.parametrize("pixels", [False, True])
@pytest.mark.parametrize("pieces", [2, 3, 5, 12])
@pytest.mark.parametrize("name", LOSSES)
def test_a_step_in_micro_batches_is_the_step_of_the_whole_batch(name, pieces, pixels):
    make, ignored = LOSSES[name]
    batch = labelled(pieces, ignored, pixels)
    found, losses = [], []
    for chunks in (1, pieces):
        model = network(pixels)
        optimizer = optim.SGD(model.parameters(), lr=0.5)
        history = fit(model, make(), optimizer, [batch], epochs=1, micro_batches=chunks, progress=False)
        found.append([p.detach().numpy() for p in model.parameters()])
        losses.append(history["train_loss"][0])
    for whole, cut in zip(*found, strict=True):
        np.testing.assert_allclose(cut, whole, rtol=1e-9, atol=1e-12)
    if "lambda" not in name and name != "by hand":
        assert losses[1] == pytest.approx(losses[0], rel=1e-9)


@pytest.mark.parametrize(
    "loss", [F.mse_loss, nn.MSELoss(reduction="sum"), nn.HuberLoss(), lambda o, t: mg.abs(o - t).sum()]
)
def test_losses_between_numbers_too(loss):
    random = np.random.default_rng(0)
    batch = mg.tensor(random.standard_normal((11, 4))), mg.tensor(random.standard_normal((11, 3)))
    found = []
    for chunks in (1, 4):
        model = network(False)
        fit(model, loss, optim.SGD(model.parameters(), lr=0.5), [batch], epochs=1, micro_batches=chunks, progress=False)
        found.append([p.detach().numpy() for p in model.parameters()])
    for whole, cut in zip(*found, strict=True):
        np.testing.assert_allclose(cut, whole, rtol=1e-9)


def test_a_loss_that_couples_the_samples_is_refused_in_micro_batches():
    def spread(output, target):
        return ((output - output.mean(axis=0)) ** 2).mean() + (output.mean() - 1) ** 4

    batch = labelled(0, None, False)
    model = network(False)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="does not add up over chunks"):
        fit(model, spread, optimizer, [batch], epochs=1, micro_batches=3, progress=False)


NOT_LINEAR = {
    "root of mse": (lambda o, t: mg.sqrt(F.mse_loss(o, t)), True),
    "log of mse": (lambda o, t: mg.log(F.mse_loss(o, t)), True),
    "square of l1": (lambda o, t: F.l1_loss(o, t) ** 2, True),
    "root of a sum": (lambda o, t: mg.sqrt(((o - t) ** 2).sum()), True),
    "square": (lambda o, t: F.cross_entropy(o, t) ** 2, False),
    "exp": (lambda o, t: mg.exp(F.cross_entropy(o, t)), False),
    "log": (lambda o, t: mg.log(F.cross_entropy(o, t)), False),
    "product": (lambda o, t: F.cross_entropy(o, t) * (o * o).mean(), False),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("scale", [0.0, 0.01, 1.0, 100.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("pieces", [2, 5, 12])
@pytest.mark.parametrize("name", NOT_LINEAR)
def test_a_function_of_a_mean_that_is_not_linear_is_refused_in_micro_batches(name, pieces, dtype, scale):
    loss, numbers = NOT_LINEAR[name]
    if scale == 0 and name == "product":
        return  # flat at outputs of 0
    random = np.random.default_rng(pieces)
    target = random.standard_normal((12, 3)).astype(dtype) if numbers else random.integers(0, 3, 12)
    batch = mg.tensor(random.standard_normal((12, 4)).astype(dtype)), mg.tensor(target)
    model = network(False).to(dtype)
    with mg.no_grad():
        for p in model.parameters():
            p *= scale
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="does not add up over chunks"):
        fit(model, loss, optimizer, [batch], epochs=1, micro_batches=pieces, progress=False)


LINEAR = {
    "penalty": (lambda o, t: F.cross_entropy(o, t) + 0.1 * (o * o).mean(), "classes"),
    "penalty, mse": (lambda o, t: 3 * F.mse_loss(o, t) + 0.1 * mg.abs(o).mean(), "numbers"),
    "sums over a fixed number": (
        lambda o, t: F.cross_entropy(o, t, reduction="sum") / 7 + 0.1 * (o * o).sum() / 12,
        "ignored",
    ),
    "hinge": (lambda o, t: mg.relu(1 - o * t).mean(), "numbers"),
    "roots of samples": (lambda o, t: mg.sqrt(((o - t) ** 2).sum(axis=1)).mean(), "numbers"),
    "of probabilities": (
        lambda o, t: F.binary_cross_entropy(o, mg.sigmoid(t)) + 0 * o.sum(),
        "probabilities",
    ),
    "nll": (lambda o, t: F.nll_loss(mg.log_softmax(o, axis=1), t), "ignored"),
}


@pytest.mark.parametrize("pieces", [2, 5, 12])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LINEAR)
def test_a_sum_over_samples_of_whatever_form_is_taken(name, dtype, pieces):
    loss, kind = LINEAR[name]
    random = np.random.default_rng(pieces)
    labels = random.integers(0, 3, 12)
    labels[:4] = -100 if kind == "ignored" else labels[:4]
    target = labels if kind in ("classes", "ignored") else random.standard_normal((12, 3)).astype(dtype)
    batch = mg.tensor(random.standard_normal((12, 4)).astype(dtype)), mg.tensor(target)
    found = []
    for chunks in (1, pieces):
        linear = network(False).to(dtype)
        model = nn.Sequential(linear, nn.Sigmoid()) if kind == "probabilities" else linear
        optimizer = optim.SGD(model.parameters(), lr=0.5)
        fit(model, loss, optimizer, [batch], epochs=1, micro_batches=chunks, progress=False)
        found.append([p.detach().numpy() for p in model.parameters()])
    for whole, cut in zip(*found, strict=True):
        np.testing.assert_allclose(cut, whole, rtol=1e-4 if dtype == "float32" else 1e-9, atol=1e-6)


@pytest.mark.parametrize("nothing", ["error", "nan"])
def test_a_penalty_beside_a_mean_over_labels_that_count_says_why_it_does_not_add_up(nothing):
    """Where a chunk has no label, the mean over its labels is an error or NaN; the penalty still counts."""

    def loss(o, t):
        if nothing == "nan" and not (t.numpy() >= 0).any():
            return o.sum() * math.nan
        return F.cross_entropy(o, t) + 0.1 * (o * o).mean()

    def step(chunks):
        model = network(False)
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        fit(model, loss, optimizer, [labelled(0, -100, False, 15)], epochs=1, micro_batches=chunks, progress=False)

    step(1)
    with pytest.raises(ValueError, match=r"means that divide by different numbers.*micro_batches=1.*A chunk alone has"):
        step(5)


def test_samples_compared_one_by_one_are_refused():
    """A chunk of one sample is its own mean: it has no gradient alone, and one in the batch."""
    inputs, labels = labelled(1, None, False)
    model = network(False)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="does not add up over chunks"):
        fit(
            model, lambda o, t: ((o - o.mean(axis=0)) ** 2).mean(), optimizer, [(inputs, labels)],
            epochs=1, micro_batches=12, progress=False,
        )  # fmt: skip


def test_outputs_that_are_nan_stop_training_in_micro_batches_too():
    inputs, labels = labelled(1, None, False)
    model = network(False)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(TrainingError, match="the loss is nan"):
        fit(
            model, lambda o, t: F.cross_entropy(o * math.nan, t), optimizer, [(inputs, labels)],
            epochs=1, micro_batches=3, progress=False,
        )  # fmt: skip


@given(st.integers(1, 13), st.integers(0, 100), st.sampled_from([None, -100, 0, 2]), st.booleans(), st.booleans())
def test_the_shares_make_the_losses_of_micro_batches_that_of_the_batch(pieces, seed, ignored, weighted, total):
    scores, labels = labelled(seed, ignored, False)
    scores = scores[:, :3]
    options = {"ignore_index": -100 if ignored is None else ignored, "reduction": "sum" if total else "mean"}
    options["weight"] = WEIGHT if weighted else None
    parts = micro_batches((scores, labels), pieces, **options)
    cut = sum(share * F.cross_entropy(o, t, **options).item() for (o, t), share in parts)
    assert cut == pytest.approx(F.cross_entropy(scores, labels, **options).item(), rel=1e-9)


def test_options_of_micro_batches_that_make_no_sense_are_refused():
    batch = labelled(0, None, False)
    for options in ({"reduction": "none"}, {"weight": [1.0]}):
        with pytest.raises(DataError, match="micro_batches"):
            list(micro_batches(batch, 3, **options))


@pytest.mark.parametrize("size", [2, 5, 12])
@pytest.mark.parametrize("pixels", [False, True])
@pytest.mark.parametrize("name", ["ignored", "ignored 0", "weighted", "both", "partial", "function"])
def test_evaluate_counts_what_the_loss_counts_however_it_is_batched(name, pixels, size):
    make, ignored = LOSSES[name]
    inputs, labels = labelled(3, ignored, pixels)
    model, loss = network(pixels).eval(), make()
    with mg.no_grad():
        scores = model(inputs)
    counts = labels.numpy() != (-100 if ignored is None else ignored)
    right = (scores.numpy().argmax(1) == labels.numpy())[counts].mean()
    loader = DataLoader(ArrayDataset(inputs.numpy(), labels.numpy()), size)
    found = evaluate(model, loader, loss)
    assert found[0] == pytest.approx(loss(scores, labels).item(), rel=1e-9)
    assert found[1] == pytest.approx(right)


def test_labels_that_name_no_class_are_no_mistakes_for_any_loss():
    scores = mg.tensor([[2.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    labels = mg.tensor([0, -1, 255])
    assert evaluate(lambda x: x, [(scores, labels)], lambda o, t: o.mean())[1] == 1
