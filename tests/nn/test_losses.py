"""Losses: their derivatives against finite differences, once and twice, and the identities they must obey.

Claimed: cross-entropy is minus the log of the label's share, a class weight of 2 is a sample seen twice, an ignored
label is a row left out, and extreme scores and probabilities have finite losses and gradients.
"""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import gradcheck, gradgradcheck, nn
from tests.support.nn_makers import normal, tensor

# --- derivatives ---

LABELS = mg.tensor([2, 0, 1, 2])
CLASS_WEIGHT = tensor([0.5, 2.0, 1.25])
CHECKED_LOSSES = {
    "CrossEntropyLoss": (nn.CrossEntropyLoss(), LABELS),
    "CrossEntropyLoss, all options": (
        nn.CrossEntropyLoss(CLASS_WEIGHT, ignore_index=0, label_smoothing=0.2),
        LABELS,
    ),
    "CrossEntropyLoss of probabilities": (nn.CrossEntropyLoss(CLASS_WEIGHT, label_smoothing=0.2), "chances"),
    "NLLLoss": (nn.NLLLoss(CLASS_WEIGHT, ignore_index=0), LABELS),
    "MultiMarginLoss": (nn.MultiMarginLoss(weight=CLASS_WEIGHT), LABELS),
    "MultiMarginLoss squared": (nn.MultiMarginLoss(2, 0.7), LABELS),
    "MSELoss": (nn.MSELoss(), "numbers"),
    "L1Loss": (nn.L1Loss(reduction="sum"), "numbers"),
    "HuberLoss": (nn.HuberLoss(delta=0.6), "numbers"),
    "SmoothL1Loss": (nn.SmoothL1Loss(beta=0.6), "numbers"),
    "BCELoss": (nn.BCELoss(CLASS_WEIGHT), "chances"),
    "BCEWithLogitsLoss": (nn.BCEWithLogitsLoss(), "chances"),
    "BCEWithLogitsLoss, weighed": (nn.BCEWithLogitsLoss(CLASS_WEIGHT, pos_weight=CLASS_WEIGHT * 2), "chances"),
}


@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
@pytest.mark.parametrize("name", CHECKED_LOSSES)
def test_a_losss_derivatives_in_its_input_and_its_target(name, check):
    loss, target = CHECKED_LOSSES[name]
    chances = np.random.default_rng(1).uniform(0.1, 0.9, (2, 4, 3))
    x = tensor(chances[0] if name == "BCELoss" else normal(4, 3), requires_grad=True)
    if target is LABELS:
        assert check(lambda x: loss(x, LABELS), [x])
    else:
        target = tensor(chances[1] if target == "chances" else normal(4, 3, seed=1), requires_grad=True)
        assert check(loss, [x, target])


# --- losses: what they must obey ---

scores_and_labels = st.tuples(st.integers(1, 6), st.integers(2, 5), st.integers(0, 99)).map(
    lambda case: (
        3 * normal(case[0], case[1], seed=case[2]),
        np.random.default_rng(case[2]).integers(0, case[1], case[0]),
    )
)


def test_cross_entropy_of_rows_is_the_fused_op_and_its_mean():
    loss = nn.CrossEntropyLoss()(mg.randn(4, 3, requires_grad=True), mg.tensor([0, 1, 2, 1]))
    assert loss.grad_fn.op.name == "mean"
    assert loss.grad_fn.parents[0].op.name == "softmax_cross_entropy"
    assert loss.grad_fn.parents[0].parents[0].op is None, "nothing stands between the scores and the loss"


@given(scores_and_labels, st.floats(-50, 50))
def test_cross_entropy_is_minus_the_log_of_the_labels_share_and_ignores_a_shift(case, shift):
    x, labels = case
    share = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    expected = -np.log(share[np.arange(len(x)), labels])
    for scores in (x, x + shift):
        found = nn.CrossEntropyLoss(reduction="none")(tensor(scores), mg.tensor(labels))
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-9)
    logarithms = nn.LogSoftmax(1)(tensor(x))
    np.testing.assert_allclose(nn.NLLLoss(reduction="none")(logarithms, labels).numpy(), expected, atol=1e-12)


