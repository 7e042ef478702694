"""Gradients on the way from backward to step: clipping, noise, centralisation, and batches in chunks.

Claimed: clipping is PyTorch's to 1e-12, leaves small gradients untouched, and scales with its argument; on a GPU it
makes nobody wait; norms neither overflow nor depend on threads or memory layout; noise has the variance of the paper;
centralisation is a projection; the chunks of a batch give the gradient of the whole.
"""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minigrad as mg
from minigrad import nn, optim
from minigrad.backend import threads
from minigrad.data import DataError, DataLoader, TensorDataset, micro_batches
from minigrad.nn.utils import clip_grad_norm_, clip_grad_value_, clip_grads_with_norm_, get_total_norm
from minigrad.training import fit
from tests.support import strict_backend

NORMS = [1.0, 2.0, math.inf, 3.0, 0.5]
SHAPES = [(), (3, 4), (5,), (0,), (2, 3, 4, 5)]

# Zero, or far from where powers of two lose bits.
finite = st.floats(-1e3, 1e3).map(lambda x: x if abs(x) > 1e-50 else 0.0)
gradient_lists = st.lists(
    hnp.arrays(np.float64, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4), elements=finite),
    min_size=1,
    max_size=4,
)


def with_gradients(gradients, dtype=None, device=None):
    params = []
    for g in gradients:
        g = np.asarray(g) if dtype is None else np.asarray(g).astype(dtype)
        p = mg.zeros(*g.shape, dtype=g.dtype, device=device, requires_grad=True)
        p.grad = mg.tensor(g, device=device)
        params.append(p)
    return params


def random_gradients(seed=0, shapes=SHAPES):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


def grads(params):
    return [p.grad.numpy() for p in params]


def flat(arrays):
    return np.concatenate([np.ravel(a) for a in arrays])


# --- clipping by norm ---


@pytest.mark.parametrize("norm_type", NORMS)
@pytest.mark.parametrize("max_norm", [0.0, 0.7, 3.0, 1e6])
def test_clipping_by_norm_is_pytorchs(norm_type, max_norm):
    torch = pytest.importorskip("torch")
    gradients = random_gradients()
    ours = with_gradients(gradients)
    theirs = [torch.zeros(g.shape, dtype=torch.float64, requires_grad=True) for g in gradients]
    for p, g in zip(theirs, gradients, strict=True):
        p.grad = torch.tensor(g)
    # PyTorch refuses the maximum of no numbers
    theirs = theirs if norm_type != math.inf else [p for p in theirs if p.numel()]
    norm = clip_grad_norm_(ours, max_norm, norm_type)
    expected = torch.nn.utils.clip_grad_norm_(theirs, max_norm, norm_type)
    np.testing.assert_allclose(norm.item(), expected.item(), rtol=1e-12)
    found = [g for g in grads(ours) if g.size or norm_type != math.inf]
    for a, b in zip(found, theirs, strict=True):
        np.testing.assert_allclose(a, b.grad.numpy(), rtol=1e-12)


@given(gradient_lists, st.floats(0.01, 100), st.sampled_from(NORMS))
def test_small_gradients_are_untouched_and_long_ones_get_the_length_asked_for(gradients, max_norm, norm_type):
    before = np.linalg.norm(flat(gradients), norm_type) if flat(gradients).size else 0.0
    params = with_gradients(gradients)
    norm = clip_grad_norm_(params, max_norm, norm_type, eps=0)
    assert norm.item() == pytest.approx(before, rel=1e-12)
    if before <= max_norm * (1 - 1e-12):
        for found, given_ in zip(grads(params), gradients, strict=True):
            np.testing.assert_array_equal(found, given_)
    else:
        after = flat(grads(params))
        assert np.linalg.norm(after, norm_type) == pytest.approx(max_norm, rel=1e-9)
        np.testing.assert_allclose(after * before, flat(gradients) * max_norm, rtol=1e-9, atol=1e-300)


@given(gradient_lists, st.floats(0.01, 100), st.integers(-20, 20))
def test_clipping_is_positively_homogeneous(gradients, max_norm, exponent):
    """clip(c g, c max_norm) = c clip(g, max_norm), to the last bit for a power of two."""
    c = 2.0**exponent
    one, scaled = with_gradients(gradients), with_gradients([c * g for g in gradients])
    norms = [clip_grad_norm_(one, max_norm, eps=0), clip_grad_norm_(scaled, c * max_norm, eps=0)]
    assert norms[1].item() == c * norms[0].item()
    for a, b in zip(grads(one), grads(scaled), strict=True):
        np.testing.assert_array_equal(c * a, b)


