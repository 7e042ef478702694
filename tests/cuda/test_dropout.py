"""Dropout on a GPU, executed on the CPU: its numbers against the definition, its statistics, and who may repeat it."""

import importlib
import math
import threading

import numpy as np
import pytest

import minigrad as mg
from minigrad import generators, nn
from minigrad.backend import gpu, plain
from minigrad.backend.plain.dropout import Place
from tests.support import philox, strict_backend
from tests.support.cuda import compiling

pytestmark = pytest.mark.skipif(not compiling.AVAILABLE, reason="no C++ compiler to run CUDA kernels with")

SHAPES = [(), (1,), (7,), (127,), (128,), (129,), (3, 70), (2, 3, 5, 7), (2, 1, 9, 9), (0, 3), (2, 0, 3, 3), (5000,)]
PLACES = [Place(0, 0), Place(2**64 - 1, 2**40 + 17), Place(12345678901234567, 3)]


@pytest.fixture(autouse=True)
def cuda():
    with strict_backend.installed():
        mg.manual_seed(0)
        yield


def on_device(array):
    return mg.tensor(array, device="cuda").data


@pytest.mark.parametrize("order", [0, 1, 7])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("shape", SHAPES)
def test_which_elements_are_dropped_is_the_definitions(shape, dtype, order, monkeypatch):
    monkeypatch.setattr(compiling, "order", order)
    x = (np.random.default_rng(0).uniform(1, 2, shape)).astype(dtype)
    for p, place in zip((0.3, 0.5, 0.9), PLACES, strict=True):
        expected = np.where(philox.dropped(shape, p, place.seed, place.position), 0, x.astype("f8") / (1 - p))
        found = gpu.drop(on_device(x), p, place).host
        assert found.dtype == x.dtype and found.shape == x.shape
        np.testing.assert_allclose(found, expected, rtol={"f2": 1e-3, "f4": 3e-7, "f8": 1e-15}[dtype])
        np.testing.assert_allclose(plain.drop(x, p, place), found, rtol={"f2": 0, "f4": 2e-7, "f8": 1e-15}[dtype])
        factors = gpu.drop_factors(on_device(x), p, place).host
        np.testing.assert_array_equal(factors == 0, expected == 0)
        np.testing.assert_array_equal(
            np.unique(factors[factors != 0]), np.array([1 / (1 - p)] * any([factors.any()]), dtype)
        )


def test_an_element_whose_bits_are_the_threshold_is_kept():
    word = philox.philox((0, 0, 5, 0), (3, 0))[0]
    for p, kept in ((word / 2**32, True), ((word + 1) / 2**32, False)):
        for kernels, x in ((gpu, on_device(np.ones(1, "f4"))), (plain, np.ones(1, "f4"))):
            assert bool(kernels.drop(x, p, Place(3, 5))[0] != 0) is kept


def test_blocks_that_go_on_to_further_elements_drop_what_many_blocks_would(monkeypatch):
    x = on_device(np.ones(7000, "f4"))
    whole = gpu.drop(x, 0.4, PLACES[1]).host
    launcher = importlib.import_module("minigrad.backend.gpu.dropout")  # whose name the package gives to the function
    monkeypatch.setattr(launcher, "blocks_for", lambda elements: (2,))
    np.testing.assert_array_equal(gpu.drop(x, 0.4, PLACES[1]).host, whole)


def test_it_does_not_matter_how_the_array_lies_in_memory():
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype("f4")
    lying = [x, x.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2), np.asfortranarray(x), x[:, ::-1].copy()[:, ::-1]]
    for other in lying:
        found = gpu.drop(strict_backend.StrictArray(other), 0.5, PLACES[0]).host
        np.testing.assert_array_equal(found, gpu.drop(on_device(x), 0.5, PLACES[0]).host)
        assert found.transpose(0, 2, 3, 1).flags.c_contiguous, "images go on channels last"


