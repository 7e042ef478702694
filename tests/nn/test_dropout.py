"""Dropout and its kin, and what is done to inputs: cutout, noise, mixup.

Claimed: each drops what it says, with the frequency it says, keeps the expectation, and does nothing in evaluation; the
gradient goes where the value went; the layers' arguments are PyTorch's.
"""

import inspect
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn
from minigrad.data import ArrayDataset, DataError, DataLoader, cutout, gaussian_noise, mixup
from tests.support import strict_backend

P = 0.3
N = 20_000


@pytest.fixture(autouse=True)
def seeded():
    mg.manual_seed(0)


def ones(*shape):
    return mg.ones(*shape, dtype=np.float64)


def assert_share(dropped, p=P):
    """The share of those dropped, within five standard deviations of a binomial one's."""
    dropped = np.asarray(dropped)
    assert abs(dropped.mean() - p) < 5 * math.sqrt(p * (1 - p) / dropped.size)


KINDS = {
    "dropout": (nn.Dropout(P), (N, 4), (0, 1)),
    "dropout1d": (nn.Dropout1d(P), (N, 4, 3), (0, 1)),
    "dropout1d, no batch": (nn.Dropout1d(P), (N, 3), (0,)),
    "dropout2d": (nn.Dropout2d(P), (N, 4, 2, 3), (0, 1)),
    "stochastic depth by rows": (nn.StochasticDepth(P), (N, 4, 2), (0,)),
}
"""(layer, shape of x, the axes along which each place draws for itself)."""


@pytest.mark.parametrize("name", KINDS)
def test_what_is_dropped_is_whole_as_often_as_said_and_the_rest_is_scaled(name):
    layer, shape, axes = KINDS[name]
    y = layer(ones(*shape)).numpy()
    together = tuple(axis for axis in range(len(shape)) if axis not in axes)
    assert np.array_equal(y.min(axis=together), y.max(axis=together))  # one decision for all along these axes
    decisions = y.min(axis=together)
    np.testing.assert_allclose(np.unique(decisions), [0, 1 / (1 - P)], rtol=1e-7)
    assert_share(decisions == 0)
    if decisions.ndim == 2:  # independent: two neighbours fall together with probability p^2
        assert_share((decisions[:, 0] == 0) & (decisions[:, 1] == 0), P**2)


@pytest.mark.parametrize("name", KINDS)
def test_gradients_go_where_the_values_went(name):
    layer, shape, _ = KINDS[name]
    x = mg.tensor(np.random.default_rng(0).standard_normal((50, *shape[1:])), requires_grad=True)
    y = layer(x)
    cotangent = np.random.default_rng(1).standard_normal(x.shape)
    y.backward(mg.tensor(cotangent))
    np.testing.assert_allclose(x.grad.numpy(), cotangent * y.detach().numpy() / x.detach().numpy(), rtol=1e-9)


@pytest.mark.parametrize("name", KINDS)
def test_in_evaluation_or_with_probability_zero_nothing_is_done(name):
    layer, shape, _ = KINDS[name]
    x = mg.rand(6, *shape[1:])
    assert layer.eval()(x) is x
    layer.train()
    before = layer.p
    try:
        layer.p = 0.0
        assert layer(x) is x
        layer.p = 1.0
        assert not layer(x).numpy().any()
    finally:
        layer.p = before


def test_stochastic_depth_of_a_whole_batch_is_all_or_nothing():
    layer = nn.StochasticDepth(P, "batch")
    found = [layer(ones(3, 2)).numpy() for _ in range(2000)]
    assert all(np.all(y == y[0, 0]) for y in found)
    values = np.array([y[0, 0] for y in found])
    np.testing.assert_allclose(np.unique(values), [0, 1 / (1 - P)], rtol=1e-7)
    assert_share(values == 0)


def test_the_first_papers_dropout_scales_at_test_instead():
    layer = nn.ScaleAtTestDropout(P)
    x = mg.tensor(np.random.default_rng(0).standard_normal((N, 4)))
    y = layer(x).numpy()
    kept = y != 0
    np.testing.assert_array_equal(y[kept], x.numpy()[kept])
    assert_share(~kept)
    np.testing.assert_allclose(layer.eval()(x).numpy(), (1 - P) * x.numpy(), rtol=1e-12)
    mg.manual_seed(3)
    inverted = nn.Dropout(P)(x).numpy()
    mg.manual_seed(3)
    np.testing.assert_allclose(layer.train()(x).numpy(), (1 - P) * inverted, rtol=1e-6)


