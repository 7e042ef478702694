"""Mixed precision: what is computed in half precision, what is not, and that gradients are those of the network."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import amp, nn
from minigrad.nn.functional import cross_entropy
from tests.support import strict_backend

DEVICES = ["cpu", "cuda"]


@pytest.fixture(params=DEVICES)
def device(request):
    with strict_backend.installed():
        yield request.param


def drawn(*shape, device, seed=0):
    return mg.tensor(np.random.default_rng(seed).standard_normal(shape).astype("f4"), device=device)


def test_products_and_convolutions_are_half_and_losses_are_not(device):
    x, images = drawn(6, 5, device=device), drawn(2, 3, 8, 8, device=device)
    linear, conv, norm = (layer.to(device) for layer in (nn.Linear(5, 4), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    labels = mg.tensor(np.arange(6) % 4, device=device)
    with amp.autocast(device):
        scores = linear(x)
        assert scores.dtype == (x @ x.T).dtype == conv(images).dtype == np.float16
        assert mg.einsum("ij,kj->ik", x, x).dtype == np.float16
        assert norm(conv(images)).dtype == np.float32
        assert cross_entropy(scores, labels).dtype == mg.softmax(scores, axis=1).dtype == np.float32
        assert mg.relu(scores).dtype == np.float16 and mg.exp(scores).dtype == scores.sum().dtype == np.float32
    assert linear(x).dtype == np.float32


def test_gradients_are_float32_and_near_those_of_float32(device):
    found = {}
    for enabled in (False, True):
        mg.manual_seed(0)
        model = nn.lenet5(1, 10, image_size=8, batch_norm=True).to(device)
        x = drawn(16, 1, 8, 8, device=device)
        labels = mg.tensor(np.random.default_rng(1).integers(0, 10, 16), device=device)
        with amp.autocast(device, enabled=enabled):
            loss = cross_entropy(model(x), labels)
        loss.backward()
        found[enabled] = {name: p.grad.numpy() for name, p in model.named_parameters()}
    assert {gradient.dtype for gradient in found[True].values()} == {np.dtype("f4")}
    # Taken together, because max-pooling hands a few gradients to another of two nearly equal pixels.
    exact, ours = (np.concatenate([g.ravel() for g in found[enabled].values()]) for enabled in (False, True))
    assert 0 < np.linalg.norm(ours - exact) <= 0.02 * np.linalg.norm(exact)


def test_a_product_has_pytorchs_dtype_and_nearly_its_numbers():
    torch = pytest.importorskip("torch")
    x, w = (np.random.default_rng(i).standard_normal((8, 8)).astype("f4") for i in range(2))
    with torch.autocast("cpu", dtype=torch.float16):
        theirs = torch.relu(torch.from_numpy(x) @ torch.from_numpy(w))
    with amp.autocast("cpu"):
        ours = mg.relu(mg.tensor(x) @ mg.tensor(w))
    assert (ours.dtype, theirs.dtype) == (np.float16, torch.float16)
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=2e-3, atol=2e-3)


def test_a_parameter_is_cast_once_and_anew_after_it_was_written_to(device):
    w, x = drawn(3, 3, device=device).requires_grad_(), drawn(3, 3, device=device, seed=1)
    with amp.autocast(device):
        first = (x @ w).numpy()
        with strict_backend.counted() as counts:
            x.detach() @ w
        assert device == "cpu" or counts.launches["ndarray.astype"] <= 1, "the parameter was cast again"
        with mg.no_grad():
            w *= 2
        np.testing.assert_allclose((x @ w).numpy(), 2 * first, rtol=2e-3)


def test_contexts_nest_end_and_decorate():
    x = drawn(2, 2, device="cpu")
    with amp.autocast("cpu"):
        with amp.autocast("cpu", enabled=False):
            assert (x @ x).dtype == np.float32
        assert (x @ x).dtype == np.float16
        with amp.autocast("cuda"):
            assert (x @ x).dtype == np.float32  # which lies on the CPU
    with pytest.raises(ZeroDivisionError), amp.autocast("cpu"):
        _ = 1 / 0
    assert (x @ x).dtype == np.float32

    @amp.autocast("cpu")
    def squared(x):
        return x @ x

    assert squared(x).dtype == np.float16 and (x @ x).dtype == np.float32


def test_float64_and_integers_are_left_alone():
    x, i = mg.ones(2, 2, dtype="f8"), mg.ones(2, 2, dtype="i4")
    with amp.autocast("cpu"):
        assert (x @ x).dtype == np.float64 and (i @ i).dtype == np.int32


@pytest.mark.parametrize(
    ("error", "words", "options"),
    [
        (ValueError, "expected 'cuda' or 'cpu'", {"device_type": "tpu"}),
        (TypeError, "bfloat16", {"dtype": "bfloat16"}),
        (TypeError, "expected float16", {"dtype": "float32"}),
        (TypeError, "expected True or False", {"enabled": 1}),
    ],
)
def test_what_it_cannot_do_is_refused(error, words, options):
    with pytest.raises(error, match=words):
        amp.autocast(**{"device_type": "cpu", **options})