@given(scores_and_labels, st.floats(0, 1))
def test_label_smoothing_is_cross_entropy_against_the_smoothed_truth(case, smoothing):
    x, labels = case
    weight = np.arange(1.0, x.shape[1] + 1)
    truth = np.eye(x.shape[1])[labels]
    smooth = truth * (1 - smoothing) + smoothing / x.shape[1]
    found = nn.CrossEntropyLoss(label_smoothing=smoothing)(tensor(x), labels).item()
    assert found == pytest.approx(nn.CrossEntropyLoss()(tensor(x), tensor(smooth)).item())
    assert found == pytest.approx(nn.CrossEntropyLoss(label_smoothing=smoothing)(tensor(x), tensor(truth)).item())
    weighed = nn.CrossEntropyLoss(weight, label_smoothing=smoothing, reduction="sum")(tensor(x), labels).item()
    assert weighed == pytest.approx(nn.CrossEntropyLoss(weight, reduction="sum")(tensor(x), tensor(smooth)).item())


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss, nn.NLLLoss])
@given(scores_and_labels)
def test_a_class_weight_of_two_is_a_sample_seen_twice_and_of_zero_one_left_out(loss, case):
    x, labels = case
    weight = np.arange(x.shape[1]) % 3
    repeats = weight[labels]
    if not repeats.any():
        return
    found = loss(weight)(tensor(x), labels).item()
    assert found == pytest.approx(loss()(tensor(np.repeat(x, repeats, axis=0)), np.repeat(labels, repeats)).item())


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss, nn.NLLLoss])
@given(scores_and_labels, st.sampled_from([-100, 0, 255]))
def test_an_ignored_label_is_a_row_left_out_in_value_and_gradient(loss, case, ignored):
    x, labels = case
    kept = np.arange(len(x)) % 2 == 0
    labels = np.where(labels == 0, 1, labels) if ignored == 0 else labels
    marked = np.where(kept, labels, ignored)
    x[~kept, 0] = -np.inf  # what is ignored may hold anything
    whole, part = tensor(x, requires_grad=True), tensor(x[kept], requires_grad=True)
    a, b = loss(ignore_index=ignored)(whole, marked), loss()(part, labels[kept])
    assert a.item() == pytest.approx(b.item())
    a.backward(), b.backward()
    np.testing.assert_allclose(whole.grad.numpy()[kept], part.grad.numpy(), atol=1e-12)
    assert not whole.grad.numpy()[~kept].any()


def test_losses_of_images_are_those_of_their_pixels_and_of_a_single_row_those_of_a_batch_of_one():
    x, labels = normal(2, 4, 3, 2), np.random.default_rng(0).integers(0, 4, (2, 3, 2))
    for loss in (nn.CrossEntropyLoss, nn.NLLLoss):
        whole = loss(reduction="none")(tensor(x), labels).numpy()
        for n, i, j in np.ndindex(whole.shape):
            one = loss()(tensor(x[n, :, i, j]), labels[n, i, j])
            assert one.shape == () and one.item() == pytest.approx(whole[n, i, j])


@given(scores_and_labels, st.sampled_from([1, 2]), st.floats(0, 3))
def test_the_multiclass_hinge_is_its_formula(case, p, margin):
    x, labels = case
    expected = [
        sum(max(0, margin - row[y] + row[j]) ** p for j in range(len(row)) if j != y) / len(row)
        for row, y in zip(x, labels, strict=True)
    ]
    found = nn.MultiMarginLoss(p, margin, reduction="none")(tensor(x), labels)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


@given(st.floats(0.1, 3), st.floats(-5, 5))
def test_huber_is_half_the_square_near_and_a_line_of_slope_delta_far(delta, d):
    x = tensor([d], requires_grad=True)
    loss = nn.HuberLoss(delta=delta)(x, tensor([0.0]))
    loss.backward()
    expected = d * d / 2 if abs(d) <= delta else delta * (abs(d) - delta / 2)
    assert loss.item() == pytest.approx(expected)
    assert x.grad.item() == pytest.approx(np.clip(d, -delta, delta))
    assert nn.SmoothL1Loss(beta=delta)(x, tensor([0.0])).item() == pytest.approx(expected / delta)