# --- weights ---


def test_dropconnect_drops_weights_one_mask_a_batch_and_its_mean_is_the_layer():
    linear = nn.Linear(3, 2).double()
    layer = nn.DropConnect(linear, P)
    assert list(layer.state_dict()) == ["layer.weight", "layer.bias"]
    x = mg.tensor(np.eye(3))
    weight, bias = linear.weight.detach().numpy(), linear.bias.detach().numpy()
    found = np.array([(layer(x).detach().numpy() - bias).T for _ in range(4000)])  # the weights that were used
    scaled = found * (1 - P) / weight
    assert np.all(np.isclose(scaled, 0) | np.isclose(scaled, 1))
    assert_share(np.isclose(scaled, 0))
    np.testing.assert_allclose(layer.eval()(x).detach().numpy(), linear(x).detach().numpy())


def test_a_dropped_weight_gets_no_gradient_and_a_kept_one_its_share():
    layer = nn.DropConnect(nn.Linear(5, 4).double(), 0.5)
    x = mg.tensor(np.random.default_rng(0).standard_normal((7, 5)))
    y = layer(x)
    used = np.linalg.lstsq(x.numpy(), y.detach().numpy() - layer.layer.bias.detach().numpy(), rcond=None)[0].T
    y.sum().backward()
    kept = ~np.isclose(used, 0)
    assert kept.any() and not kept.all()
    np.testing.assert_allclose(layer.layer.weight.grad.numpy(), kept / 0.5 * x.numpy().sum(axis=0), atol=1e-9)
    np.testing.assert_allclose(layer.layer.bias.grad.numpy(), 7)


def test_dropconnect_takes_any_layer_and_leaves_its_weights_alone():
    layer = nn.DropConnect(nn.Conv2d(2, 3, 3), 0.5, names=["weight", "bias"])
    before = layer.layer.weight
    kept = before.detach().numpy().copy()
    layer(mg.rand(2, 2, 5, 5)).sum().backward()
    assert layer.layer.weight is before and np.array_equal(before.detach().numpy(), kept)
    assert before.grad is not None and layer.layer.bias.grad is not None


# --- noise ---


def test_noise_on_activations_has_the_deviation_asked_for():
    layer = nn.GaussianNoise(0.5)
    x = ones(N, 5)
    noise = layer(x).numpy() - 1
    assert abs(noise.mean()) < 5 * 0.5 / math.sqrt(noise.size)
    assert abs(noise.var() / 0.25 - 1) < 5 * math.sqrt(2 / noise.size)
    assert layer.eval()(x) is x


def test_noise_on_the_inputs_of_a_linear_model_is_an_l2_penalty():
    """E |(x + e) w - y|^2 = |x w - y|^2 + std^2 |w|^2 for each sample (Bishop 1995)."""
    rng = np.random.default_rng(100)  # not the seed of the noise, which would draw the same numbers
    x, y, w = (mg.tensor(rng.standard_normal(shape)) for shape in [(N, 3), (N,), (3,)])
    residual = (x @ w - y).numpy()
    noisy = (nn.GaussianNoise(0.5)(x) @ w - y).numpy()
    gain = noisy**2 - residual**2
    expected = 0.25 * (w.numpy() ** 2).sum()
    assert abs(gain.mean() - expected) < 5 * gain.std() / math.sqrt(N)


# --- arguments, devices, refusals ---


@pytest.mark.parametrize("name", ["Dropout", "Dropout1d", "Dropout2d"])
def test_arguments_are_pytorchs(name):
    torch = pytest.importorskip("torch")
    found, expected = (inspect.signature(getattr(module, name).__init__).parameters for module in (nn, torch.nn))
    assert {n: p.default for n, p in found.items()} == {n: p.default for n, p in expected.items()}


def test_functions_and_layers_agree():
    x = mg.rand(5, 4, 3, 3)
    pairs = [
        (nn.Dropout2d(P), lambda x: nn.functional.dropout2d(x, P)),
        (nn.StochasticDepth(P, "batch"), lambda x: nn.functional.stochastic_depth(x, P, "batch")),
    ]
    for layer, function in pairs:
        mg.manual_seed(1)
        first = layer(x).numpy()
        mg.manual_seed(1)
        np.testing.assert_array_equal(first, function(x).numpy())


