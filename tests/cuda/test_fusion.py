"""A layer and the ReLU behind it, run as one on a GPU: the same numbers in fewer launches."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from tests.support import strict_backend
from tests.support.cuda import compiling

pytestmark = pytest.mark.skipif(not compiling.AVAILABLE, reason="no C++ compiler to run CUDA kernels with")

CASES = {
    "Linear": (lambda: nn.Linear(5, 7), (6, 5)),
    "Linear without bias": (lambda: nn.Linear(5, 7, bias=False), (6, 5)),
    "Linear of sequences": (lambda: nn.Linear(5, 7), (2, 3, 5)),
    "Conv2d": (lambda: nn.Conv2d(3, 4, 3, padding=1), (2, 3, 6, 5)),
    "Conv2d of one image": (lambda: nn.Conv2d(3, 4, 3), (3, 6, 5)),
    "Conv2d without bias": (lambda: nn.Conv2d(3, 4, 3, bias=False), (2, 3, 6, 5)),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(5), (6, 5)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(3), (4, 3, 5, 5)),
    "BatchNorm2d without statistics": (lambda: nn.BatchNorm2d(3, track_running_stats=False), (4, 3, 5, 5)),
}


class OwnReLU(nn.ReLU):
    """A subclass, which may do something else: it is called as it is."""


def results(layer, relu, shape, device, training):
    mg.manual_seed(0)
    rng = np.random.default_rng(0)
    model = nn.Sequential(layer(), relu()).to(device)
    model.train(training)
    x = mg.tensor(rng.standard_normal(shape).astype("f4"), device=device, requires_grad=True)
    y = model(x)
    y.backward(mg.tensor(rng.standard_normal(y.shape).astype("f4"), device=device))
    return [a.detach().numpy() for a in (y, x.grad, *(p.grad for p in model.parameters()), *model.buffers())], y


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_a_pair_gives_what_its_layers_give_one_after_the_other(name, training):
    layer, shape = CASES[name]
    expected, _ = results(layer, nn.ReLU, shape, "cpu", training)
    with strict_backend.installed():
        fused, _ = results(layer, nn.ReLU, shape, "cuda", training)
        apart, _ = results(layer, OwnReLU, shape, "cuda", training)
    for one, two, cpu in zip(fused, apart, expected, strict=True):
        np.testing.assert_allclose(one, cpu, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(two, cpu, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["Linear", "Conv2d", "BatchNorm1d", "BatchNorm2d"])
def test_a_pair_takes_fewer_launches(name):
    layer, shape = CASES[name]
    counted = {}
    with strict_backend.installed():
        for relu in (nn.ReLU, OwnReLU):
            results(layer, relu, shape, "cuda", True)  # what is made once
            with strict_backend.counted() as counts:
                results(layer, relu, shape, "cuda", True)
            counted[relu] = counts.total
    assert counted[nn.ReLU] <= counted[OwnReLU] - 2


def test_hooks_see_each_layer():
    seen = []
    with strict_backend.installed():
        model = nn.Sequential(nn.Linear(3, 2), nn.ReLU()).to("cuda")
        x = mg.ones(4, 3, device="cuda")
        fused = model(x).numpy()
        handle = model[0].register_forward_hook(lambda module, args, output: seen.append(output.numpy()))
        np.testing.assert_allclose(model(x).numpy(), fused, rtol=1e-6)
        handle.remove()
    (before,) = seen
    np.testing.assert_allclose(np.maximum(before, 0), fused, rtol=1e-6)


def test_an_error_is_the_layers():
    with strict_backend.installed():
        model = nn.Sequential(nn.Linear(3, 2), nn.ReLU()).to("cuda")
        with pytest.raises(mg.ShapeError, match=r"linear: input .4, 5."):
            model(mg.ones(4, 5, device="cuda"))


def test_second_derivatives_go_through_a_pair():
    found = []
    for device in ("cpu", "cuda"):
        with strict_backend.installed():
            mg.manual_seed(0)
            model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1)).to(device)
            x = mg.tensor(np.random.default_rng(0).standard_normal((5, 3)).astype("f4"), device=device)
            x.requires_grad_()
            (slope,) = mg.autograd.grad(mg.square(model(x)).sum(), [x], create_graph=True)
            (second,) = mg.autograd.grad(mg.square(slope).sum(), [x])
            found.append(second.numpy())
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4, atol=1e-4)