def test_extreme_scores_and_probabilities_have_finite_losses_and_gradients():
    x = mg.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]], requires_grad=True)
    truth = mg.tensor([[0.0, 1.0, 1.0], [0.0, 1.0, 0.0]])
    p = mg.tensor([[0.0, 1.0, 0.0], [0.0, 1.0, 1.0]], requires_grad=True)
    losses = [
        nn.CrossEntropyLoss()(x, mg.tensor([1, 0])),
        nn.CrossEntropyLoss(label_smoothing=0.1)(x, mg.tensor([1, 0])),
        nn.BCEWithLogitsLoss()(x, truth),
        nn.BCEWithLogitsLoss(pos_weight=[1.0, 2.0, 3.0])(x, truth),
        nn.BCELoss()(p, truth),
    ]
    for loss in losses:
        x.grad = p.grad = None
        loss.backward()
        gradient = x.grad if x.grad is not None else p.grad
        assert np.isfinite(loss.item()) and np.isfinite(gradient.numpy()).all()
    assert nn.BCELoss(reduction="none")(p, truth).tolist()[0] == [0, 0, 100], "the logarithm ends at -100"
    np.testing.assert_allclose(p.grad.numpy(), np.array([[0, 0, -1], [0, 0, 1]]) * 1e12 / 6, rtol=1e-6)


@given(st.floats(-30, 30), st.floats(0, 1))
def test_scores_and_probabilities_have_the_same_binary_cross_entropy(score, truth):
    x, t = tensor([score]), tensor([truth])
    found = nn.BCEWithLogitsLoss()(x, t).item()
    assert found == pytest.approx(nn.BCELoss()(nn.Sigmoid()(x), t).item(), rel=1e-3, abs=1e-9)
    weighed = nn.BCEWithLogitsLoss(pos_weight=[1.0])(x, t).item()
    assert found == pytest.approx(weighed, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss, nn.NLLLoss, nn.MultiMarginLoss])
@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint8"])
def test_labels_may_be_integers_of_any_size(loss, dtype):
    x, labels = tensor(normal(3, 4)), [3, 0, 2]
    expected = loss()(x, mg.tensor(labels)).item()
    assert loss()(x, mg.tensor(labels, dtype=dtype)).item() == expected


def test_integer_targets_of_regression_keep_the_dtype_of_the_scores():
    loss = nn.MSELoss()(mg.tensor([1.0, 2.0]), mg.tensor([1, 0]))
    assert loss.dtype == np.float32 and loss.item() == 2
    assert nn.BCEWithLogitsLoss()(mg.tensor([0.0]), mg.tensor([1])).dtype == np.float32


