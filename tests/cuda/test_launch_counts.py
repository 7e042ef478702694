"""How many launches a whole training step takes on a GPU, counted by the strict stand-in.

A launch costs the host some 5 us, whatever it computes: a small model's step lasts as long as its launches. Calls of
cuBLAS and cuDNN count as one each.
"""

import contextlib

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.nn.functional import cross_entropy
from minigrad.training.counting import Counting
from minigrad.training.history import TotalsThere
from tests.support import strict_backend
from tests.support.cuda import compiling, fake_cudnn

pytestmark = pytest.mark.skipif(not compiling.AVAILABLE, reason="no C++ compiler to run CUDA kernels with")

MODELS = {
    "lenet5": (lambda: nn.lenet5(1, 10, image_size=28), (64, 1, 28, 28)),
    "lenet5 with batch-norm": (lambda: nn.lenet5(1, 10, image_size=28, batch_norm=True), (64, 1, 28, 28)),
    "cnn": (lambda: nn.cnn(3, 10), (16, 3, 32, 32)),
}
LAUNCHES = {  # by cuDNN, and by windows and products of our own where it is not installed
    ("lenet5", "cuDNN"): 34,
    ("lenet5 with batch-norm", "cuDNN"): 42,
    ("cnn", "cuDNN"): 57,
    ("lenet5", "windows"): 38,
    ("lenet5 with batch-norm", "windows"): 46,
    ("cnn", "windows"): 66,
}
"""Launches of a step, exactly: lower a figure when a step has become cheaper. It never becomes dearer."""


@pytest.mark.parametrize(("name", "convolution"), LAUNCHES)
def test_a_training_step_takes_few_launches(name, convolution):
    make, shape = MODELS[name]
    rng = np.random.default_rng(0)
    cudnn = fake_cudnn.installed(strict_backend.namespace) if convolution == "cuDNN" else contextlib.nullcontext()
    with strict_backend.installed(), cudnn:
        mg.manual_seed(0)
        model = make().to("cuda")
        optimizer = optim.AdamW(model.parameters(), lr=1e-3)
        x = mg.tensor(rng.standard_normal(shape).astype("f4"), device="cuda")
        labels = mg.tensor(rng.integers(0, 10, shape[0]), device="cuda")
        totals = TotalsThere(x.data)
        for _ in range(2):
            step(model, optimizer, x, labels, totals)
        with strict_backend.counted() as counts:
            step(model, optimizer, x, labels, totals)
    print(f"\n{name}: {counts.total} launches, {counts.waits.total()} waits, {counts.uploads} uploads")
    print(", ".join(f"{count} {call}" for call, count in counts.launches.most_common()))
    assert counts.total == LAUNCHES[name, convolution], f"{name}: {counts.total} launches: {counts.launches}"
    assert not counts.waits, f"{name}: the host waited: {counts.waits}"
    assert counts.uploads == 0


def step(model, optimizer, x, labels, totals):
    """One step, as `fit` takes it; loss and right answers are added up on the device."""
    optimizer.zero_grad()
    out = model(x)
    loss = cross_entropy(out, labels, label_smoothing=0.1)
    loss.backward()
    optimizer.step()
    totals.add(loss, out, labels, Counting(cross_entropy))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_1_that_backward_starts_from_is_made_once_and_never_given_away(reduction):
    rng = np.random.default_rng(0)
    with strict_backend.installed():
        scores = mg.tensor(rng.standard_normal((4, 3)).astype("f4"), device="cuda", requires_grad=True)
        labels = mg.tensor(rng.integers(0, 3, 4), device="cuda")

        def gradient(watch=lambda loss: None):
            scores.grad = None
            loss = cross_entropy(scores, labels, reduction=reduction)
            watch(loss)
            loss.backward()
            return loss, scores.grad.numpy()

        def spoil(given):
            given.data.fill(9.0)

        _, expected = gradient()
        loss, _ = gradient(lambda loss: loss.retain_grad())
        spoil(loss.grad)
        gradient(lambda loss: loss.register_hook(spoil))
        loss = cross_entropy(scores, labels, reduction=reduction)
        (found,) = mg.autograd.grad(loss, [loss])
        spoil(found)
        loss.backward(create_graph=True)
        scores.grad.data.fill(7.0)
        with strict_backend.counted() as counts:
            _, again = gradient()
        np.testing.assert_array_equal(again, expected)
        assert counts.launches == {"softmax_cross_entropy": 1, "softmax_cross_entropy_backward": 1}


def test_images_that_need_no_gradient_are_turned_once():
    rng = np.random.default_rng(0)
    with strict_backend.installed():
        images = mg.tensor(rng.standard_normal((2, 3, 8, 8)).astype("f4"), device="cuda")
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).to("cuda")
        with strict_backend.counted() as counts:
            cross_entropy(model(images), mg.tensor([0, 3], device="cuda")).backward()
        assert counts.launches["ascontiguousarray"] == 1, counts.launches


def test_what_counts_as_a_launch():
    xp = strict_backend.namespace
    x = xp.asarray(np.arange(12.0).reshape(3, 4))
    with strict_backend.counted() as views:
        x.T, x[1:], x[..., None], x.reshape(4, 3), x.shape, xp.moveaxis(x, 0, 1), x.astype("f8", copy=False)
        xp.empty(3), xp.empty_like(x), xp.ascontiguousarray(x), xp.broadcast_to(x, (2, 3, 4)), xp.result_type(x, x)
    assert views == strict_backend.Counts()
    with strict_backend.counted() as counts:
        x + 1, -x, xp.add(x, x), xp.exp(x, out=x), x.T.reshape(-1), xp.ascontiguousarray(x.T), x.copy()
        x += 1
        x[0] = 1
        x.fill(0)
        xp.zeros(3), x.astype("f4"), x[xp.zeros(2, "i4")], xp.add.at(x, xp.zeros(2, "i4"), 1.0), xp.where(x > 0, x, 1)
        x @ x.T, x.sum(axis=0)
    assert counts.total == 20 and not counts.waits and not counts.uploads, counts
    with strict_backend.counted() as counts:
        xp.asarray(np.zeros(3)), xp.array([1, 2]), x.sum().item(), x.get(), bool(xp.ones(()))
    assert (counts.uploads, counts.waits) == (2, {"item": 1, "get": 1, "bool": 1})
