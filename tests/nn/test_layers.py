"""Layers: their derivatives against finite differences, once and twice, and the identities they must obey.

Claimed: a transposed convolution is the adjoint of the convolution, batch-norm undoes shift and scale, running
statistics average over the batches, dropout keeps the expectation, an embedding's padding row stays at zero.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import gradcheck, gradgradcheck, nn
from tests.support.nn_makers import normal, tensor

# --- derivatives ---

CHECKED_LAYERS = {
    "Linear": (lambda: nn.Linear(3, 2), (4, 3)),
    "Conv1d": (lambda: nn.Conv1d(2, 4, 3, 2, 1, groups=2), (2, 2, 7)),
    "Conv2d": (lambda: nn.Conv2d(2, 3, (3, 2), (1, 2), padding=(1, 0)), (2, 2, 4, 5)),
    "Conv2d, even kernel, same": (lambda: nn.Conv2d(1, 2, 2, padding="same", bias=False), (2, 1, 3, 4)),
    "Conv2d, reflected": (lambda: nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect"), (1, 1, 4, 4)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(2, 3, 3, 2, 1, 1), (2, 2, 3, 3)),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(3), (5, 3)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(2), (3, 2, 2, 2)),
    "BatchNorm2d in evaluation": (lambda: nn.BatchNorm2d(2).eval(), (3, 2, 2, 2)),
    "MaxPool2d": (lambda: nn.MaxPool2d(2, 1, 1), (1, 2, 4, 4)),
    "AvgPool2d": (lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False), (1, 2, 5, 5)),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d((3, 2)), (1, 2, 5, 4)),
    "ReLU": (nn.ReLU, (3, 4)),
    "LeakyReLU": (lambda: nn.LeakyReLU(0.2), (3, 4)),
    "ELU": (nn.ELU, (3, 4)),
    "GELU": (nn.GELU, (3, 4)),
    "GELU by tanh": (lambda: nn.GELU("tanh"), (3, 4)),
    "SiLU": (nn.SiLU, (3, 4)),
    "Tanh": (nn.Tanh, (3, 4)),
    "Sigmoid": (nn.Sigmoid, (3, 4)),
    "Softplus": (lambda: nn.Softplus(2.0), (3, 4)),
    "Softmax": (lambda: nn.Softmax(1), (3, 4)),
    "LogSoftmax": (lambda: nn.LogSoftmax(0), (3, 4)),
    "lenet5": (lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()), (2, 1, 6, 6)),
}


def with_parameters(module, names, values):
    """Let the module compute with other tensors in the place of its parameters, so that they can be differentiated."""
    for path, value in zip(names, values, strict=True):
        *parents, name = path.split(".")
        owner = module
        for parent in parents:
            owner = getattr(owner, parent)
        vars(owner)[name] = value
    return module


@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
@pytest.mark.parametrize("name", CHECKED_LAYERS)
def test_a_layers_derivatives_in_its_input_and_parameters(name, check):
    make, shape = CHECKED_LAYERS[name]
    mg.manual_seed(1)
    layer = make().to(np.float64)
    names = [path for path, _ in layer.named_parameters()]
    parameters = [tensor(p.numpy() + 0.1, requires_grad=True) for p in layer.parameters()]
    x = tensor(normal(*shape), requires_grad=True)
    assert check(lambda x, *values: with_parameters(layer, names, values)(x), [x, *parameters])


@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
@pytest.mark.parametrize("padding_idx", [None, 1])
def test_an_embeddings_derivatives(padding_idx, check):
    layer = nn.Embedding(4, 3, padding_idx).to(np.float64)
    indices = mg.tensor([[0, 2], [2, 3]])
    table = tensor(normal(4, 3), requires_grad=True)
    assert check(lambda table: mg.square(with_parameters(layer, ["weight"], [table])(indices)), [table])


# --- layers: what they must obey ---


@given(
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.integers(1, 3),
    st.integers(0, 2),
    st.integers(1, 2),
    st.integers(1, 2),
    st.tuples(st.integers(5, 8), st.integers(5, 8)),
)
def test_a_transposed_convolution_is_the_adjoint_of_the_convolution(kernel, stride, padding, dilation, groups, size):
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "bias": False}
    conv = nn.Conv2d(2, 4, kernel, **options).to(np.float64)
    x = tensor(normal(2, 2, *size))
    y = conv(x)
    left_over = tuple((n + 2 * padding - dilation * (k - 1) - 1) % stride for n, k in zip(size, kernel, strict=True))
    back = nn.ConvTranspose2d(4, 2, kernel, output_padding=left_over, **options)
    back.weight = nn.Parameter(conv.weight.detach())
    z = tensor(normal(*y.shape, seed=1))
    assert (y * z).sum().item() == pytest.approx((x * back(z)).sum().item())


@given(st.integers(1, 4), st.integers(1, 3), st.booleans())
def test_same_padding_keeps_the_size_of_the_image(kernel, dilation, reflected):
    mode = "circular" if reflected else "zeros"
    conv = nn.Conv2d(1, 1, kernel, padding="same", dilation=dilation, padding_mode=mode)
    assert conv(mg.ones(1, 1, 12, 13)).shape == (1, 1, 12, 13)
    line = nn.Conv1d(1, 1, kernel, padding="same", dilation=dilation, padding_mode=mode)
    assert line(mg.ones(1, 1, 13)).shape == (1, 1, 13)


def test_the_average_at_the_border_counts_the_padding_or_does_not():
    image = mg.ones(1, 1, 4, 4)
    assert np.all(nn.AvgPool2d(3, 1, 1, count_include_pad=False)(image).numpy() == 1)
    np.testing.assert_allclose(nn.AvgPool2d(3, 1, 1)(image).numpy()[0, 0, 0], [4 / 9, 6 / 9, 6 / 9, 4 / 9], rtol=1e-6)


def test_softplus_is_the_identity_beyond_its_threshold_and_smooth_before():
    x = np.float32([-3, 0, 0.9, 1.1, 30])
    found = nn.Softplus(beta=2.0, threshold=2.0)(mg.tensor(x)).numpy()
    np.testing.assert_allclose(found, np.where(x > 1, x, np.log1p(np.exp(2 * np.minimum(x, 1))) / 2), rtol=1e-6)
    assert nn.Softplus()(mg.tensor(x)).numpy()[4] == 30


@given(st.integers(2, 6), st.integers(1, 3), st.sampled_from([(), (3,), (2, 3)]), st.floats(-3, 3), st.floats(0.2, 5))
def test_batch_norm_undoes_shift_and_scale(n, channels, rest, shift, scale):
    layer = (nn.BatchNorm2d if len(rest) == 2 else nn.BatchNorm1d)(channels, eps=1e-12, affine=False).to(np.float64)
    x = normal(n, channels, *rest)
    y = layer(tensor(x)).numpy()
    axes = (0, *range(2, x.ndim))
    np.testing.assert_allclose(y.mean(axis=axes), 0, atol=1e-9)
    np.testing.assert_allclose(y.var(axis=axes), 1, rtol=1e-6)
    np.testing.assert_allclose(layer(tensor(x * scale + shift)).numpy(), y, atol=1e-6)


@pytest.mark.parametrize("momentum", [0.1, 0.75, 1.0, None])
def test_running_statistics_average_unbiased_over_the_batches(momentum):
    layer = nn.BatchNorm2d(2, momentum=momentum).to(np.float64)
    mean, variance = np.zeros(2), np.ones(2)
    for i in range(1, 4):
        x = 2 * normal(3, 2, 2, 2, seed=i) + 1
        layer(tensor(x))
        share = 1 / i if momentum is None else momentum
        mean += share * (x.mean(axis=(0, 2, 3)) - mean)
        variance += share * (x.var(axis=(0, 2, 3), ddof=1) - variance)
    np.testing.assert_allclose(layer.running_mean.numpy(), mean)
    np.testing.assert_allclose(layer.running_var.numpy(), variance)
    assert layer.num_batches_tracked.item() == 3
    expected = (x - mean[:, None, None]) / np.sqrt(variance[:, None, None] + 1e-5)
    np.testing.assert_allclose(layer.eval()(tensor(x)).numpy(), expected)
    assert layer.num_batches_tracked.item() == 3, "evaluation counts no batch"


def test_buffers_are_updated_in_place_and_differentiating_twice_counts_a_batch_once():
    layer = nn.BatchNorm1d(3)
    kept = layer.running_mean.data
    x = mg.tensor(normal(5, 3), dtype=np.float32, requires_grad=True)
    (gradient,) = mg.autograd.grad(mg.square(layer(x)).sum() + x.sum(), x, create_graph=True)
    gradient.sum().backward()
    assert layer.num_batches_tracked.item() == 1
    np.testing.assert_allclose(kept, 0.1 * x.detach().numpy().mean(axis=0), rtol=1e-5)


@pytest.mark.parametrize("name", nn.MODELS)
def test_in_evaluation_a_sample_does_not_see_the_rest_of_its_batch(name):
    mg.manual_seed(0)
    make, shape = {
        "mlp": (lambda: nn.mlp(12, 3), (5, 3, 4)),
        "lenet5": (lambda: nn.lenet5(image_size=8, batch_norm=True), (5, 1, 8, 8)),
        "cnn": (lambda: nn.cnn(2, 3, dropout=0.5), (5, 2, 8, 9)),
    }[name]
    model = make()
    x = mg.randn(*shape)
    model(x)
    with mg.no_grad():
        model.eval()
        np.testing.assert_allclose(model(x).numpy()[1:3], model(x[1:3]).numpy(), rtol=1e-4, atol=1e-5)


@given(st.floats(0, 0.9))
def test_dropout_keeps_the_expectation_repeats_with_the_seed_and_rests_in_evaluation(p):
    layer = nn.Dropout(p)
    x = mg.ones(100, 200, requires_grad=True)
    mg.manual_seed(3)
    y = layer(x)
    mg.manual_seed(3)
    np.testing.assert_array_equal(y.numpy(), layer(x).numpy())
    assert abs(y.numpy().mean() - 1) < 5 * np.sqrt(p / (1 - p) / x.size) + 1e-6
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), y.numpy())
    assert layer.eval()(x) is x


def test_an_embeddings_padding_row_starts_at_zero_and_stays():
    layer = nn.Embedding(5, 3, padding_idx=-1)
    assert not layer.weight.numpy()[4].any() and layer.weight.numpy()[:4].all()
    layer.load_state_dict({"weight": np.ones((5, 3), np.float32)})
    y = layer(mg.tensor([4, 1, 4]))
    assert y.tolist() == np.ones((3, 3)).tolist(), "a loaded row is looked up as it is"
    y.sum().backward()
    assert layer.weight.grad.numpy().sum(axis=1).tolist() == [0, 3, 0, 0, 0]