def test_nll_loss_warns_of_scores_that_are_no_logarithms_of_probabilities():
    scores, labels = tensor([[2.0, -1.0], [0.5, 3.0]]), mg.tensor([0, 1])
    with pytest.warns(UserWarning, match=r"nll_loss: some values are above 0.*log_softmax.*cross_entropy"):
        nn.functional.nll_loss(scores, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for dtype in ("f2", "f4", "f8"):
            nn.functional.nll_loss(mg.log_softmax(scores.astype(dtype), axis=1), labels)
        nn.functional.nll_loss(tensor([[0.0, -np.inf]]), labels[:1])


# --- far out ---

FAR = [-80.0, -30.0, -17.0, -1.0, 0.0, 0.5, 17.0, 30.0, 80.0]


def test_a_confidently_wrong_sample_goes_on_learning():
    """In float32 sigmoid(-20) is 2.061e-9, no 0: the loss is 20 and its slope in the score -1."""
    x = mg.tensor([[-20.0]], requires_grad=True)
    loss = nn.BCELoss()(nn.Sigmoid()(x), mg.tensor([[1.0]]))
    loss.backward()
    np.testing.assert_allclose([loss.item(), x.grad.item()], [20, -1], rtol=1e-6)


@pytest.mark.parametrize("pos_weight", [None, 3.0])
@pytest.mark.parametrize("target", [0.0, 1.0, 0.25])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_binary_cross_entropy_of_scores_keeps_its_digits_far_out(dtype, target, pos_weight):
    w, wide = pos_weight or 1.0, np.asarray(FAR, np.longdouble)
    right, left = np.log1p(np.exp(-wide)), np.log1p(np.exp(wide))
    share, rest = 1 / (1 + np.exp(-wide)), 1 / (1 + np.exp(wide))
    x = mg.tensor(np.asarray(FAR, dtype), requires_grad=True)
    t = mg.tensor(np.full(len(FAR), target, dtype))
    losses = nn.functional.binary_cross_entropy_with_logits(x, t, pos_weight=pos_weight, reduction="none")
    losses.sum().backward()
    close = 8 * np.finfo(dtype).eps
    np.testing.assert_allclose(losses.detach().numpy(), w * target * right + (1 - target) * left, rtol=close)
    np.testing.assert_allclose(x.grad.numpy(), (1 - target) * share - w * target * rest, rtol=4 * close, atol=0)


@pytest.mark.parametrize("p", [1e-30, 1e-13, 1e-9, 1e-4, 0.5, 1 - 2.0**-20])
@pytest.mark.parametrize("target", [0.0, 1.0, 0.5])
def test_binary_cross_entropy_of_tiny_probabilities_keeps_its_digits(p, target):
    p = np.float32(p)
    x = mg.tensor([p], requires_grad=True)
    loss = nn.functional.binary_cross_entropy(x, mg.tensor([target]))
    loss.backward()
    q = np.float64(p)
    expected = -(target * np.log(q) + (1 - target) * np.log1p(-q))
    np.testing.assert_allclose(loss.item(), expected, rtol=1e-6)
    slope = (q - target) / max(q * (1 - q), 1e-12)
    np.testing.assert_allclose(x.grad.item(), slope, rtol=1e-6, atol=1e-30)


def test_a_class_of_probability_0_may_be_impossible():
    """0 log(0) is 0: a score of minus infinity masks a class which the target does not name either."""
    scores = mg.tensor([[2.0, -np.inf, 1.0]], dtype="f8", requires_grad=True)
    target = mg.tensor([[0.75, 0.0, 0.25]], dtype="f8", requires_grad=True)
    loss = nn.functional.cross_entropy(scores, target)
    loss.backward()
    shares = np.exp([2.0, 1.0]) / np.exp([2.0, 1.0]).sum()
    np.testing.assert_allclose(loss.item(), -(np.log(shares) * [0.75, 0.25]).sum())
    np.testing.assert_allclose(scores.grad.numpy(), [[shares[0] - 0.75, 0, shares[1] - 0.25]], atol=1e-15)
    assert np.isfinite(target.grad.numpy()).all()
    possible = mg.tensor([[2.0, -5.0]], dtype="f8"), mg.tensor([[1.0, 0.0]], dtype="f8", requires_grad=True)
    nn.functional.cross_entropy(*possible).backward()
    np.testing.assert_allclose(possible[1].grad.numpy(), -mg.log_softmax(possible[0]).numpy())


@pytest.mark.filterwarnings("ignore:invalid value")
def test_an_infinite_gradient_stops_at_a_margin_that_is_kept():
    scores = mg.tensor([[5.0, 0.0, 4.5]], requires_grad=True)
    losses = nn.functional.multi_margin_loss(scores, mg.tensor([0]), reduction="none")
    losses.backward(np.array([np.inf], np.float32))
    np.testing.assert_array_equal(scores.grad.numpy(), [[-np.inf, 0, np.inf]])


def test_smooth_l1_of_small_beta_does_not_underflow():
    d, beta = np.float32(3e-25), 1e-20
    loss = nn.functional.smooth_l1_loss(mg.tensor([d]), mg.tensor([0.0]), beta=beta)
    np.testing.assert_allclose(loss.item(), 0.5 * float(d) ** 2 / beta, rtol=1e-6)
