"""Everything on a real GPU with CuPy: results, gradients and training as on the CPU. Skipped where there is none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import DeviceError, nn
from tests.support.device_agreement import (
    LAYERS,
    OPTIMIZERS,
    assert_layer_agrees,
    assert_op_agrees,
    assert_training_agrees,
    assert_vmap_agrees,
    dtypes_of,
    every_op,
)
from tests.support.op_cases import CASES

pytestmark = pytest.mark.skipif(not mg.cuda_is_available(), reason="no CuPy with a GPU here")


@pytest.mark.parametrize("key", [pytest.param(key, id=".".join(key)) for key in every_op()])
@settings(max_examples=max(settings.default.max_examples // 4, 2))
@given(data=st.data())
def test_every_op_gives_the_cpus_values_and_gradients(key, data):
    assert_op_agrees(key, data.draw(CASES[key].calls), data.draw(st.sampled_from(dtypes_of(key))), "cuda")


@pytest.mark.parametrize("key", [pytest.param(key, id=".".join(key)) for key in every_op()])
@settings(max_examples=max(settings.default.max_examples // 12, 2))
@given(data=st.data())
def test_vmap_gives_the_cpus_values_and_gradients(key, data):
    assert_vmap_agrees(key, data.draw(CASES[key].calls), "cuda")


@pytest.mark.parametrize("name", LAYERS)
def test_layers_and_losses_give_the_cpus_values_and_gradients(name):
    assert_layer_agrees(name, "cuda")


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_steps_lead_where_the_cpus_lead(optimizer):
    assert_training_agrees(optimizer, "cuda")


@pytest.mark.parametrize("channels, size, groups", [(3, 17, 1), (32, 16, 1), (16, 8, 16), (64, 7, 2)])
def test_layers_of_a_real_size_agree_with_the_cpu(channels, size, groups):
    random = np.random.default_rng(0)
    x = random.standard_normal((8, channels, size, size)).astype(np.float32)
    mg.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1, groups=groups, bias=False),
        nn.BatchNorm2d(2 * channels),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2, padding=1),
    )
    found = {}
    for device in ("cpu", "cuda"):
        layers.to(device).zero_grad()
        images = mg.tensor(x, device=device, requires_grad=True)
        y = layers(images)
        y.backward(mg.tensor(np.random.default_rng(1).standard_normal(y.shape).astype(np.float32), device=device))
        found[device] = [y.numpy(), images.grad.numpy(), *(p.grad.numpy() for p in layers.parameters())]
    for here, there in zip(found["cpu"], found["cuda"], strict=True):
        np.testing.assert_allclose(there, here, rtol=2e-3, atol=2e-3 * np.abs(here).max())


def test_the_gpu_is_named_and_others_are_not_there():
    assert mg.ones(2, device="cuda").device.startswith("cuda:")
    with pytest.raises(DeviceError, match="no device 'cuda:99'"):
        mg.ones(2).to("cuda:99")


def test_tensors_of_two_devices_do_not_mix():
    with pytest.raises(DeviceError, match="lie on cpu and cuda:0"):
        mg.ones(2) * mg.ones(2, device="cuda:0")


def test_seeded_numbers_repeat():
    mg.manual_seed(4)
    first = mg.randn(100, device="cuda").numpy()
    mg.manual_seed(4)
    np.testing.assert_array_equal(mg.randn(100, device="cuda").numpy(), first)
