"""Initialisers and ready-made models: how large new weights are, and that the models learn.

Claimed: an initialiser works in place and repeats with the seed; Kaiming's keeps a signal alive through thirty
rectified layers; a new layer fills the interval it should; every model learns eight images by heart.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn
from tests.support.nn_makers import assert_same_snapshot, snapshot

# --- initialisation ---


def test_initialisers_work_in_place_return_their_tensor_and_repeat_with_the_seed():
    for draw in (
        nn.init.uniform_,
        nn.init.normal_,
        nn.init.trunc_normal_,
        nn.init.orthogonal_,
        nn.init.xavier_uniform_,
        nn.init.xavier_normal_,
        nn.init.kaiming_uniform_,
        nn.init.kaiming_normal_,
    ):
        weight = nn.Parameter(mg.zeros(6, 5))
        memory = weight.data
        mg.manual_seed(4)
        assert draw(weight) is weight and weight.data is memory and weight.requires_grad and weight.is_leaf
        first = weight.numpy().copy()
        assert len(np.unique(first)) == 30, f"{draw.__name__} draws every element"
        mg.manual_seed(4)
        np.testing.assert_array_equal(draw(weight).numpy(), first)


@given(st.integers(1, 6), st.integers(1, 6), st.floats(0.5, 2))
def test_an_orthogonal_matrix_has_orthonormal_rows_or_columns(rows, columns, gain):
    w = nn.init.orthogonal_(mg.zeros(rows, columns, dtype=np.float64), gain).numpy()
    product = w @ w.T if rows <= columns else w.T @ w
    np.testing.assert_allclose(product, gain**2 * np.eye(min(rows, columns)), atol=1e-12)


def test_kaiming_keeps_a_signal_alive_through_thirty_rectified_layers_where_xavier_does_not():
    mg.manual_seed(0)
    strength = {}
    for name in ("kaiming_normal_", "kaiming_uniform_", "xavier_normal_"):
        options = {"nonlinearity": "relu"} if name.startswith("kaiming") else {}
        x = mg.randn(64, 256)
        for _ in range(30):
            x = mg.relu(x @ getattr(nn.init, name)(mg.zeros(256, 256), **options).T)
        strength[name] = mg.square(x).mean().item()
    assert 0.05 < strength["kaiming_normal_"] < 20 and 0.05 < strength["kaiming_uniform_"] < 20
    assert strength["xavier_normal_"] < 1e-6, "each layer halves it: 2^-30"


def test_fan_in_keeps_a_signal_on_its_way_forward_and_fan_out_its_gradient_backward():
    mg.manual_seed(0)
    x, g = mg.randn(500, 100), mg.randn(500, 400)
    forward = nn.init.kaiming_normal_(mg.zeros(400, 100), nonlinearity="linear")
    backward = nn.init.kaiming_normal_(mg.zeros(400, 100), nonlinearity="linear", mode="fan_out")
    assert mg.std(x @ forward.T).item() == pytest.approx(1, rel=0.05)
    assert mg.std(g @ backward).item() == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize(
    "layer, fan_in",
    [
        (lambda: nn.Linear(50, 40), 50),
        (lambda: nn.Conv1d(8, 20, 5, groups=2), 20),
        (lambda: nn.Conv2d(8, 20, 3), 72),
        (lambda: nn.ConvTranspose2d(8, 20, 3), 180),
    ],
    ids=["Linear", "Conv1d", "Conv2d", "ConvTranspose2d"],
)
def test_new_layers_fill_the_interval_of_one_over_the_root_of_fan_in(layer, fan_in):
    mg.manual_seed(0)  # of 20 numbers one run in a hundred would leave the upper quarter empty
    layer = layer()
    for parameter in layer.parameters():
        assert 0.75 < np.abs(parameter.numpy()).max() * np.sqrt(fan_in) <= 1


def test_trunc_normal_stays_inside_and_eye_passes_on():
    values = nn.init.trunc_normal_(mg.zeros(2000), 1.0, 2.0, 0.5, 1.5).numpy()
    assert values.min() >= 0.5 and values.max() <= 1.5 and abs(values.mean() - 1) < 0.03
    assert len(np.unique(values)) > 1990, "drawn again, not moved to the ends"
    assert nn.init.eye_(mg.ones(2, 3)).tolist() == [[1, 0, 0], [0, 1, 0]]
    assert nn.init.constant_(mg.zeros(2), 0.5).tolist() == [0.5, 0.5]


def test_a_new_model_repeats_with_the_seed():
    mg.manual_seed(5)
    first = snapshot(nn.cnn())
    mg.manual_seed(5)
    assert_same_snapshot(first, snapshot(nn.cnn()))
    assert not np.array_equal(first["conv1.weight"], snapshot(nn.cnn())["conv1.weight"])


# --- models ---


@pytest.mark.parametrize("name", nn.MODELS)
def test_a_model_learns_eight_images_by_heart(name):
    mg.manual_seed(0)
    arguments = {"mlp": (64, 4), "lenet5": (1, 4, 8), "cnn": (1, 4, 0.0)}[name]
    model = nn.MODELS[name](*arguments)
    x, labels = mg.randn(8, 1, 8, 8), mg.tensor([0, 1, 2, 3, 0, 1, 2, 3])
    loss_of, losses = nn.CrossEntropyLoss(), []
    for _ in range(80):
        model.zero_grad()
        loss = loss_of(model(x), labels)
        loss.backward()
        losses.append(loss.item())
        for p in model.parameters():
            p.copy_(p.detach() - 0.2 * p.grad)
    assert losses[0] > 1 and losses[-1] < 0.2, losses[::10]


@pytest.mark.parametrize("size", [8, 28, 32])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_lenet5_fits_the_image_sizes_it_names(size, batch_norm):
    assert nn.lenet5(3, 7, size, batch_norm)(mg.randn(2, 3, size, size)).shape == (2, 7)