@given(gradient_lists, st.floats(0.01, 100))
def test_clipping_twice_is_clipping_once(gradients, max_norm):
    once = with_gradients(gradients)
    clip_grad_norm_(once, max_norm)  # with PyTorch's epsilon the result is a little shorter than asked for
    kept = grads(once)
    clip_grad_norm_(once, max_norm * (1 + 1e-9), eps=0)
    for a, b in zip(kept, grads(once), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("eps", [0, 1e-6])
@pytest.mark.parametrize("max_norm", [0.0, 1e-300, 1.0])
def test_a_norm_of_zero_stays_zero(max_norm, eps):
    params = with_gradients([np.zeros(3), np.zeros((2, 2))])
    with np.errstate(all="raise"):
        assert clip_grad_norm_(params, max_norm, eps=eps).item() == 0
    for g in grads(params):
        np.testing.assert_array_equal(g, 0)


@pytest.mark.parametrize("norm_type", NORMS)
@pytest.mark.parametrize("scale", [1e-30, 1e-22, 1e15, 1e30])
def test_norms_of_float32_neither_overflow_nor_underflow(scale, norm_type):
    gradients = [g * scale for g in random_gradients() if g.size]
    params = with_gradients(gradients, np.float32)
    expected = np.linalg.norm(flat(gradients), norm_type)
    assert get_total_norm([p.grad for p in params], norm_type).item() == pytest.approx(expected, rel=1e-5)
    clip_grad_norm_(params, 1.0 * scale, norm_type, eps=0)
    assert np.linalg.norm(flat(grads(params)).astype(float), norm_type) == pytest.approx(scale, rel=1e-5)


def test_the_norm_of_float16_is_taken_in_float32():
    params = with_gradients([np.full(1000, 300.0)], np.float16)
    norm = clip_grad_norm_(params, 10.0)
    assert norm.dtype == np.float32 and norm.item() == pytest.approx(300 * 1000**0.5, rel=1e-5)
    assert params[0].grad.dtype == np.float16


def test_large_and_strided_gradients_are_clipped_alike_with_any_number_of_threads():
    g = np.random.default_rng(0).standard_normal((64, 16, 30, 40)).astype(np.float32)
    layouts = [g, g.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2), np.repeat(g, 2, axis=3)[..., ::2]]
    before = threads.get_num_threads()
    for norm_type in (2.0, math.inf):
        found = []
        for count in (1, 3):
            threads.set_num_threads(count)
            try:
                for layout in layouts:
                    p = mg.zeros(*g.shape, requires_grad=True)
                    p.grad = mg.from_numpy(layout)
                    norm = clip_grad_norm_(p, 1.0, norm_type)
                    found.append((norm.item(), p.grad.numpy()))
            finally:
                threads.set_num_threads(before)
        expected = np.linalg.norm(g.ravel().astype(float), norm_type)
        for norm, clipped in found:
            assert norm == pytest.approx(expected, rel=1e-6)
            np.testing.assert_allclose(clipped, g / expected, rtol=1e-5, atol=0)
        for (norm, clipped), (other, again) in zip(found[:3], found[3:], strict=True):
            assert norm == other and np.array_equal(clipped, again)


def test_whoever_kept_a_gradient_keeps_its_numbers():
    (p,) = with_gradients([np.full(3, 5.0)])
    kept = p.grad
    for change in (
        lambda: clip_grad_norm_(p, 1.0),
        lambda: clip_grad_value_(p, 0.1),
        lambda: optim.add_gradient_noise_(p, 0),
    ):
        change()
        np.testing.assert_array_equal(kept.numpy(), 5.0)
        assert p.grad is not kept


def test_a_gradient_with_a_graph_keeps_it():
    """The derivative of the clipped gradient: the factor counts as a constant, numbers cut off have none."""
    x = mg.tensor(np.array([1.0, 2.0]), requires_grad=True)
    (x * x * x).sum().backward(create_graph=True)
    clip_grad_norm_(x, 1.0, eps=0)
    factor = 1 / np.hypot(3.0, 12.0)
    (second,) = mg.autograd.grad(x.grad.sum(), [x])
    np.testing.assert_allclose(second.numpy(), factor * 6 * np.array([1.0, 2.0]), rtol=1e-12)
    x.grad = None
    (x * x * x).sum().backward(create_graph=True)
    clip_grad_value_(x, 5.0)
    (second,) = mg.autograd.grad(x.grad.sum(), [x])
    np.testing.assert_allclose(second.numpy(), [6.0, 0.0], rtol=1e-12)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_norm_that_is_not_finite_is_passed_or_raised(bad):
    torch = pytest.importorskip("torch")
    gradients = [np.ones(3), np.array([1.0, bad, 2.0])]
    ours = with_gradients(gradients)
    ours[1].name = "head.weight"
    with pytest.raises(RuntimeError, match=r"parameter 1, 'head.weight', shape \(3,\), has 1 NaN or infinite"):
        clip_grad_norm_(ours, 1.0, error_if_nonfinite=True)
    for found, before in zip(grads(ours), gradients, strict=True):
        np.testing.assert_array_equal(found, before)
    theirs = [torch.zeros(3, dtype=torch.float64, requires_grad=True) for _ in gradients]
    for p, g in zip(theirs, gradients, strict=True):
        p.grad = torch.tensor(g)
    with np.errstate(invalid="ignore"):
        clip_grad_norm_(ours, 1.0)
    torch.nn.utils.clip_grad_norm_(theirs, 1.0)
    for a, b in zip(grads(ours), theirs, strict=True):
        np.testing.assert_array_equal(a, b.grad.numpy())