def test_infinities_and_nan_are_multiplied_by_the_factor_as_on_the_cpu():
    x = np.array([np.inf, -np.inf, np.nan, 0.0] * 50, "f4")
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(gpu.drop(on_device(x), 0.5, PLACES[0]).host, plain.drop(x, 0.5, PLACES[0]))


def test_a_captured_step_finds_its_place_on_the_device():
    x = on_device(np.ones(500, "f4"))
    there = on_device(np.array([77, 2**33 + 5], np.uint64))
    found = gpu.drop(x, 0.5, Place(1, 2, there)).host
    np.testing.assert_array_equal(found, gpu.drop(x, 0.5, Place(77, 2**33 + 5)).host)
    np.testing.assert_array_equal(found, plain.drop(x, 0.5, Place(1, 2, there)).host)


# --- statistics ---


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_the_share_dropped_is_p_and_neighbours_are_independent(p):
    """Pairs of decisions at several distances, by a chi-square test of a 2 by 2 table with 3 degrees of freedom."""
    dropped = gpu.drop(on_device(np.ones(100_000, "f4")), p, Place(9, 4)).host == 0
    assert abs(dropped.mean() - p) < 5 * math.sqrt(p * (1 - p) / dropped.size)
    for apart in (1, 2, 3, 4, 31, 32, 64, 128, 1000):
        first, second = dropped[:-apart], dropped[apart:]
        chances = {(a, b): (p if a else 1 - p) * (p if b else 1 - p) for a in (0, 1) for b in (0, 1)}
        pairs = {key: np.sum((first == key[0]) & (second == key[1])) for key in chances}
        chi = sum((pairs[key] - c * first.size) ** 2 / (c * first.size) for key, c in chances.items())
        assert chi < 30, f"{apart} apart: chi-square {chi:.1f} with 3 degrees of freedom"  # by chance: 1 in 700,000


def test_other_positions_and_seeds_drop_independently():
    ones = on_device(np.ones(20_000, "f4"))
    places = [Place(1, 0), Place(1, 1), Place(1, 2**32), Place(2, 0), Place(1 + 2**32, 0)]
    masks = [gpu.drop(ones, 0.5, place).host == 0 for place in places]
    for i, one in enumerate(masks):
        for other in masks[:i]:
            assert abs(np.mean(one == other) - 0.5) < 5 * 0.5 / math.sqrt(one.size)


# --- mg.dropout ---


def test_one_launch_forward_and_one_backward():
    x = mg.tensor(np.ones((4, 3, 8, 8), "f4"), device="cuda", requires_grad=True)
    compiling.launches.clear()
    strict_backend.traffic.clear()
    y = mg.dropout(x, 0.5)
    assert [name for name, *_ in compiling.launches] == ["dropout"]
    y.backward(mg.tensor(np.full((4, 3, 8, 8), 3, "f4"), device="cuda"))
    assert [name for name, *_ in compiling.launches] == ["dropout", "dropout"]
    assert strict_backend.traffic == {"upload": 1}  # of the gradient, above
    np.testing.assert_array_equal(x.grad.numpy(), 3 * y.detach().numpy())


def test_the_seed_repeats_the_numbers_and_each_call_has_its_own():
    x = mg.ones(1000, device="cuda")
    first, second = mg.dropout(x).numpy(), mg.dropout(x).numpy()
    assert (first != second).mean() > 0.4
    mg.manual_seed(0)
    np.testing.assert_array_equal(mg.dropout(x).numpy(), first)
    state = generators.state_of_stream("cuda:0")
    np.testing.assert_array_equal(mg.dropout(x).numpy(), second)
    generators.set_state_of_stream("cuda:0", state)
    np.testing.assert_array_equal(mg.dropout(x).numpy(), second)
    mg.manual_seed(1)
    assert (mg.dropout(x).numpy() != first).mean() > 0.4


def test_probability_zero_one_and_empty():
    x = mg.ones(3, 5, device="cuda")
    assert mg.dropout(x, 0) is x
    assert not mg.dropout(x, 1).numpy().any()
    assert mg.dropout(mg.ones(0, 4, device="cuda")).shape == (0, 4)