@pytest.mark.parametrize("name", KINDS)
def test_on_a_gpu_the_mask_is_drawn_there(name):
    layer, shape, _ = KINDS[name]
    with strict_backend.installed():
        x = mg.ones(*(8, *shape[1:]), device="cuda")
        layer(x)  # the device's generator is made
        before = {key: count for key, count in strict_backend.traffic.items() if key != "upload"}
        y = layer(x)
        assert {key: count for key, count in strict_backend.traffic.items() if key != "upload"} == before
        assert y.device.startswith("cuda")


def test_each_example_of_a_vmap_draws_for_itself():
    x = mg.ones(200, 4, 3, 3)
    y = mg.vmap(lambda one: nn.functional.dropout2d(one[None], 0.5)[0])(x).numpy()
    assert len(np.unique(y[:, :, 0, 0], axis=0)) == 16


def test_what_makes_no_sense_is_refused():
    for call, kind, words in [
        (lambda: nn.Dropout2d(1.5), ValueError, "Dropout2d: p=1.5"),
        (lambda: nn.Dropout1d(math.nan), ValueError, "Dropout1d: p=nan"),
        (lambda: nn.StochasticDepth(-0.1), ValueError, "p=-0.1"),
        (lambda: nn.StochasticDepth(0.1, "column"), ValueError, "'batch' or 'row'"),
        (lambda: nn.DropConnect(nn.Linear(2, 2), 2), ValueError, "DropConnect: p=2"),
        (lambda: nn.DropConnect(nn.Linear(2, 2), names=["kernel"]), ValueError, r"no parameter 'kernel'; it has"),
        (lambda: nn.GaussianNoise(-1), ValueError, "std=-1"),
        (lambda: nn.Dropout2d()(mg.ones(3, 4, 5)), mg.ShapeError, r"\(3, 4, 5\); expected \(N, C, H, W\)"),
        (lambda: nn.Dropout1d()(mg.ones(3)), mg.ShapeError, r"\(N, C, L\) or \(C, L\)"),
        (lambda: nn.functional.stochastic_depth(mg.ones(()), 0.5), mg.ShapeError, "needs rows"),
        (lambda: cutout(-1), DataError, "size is -1"),
        (lambda: gaussian_noise(-1), DataError, "std is -1"),
        (lambda: mixup(0), DataError, "num_classes is 0"),
        (lambda: mixup(3, -1), DataError, "alpha is -1"),
        (
            lambda: mixup(3)(np.ones((2, 1)), np.array([0, 3]), np.random.default_rng(0)),
            DataError,
            "labels go from 0 to 3; expected 0 to 2",
        ),
        (
            lambda: mixup(3)(np.ones((2, 1), int), np.array([0, 1]), np.random.default_rng(0)),
            DataError,
            r"put to_float\(\)",
        ),
        (
            lambda: mixup(3)(np.ones((2, 1)), np.array([0.0, 1.0]), np.random.default_rng(0)),
            DataError,
            "one integer for each",
        ),
        (lambda: gaussian_noise(1)(np.ones((1, 1, 2, 2), int), np.random.default_rng(0)), DataError, "before it"),
    ]:
        with pytest.raises(kind, match=words):
            call()


# --- inputs ---


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 12), st.integers(0, 99))
def test_cutout_blanks_one_square_that_the_border_may_cut(height, width, size, seed):
    images = np.random.default_rng(seed).uniform(1, 2, (7, 2, height, width)).astype(np.float32)
    before = images.copy()
    found = cutout(size, fill=-5)(images, np.random.default_rng(seed))
    assert np.array_equal(images, before) and found.dtype == images.dtype
    blank = found == -5
    assert np.array_equal(found[~blank], images[~blank])
    assert np.array_equal(blank[:, 0], blank[:, 1])
    for image in blank[:, 0]:
        rows, columns = image.any(axis=1).nonzero()[0], image.any(axis=0).nonzero()[0]
        assert image.sum() == len(rows) * len(columns)  # a rectangle
        for places, length in ((rows, height), (columns, width)):
            assert len(places) <= size and (size == 0 or len(places) >= 1)
            if len(places):
                assert places[-1] - places[0] == len(places) - 1
                cut = places[0] == 0 or places[-1] == length - 1
                assert len(places) == size or cut