# --- clipping by value ---


@given(gradient_lists, st.floats(0, 100))
def test_clipping_by_value_is_numpys_clip(gradients, limit):
    params = with_gradients(gradients)
    clip_grad_value_(params, limit)
    for found, before in zip(grads(params), gradients, strict=True):
        np.testing.assert_array_equal(found, np.clip(before, -limit, limit))


# --- on a GPU ---


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("norm_type", NORMS)
def test_on_a_gpu_nobody_waits_for_the_norm(norm_type, dtype):
    gradients = [g for g in random_gradients() if g.size]
    host = with_gradients(gradients, dtype)
    with strict_backend.installed():
        device = with_gradients(gradients, dtype, "cuda")
        before = strict_backend.traffic.copy()
        norm = clip_grad_norm_(device, 0.5, norm_type)
        clip_grads_with_norm_(device, 0.25, norm)
        clip_grad_value_(device, 0.2)
        optim.centralize_gradients_(device)
        assert strict_backend.traffic == before
        assert norm.device.startswith("cuda") and all(p.grad.device.startswith("cuda") for p in device)
        expected = clip_grad_norm_(host, 0.5, norm_type)
        clip_grads_with_norm_(host, 0.25, expected)
        clip_grad_value_(host, 0.2)
        optim.centralize_gradients_(host)
        tolerance = {"rtol": 1e-3, "atol": 1e-4} if dtype == np.float16 else {"rtol": 1e-5, "atol": 1e-7}
        np.testing.assert_allclose(norm.numpy(), expected.numpy(), rtol=1e-3 if dtype == np.float16 else 1e-5)
        for a, b in zip(device, host, strict=True):
            np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), **tolerance)


# --- noise ---


@pytest.mark.parametrize("t", [0, 1, 99])
def test_the_noise_has_the_variance_of_the_paper(t):
    (p,) = with_gradients([np.full((300, 1000), 2.0)])
    mg.manual_seed(0)
    optim.add_gradient_noise_(p, t, eta=0.3, gamma=0.55)
    noise = p.grad.numpy() - 2.0
    sigma = math.sqrt(0.3 / (1 + t) ** 0.55)
    n = noise.size
    assert abs(noise.mean()) < 5 * sigma / math.sqrt(n)
    assert abs(noise.var() / sigma**2 - 1) < 5 * math.sqrt(2 / n)
    # the fourth moment of a normal distribution is 3 sigma^4, and its estimate varies by sqrt(96 / n)
    assert abs((noise**4).mean() / sigma**4 - 3) < 5 * math.sqrt(96 / n)


def test_the_noise_repeats_with_its_seed_and_reaches_every_parameter_with_a_gradient():
    def draw(dtype=np.float64):
        params = with_gradients([np.zeros(()), np.zeros((2, 3)), np.zeros(4)], dtype)
        params[2].grad = None
        mg.manual_seed(5)
        optim.add_gradient_noise_(params, 3)
        return params

    first, second = draw(), draw()
    assert first[2].grad is None
    for a, b in zip(first[:2], second[:2], strict=True):
        np.testing.assert_array_equal(a.grad.numpy(), b.grad.numpy())
        assert np.all(a.grad.numpy() != 0)
    assert all(p.grad.dtype == np.float16 for p in draw(np.float16)[:2])
    with strict_backend.installed():
        (p,) = with_gradients([np.ones(5)], device="cuda")
        optim.add_gradient_noise_(p, 0)  # the device's generator is made
        before = strict_backend.traffic.copy()
        optim.add_gradient_noise_(p, 0)
        assert strict_backend.traffic == before and np.all(p.grad.numpy() != 1)


# --- centralisation ---


@given(hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=4, max_side=5), elements=finite))
def test_centralising_projects_on_gradients_that_keep_each_units_sum(g):
    (p,) = with_gradients([g])
    optim.centralize_gradients_(p)
    found = p.grad.numpy()
    rows = g.reshape(len(g), -1)
    e = np.full(rows.shape[1], rows.shape[1] ** -0.5)
    projection = np.eye(len(e)) - np.outer(e, e)  # the paper's P = I - e e^T
    np.testing.assert_allclose(found.reshape(rows.shape), rows @ projection, atol=1e-10)
    assert np.linalg.norm(found) <= np.linalg.norm(g) * (1 + 1e-12)
    optim.centralize_gradients_(p)
    np.testing.assert_allclose(p.grad.numpy(), found, atol=1e-10)


