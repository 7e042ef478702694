"""Softmax-cross-entropy on a GPU, executed on the CPU, against NumPy and mpmath; and labels that do not fit."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.backend import faults, gpu
from minigrad.nn import functional as F
from tests.support import strict_backend
from tests.support.cuda import compiling
from tests.support.strict_backend import StrictArray

mpmath = pytest.importorskip("mpmath")
pytestmark = pytest.mark.skipif(not compiling.AVAILABLE, reason="no C++ compiler to run CUDA kernels with")

TOLERANCE = {"f2": 1e-3, "f4": 1e-6, "f8": 2e-15}
every_dtype = pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
every_reduction = pytest.mark.parametrize("reduction", ["none", "sum", "mean"])


@pytest.fixture(autouse=True)
def cuda():
    with strict_backend.installed():
        yield "cuda"


def reference(scores, labels, smoothing, ignored):
    """Losses, slopes (softmax - truth), and which rows count, in float64."""
    x = scores.astype("f8")
    counts = labels != ignored
    chosen = np.where(counts, labels, 0)
    logarithms = x - x.max(axis=1, keepdims=True)
    logarithms = logarithms - np.log(np.exp(logarithms).sum(axis=1, keepdims=True))
    truth = np.full(x.shape, smoothing / x.shape[1])
    truth[np.arange(len(x)), chosen] += 1 - smoothing
    losses = -(truth * logarithms).sum(axis=1)
    slopes = np.exp(logarithms) - truth
    return np.where(counts, losses, 0), np.where(counts[:, None], slopes, 0), counts


def on_the_device(scores, labels, smoothing=0.0, reduction="none", ignored=None):
    """(losses, slopes, count) by the kernel itself."""
    compiling.launches.clear()
    found = gpu.softmax_cross_entropy(StrictArray(scores), StrictArray(labels), smoothing, reduction, ignored)
    assert [name for name, *_ in compiling.launches] == ["softmax_cross_entropy"]
    return [part.host for part in found]


@pytest.mark.parametrize("order", [0, 1, 7])
@every_dtype
@every_reduction
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("shape", [(1, 10), (37, 10), (300, 33), (5, 1), (1, 1), (3, 1000), (64, 16)])
def test_losses_and_slopes_are_numpys_in_float64(shape, smoothing, reduction, dtype, order, monkeypatch):
    monkeypatch.setattr(compiling, "order", order)
    random = np.random.default_rng(0)
    scores = (3 * random.standard_normal(shape)).astype(dtype)
    labels = random.integers(0, shape[1], shape[0])
    ignored = 0 if len(labels) > 1 and shape[1] > 1 else None
    losses, slopes, counts = reference(scores, labels, smoothing, ignored)
    expected = {"none": losses, "sum": losses.sum(), "mean": losses.sum() / max(1, counts.sum())}[reduction]
    for _ in range(2):  # twice: the counter of blocks has gone back to 0
        found, kept, counted = on_the_device(scores, labels, smoothing, reduction, ignored)
        assert found.dtype == dtype and found.shape == np.shape(expected) and counted == counts.sum()
        np.testing.assert_allclose(found, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] / 10)
    atol = 2e-7 if dtype != "f8" else 1e-15  # slopes are kept in float32 at least
    np.testing.assert_allclose(kept, slopes, atol=atol)
    g = random.standard_normal(np.shape(expected)).astype(dtype)
    arguments = StrictArray(kept), StrictArray(counted), StrictArray(labels), smoothing, reduction, ignored
    dx = gpu.softmax_cross_entropy_backward(StrictArray(g), *arguments)
    scale = {"none": g.astype("f8")[..., None], "sum": g, "mean": g / max(1.0, counts.sum())}[reduction]
    assert dx.dtype == dtype
    np.testing.assert_allclose(dx.host, scale * slopes, rtol=TOLERANCE[dtype], atol=10 * atol)


def test_every_class_is_seen_to_be_the_largest():
    """One that were passed over would overflow, as its power does."""
    classes = 70
    labels = np.repeat(np.arange(classes), 8)  # a row for each of the eight warps
    losses, slopes, _ = on_the_device(200 * np.eye(classes, dtype="f4")[labels], labels)
    np.testing.assert_allclose(losses, 0, atol=1e-30)
    np.testing.assert_allclose(slopes, 0, atol=1e-30)


def test_more_rows_than_a_launch_has_warps():
    scores = np.random.default_rng(0).standard_normal((9001, 3)).astype("f4")
    labels = np.random.default_rng(1).integers(0, 3, 9001)
    losses, slopes, _ = reference(scores, labels, 0.0, None)
    found, kept, counted = on_the_device(scores, labels, reduction="mean")
    assert counted == 9001
    np.testing.assert_allclose(found, losses.mean(), rtol=1e-6)
    np.testing.assert_allclose(kept, slopes, atol=2e-7)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_loss_near_zero_and_its_slopes_keep_their_digits(dtype):
    """Where the right class stands far out, log(sum) - chosen would be 0 or rounding."""
    scores = np.array([[0, 30, -5, 2], [12.5, -7, 0, 0.5], [40, 0, 0, 0]], dtype)
    labels = np.array([1, 0, 0])
    found, slopes, _ = on_the_device(scores, labels)
    with mpmath.workdps(60):
        for row, label, loss, slope in zip(scores.tolist(), labels, found, slopes, strict=True):
            powers = [mpmath.exp(mpmath.mpf(x)) for x in row]
            whole = sum(powers)
            others = sum(p for i, p in enumerate(powers) if i != label)
            np.testing.assert_allclose(float(loss), float(mpmath.log1p(others / powers[label])), rtol=TOLERANCE[dtype])
            np.testing.assert_allclose(float(slope[label]), float(-others / whole), rtol=TOLERANCE[dtype])


@every_dtype
def test_large_scores_do_not_overflow(dtype):
    scores = np.array([[1e4, -1e4, 0], [-1e4, 1e4, 9.99e3], [1e4, 1e4, 1e4]], dtype)
    labels = np.array([1, 1, 2])
    losses, slopes, _ = reference(scores, labels, 0.1, None)
    found, kept, _ = on_the_device(scores, labels, 0.1)
    np.testing.assert_allclose(found, losses, rtol=TOLERANCE[dtype])
    np.testing.assert_allclose(kept, slopes, atol=1e-6)


@every_dtype
@pytest.mark.parametrize("smoothing", [0.0, 0.25])
def test_infinite_scores_and_nan_are_what_the_cpu_makes_of_them(dtype, smoothing):
    inf, nan = np.inf, np.nan
    rows = [[-inf, 0, 1], [0, -inf, 1], [inf, 0, 1], [nan, 0, 1], [0, 1, nan], [-inf, -inf, -inf], [0, 0, 0]]
    scores, labels = np.array(rows, dtype), np.array([0, 0, 1, 1, 1, 0, 2])
    with np.errstate(all="ignore"):
        found = on_the_device(scores, labels, smoothing)[0]
        expected = F.cross_entropy(
            mg.tensor(scores.astype("f8")), mg.tensor(labels), reduction="none", label_smoothing=smoothing
        )
    np.testing.assert_allclose(found, expected.numpy(), rtol=TOLERANCE[dtype])


def test_no_rows_have_the_sum_0_and_no_mean():
    scores, labels = mg.ones(0, 3, device="cuda"), mg.zeros(0, dtype="int64", device="cuda")
    assert F.cross_entropy(scores, labels, reduction="sum").item() == 0
    assert F.cross_entropy(scores, labels, reduction="none").shape == (0,)
    with pytest.raises(ValueError, match="empty batch"):
        F.cross_entropy(scores, labels)


def test_in_a_vmap_the_kernel_takes_the_rows_of_all_examples():
    random = np.random.default_rng(0)
    scores, labels = random.standard_normal((3, 5, 4)), random.integers(0, 4, (3, 5))
    for reduction in ("none", "sum", "mean"):
        found = []
        for device in ("cpu", "cuda"):
            x, y = mg.tensor(scores, device=device), mg.tensor(labels, device=device)

            def loss(x, y, reduction=reduction):
                return mg.softmax_cross_entropy(x, y, reduction=reduction, label_smoothing=0.1, ignore_index=2).sum()

            found.append((mg.vmap(loss)(x, y).numpy(), mg.vmap(mg.grad(loss))(x, y).numpy()))
        alone = [mg.grad(loss)(mg.tensor(a), mg.tensor(b)).numpy() for a, b in zip(scores, labels, strict=True)]
        for here, there in zip(*found, strict=True):
            np.testing.assert_allclose(there, here, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(found[1][1], alone, rtol=1e-12, atol=1e-15)


# --- the whole loss ---


@every_dtype
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("labels_dtype", ["i8", "i4", "u1"])
def test_the_mean_loss_takes_two_launches_each_way_and_no_wait(dtype, smoothing, labels_dtype):
    random = np.random.default_rng(0)
    scores, labels = random.standard_normal((64, 10)).astype(dtype), random.integers(0, 10, 64).astype(labels_dtype)
    here = mg.tensor(scores.astype("f8"), requires_grad=True)
    F.cross_entropy(here, mg.tensor(labels), label_smoothing=smoothing).backward()
    there, target = mg.tensor(scores, device="cuda", requires_grad=True), mg.tensor(labels, device="cuda")
    F.cross_entropy(there, target)
    one = mg.ones((), dtype=dtype, device="cuda")
    with strict_backend.counted() as forward:
        loss = F.cross_entropy(there, target, label_smoothing=smoothing)
    with strict_backend.counted() as backward:
        loss.backward(one)
    assert forward.total <= 2 and backward.total <= 2, (forward, backward)
    assert not (forward.waits or backward.waits or forward.uploads or backward.uploads)
    np.testing.assert_allclose(there.grad.numpy(), here.grad.numpy(), rtol=TOLERANCE[dtype], atol=1e-7)


@pytest.mark.parametrize("options", [{}, {"ignore_index": 2}, {"label_smoothing": 0.2, "reduction": "sum"}])
def test_gradients_of_gradients_are_the_cpus(options):
    random = np.random.default_rng(0)
    scores, labels = random.standard_normal((6, 4)), random.integers(0, 4, 6)
    found = []
    for device in ("cpu", "cuda"):
        x = mg.tensor(scores, device=device, requires_grad=True)
        loss = F.cross_entropy(x, mg.tensor(labels, device=device), **options)
        (slope,) = mg.autograd.grad(loss, [x], create_graph=True)
        (slope * slope).sum().backward()
        found.append(x.grad.numpy())
    np.testing.assert_allclose(found[1], found[0], rtol=1e-12, atol=1e-15)


LOSSES = {
    "cross_entropy": F.cross_entropy,
    "cross_entropy, rows": lambda *args: F.cross_entropy(*args, reduction="none"),
    "cross_entropy, weighted": lambda x, y: F.cross_entropy(x, y, mg.tensor([1.0, 2, 3, 4], device=x.device)),
    "cross_entropy, ignoring 2": lambda *args: F.cross_entropy(*args, ignore_index=2),
    "nll_loss": lambda x, y: F.nll_loss(mg.log_softmax(x, axis=1), y),
    "nll_loss, ignoring 2": lambda x, y: F.nll_loss(mg.log_softmax(x, axis=1), y, ignore_index=2),
    "multi_margin_loss": F.multi_margin_loss,
}
every_loss = pytest.mark.parametrize("name", LOSSES)


@every_loss
def test_no_loss_of_classes_waits_and_its_values_and_gradients_are_the_cpus(name):
    random = np.random.default_rng(1)
    scores, labels = random.standard_normal((7, 4)).astype("f4"), np.array([3, 2, 0, 1, 2, 2, 1])
    found = {}
    for device in ("cpu", "cuda"):
        x, y = mg.tensor(scores, device=device, requires_grad=True), mg.tensor(labels, device=device)
        LOSSES[name](x, y)
        with strict_backend.counted() as counts:
            loss = LOSSES[name](x, y).sum()
            loss.backward()
        assert not counts.waits, counts
        found[device] = loss.numpy(), x.grad.numpy()
    for here, there in zip(found["cpu"], found["cuda"], strict=True):
        np.testing.assert_allclose(there, here, rtol=1e-5, atol=1e-7)


# --- labels that name no class ---


@every_loss
@pytest.mark.parametrize("wrong", [7, -1, 4])
def test_a_wrong_label_gives_nan_and_the_cpus_error_when_the_host_reads(name, wrong):
    scores, labels = np.ones((40, 4), "f4"), np.arange(40) % 4
    labels[[19, 30]] = wrong, 99  # the first one is told
    with pytest.raises(IndexError) as on_the_cpu:
        LOSSES[name](mg.tensor(scores), mg.tensor(labels))
    x = mg.tensor(scores, device="cuda")
    with strict_backend.counted() as counts:
        loss = LOSSES[name](x, mg.tensor(labels, device="cuda"))
    assert not counts.waits
    assert np.isnan(loss.data.host).sum() == (2 if loss.ndim else 1)
    with pytest.raises(IndexError) as found:
        loss.sum().item()
    assert f"{found.value}".startswith(f"{on_the_cpu.value}") and "GPU" in f"{found.value}"
    assert "label" in f"{found.value}" and f"{wrong} " in f"{found.value}" and "4 classes" in f"{found.value}"
    x.numpy()  # the fault has been told, and is over
    assert np.isfinite(LOSSES[name](x, mg.tensor(np.arange(40) % 4, device="cuda")).numpy()).all()


def test_the_first_fault_is_told_and_reading_any_array_tells_it():
    x = mg.ones(3, 4, device="cuda")
    F.cross_entropy(x, mg.tensor([0, 5, 6], device="cuda"))
    F.cross_entropy(x, mg.tensor([8, 0, 0], device="cuda"))
    with pytest.raises(IndexError, match="label 5 for scores of 4 classes"):
        x.numpy()
    F.cross_entropy(x, mg.tensor([8, 0, 0], device="cuda"))
    with pytest.raises(IndexError, match="label 8 for scores of 4 classes"):
        float(x.sum())


@pytest.mark.parametrize("order", [0, 1, 7])
def test_the_first_wrong_label_is_told_whichever_block_ends_first(order, monkeypatch):
    monkeypatch.setattr(compiling, "order", order)
    labels = np.zeros(200, "i8")
    labels[[3, 100, 199]] = 5, 6, 7
    x = mg.ones(200, 4, device="cuda")
    F.cross_entropy(x, mg.tensor(labels, device="cuda"))
    with pytest.raises(IndexError, match="label 5 for scores of 4 classes"):
        x.numpy()


def test_a_fault_without_a_label_is_not_replaced_by_the_next_one():
    x = mg.ones(3, 4, device="cuda")
    F.cross_entropy(x, mg.full((3,), -100, dtype="int64", device="cuda"))
    F.cross_entropy(x, mg.tensor([8, 0, 0], device="cuda"))
    with pytest.raises(ValueError, match="nothing to average"):
        x.numpy()


@pytest.mark.parametrize("weighted", [False, True])
def test_a_batch_whose_labels_are_all_ignored_has_no_mean(weighted):
    weight = mg.ones(4, device="cuda") if weighted else None
    loss = F.cross_entropy(mg.ones(3, 4, device="cuda"), mg.full((3,), -100, dtype="int64", device="cuda"), weight)
    assert np.isnan(loss.data.host)
    with pytest.raises(ValueError, match="nothing to average"):
        loss.item()


def test_in_a_vmap_labels_are_checked_too():
    x, y = mg.ones(2, 3, 4, device="cuda"), mg.tensor([[0, 1, 2], [3, 4, 0]], device="cuda")
    mg.vmap(F.cross_entropy)(x, y)
    with pytest.raises(IndexError, match="label 4 for scores of 4 classes"):
        x.numpy()


def test_faults_without_a_device_record_cost_nothing():
    x = mg.ones(3, device="cuda")
    with strict_backend.counted() as counts:
        x.numpy()
    assert counts.waits == {"get": 1}
    assert faults._records == {}


# --- probabilities ---


@pytest.mark.parametrize("edges", [[], [0.0, 1.0]])
def test_binary_cross_entropy_does_not_wait_and_is_the_cpus(edges):
    random = np.random.default_rng(0)
    p = np.concatenate([random.uniform(0.01, 0.99, 20), edges]).astype("f4")
    t = np.concatenate([random.uniform(0, 1, 20), edges[::-1]]).astype("f4")
    found = {}
    for device in ("cpu", "cuda"):
        x, y = mg.tensor(p, device=device, requires_grad=True), mg.tensor(t, device=device)
        F.binary_cross_entropy(x, y)
        with strict_backend.counted() as counts:
            loss = nn.BCELoss()(x, y)
            loss.backward()
        assert not counts.waits and not counts.uploads, counts
        found[device] = loss.numpy(), x.grad.numpy()
    for here, there in zip(found["cpu"], found["cuda"], strict=True):
        np.testing.assert_allclose(there, here, rtol=1e-5)


@pytest.mark.parametrize("bad", [1.5, -0.25, np.nan])
@pytest.mark.parametrize("what", ["input", "target"])
def test_no_probability_is_an_error_when_the_host_reads(bad, what):
    p, t = np.full(3, 0.5, "f4"), np.full(3, 0.5, "f4")
    {"input": p, "target": t}[what][1] = bad
    with pytest.raises(ValueError, match=f"the {what} goes from") as on_the_cpu:
        F.binary_cross_entropy(mg.tensor(p), mg.tensor(t))
    loss = F.binary_cross_entropy(mg.tensor(p, device="cuda"), mg.tensor(t, device="cuda"))
    with pytest.raises(ValueError, match=f"the {what} goes from") as found:
        loss.item()
    assert f"{found.value}".startswith(f"{on_the_cpu.value}")
