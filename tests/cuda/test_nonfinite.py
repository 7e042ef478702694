"""Steps that a GPU skips by itself, executed on the CPU, against steps that the host skips.

Claimed: parameters, buffers, counts and the corrections of bias are those of the host to the bit, however many steps
are skipped and wherever; and nothing waits before somebody asks.
"""

import copy

import numpy as np
import pytest

import minigrad as mg
from minigrad import optim
from minigrad.optim._update import ROWS
from tests.support import strict_backend
from tests.support.cuda import compiling

pytestmark = pytest.mark.skipif(not compiling.AVAILABLE, reason="no C++ compiler to run CUDA kernels with")

SHAPES = [(3, 4), (1500,), (1,)]
SKIPPED = {
    "none": [],
    "the first": [0],
    "the first eight": range(8),
    "some": [1, 4, 5, 20, 37],
    "all but a few": [k for k in range(45) if k % 9],
    "as many in a row as there are rows": range(3, 3 + ROWS),
    "all": range(45),
}


def trained(name, device, skipped, count=45, **options):
    rng = np.random.default_rng(0)
    params = [mg.tensor(rng.standard_normal(s).astype("f4"), device=device, requires_grad=True) for s in SHAPES]
    optimizer = getattr(optim, name)(params, lr=0.01, nonfinite="skip", **options)
    for step in range(count):
        optimizer.param_groups[0]["lr"] = 0.01 / (1 + step)
        for i, p in enumerate(params):
            g = rng.standard_normal(p.shape).astype("f4")
            if step in skipped and i == step % 3:
                g.flat[-1] = [np.nan, np.inf, -np.inf][step // 3 % 3]
            p.grad = mg.tensor(g, device=device)
        optimizer.step()
    return params, optimizer


@pytest.mark.parametrize("skipped", SKIPPED.values(), ids=SKIPPED)
@pytest.mark.parametrize("name", ["SGD", "Adam", "NAdam", "RAdam", "Adagrad", "NAGC"])
def test_skipping_on_the_device_is_skipping_on_the_host(name, skipped, monkeypatch):
    monkeypatch.setattr(compiling, "order", len(list(skipped)) % 3 * 7)
    expected, theirs = trained(name, "cpu", skipped)
    with strict_backend.installed():
        found, ours = trained(name, "cuda", skipped)
        assert ours.skipped_steps == theirs.skipped_steps == len(list(skipped))
        for p, q in zip(found, expected, strict=True):
            np.testing.assert_array_equal(p.numpy(), q.numpy())
        mine, others = ours.state_dict(), theirs.state_dict()
        assert mine["param_groups"] == others["param_groups"] and mine["state"].keys() == others["state"].keys()
        for i, entries in others["state"].items():
            for key, value in entries.items():
                here = mine["state"][i][key]
                np.testing.assert_array_equal(here.numpy() if isinstance(here, mg.Tensor) else here, np.asarray(value))


def test_a_step_waits_for_nothing_and_asking_waits_once():
    with strict_backend.installed():
        _, optimizer = trained("Adam", "cuda", [1], count=3)
        with strict_backend.counted() as counts:
            optimizer.step()
        assert dict(counts.launches) == {"look_for_nonfinite": 1, "update": 1}
        assert not counts.waits and not counts.uploads
        with strict_backend.counted() as counts:
            assert optimizer.skipped_steps == 1
            assert optimizer.skipped_steps == 1
        assert counts.waits.total() == 1


def test_the_host_asks_once_in_as_many_steps_as_there_are_rows():
    with strict_backend.installed():
        _, optimizer = trained("Adam", "cuda", [], count=0)
        with strict_backend.counted() as counts:
            for p in optimizer.param_groups[0]["params"]:
                p.grad = mg.ones_like(p)
            for _ in range(10 * (ROWS - 1)):
                optimizer.step()
        assert counts.waits.total() == 10


def test_a_copy_goes_on_from_the_same_counts():
    with strict_backend.installed():
        _, optimizer = trained("Adam", "cuda", [0, 1, 5], count=9)
        other = optim.Adam([mg.zeros_like(p).requires_grad_() for p in optimizer.param_groups[0]["params"]])
        other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        assert {state["step"] for state in other.state.values()} == {6}
        assert optimizer.skipped_steps == 3