def test_biases_are_not_centralised_and_weights_keep_their_sum_through_training():
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    sums = [p.numpy().sum(axis=1) for p in model.parameters() if p.ndim > 1]
    biases = [p.numpy().copy() for p in model.parameters() if p.ndim == 1]
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    x = mg.tensor(np.random.default_rng(0).standard_normal((8, 4)))
    for _ in range(5):
        optimizer.zero_grad()
        (model(x) ** 2).sum().backward()
        optim.centralize_gradients_(model.parameters())
        optimizer.step()
    for before, p in zip(sums, (p for p in model.parameters() if p.ndim > 1), strict=True):
        np.testing.assert_allclose(p.numpy().sum(axis=1), before, atol=1e-12)
    for before, p in zip(biases, (p for p in model.parameters() if p.ndim == 1), strict=True):
        assert not np.allclose(p.numpy(), before)


# --- batches in chunks ---


@given(st.integers(1, 12), st.integers(1, 15))
def test_the_pieces_of_a_batch_give_the_gradient_of_the_whole(samples, pieces):
    rng = np.random.default_rng(samples)
    batch = mg.tensor(rng.standard_normal((samples, 3))), mg.tensor(rng.integers(0, 4, samples))
    model = nn.Linear(3, 4).double()
    nn.CrossEntropyLoss()(model(batch[0]), batch[1]).backward()
    expected = grads(model.parameters())
    model.zero_grad()
    total, seen = 0.0, 0
    for (x, y), share in micro_batches(batch, pieces):
        (nn.CrossEntropyLoss()(model(x), y) * share).backward()
        total, seen = total + share, seen + len(x)
    assert total == pytest.approx(1) and seen == samples
    for a, b in zip(grads(model.parameters()), expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-14)


def test_fit_in_pieces_takes_the_steps_of_whole_batches_and_changes_gradients_before_each():
    rng = np.random.default_rng(0)
    data = TensorDataset(mg.tensor(rng.standard_normal((22, 3))), mg.tensor(rng.integers(0, 2, 22)))

    def run(pieces, norms, max_norm=0.1):
        mg.manual_seed(0)
        model = nn.Linear(3, 2).double()
        optimizer = optim.SGD(model.parameters(), lr=0.5)
        history = fit(
            model,
            nn.CrossEntropyLoss(),
            optimizer,
            DataLoader(data, 8, prefetch=0),
            epochs=3,
            progress=False,
            micro_batches=pieces,
            before_step=lambda: norms.append(clip_grad_norm_(model.parameters(), max_norm).item()),
        )
        return model.weight.numpy(), history["train_loss"], history["train_accuracy"]

    norms = [], []
    whole, pieces = run(1, norms[0]), run(3, norms[1])
    for a, b in zip(whole, pieces, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    assert len(norms[0]) == 9 and max(norms[0]) > 0.1
    np.testing.assert_allclose(norms[0], norms[1], rtol=1e-12)
    unmoved = run(1, [], max_norm=0.0)[0]
    mg.manual_seed(0)
    np.testing.assert_array_equal(unmoved, nn.Linear(3, 2).double().weight.numpy())


# --- what is refused ---


def test_what_makes_no_sense_is_refused():
    params = with_gradients([np.ones(3)])
    for call, kind, words in [
        (lambda: clip_grad_norm_(params, -1), ValueError, "max_norm=-1"),
        (lambda: clip_grad_norm_(params, math.nan), ValueError, "max_norm=nan"),
        (lambda: clip_grad_norm_(params, 1, norm_type=0), ValueError, "norm_type=0"),
        (lambda: clip_grad_norm_(nn.Linear(2, 2), 1), TypeError, r"pass model.parameters\(\)"),
        (lambda: clip_grad_norm_([np.ones(3)], 1), TypeError, "expected Tensors, got ndarray"),
        (lambda: clip_grad_value_(params, -1), ValueError, "clip_value=-1"),
        (lambda: optim.add_gradient_noise_(params, -1), ValueError, "t=-1"),
        (lambda: list(micro_batches((mg.ones(3),), 0)), DataError, "pieces=0"),
        (lambda: list(micro_batches((mg.ones(3), mg.ones(4)), 2)), DataError, r"\[3, 4\] samples"),
    ]:
        with pytest.raises(kind, match=words):
            call()


def test_without_gradients_there_is_nothing_to_do():
    p = mg.ones(3, requires_grad=True)
    assert clip_grad_norm_(iter([p]), 1.0).item() == 0
    clip_grad_value_([], 1.0)
    assert p.grad is None
