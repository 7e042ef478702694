"""GradScaler: step by step what PyTorch's does; on a GPU without a wait."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import amp, optim
from tests.support import strict_backend

BAD = {2: np.inf, 3: np.nan, 7: -np.inf}  # in these steps a gradient is not finite
OPTIONS = {"init_scale": 1024.0, "growth_factor": 2.0, "backoff_factor": 0.25, "growth_interval": 3}


@pytest.fixture(params=["cpu", "cuda"])
def device(request):
    with strict_backend.installed():
        yield request.param


def steps(library, scaler, optimizer, p, inputs, clip=None):
    """The scale after each step, and the parameter."""
    scales = []
    for x in inputs:
        optimizer.zero_grad()
        scaler.scale((p * x).sum()).backward()
        if clip is not None:
            scaler.unscale_(optimizer)
            clip([p])
        scaler.step(optimizer)
        scaler.update()
        scales.append(scaler.get_scale())
    return scales


def inputs():
    random = np.random.default_rng(0)
    found = [random.standard_normal(5).astype("f4") for _ in range(12)]
    for i, value in BAD.items():
        found[i][1] = value
    return found


@pytest.mark.parametrize("clipped", [False, True])
@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "NAdam"])
def test_scales_skipped_steps_and_parameters_are_pytorchs(name, clipped, device):
    torch = pytest.importorskip("torch")
    options = {"SGD": {"lr": 0.1, "momentum": 0.9}}.get(name, {"lr": 0.1})
    theirs = torch.ones(5, requires_grad=True)
    clip = torch.nn.utils.clip_grad_norm_ if clipped else None
    expected = steps(
        torch, torch.amp.GradScaler("cpu", **OPTIONS), getattr(torch.optim, name)([theirs], **options), theirs,
        map(torch.from_numpy, inputs()), clip and (lambda params: clip(params, 0.5)),
    )  # fmt: skip
    ours = mg.ones(5, device=device).requires_grad_()
    found = steps(
        mg, amp.GradScaler(**OPTIONS), getattr(optim, name)([ours], **options), ours,
        (mg.tensor(x, device=device) for x in inputs()),
        (lambda params: optim.clip_grad_norm_(params, 0.5)) if clipped else None,
    )  # fmt: skip
    assert found == expected
    np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_on_a_gpu_nothing_waits():
    with strict_backend.installed():
        p = mg.ones(5, device="cuda").requires_grad_()
        optimizer, scaler = optim.AdamW([p], lr=0.1), amp.GradScaler()
        batches = [mg.tensor(x, device="cuda") for x in inputs()]

        def step(x):
            optimizer.zero_grad()
            scaler.scale((p * x).sum()).backward()
            scaler.step(optimizer)
            scaler.update()

        step(batches[0])
        with strict_backend.counted() as counts:
            for x in batches[1:]:
                step(x)
        assert not counts.waits and not counts.uploads, counts
        assert scaler.get_scale() == 65536 / 2 ** len(BAD)


def test_its_state_is_saved_as_pytorchs_and_goes_on():
    torch = pytest.importorskip("torch")
    scaler, theirs = amp.GradScaler(**OPTIONS), torch.amp.GradScaler("cpu", **OPTIONS)
    assert scaler.state_dict() == theirs.state_dict()
    p = mg.ones(5).requires_grad_()
    steps(mg, scaler, optim.SGD([p], lr=0.1), p, map(mg.tensor, inputs()[:6]))
    other = amp.GradScaler()
    other.load_state_dict(scaler.state_dict())
    assert other.state_dict() == scaler.state_dict() and other.get_scale() == scaler.get_scale()


def test_disabled_it_does_nothing():
    p = mg.ones(5).requires_grad_()
    scaler, optimizer = amp.GradScaler(enabled=False), optim.SGD([p], lr=0.1)
    assert steps(mg, scaler, optimizer, p, [mg.ones(5)]) == [1.0] and scaler.state_dict() == {}
    np.testing.assert_allclose(p.detach().numpy(), 0.9, rtol=1e-6)


def test_calls_in_a_wrong_order_are_errors():
    p = mg.ones(5).requires_grad_()
    scaler, optimizer = amp.GradScaler(), optim.SGD([p], lr=0.1)
    with pytest.raises(RuntimeError, match="no gradients were looked at"):
        scaler.update()
    with pytest.raises(RuntimeError, match="has a gradient"):
        scaler.step(optimizer)
    scaler.scale(p.sum()).backward()
    scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match="already been called"):
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    with pytest.raises(RuntimeError, match="in between"):
        scaler.step(optimizer)
    with pytest.raises(RuntimeError, match="closures"):
        scaler.step(optimizer, lambda: None)
    with pytest.raises(TypeError, match="expected a Tensor"):
        scaler.scale(3.0)