def test_the_centre_of_cutout_is_any_pixel_alike():
    images = np.ones((N, 1, 4, 5), np.float32)
    blank = cutout(1)(images, np.random.default_rng(0))[:, 0] == 0
    assert np.all(blank.sum(axis=(1, 2)) == 1)
    for share in blank.mean(axis=0).ravel():
        assert abs(share - 1 / 20) < 5 * math.sqrt(1 / 20 * 19 / 20 / N)


def test_noise_on_images_has_the_deviation_asked_for_and_their_dtype():
    for dtype in (np.float32, np.float64):
        images = np.zeros((N, 1, 2, 2), dtype)
        noise = gaussian_noise(0.1)(images, np.random.default_rng(0))
        assert noise.dtype == dtype and not images.any()
        assert abs(noise.var() / 0.01 - 1) < 5 * math.sqrt(2 / noise.size)


@given(st.integers(1, 8), st.floats(0, 4), st.booleans(), st.integers(0, 99))
def test_mixup_lies_between_two_samples_and_its_labels_say_how(number, alpha, per_sample, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, number)
    samples = np.concatenate([np.eye(number), np.eye(3)[labels]], axis=1)  # who is in it, and their labels
    mixed, targets = mixup(3, alpha, per_sample=per_sample)(samples, labels, rng)
    np.testing.assert_allclose(targets, mixed[:, number:], atol=1e-15)  # mixed alike
    np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-15)
    own = np.diag(mixed[:, :number])
    others = mixed[:, :number] - np.diag(own)
    assert np.all((others > 0).sum(axis=1) <= 1)  # one partner
    np.testing.assert_allclose(own + others.sum(axis=1), 1, atol=1e-15)
    if alpha == 0:
        np.testing.assert_array_equal(mixed, samples)
    if not per_sample and number > 1:
        shares = own[others.sum(axis=1) > 0]
        assert np.allclose(shares, shares[:1])


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_the_shares_of_mixup_are_beta_distributed(alpha):
    samples = np.concatenate([np.zeros(N), np.ones(N)])[:, None]
    mixed, targets = mixup(2, alpha, per_sample=True)(samples, samples[:, 0].astype(int), np.random.default_rng(0))
    np.testing.assert_allclose(mixed[:, 0], targets[:, 1], atol=1e-15)
    between = np.abs(mixed - samples)[:, 0]
    partner_differs = between > 0  # half of them
    shares = 1 - between[partner_differs]
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(shares.mean() - 0.5) < 5 * math.sqrt(variance / len(shares))
    assert abs(shares.var() / variance - 1) < 0.05


def test_a_loader_mixes_after_its_transform_the_same_way_each_time_and_cross_entropy_takes_it():
    rng = np.random.default_rng(0)
    data = ArrayDataset(rng.random((20, 1, 4, 4)).astype(np.float32), rng.integers(0, 3, 20))

    def batches(prefetch, **options):
        loader = DataLoader(data, 8, shuffle=True, seed=1, prefetch=prefetch, transform=cutout(2), **options)
        return list(loader)

    plain, mixed, again = batches(0), batches(0, mix=mixup(3, 1.0)), batches(2, mix=mixup(3, 1.0))
    for (x, y), (a, b), (c, d) in zip(plain, mixed, again, strict=True):
        np.testing.assert_array_equal(a.numpy(), c.numpy())
        np.testing.assert_array_equal(b.numpy(), d.numpy())
        assert b.shape == (len(x), 3) and b.dtype == np.float32 and y.shape == (len(x),)
        # the mean over the batch does not know who was mixed with whom
        np.testing.assert_allclose(a.numpy().mean(axis=0), x.numpy().mean(axis=0), atol=1e-6)
    scores = nn.Linear(16, 3)(mixed[0][0].reshape(-1, 16))
    probabilities = mixed[0][1].numpy()
    expected = -(probabilities * mg.log_softmax(scores, axis=1).detach().numpy()).sum(axis=1).mean()
    assert nn.functional.cross_entropy(scores, mixed[0][1]).item() == pytest.approx(expected, rel=1e-5)