def test_derivatives_of_every_order_and_mode_have_the_same_numbers():
    x = mg.tensor(np.random.default_rng(0).standard_normal(300), device="cuda", requires_grad=True)
    place = generators.next_place(x.data)
    factors = plain.drop_factors(np.ones(300), 0.4, place)
    again = lambda x: mg.creation._dropped(x, p=0.4, place=place)  # noqa: E731
    _, pushed = mg.jvp(again, (x,), (mg.ones_like(x),))
    np.testing.assert_allclose(pushed.numpy(), factors, rtol=1e-15)
    mg.gradcheck(again, [x])
    mg.gradgradcheck(lambda x: again(x * x), [x])
    jacobian = mg.jacobian(again)(x)  # vmap over cotangents: the factors serve all
    np.testing.assert_allclose(jacobian.numpy(), np.diag(factors), rtol=1e-15)


def test_inside_vmap_each_example_draws_for_itself():
    y = mg.vmap(lambda x: mg.dropout(x))(mg.ones(50, 40, device="cuda")).numpy()
    assert len(np.unique(y, axis=0)) == 50 and set(np.unique(y)) == {0, 2}


def test_a_checkpointed_function_drops_the_same_again():
    model = nn.Sequential(nn.Linear(20, 30), nn.Dropout(0.5), nn.Linear(30, 30), nn.Dropout(0.3)).to("cuda")
    x = mg.tensor(np.random.default_rng(0).standard_normal((6, 20)).astype("f4"), device="cuda")

    def gradients(f):
        mg.manual_seed(5)
        model.zero_grad()
        f(x).sum().backward()
        return [p.grad.numpy() for p in model.parameters()]

    expected = gradients(model)
    nested = mg.checkpoint(lambda x: mg.checkpoint(model)(x))
    for f in (mg.checkpoint(model), nested):
        for found, wanted in zip(gradients(f), expected, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-6)
    after = generators.state_of_stream("cuda:0")[1]
    assert after == 2, "the second run took no places of its own"


def test_threads_take_each_place_once():
    like, found = mg.ones(1, device="cuda").data, []

    def take():
        for _ in range(200):
            found.append(generators.next_place(like).position)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(800))


def test_a_recorded_step_counts_at_each_replay_and_not_when_it_is_recorded(monkeypatch):
    registered = []

    def changing(like, make, form):
        registered.append((make, on_device(np.zeros_like(form))))
        return registered[-1][1]

    x = mg.tensor(np.ones(400, "f4"), device="cuda", requires_grad=True)
    eager = [mg.dropout(x).detach().numpy() for _ in range(3)]
    mg.manual_seed(0)
    monkeypatch.setattr(generators, "changing", changing)
    y = mg.dropout(x)
    assert len(registered) == 1
    assert generators.state_of_stream("cuda:0")[1] == 0, "recording takes no step"
    make, there = registered[0]
    for expected in eager:
        there.host[:] = make()
        place = Place(0, 0, there)
        np.testing.assert_array_equal(gpu.drop(x.data, 0.5, place).host, expected)
    y.backward(mg.ones_like(y))  # reads the place on the device too
    np.testing.assert_array_equal(x.grad.numpy(), eager[-1])


@pytest.mark.parametrize(
    "layer", [nn.Dropout1d(), nn.StochasticDepth(0.5), nn.ScaleAtTestDropout(), nn.DropConnect(nn.Linear(4, 4))]
)
def test_layers_that_multiply_by_a_mask_draw_it_from_the_same_stream(layer):
    layer.to("cuda")
    x = mg.ones(64, 8, 4, device="cuda")
    before = generators.state_of_stream("cuda:0")[1]
    layer(x)
    assert generators.state_of_stream("cuda:0")[1] == before + 1
    assert not generators._generators, "nothing is drawn from the library's generator, which a captured step cannot use"
